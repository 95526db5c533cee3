//! Everything that one may ask of a region, with a canary in every personal value.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};

use super::super::admin::Admin;
use super::super::browser::Browser;
use super::super::consumer::Consumer;
use super::super::raw::exchange;
use super::super::{Answer, Tenant, Token, encode, id, patch, path, with_form};
use super::canary::{Book, Keep};

const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
const STAFF: &str = "urn:acme:params:scim:schemas:extension:staff:2.0:User";
/// Nobody's id.
const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

/// Who is here, and who is elsewhere.
pub struct Cast<'c> {
    pub book: &'c Book,
    pub acme: &'c Tenant,
    pub admin: &'c Admin,
    /// A token of `acme` that has been revoked.
    pub revoked: &'c Token,
    /// A tenant of another region.
    pub foreign: &'c Tenant,
    pub consumer: &'c Consumer,
}

/// All of it, once.
pub async fn everything(cast: &Cast<'_>) {
    administration(cast).await;
    let user = provisioning(cast).await;
    bulk_and_search(cast, &user).await;
    old_version(cast).await;
    mistakes(cast, &user).await;
    credentials(cast).await;
    console(cast, &user).await;
    broken_http(cast).await;
    looking_around(cast, &user).await;
}

/// A user with something in every attribute that says something of a person.
fn person(book: &Book, of: &str) -> Value {
    let word = |attribute: &str| book.stored(&format!("{of}: {attribute}"));
    // It gets another value later.
    let changed = |attribute: &str| book.passing(&format!("{of}: {attribute}"));
    let mail = |kind: &str| {
        let what = format!("{of}: {kind} e-mail");
        book.value(&what, Keep::Stored, "@example.com")
    };
    json!({
        "userName": book.value(&format!("{of}: userName"), Keep::Stored, "@example.com"),
        "externalId": word("externalId"),
        "name": {
            "formatted": format!("Zoë {}", word("name.formatted")),
            "givenName": word("name.givenName"), "familyName": word("name.familyName"),
            "middleName": word("name.middleName"),
            "honorificPrefix": word("name.honorificPrefix"),
            "honorificSuffix": word("name.honorificSuffix"),
        },
        "displayName": word("displayName"),
        "nickName": changed("nickName"),
        "profileUrl": format!("https://example.com/{}", word("profileUrl")),
        "title": changed("title"), "userType": word("userType"),
        "timezone": "Europe/Berlin", "locale": "de-DE",
        "password": book.forgotten(&format!("{of}: password")),
        "emails": [
            { "value": mail("work"), "type": "work", "primary": true },
            { "value": mail("home"), "type": "home", "display": changed("emails.display") },
        ],
        "phoneNumbers": [{ "value": word("phoneNumbers"), "type": "work" }],
        "ims": [{ "value": word("ims"), "type": "xmpp" }],
        "photos": [{ "value": format!("https://example.com/{}", word("photos")), "type": "photo" }],
        "addresses": [{
            "formatted": word("addresses.formatted"),
            "streetAddress": word("addresses.streetAddress"),
            "locality": word("addresses.locality"), "region": word("addresses.region"),
            "postalCode": word("addresses.postalCode"), "country": "DE", "type": "home",
        }],
        "entitlements": [{ "value": word("entitlements") }],
        "roles": [{ "value": word("roles") }],
        "x509Certificates": [{ "value": STANDARD.encode(book.passing(&format!("{of}: certificate"))) }],
        ENTERPRISE: {
            "employeeNumber": word("employeeNumber"), "costCenter": word("costCenter"),
            "organization": word("organization"), "division": word("division"),
            "department": word("department"), "manager": { "value": word("manager") },
        },
        STAFF: { "badge": word("badge of an extension") },
        "unknown": book.passing(&format!("{of}: unknown attribute")),
    })
}

