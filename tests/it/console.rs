//! The console: a session from an admin token, its end, and everything that somebody else's site,
//! token or user might try. What pages look like, `tests/browser` looks at.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::admin::Admin;
use crate::support::browser::Browser;
use crate::support::consumer::Consumer;
use crate::support::fleet::{Fleet, Plan};
use crate::support::{Answer, Token, World, id, patch, postgres_of_this_run, with_form};

/// Checks that a browser is sent to the sign-in page.
#[track_caller]
fn sent_to_sign_in(answer: &Answer) {
    assert_eq!(answer.status, 303, "{answer:?}");
    let location = answer.header("location").unwrap();
    assert!(location.starts_with("/console/sign-in"), "{location}");
    assert!(answer.body.is_empty());
}

/// Checks the header of whatever a browser is given.
#[track_caller]
fn guarded(answer: &Answer) {
    let policy = "default-src 'none'; style-src 'self'; img-src 'self' data:; script-src 'self'; \
                  form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
    for (name, value) in [
        ("content-security-policy", policy),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{answer:?}");
    }
    assert_eq!(answer.header("x-request-id").unwrap().len(), 32);
}

async fn acme(world: &World) -> Admin {
    let acme = world.tenant("acme", "us").await;
    Admin::of(world, &acme).await
}

#[tokio::test]
async fn a_session_begins_with_an_admin_token_and_ends_at_once_everywhere() {
    let world = World::start();
    let admin = acme(&world).await;
    let stranger = Browser::new(&admin.tenant);
    sent_to_sign_in(&stranger.get("/console").await);
    let page = stranger.page("/console/sign-in").await;
    assert!(page.contains("<label for=\"token\">") && page.contains("type=\"password\""));

    let browser = Browser::of(&admin).await;
    let other = Browser::of(&admin).await;
    assert!(browser.page("/console").await.contains("acme"));
    assert_ne!(browser.cookie, other.cookie);
    let token = admin.get("/tokens").await.to_string();
    assert!(
        !token.contains("session"),
        "a session is no token of the list"
    );

    let proof = browser.proof().await;
    let answer = browser
        .send("/console/sign-out", &[("proof", &proof)])
        .await;
    assert_eq!(answer.status, 303, "{answer:?}");
    assert_eq!(
        answer.header("location"),
        Some("/console/sign-in?signed-out")
    );
    let cookies: Vec<&str> = answer
        .headers
        .get_all("set-cookie")
        .iter()
        .map(|value| value.to_str().unwrap())
        .collect();
    assert!(
        cookies
            .iter()
            .all(|cookie| cookie.contains("=; Path=/; Max-Age=0")),
        "{cookies:?}"
    );

    // A copy of the cookie is worth nothing, and neither is the access token that it held.
    sent_to_sign_in(&browser.get("/console").await);
    let secret = browser.cookie.as_deref().unwrap();
    let url = format!("{}/api/v1/admin/tokens", browser.origin());
    let request = browser.region.client.get(url).bearer_auth(secret);
    Answer::of(request).await.scim_error(401, None);
    // The other session and the token live.
    other.page("/console").await;
    admin.get("/tokens").await;
}

#[tokio::test]
async fn only_an_admin_token_of_the_region_signs_in() {
    let world = World::with_regions(&["us", "de"]);
    let admin = acme(&world).await;
    let abroad = Admin::of(&world, &world.tenant("abroad", "de").await).await;
    let browser = Browser::new(&admin.tenant);
    let signed_in = Browser::of(&admin).await;
    let session = signed_in.cookie.clone().unwrap();
    let mut damaged = admin.token.secret.clone();
    damaged.pop();
    for (token, status, says) in [
        (admin.tenant.token.secret.as_str(), 403, "scope admin"),
        (&abroad.token.secret, 401, "does not belong to region us"),
        (&damaged, 401, "not copied completely"),
        ("", 401, "not copied completely"),
        ("hunter2", 401, "not copied completely"),
        // A session makes no other.
        (&session, 401, "not copied completely"),
    ] {
        let answer = browser.sign_in(token).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.header("set-cookie").is_none(), "{answer:?}");
        assert!(answer.header("www-authenticate").is_none(), "{answer:?}");
        guarded(&answer);
        let page = String::from_utf8(answer.body).unwrap();
        assert!(
            page.contains("role=\"alert\"") && page.contains(says),
            "{page}"
        );
        assert!(token.is_empty() || !page.contains(token), "{page}");
    }
    world.meridian(&["token", "revoke", &admin.token.id]);
    let answer = browser.sign_in(&admin.token.secret).await;
    assert_eq!(answer.status, 401, "{answer:?}");
    sent_to_sign_in(&signed_in.get("/console").await);

    // A query string or a JSON body is no form.
    let path = format!("/console/sign-in?token={}", abroad.token.secret);
    let request = browser
        .request(Method::POST, &path)
        .header("origin", browser.origin());
    assert_eq!(Answer::of(request.json(&json!({}))).await.status, 400);
}