/// The tenant's administrator makes what others use.
async fn administration(
    Cast {
        book,
        admin,
        consumer,
        ..
    }: &Cast<'_>,
) {
    let schema = json!({
        "resourceType": "User", "indexed": ["badge"],
        "schema": { "id": STAFF, "name": "Staff", "attributes": [
            { "name": "badge", "type": "string", "description": book.stored("schema's description") },
        ] },
    });
    let made = admin.post("/schemas", &schema).await;
    assert_eq!(made.status, 201, "{made:?}");
    let url = format!("{}?{}", consumer.url(), book.stored("webhook's URL"));
    let description = book.stored("webhook's description");
    let hook = json!({ "url": url, "description": description });
    let made = admin.post("/webhooks", &hook).await;
    assert_eq!(made.status, 201, "{made:?}");
    let made = made.json();
    let secret = made["secret"].as_str().unwrap();
    // Whatever signs deliveries has to be stored.
    book.note("webhook's secret", Keep::AtHome, secret, &secret[6..]);
    let test = format!("/webhooks/{}/test", id(&made));
    assert_eq!(admin.post(&test, &json!({})).await.status, 200);
    let receiver = json!({ "kind": "set-poll", "audience": "https://app.example.com" });
    let made = admin.post("/webhooks", &receiver).await;
    assert_eq!(made.status, 201, "{made:?}");
    book.id("id of a receiver", id(&made.json()), Keep::AtHome);
    let name = json!({ "name": book.stored("token's name"), "scope": "scim" });
    let made = admin.post("/tokens", &name).await;
    assert_eq!(made.status, 201, "{made:?}");
    book.secret(
        "a token of the admin API",
        made.json()["token"].as_str().unwrap(),
    );
    admin.get("/settings").await;
    for (path, body) in [
        (
            "/settings",
            json!({ "userName": book.passing("bad setting") }),
        ),
        (
            "/webhooks",
            json!({ "url": book.passing("bad URL of a webhook") }),
        ),
        ("/tokens", json!({ "scope": book.passing("bad scope") })),
    ] {
        let method = if path == "/settings" {
            Method::PATCH
        } else {
            Method::POST
        };
        assert_eq!(admin.send(method, path, &body).await.status, 400, "{path}");
    }
}