#[tokio::test]
async fn a_cookie_that_is_no_session_opens_nothing() {
    let world = World::with_regions(&["us", "de"]);
    let admin = acme(&world).await;
    let abroad = Admin::of(&world, &world.tenant("abroad", "de").await).await;
    let other = Admin::of(&world, &world.tenant("other", "us").await).await;
    let mut browser = Browser::of(&admin).await;
    let mine = browser.cookie.clone().unwrap();
    let forged = shared::ApiToken::generate(&shared::RegionId::parse("us").unwrap()).unwrap();
    let scim_session = crate::oauth::exchanged(&admin.tenant).await.token.secret;
    let foreign = Browser::of(&abroad).await.cookie.unwrap();
    for cookie in [
        String::new(),
        "x".to_owned(),
        forged.reveal().to_owned(),
        foreign,
        scim_session,
        // An API token has no end of its own, and cannot be signed out.
        admin.token.secret.clone(),
        admin.tenant.token.secret.clone(),
        format!("{mine}; meridian_session={mine}"),
        format!("{mine}x"),
    ] {
        browser.cookie = Some(cookie.clone());
        for path in ["/console", "/console/users", "/console/export"] {
            sent_to_sign_in(&browser.get(path).await);
        }
        sent_to_sign_in(&browser.send("/console/tokens", &[("name", "x")]).await);
    }
    // The name that is for TLS counts for nothing without it.
    browser.cookie = None;
    let request = browser.request(Method::GET, "/console");
    let request = request.header("cookie", format!("__Host-meridian_session={mine}"));
    sent_to_sign_in(&Answer::of(request).await);
    // And the console looks at no Authorization, the API at no cookie.
    let request = browser.request(Method::GET, "/console").bearer_auth(&mine);
    sent_to_sign_in(&Answer::of(request).await);
    browser.cookie = Some(mine);
    for path in ["/api/v1/admin/tokens", "/api/v1/scim/Users"] {
        browser.get(path).await.scim_error(401, None);
    }

    // Another tenant's session shows that tenant, and nothing of this one.
    let theirs = Browser::of(&other).await;
    let token = &admin.tenant.token.id;
    assert_eq!(
        theirs.get(&format!("/console/tokens/{token}")).await.status,
        404
    );
    assert!(
        !theirs
            .page("/console/tokens")
            .await
            .contains(token.as_str())
    );
}

#[tokio::test]
async fn a_form_from_another_site_does_nothing() {
    let world = World::start();
    let admin = acme(&world).await;
    let (browser, other) = (Browser::of(&admin).await, Browser::of(&admin).await);
    let (proof, foreign) = (browser.proof().await, other.proof().await);
    let revoke = format!("/console/tokens/{}/revoke", admin.tenant.token.id);
    let send = async |headers: &[(&str, &str)], proof: &str| {
        let mut request = browser.request(Method::POST, &revoke);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::of(with_form(request, &[("proof", proof)])).await
    };
    let own = browser.origin();
    let evil = own.replace("http://", "https://");
    for headers in [
        &[][..],
        &[("origin", "null")],
        &[("origin", "https://evil.example")],
        &[("origin", evil.as_str())],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site"), ("origin", "null")],
        &[("sec-fetch-site", "cross-site"), ("origin", own.as_str())],
    ] {
        let refused = send(headers, &proof).await;
        assert_eq!(refused.status, 403, "{headers:?} {refused:?}");
        guarded(&refused);
    }
    // From our own page, and not with this session's proof.
    for proof in ["", "x", foreign.as_str()] {
        let refused = send(&[("origin", own.as_str())], proof).await;
        assert_eq!(refused.status, 403, "{refused:?}");
        guarded(&refused);
    }
    assert_eq!(
        admin.tenant.get("/Users").await.status,
        200,
        "nothing happened"
    );
    // Nobody is signed in by another site either.
    let request = browser.request(Method::POST, "/console/sign-in");
    let request = request.header("origin", "https://evil.example");
    let answer = Answer::of(with_form(request, &[("token", &admin.token.secret)])).await;
    assert_eq!(answer.status, 403, "{answer:?}");
    assert!(answer.header("set-cookie").is_none());

    let done = send(
        &[("origin", "null"), ("sec-fetch-site", "same-origin")],
        &proof,
    )
    .await;
    assert_eq!(
        done.header("location"),
        Some("/console/tokens?revoked"),
        "{done:?}"
    );
    assert_eq!(admin.tenant.get("/Users").await.status, 401);
}