/// Users and groups, from creating to deleting. Answers a user that stays.
async fn provisioning(Cast { book, acme, .. }: &Cast<'_>) -> Value {
    let user = acme.create_user(person(book, "user")).await;
    let url = path(&user);
    book.id("id of a user", id(&user), Keep::Stored);
    let second = acme
        .create_user(json!({ "userName": book.stored("second user") }))
        .await;
    book.id("id of a second user", id(&second), Keep::Stored);
    for filter in [
        format!("userName eq \"{}\"", book.stored("value of a filter")),
        format!(
            "emails[type eq \"work\" and value co \"{}\"]",
            book.stored("value within a filter")
        ),
        format!(
            "externalId sw \"{}\" or title pr",
            book.stored("beginning in a filter")
        ),
        format!(
            "{STAFF}:badge eq \"{}\"",
            book.stored("extension in a filter")
        ),
    ] {
        assert_eq!(acme.query(&filter).await.status, 200, "{filter}");
    }
    let attributes = book.passing("list of attributes");
    for tail in [
        format!("?attributes={attributes}"),
        format!("?excludedAttributes={attributes}"),
        format!("?nonsense={}", book.passing("query string")),
        String::new(),
    ] {
        assert_eq!(acme.get(&format!("{url}{tail}")).await.status, 200);
    }
    let etag = book.passing("If-None-Match");
    let request = acme
        .request(Method::GET, &url)
        .header("if-none-match", format!("W/\"{etag}\""));
    let request = request
        .header("user-agent", book.passing("User-Agent"))
        .header("x-unknown", book.passing("unknown header"))
        .header("cookie", format!("a={}", book.passing("cookie")));
    assert_eq!(Answer::of(request).await.status, 200);
    let email = book.value("value in a PATCH", Keep::Stored, "@example.com");
    let sought = book.value("user: home e-mail", Keep::Stored, "@example.com");
    for operations in [
        json!([{ "op": "replace", "path": "nickName", "value": book.stored("nickName by PATCH") }]),
        json!([{ "op": "add", "path": "emails", "value": [{ "value": email, "type": "other" }] }]),
        json!([{ "op": "replace", "path": format!("emails[value eq \"{sought}\"].display"),
                 "value": book.stored("value behind a filter of a PATCH") }]),
        json!([{ "op": "replace", "value": { "active": false } }]),
    ] {
        let answer = acme.patch(&url, &patch(&operations)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let put =
        json!({ "userName": book.stored("userName by PUT"), "title": book.stored("title by PUT") });
    assert_eq!(acme.put(&path(&second), &put).await.status, 200);

    let group = json!({
        "displayName": book.stored("group's displayName"), "externalId": book.stored("group's externalId"),
        "members": [{ "value": id(&user), "display": book.passing("display of a member") }],
    });
    let group = acme.create_group(group).await;
    book.id("id of a group", id(&group), Keep::Stored);
    for operations in [
        json!([{ "op": "add", "path": "members", "value": [{ "value": id(&second) }] }]),
        json!([{ "op": "remove", "path": format!("members[value eq \"{}\"]", id(&second)) }]),
        json!([{ "op": "replace", "path": "displayName", "value": book.stored("displayName by PATCH") }]),
    ] {
        let answer = acme.patch(&path(&group), &patch(&operations)).await;
        assert!(answer.status < 300, "{answer:?}");
    }
    let filter = format!("displayName eq \"{}\"", book.stored("group in a filter"));
    assert_eq!(
        acme.get(&format!("/Groups?filter={}", encode(&filter)))
            .await
            .status,
        200
    );

    let gone = acme
        .create_user(json!({ "userName": book.passing("user that is deleted") }))
        .await;
    assert_eq!(acme.delete(&path(&gone)).await.status, 204);
    assert_eq!(acme.get(&path(&gone)).await.status, 404);
    user
}

async fn bulk_and_search(Cast { book, acme, .. }: &Cast<'_>, user: &Value) {
    let outcome = acme
        .bulk(&json!([
            { "method": "POST", "path": "/Users", "bulkId": book.passing("bulkId"),
              "data": { "userName": book.stored("userName in Bulk") } },
            { "method": "POST", "path": "/Users", "bulkId": "b",
              "data": { "userName": "x", "active": book.passing("bad value in Bulk") } },
            { "method": "PATCH", "path": path(user),
              "data": patch(&json!([{ "op": "replace", "path": "title", "value": book.stored("title in Bulk") }])) },
            { "method": "DELETE", "path": format!("/Users/{}", book.passing("id in Bulk")) },
        ]))
        .await;
    assert_eq!(outcome["Operations"][0]["status"], "201", "{outcome}");
    for path in ["/.search", "/Users/.search", "/Groups/.search"] {
        let word = book.passing(&format!("filter of {path}"));
        let attribute = if path == "/Users/.search" {
            "userName"
        } else {
            "id"
        };
        let search = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"],
            "filter": format!("{attribute} eq \"{word}\""), "attributes": [word],
        });
        assert_eq!(acme.post(path, &search).await.status, 200, "{path}");
    }
}

/// SCIM 1.1.
async fn old_version(Cast { book, acme, .. }: &Cast<'_>) {
    let mut old = (*acme).clone();
    old.region.base_url.push_str("/v1");
    let user = json!({
        "schemas": ["urn:scim:schemas:core:1.0"], "userName": book.stored("userName in 1.1"),
        "name": { "familyName": book.stored("familyName in 1.1") },
        "emails": [{ "value": book.value("e-mail in 1.1", Keep::Stored, "@example.com"), "type": "work" }],
    });
    let user = old.create_user(user).await;
    book.id("id of a user of 1.1", id(&user), Keep::Stored);
    let url = format!("/Users/{}", id(&user));
    let change =
        json!({ "schemas": ["urn:scim:schemas:core:1.0"], "title": book.stored("title in 1.1") });
    assert_eq!(old.patch(&url, &change).await.status, 200);
    let filter = format!("userName eq \"{}\"", book.stored("filter in 1.1"));
    assert_eq!(old.query(&filter).await.status, 200);
    let nobody = format!("/Users/{}", book.passing("id in 1.1"));
    assert_eq!(old.get(&nobody).await.status, 404);
    let bad = format!("{} {{", book.passing("bad body in 1.1"));
    assert_eq!(old.send(Method::POST, "/Users", bad).await.status, 400);
}