#[tokio::test]
async fn tokens_are_made_shown_once_rotated_and_revoked() {
    let world = World::start();
    let admin = acme(&world).await;
    let browser = Browser::of(&admin).await;
    let proof = browser.proof().await;
    let shown = |answer: &Answer| -> String {
        assert_eq!(answer.status, 200, "{answer:?}");
        let page = String::from_utf8(answer.body.clone()).unwrap();
        let (_, rest) = page.split_once("id=\"token\"").unwrap();
        let (_, rest) = rest.split_once("value=\"").unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    };
    let fields = [
        ("proof", proof.as_str()),
        ("name", "Okta"),
        ("scope", "scim"),
        ("life", "90"),
    ];
    let made = browser.send("/console/tokens", &fields).await;
    let secret = shown(&made);
    assert!(String::from_utf8_lossy(&made.body).contains(&admin.tenant.region.base_url));
    assert_eq!(
        admin.tenant.region.get_as(&secret, "/Users").await.status,
        200
    );
    let tokens = admin.get("/tokens").await;
    let token = tokens["tokens"].as_array().unwrap().last().unwrap();
    let path = format!("/console/tokens/{}", id(token));
    assert!(!browser.page(&path).await.contains(&secret));

    for fields in [
        &[("name", ""), ("scope", "scim")][..],
        &[("name", "x"), ("scope", "root")],
        &[("name", "x"), ("life", "100000")],
        &[("name", "x"), ("networks", "<everywhere>")],
    ] {
        let fields: Vec<_> = fields
            .iter()
            .copied()
            .chain([("proof", proof.as_str())])
            .collect();
        let refused = browser.send("/console/tokens", &fields).await;
        assert_eq!(refused.status, 400, "{refused:?}");
        let page = String::from_utf8(refused.body).unwrap();
        assert!(
            page.contains("role=\"alert\"") && !page.contains("<everywhere>"),
            "{page}"
        );
    }
    assert_eq!(admin.get("/tokens").await, tokens);

    let fields = [("proof", proof.as_str()), ("overlap", "0")];
    let rotated = browser.send(&format!("{path}/rotate"), &fields).await;
    let successor = shown(&rotated);
    assert_eq!(
        admin
            .tenant
            .region
            .get_as(&successor, "/Users")
            .await
            .status,
        200
    );
    admin
        .tenant
        .region
        .get_as(&secret, "/Users")
        .await
        .scim_error(401, None);
    let again = browser.send(&format!("{path}/rotate"), &fields).await;
    assert_eq!(again.status, 409, "{again:?}");
}

/// Whoever tries to sign in with a credential of the tenant that does not open the console is in
/// its audit, and in no other tenant's.
#[tokio::test]
async fn sign_ins_that_are_refused_are_in_the_audit() {
    let server = postgres_of_this_run();
    let mut fleet = Fleet::start(Plan {
        postgres: server.as_deref(),
        ..Plan::default()
    })
    .await;
    let acme = fleet.tenant("acme", "us").await;
    let other = fleet.tenant("other", "us").await;
    let mut tokens = Vec::new();
    for (tenant, body) in [
        (&acme, json!({ "scope": "admin" })),
        (&other, json!({ "scope": "admin" })),
        (&acme, json!({ "scope": "admin", "name": "revoked" })),
        (
            &acme,
            json!({ "scope": "admin", "networks": ["192.0.2.0/24"] }),
        ),
        (&acme, json!({ "scope": "admin", "expires_s": 1 })),
    ] {
        let path = format!("/tenants/{}/tokens", tenant.id);
        let token = fleet.operator("us", &path, body).await;
        let text = |member: &str| token[member].as_str().unwrap().to_owned();
        tokens.push(Token {
            id: text("id"),
            secret: text("token"),
        });
    }
    let [admin, of_other, revoked, elsewhere, short] = tokens.try_into().ok().unwrap();
    let path = format!("/tokens/{}/revoke", revoked.id);
    fleet.operator("us", &path, json!({})).await;
    let [admin, of_other] = [(&acme, admin), (&other, of_other)].map(|(tenant, token)| Admin {
        tenant: tenant.clone(),
        token,
    });
    let browser = Browser::new(&acme);
    // What the gateway calls its address has not the balancer's port in it.
    let sign_in = async |token: &Token| {
        let request = browser.request(Method::POST, "/console/sign-in");
        let request = request.header("sec-fetch-site", "same-origin");
        let fields = [("token", token.secret.as_str())];
        Answer::of(with_form(request, &fields)).await.status
    };
    // Its second is over when it is refused.
    while sign_in(&short).await == 303 {}
    for (token, times, status) in [
        (&revoked, 2, 401),
        (&elsewhere, 1, 403),
        (&acme.token, 3, 403),
    ] {
        for _ in 0..times {
            assert_eq!(sign_in(token).await, status);
        }
    }
    // The gateway has told the region of all seven, which writes them down at the latest when it
    // stops.
    let metrics = format!("http://{}/metrics", fleet.gateways[0].management);
    let client = crate::support::plain_client();
    let patience = std::time::Instant::now();
    loop {
        let metrics = Answer::of(client.get(&metrics)).await;
        let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
        if metrics.contains("meridian_gateway_notices_total 7\n") {
            break;
        }
        assert!(patience.elapsed().as_secs() < 7, "{metrics}");
    }
    let node = &mut fleet.nodes.get_mut("us").unwrap()[0].program;
    node.stop().await;
    node.start();
    node.ready().await;
    let audit = crate::support::eventually(200, || admin.ask("/audit?kind=admin.sign_in_refused"));
    let audit = audit.await.json();
    let records = audit["records"].as_array().unwrap();
    let mut refused: Vec<_> = records
        .iter()
        .map(|it| (&it["subject"], &it["actor"], &it["names"][0]))
        .collect();
    refused.sort_by_key(|(subject, ..)| subject.to_string());
    let expected = [
        ("expired_token", &short, "1"),
        ("network", &elsewhere, "1"),
        ("revoked_token", &revoked, "2"),
        ("scope", &acme.token, "3"),
    ]
    .map(|(rule, token, times)| (json!(rule), json!(token.id), json!(times)));
    let expected: Vec<_> = expected.iter().map(|(a, b, c)| (a, b, c)).collect();
    assert_eq!(refused, expected, "{audit}");
    let elsewhere = of_other.get("/audit?kind=admin.sign_in_refused").await;
    assert_eq!(elsewhere["records"], json!([]));
    let findings = admin.get("/doctor").await;
    assert_eq!(findings["findings"], json!([]), "provisioning is all right");
}