/// What a client does wrong, and everything that it is told then.
async fn mistakes(Cast { book, acme, .. }: &Cast<'_>, user: &Value) {
    let word = |what: &str| book.passing(what);
    let url = path(user);
    let taken = json!({ "userName": user["userName"], "title": word("body of a 409") });
    acme.post("/Users", &taken)
        .await
        .scim_error(409, Some("uniqueness"));
    for body in [
        format!("{{\"userName\": {} ", word("malformed JSON")),
        format!(
            "{{\"userName\": \"a\", \"x\": \"{}",
            word("JSON that ends early")
        ),
        format!("{{\"{0}\": 1, \"{0}\": 2}}", word("JSON with a key twice")),
        format!(
            "{}\"{}\"{}",
            "[".repeat(40),
            word("JSON that is deep"),
            "]".repeat(40)
        ),
        format!(
            "{{\"userName\": \"{}\\ud800\"}}",
            word("JSON with half a character")
        ),
        format!(
            "{{\"userName\": \"{}\", \"active\": \"perhaps\"}}",
            word("beside a bad value")
        ),
        format!(
            "{{\"userName\": \"x\", \"active\": \"{}\"}}",
            word("bad value")
        ),
        format!("{{\"emails\": \"{}\"}}", word("value of the wrong kind")),
        format!(
            "{{\"schemas\": [\"urn:{}\"], \"userName\": \"x\"}}",
            word("unknown schema")
        ),
    ] {
        let answer = acme.send(Method::POST, "/Users", body.clone()).await;
        assert!(
            answer.status == 400 || body.contains("\"urn:"),
            "{body}: {answer:?}"
        );
    }
    let mut bytes = format!("{{\"userName\": \"{}", word("JSON that is no UTF-8")).into_bytes();
    bytes.extend(b"\xff\"}");
    assert_eq!(acme.send(Method::POST, "/Users", bytes).await.status, 400);
    let large = format!(
        "{{\"title\": \"{}{}\"}}",
        word("body that is too large"),
        "x".repeat(1_100_000)
    );
    assert_eq!(acme.send(Method::POST, "/Users", large).await.status, 413);
    for filter in [
        format!("{} eq \"x\"", word("unknown attribute in a filter")),
        format!("userName is \"{}\"", word("value of a bad filter")),
        format!("userName eq \"{}", word("filter that ends early")),
        format!(
            "userName eq \"{}\"{}",
            word("filter that is too long"),
            " or title pr".repeat(1_000)
        ),
    ] {
        assert_eq!(acme.query(&filter).await.status, 400, "{filter}");
    }
    let patches = [
        json!({ "Operations": [{ "op": word("bad op"), "path": "title", "value": 1 }] }),
        json!({ "Operations": [{ "op": "replace", "path": word("bad path"), "value": 1 }] }),
        json!({ "Operations": [{ "op": "replace", "path": format!("emails[{} eq", word("bad path with a filter")),
                                 "value": 1 }] }),
        json!({ "Operations": [{ "op": "replace", "path": "id", "value": word("value for what cannot be changed") }] }),
        json!({ "Operations": [{ "op": "remove", "path": format!("emails[value eq \"{}\"]", word("no target")) }] }),
    ];
    for body in patches {
        let status = acme.patch(&url, &body).await.status;
        assert!(status < 500, "{body}: {status}");
    }
    for path in [
        format!("/Users/{}", word("id in a path")),
        format!("/{}", word("path")),
        format!("/Users/{NOBODY}/{}", word("path behind an id")),
        format!("/Users?startIndex={}", word("startIndex")),
        format!("/Users?cursor={}", word("cursor")),
        format!("/Users?sortBy={}", word("sortBy")),
        format!("/Schemas/{}", word("name of a schema")),
        format!("/ResourceTypes/{}", word("name of a resource type")),
        format!("/Me?{}", word("query of Me")),
        format!("/Users?x={}", word("query that is too long").repeat(2_000)),
    ] {
        acme.get(&path).await;
    }
    acme.delete(&format!(
        "/Users/{}?x={}",
        word("id of a DELETE"),
        word("query of a DELETE")
    ))
    .await;
    let stale = acme
        .request(Method::DELETE, &url)
        .header("if-match", format!("W/\"{}\"", word("If-Match")));
    assert_eq!(Answer::of(stale).await.status, 412);
    let repeated = word("Idempotency-Key");
    for title in [word("first of two bodies"), word("second of two bodies")] {
        let body = json!({ "userName": title }).to_string();
        let request = acme
            .request(Method::POST, "/Users")
            .header("idempotency-key", &repeated);
        Answer::of(
            request
                .header("content-type", "application/scim+json")
                .body(body),
        )
        .await;
    }
    let method = Method::from_bytes(word("method").to_uppercase().as_bytes()).unwrap();
    acme.send(method, "/Users", word("body of an unknown method"))
        .await;
}