/// Webhooks from their making to their end, by forms alone.
#[tokio::test]
async fn webhooks_are_made_changed_held_back_and_deleted() {
    let world = World::start();
    let admin = acme(&world).await;
    let consumer = Consumer::start().await;
    let browser = Browser::of(&admin).await;
    let proof = browser.proof().await;
    let send = async |path: &str, fields: &[(&str, &str)]| {
        let proof = [("proof", proof.as_str())];
        let fields: Vec<_> = proof.into_iter().chain(fields.iter().copied()).collect();
        let answer = browser
            .send(&format!("/console/webhooks{path}"), &fields)
            .await;
        (answer.status, answer)
    };
    let text = |answer: &Answer| String::from_utf8_lossy(&answer.body).into_owned();
    let secret_in = |page: &str| {
        let (_, rest) = page.split_once("id=\"secret\"").unwrap();
        let (_, rest) = rest.split_once("value=\"").unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    };
    let url = consumer.url();
    let fields = [
        ("kind", "webhook"),
        ("url", url.as_str()),
        ("description", "HR"),
        ("events", "user.created"),
        ("events", "user.deleted"),
    ];
    let (status, made) = send("", &fields).await;
    assert_eq!(status, 200, "{made:?}");
    let secret = secret_in(&text(&made));
    let webhook = admin.get("/webhooks").await["webhooks"][0].clone();
    let this = format!("/{}", id(&webhook));
    let shown = browser.page(&format!("/console/webhooks{this}")).await;
    assert!(shown.contains("user.deleted") && !shown.contains(&secret));
    admin.tenant.create_user(json!({ "userName": "ann" })).await;
    let came = consumer.once(|came| !came.is_empty()).await;
    assert!(came[0].is_signed_with(&secret));

    // The form shows what there is, and what is wrong with what is sent; then nothing changes.
    let edit = format!("{this}/edit");
    let form = browser.page(&format!("/console/webhooks{edit}")).await;
    assert!(form.contains(&format!("value=\"{url}\"")), "{form}");
    assert_eq!(form.matches(" checked").count(), 2, "{form}");
    let wrong = [
        ("url", "http://10.0.0.1/inside"),
        ("description", "Payroll"),
    ];
    let (status, refused) = send(&edit, &wrong).await;
    let page = text(&refused);
    assert_eq!(status, 400, "{page}");
    assert!(page.contains("role=\"alert\"") && page.contains("value=\"Payroll\""));
    assert_eq!(
        admin.get(&format!("/webhooks{this}")).await["description"],
        "HR"
    );
    let fields = [("url", url.as_str()), ("events", "user.deleted")];
    let (status, changed) = send(&edit, &fields).await;
    assert_eq!(status, 303, "{changed:?}");
    let after = admin.get(&format!("/webhooks{this}")).await;
    assert_eq!(
        (&after["events"], &after["description"]),
        (&json!(["user.deleted"]), &json!(""))
    );

    for (deed, state) in [("pause", "paused"), ("resume", "active")] {
        let (status, _) = send(&format!("{this}/{deed}"), &[]).await;
        assert_eq!(status, 303);
        let now = admin.get(&format!("/webhooks{this}")).await;
        assert_eq!(now["state"], state);
    }
    let (_, rotated) = send(&format!("{this}/rotate"), &[]).await;
    let successor = secret_in(&text(&rotated));
    assert_ne!(successor, secret);
    let (_, tested) = send(&format!("{this}/test"), &[]).await;
    assert!(text(&tested).contains("was taken"), "{tested:?}");
    let came = consumer.once(|came| came.len() == 2).await;
    assert!(came[1].is_signed_with(&successor) && came[1].is_signed_with(&secret));
    assert_eq!(send(&format!("{this}/explode"), &[]).await.0, 404);
    let (status, _) = send(&format!("{this}/delete"), &[]).await;
    assert_eq!(status, 303);
    assert_eq!(admin.get("/webhooks").await, json!({ "webhooks": [] }));
    assert_eq!(send(&edit, &fields).await.0, 404);
}

/// What a receiver did not take is shown, and sent once more when the administrator says so.
#[tokio::test]
async fn what_a_receiver_did_not_take_is_shown_and_sent_once_more() {
    let world = World::start();
    let admin = acme(&world).await;
    let browser = Browser::of(&admin).await;
    let proof = browser.proof().await;
    let fields = [
        ("proof", proof.as_str()),
        ("kind", "set-poll"),
        ("audience", "https://app.example.com"),
    ];
    let made = browser.send("/console/webhooks", &fields).await;
    assert_eq!(made.status, 200, "{made:?}");
    let webhook = admin.get("/webhooks").await["webhooks"][0].clone();
    let this = format!("/webhooks/{}", id(&webhook));
    let ann = admin.tenant.create_user(json!({ "userName": "ann" })).await;
    let poll = async |body: Value| {
        let answer = admin.post(&format!("{this}/poll"), &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let sets = answer.json()["sets"].as_object().unwrap().clone();
        sets.keys().cloned().collect::<Vec<String>>()
    };
    let now = json!({ "returnImmediately": true });
    let tokens = poll(now.clone()).await;
    let error = json!({ "err": "jwtParse", "description": "what <is> this" });
    let refuses = json!({ "setErrs": { &tokens[0]: error }, "returnImmediately": true });
    assert!(poll(refuses).await.is_empty());
    let page = browser.page(&format!("/console{this}")).await;
    assert!(page.contains("jwtParse: what &lt;is&gt; this"), "{page}");
    assert!(page.contains(id(&ann)), "{page}");
    let replayed = browser
        .send(&format!("/console{this}/replay"), &[("proof", &proof)])
        .await;
    assert_eq!(replayed.status, 303, "{replayed:?}");
    assert_eq!(poll(now).await, tokens);
    let takes = json!({ "ack": tokens, "returnImmediately": true });
    assert!(poll(takes).await.is_empty());
    assert_eq!(admin.get(&this).await["deadLetters"], 0);
}

/// Whatever a client or a user is called, it is text on a page.
#[tokio::test]
async fn what_others_wrote_is_text() {
    const CANARIES: [&str; 4] = [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(2)>",
        "'-alert(3)-'",
        "</title></textarea><svg/onload=alert(4)>",
    ];
    let world = World::start();
    let admin = acme(&world).await;
    let acme = &admin.tenant;
    let browser = Browser::of(&admin).await;
    let mut paths = vec!["/console".to_owned()];
    for canary in CANARIES {
        let user = json!({
            "userName": canary, "displayName": canary, "externalId": canary, "title": canary,
            "name": { "givenName": canary, "familyName": canary },
            "emails": [{ "value": canary, "type": "work", "display": canary }],
        });
        let user = acme.create_user(user).await;
        let group = json!({ "displayName": canary, "members": [{ "value": id(&user) }] });
        let group = acme.create_group(group).await;
        let token = admin
            .post("/tokens", &json!({ "name": canary }))
            .await
            .json();
        let change = patch(&json!([{ "op": "replace", "path": "title", "value": "x" }]));
        acme.patch(&format!("/Users/{}", id(&user)), &change).await;
        let filter = crate::support::encode(&format!("{canary} eq \"{canary}\""));
        let request = acme.request(Method::GET, &format!("/Users?filter={filter}"));
        Answer::of(request.header("user-agent", canary.replace('\n', ""))).await;
        let hook = json!({ "url": "https://events.example.com/", "description": canary });
        let hook = admin.post("/webhooks", &hook).await.json();
        let encoded = crate::support::encode(canary);
        paths.extend([
            format!("/console/users/{}", id(&user)),
            format!("/console/groups/{}", id(&group)),
            format!("/console/groups/{}/members", id(&group)),
            format!("/console/tokens/{}", id(&token)),
            format!("/console/tokens/{}/revoke", id(&token)),
            format!("/console/webhooks/{}", id(&hook)),
            format!("/console/webhooks/{}/edit", id(&hook)),
            format!("/console/webhooks/{}/delete", id(&hook)),
            format!("/console/activity?client={encoded}&request={encoded}&from={encoded}"),
            format!("/console/activity?resource={}", id(&user)),
            format!("/console/audit?kind={encoded}&actor={encoded}&subject={encoded}"),
            format!("/console/users?search={encoded}"),
            format!("/console/users?cursor={encoded}"),
            format!("/console/sign-in?{encoded}"),
            format!("/console?{encoded}"),
        ]);
    }
    for section in [
        "users",
        "groups",
        "tokens",
        "settings",
        "guides",
        "activity",
        "activity/cycles",
        "doctor",
        "audit",
        "webhooks",
        "webhooks/new",
    ] {
        paths.push(format!("/console/{section}"));
    }
    let mut seen = 0;
    for path in paths {
        let answer = browser.get(&path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        guarded(&answer);
        let page = String::from_utf8(answer.body).unwrap();
        for canary in CANARIES {
            // Quotes in text are harmless; what opens a tag or ends an attribute is not.
            let is_there = canary.contains(['<', '>']) && page.contains(canary);
            assert!(!is_there, "{path}: {page}");
        }
        assert!(
            !page.contains("onerror=alert(2)>") && !page.contains("<svg/onload"),
            "{path}"
        );
        assert!(
            !page.contains(" style=") && !page.contains("<style"),
            "{path}"
        );
        assert_eq!(
            page.matches("<script").count(),
            page.matches("<script src=\"/console/").count()
        );
        seen += page.matches("&lt;script&gt;alert(1)").count();
    }
    assert!(seen > 20, "the canaries are on the pages");
}

#[tokio::test]
async fn no_other_spelling_of_a_path_reaches_anything() {
    let world = World::start();
    let admin = acme(&world).await;
    let browser = Browser::of(&admin).await;
    let address = admin.tenant.region.address;
    let host = admin.tenant.region.host();
    let cookie = browser.cookie.as_deref().unwrap();
    for (target, status) in [
        ("/console/../internal/v1/operator/tenants", 404),
        ("/console/%2e%2e/admin/v1/tokens", 404),
        ("/console/..%2f..%2finternal/v1/resolve", 404),
        ("/console/users/..", 404),
        ("/console/users/%2e%2e%2ftokens", 404),
        ("/console/users/a%00b", 404),
        ("/console/users/a%0d%0aset-cookie:x=y", 404),
        ("/console/assets/../../tokens", 404),
        ("/console/assets/x.css", 404),
        ("/console/nothing", 404),
        ("/console/users/x/y/z/a", 404),
        ("/Console", 404),
        ("/consoles", 404),
        ("//console//tokens/", 200),
        ("/console/assets/console.css", 200),
        ("/console/%74okens", 200),
    ] {
        let request = format!(
            "GET {target} HTTP/1.1\r\nhost: {host}\r\ncookie: meridian_session={cookie}\r\n\
             connection: close\r\n\r\n"
        );
        let answer = crate::support::raw::exchange(address, request.as_bytes()).await;
        let line = answer.lines().next().unwrap_or_default();
        assert!(line.contains(&format!(" {status} ")), "{target}: {answer}");
        assert!(
            !answer.to_ascii_lowercase().contains("\nset-cookie"),
            "{target}"
        );
    }
}

#[tokio::test]
async fn errors_are_pages_and_everything_is_guarded() {
    let world = World::start();
    let admin = acme(&world).await;
    let browser = Browser::of(&admin).await;
    for path in [
        "/console",
        "/console/sign-in",
        "/console/assets/console.css",
        "/console/tokens",
    ] {
        guarded(&browser.get(path).await);
        let head = Answer::of(browser.request(Method::HEAD, path)).await;
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        guarded(&head);
    }
    for (method, path, status) in [
        (Method::GET, "/console/users/none", 404),
        (Method::GET, "/console/nothing", 404),
        (Method::GET, "/console/guides/none", 404),
        (Method::GET, "/console/sign-out", 405),
        (Method::PUT, "/console/tokens", 405),
        (Method::DELETE, "/console/sign-in", 405),
        (Method::OPTIONS, "/console", 405),
        (Method::POST, "/console/assets/console.css", 405),
    ] {
        let request = browser
            .request(method.clone(), path)
            .header("origin", browser.origin());
        let answer = Answer::of(request).await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        guarded(&answer);
        let media_type = answer.header("content-type").unwrap();
        assert!(
            media_type.starts_with("text/html"),
            "{method} {path}: {media_type}"
        );
        let page = String::from_utf8(answer.body.clone()).unwrap();
        let id = answer.header("x-request-id").unwrap();
        assert!(page.contains(id), "{method} {path}: {page}");
    }
    let large = "x".repeat(100_000);
    let answer = browser.send("/console/sign-in", &[("token", &large)]).await;
    assert_eq!(answer.status, 413, "{answer:?}");
    guarded(&answer);

    // A suspended tenant's administrator is told so.
    world.meridian(&["tenant", "suspend", &admin.tenant.id]);
    let answer = browser.get("/console").await;
    assert_eq!(answer.status, 403, "{answer:?}");
    assert!(
        String::from_utf8_lossy(&answer.body).contains("suspended"),
        "{answer:?}"
    );
}

/// Whoever guesses is slowed down as at the API: by the address that the guesses come from.
#[tokio::test]
async fn guesses_at_the_sign_in_page_are_limited() {
    let world = World::start();
    let admin = acme(&world).await;
    let browser = Browser::new(&admin.tenant);
    admin.get("/tokens").await;
    let region = shared::RegionId::parse("us").unwrap();
    let mut limited = None;
    for _ in 0..2_000 {
        let guess = shared::ApiToken::generate(&region).unwrap();
        let answer = browser.sign_in(guess.reveal()).await;
        if answer.status == 429 {
            limited = Some(answer);
            break;
        }
        assert_eq!(answer.status, 401, "{answer:?}");
    }
    let answer = limited.expect("guessing goes on for ever");
    let seconds: u32 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(seconds >= 1);
    guarded(&answer);
    let listed: Value = admin.get("/tokens").await;
    assert!(listed["tokens"].is_array(), "one who is known goes on");
}