/// Credentials that are bad, elsewhere, or in other clothes.
async fn credentials(cast: &Cast<'_>) {
    let Cast {
        book,
        acme,
        foreign,
        revoked,
        ..
    } = cast;
    let basic = format!("{}:{}", book.passing("name in Basic"), acme.token.secret);
    let request = acme.region.request(Method::GET, "/Users");
    let request = request.header("authorization", format!("Basic {}", STANDARD.encode(basic)));
    assert_eq!(Answer::of(request).await.status, 200);
    let no_token = book.passing("what is no token");
    acme.region
        .get_as(&no_token, "/Users")
        .await
        .scim_error(401, None);
    // Another region's token at our host, and ours at theirs.
    for (here, token, of) in [
        (acme, &foreign.token, "here"),
        (foreign, &acme.token, "there"),
    ] {
        let query = format!(
            "/Users?x={}",
            book.forgotten(&format!("query of a foreign token {of}"))
        );
        here.region
            .get_as(&token.secret, &query)
            .await
            .scim_error(401, None);
        let body = json!({ "userName": book.forgotten(&format!("body of a foreign token {of}")) });
        let request = here
            .region
            .request(Method::POST, "/Users")
            .bearer_auth(&token.secret);
        Answer::of(request.json(&body)).await.scim_error(401, None);
    }
    let asked = format!("/Users?x={}", book.passing("query of a revoked token"));
    acme.region
        .get_as(&revoked.secret, &asked)
        .await
        .scim_error(401, None);
    let in_query = format!("/Users?access_token={}", revoked.secret);
    acme.get(&in_query).await;

    let origin = acme.region.base_url.strip_suffix("/api/v1/scim").unwrap();
    let endpoint = format!(
        "{origin}/oauth2/token?{}",
        book.passing("query of a token request")
    );
    let grant = [("grant_type", "client_credentials"), ("scope", "")];
    let request = acme.region.client.post(&endpoint);
    let request = request.basic_auth(&acme.token.id, Some(&acme.token.secret));
    let answer = Answer::of(with_form(request, &grant[..1])).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let secret = answer.json()["access_token"].as_str().unwrap().to_owned();
    book.secret("an access token", &secret);
    assert_eq!(
        acme.region.get_as(&secret, "/Users?count=0").await.status,
        200
    );
    let request = acme.region.client.post(&endpoint);
    let request = request.basic_auth(book.passing("client id"), Some(&revoked.secret));
    let form = [grant[0], ("x", &book.passing("form of a token request"))];
    assert_eq!(Answer::of(with_form(request, &form)).await.status, 401);
}

async fn console(Cast { book, admin, .. }: &Cast<'_>, user: &Value) {
    let browser = Browser::of(admin).await;
    book.secret(
        "a session of the console",
        browser.cookie.as_deref().unwrap(),
    );
    let user = id(user);
    let search = book.passing("search in the console");
    for path in [
        "/console".to_owned(),
        format!("/console/users?search={search}"),
        format!(
            "/console/users?cursor={}",
            book.passing("cursor in the console")
        ),
        format!("/console/users/{user}"),
        format!("/console/users/{}", book.passing("id in the console")),
        format!("/console/groups?search={search}"),
        format!("/console/{}", book.passing("path in the console")),
        format!(
            "/console/activity?request={0}&from={0}",
            book.passing("activity's query")
        ),
        format!("/console/activity?resource={user}"),
        "/console/doctor".to_owned(),
        "/console/tokens".to_owned(),
        "/console/settings".to_owned(),
        "/console/webhooks".to_owned(),
        "/console/audit".to_owned(),
        "/console/guides".to_owned(),
        format!(
            "/console/sign-in?{}",
            book.passing("query of the sign-in page")
        ),
        "/console/export".to_owned(),
    ] {
        assert!(browser.get(&path).await.status < 500, "{path}");
    }
    let proof = browser.proof().await;
    let name = book.stored("token's name in the console");
    let fields = [
        ("proof", proof.as_str()),
        ("name", &name),
        ("scope", "scim"),
        ("life", "90"),
    ];
    assert_eq!(browser.send("/console/tokens", &fields).await.status, 200);
    let forged = book.passing("form without its proof");
    browser.send("/console/tokens", &[("name", &forged)]).await;
    browser
        .sign_in(&book.passing("what nobody signs in with"))
        .await;
    let out = browser
        .send("/console/sign-out", &[("proof", &proof)])
        .await;
    assert_eq!(out.status, 303, "{out:?}");
}

/// Requests that are hardly HTTP, and bodies that do not end.
async fn broken_http(Cast { book, acme, .. }: &Cast<'_>) {
    let word = |what: &str| book.passing(what);
    let (host, token) = (acme.region.host(), &acme.token.secret);
    let line = format!(
        "POST /api/v1/scim/Users HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}"
    );
    for request in [
        format!(
            "GET /{} HTTP/1.1\r\nHost: example.com",
            word("path at a strange host")
        ),
        format!(
            "GET /{} HTTP/1.1\r\nHost: {}.example.com",
            word("path"),
            word("strange host")
        ),
        format!(
            "GET /{} HTTP/1.1\r\nHost: a\r\nHost: b",
            word("path with two hosts")
        ),
        format!(
            "BREW /{} HTTP/1.1\r\nHost: {host}",
            word("path of an unknown method")
        ),
        format!("nonsense {}", word("no HTTP")),
        format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\n{}: x\r\nbad header",
            word("name of a header")
        ),
        format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\nX: {}",
            word("overlong header").repeat(8_000)
        ),
        format!(
            "GET /{} HTTP/1.1\r\nHost: {host}",
            word("overlong path").repeat(8_000)
        ),
        format!(
            "{line}\r\nContent-Length: 10\r\nTransfer-Encoding: chunked\r\nX: {}",
            word("smuggled")
        ),
        format!("{line}\r\nExpect: {}", word("Expect")),
        format!("{line}\r\nUpgrade: {}", word("Upgrade")),
    ] {
        let request = format!("{request}\r\nConnection: close\r\n\r\n");
        exchange(acme.region.address, request.as_bytes()).await;
    }
    // Its end never comes.
    let slow = format!(
        "{line}\r\nContent-Length: 1000\r\n\r\n{{\"userName\": \"{}",
        word("body that never ends")
    );
    exchange(acme.region.address, slow.as_bytes()).await;
}

/// What is shown of all this at home, and events for whoever comes for them.
async fn looking_around(
    Cast {
        book,
        admin,
        acme,
        consumer,
        ..
    }: &Cast<'_>,
    user: &Value,
) {
    for path in [
        "/users",
        "/groups",
        "/activity",
        "/activity/cycles",
        "/activity/overview",
        "/doctor",
        "/audit",
        "/audit/verify",
        "/events",
        "/events/jwks",
        "/webhooks",
        "/tokens",
        "/schemas",
    ] {
        admin.get(path).await;
    }
    admin.ask("/export").await;
    for path in [
        format!("/users?search={}", book.passing("search of the admin API")),
        format!("/users/{}", book.passing("id at the admin API")),
        format!("/users/{}/history", id(user)),
        format!(
            "/activity?request={}",
            book.passing("query of the admin API")
        ),
        format!("/events?after={}", book.passing("cursor of the admin API")),
        format!("/{}", book.passing("path at the admin API")),
    ] {
        assert!(admin.ask(&path).await.status < 500, "{path}");
    }
    // The application hears of the person, at home.
    let email = book.value("user: work e-mail", Keep::Stored, "@example.com");
    consumer
        .once(|came| came.iter().any(|one| one.text.contains(&email)))
        .await;
    assert_eq!(acme.get("/ServiceProviderConfig").await.status, 200);
}
