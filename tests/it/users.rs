//! Users: create, get, replace, patch, delete, query; projection and paging.

use std::collections::BTreeSet;

use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH};
use serde_json::{Value, json};

use crate::support::{Answer, Tenant, World};

const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
const PATCH_OP: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";

fn path(user: &Value) -> String {
    format!("/Users/{}", user["id"].as_str().unwrap())
}

fn patch(operations: &Value) -> Value {
    json!({ "schemas": [PATCH_OP], "Operations": operations })
}

#[tokio::test]
async fn a_user_lives_from_create_to_delete() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;

    let answer = acme
        .post(
            "/Users",
            &json!({ "schemas": [USER], "userName": "bjensen" }),
        )
        .await;
    assert_eq!(answer.status, 201);
    let user = answer.json();
    let location = format!("{}{}", acme.region.base_url, path(&user));
    assert_eq!(answer.header("location"), Some(location.as_str()));
    assert_eq!(answer.header("etag"), user["meta"]["version"].as_str());
    assert_eq!(user["meta"]["location"], json!(location));
    assert_eq!(user["meta"]["resourceType"], "User");
    assert_eq!(user["active"], json!(true));
    assert_eq!(user["timezone"], "Etc/UTC");
    assert_eq!(user["meta"]["created"], user["meta"]["lastModified"]);

    let read = acme.get(&path(&user)).await;
    assert_eq!(read.status, 200);
    assert_eq!(read.json(), user);

    let replacement = json!({ "schemas": [USER], "userName": "bjensen", "title": "Guide" });
    let replaced = acme.put(&path(&user), &replacement).await.json();
    assert_eq!(replaced["title"], "Guide");
    assert_eq!(replaced["id"], user["id"]);
    assert_eq!(replaced["meta"]["created"], user["meta"]["created"]);
    assert_ne!(replaced["meta"]["version"], user["meta"]["version"]);

    let operations = json!([{ "op": "remove", "path": "title" }]);
    let patched = acme.patch(&path(&user), &patch(&operations)).await;
    assert_eq!(patched.status, 200);
    assert_eq!(patched.json().get("title"), None);

    let deleted = acme.delete(&path(&user)).await;
    assert_eq!((deleted.status, deleted.body.len()), (204, 0));
    acme.get(&path(&user)).await.scim_error(404, None);
    acme.delete(&path(&user)).await.scim_error(404, None);
}

#[tokio::test]
async fn everything_that_is_sent_comes_back() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let sent = json!({
        "schemas": [USER, ENTERPRISE],
        "externalId": "701984", "userName": "bjensen@example.com",
        "name": {
            "formatted": "Ms. Barbara J Jensen, III", "familyName": "Jensen",
            "givenName": "Barbara", "middleName": "Jane",
            "honorificPrefix": "Ms.", "honorificSuffix": "III"
        },
        "displayName": "Babs Jensen", "nickName": "Babs",
        "profileUrl": "https://login.example.com/bjensen",
        "emails": [
            { "value": "bjensen@example.com", "type": "work", "primary": true },
            { "value": "babs@jensen.org", "type": "home" }
        ],
        "addresses": [{
            "type": "work", "streetAddress": "100 Universal City Plaza", "locality": "Hollywood",
            "region": "CA", "postalCode": "91608", "country": "US",
            "formatted": "100 Universal City Plaza\nHollywood, CA 91608 USA", "primary": true
        }],
        "phoneNumbers": [{ "value": "555-555-5555", "type": "work" }],
        "ims": [{ "value": "someaimhandle", "type": "aim" }],
        "photos": [{ "value": "https://photos.example.com/profilephoto/72930000000Ccne/F", "type": "photo" }],
        "userType": "Employee", "title": "Tour Guide", "preferredLanguage": "en-US",
        "locale": "en-US", "timezone": "America/Los_Angeles", "active": true,
        "roles": [{ "value": "admin" }],
        "entitlements": [{ "value": "all" }],
        "x509Certificates": [{ "value": "MIIDQzCCAqygAwIBAgICEAAwDQYJKoZIhvcNAQEFBQAw" }],
        ENTERPRISE: {
            "employeeNumber": "701984", "costCenter": "4130", "organization": "Universal Studios",
            "division": "Theme Park", "department": "Tour Operations",
            "manager": { "value": "26118915-6090-4610-87e4-49d8ca9f808d" }
        }
    });
    let user = acme.create_user(sent.clone()).await;
    for (name, value) in sent.as_object().unwrap() {
        assert_eq!(&user[name], value, "{name}");
    }
    let names: BTreeSet<&String> = user.as_object().unwrap().keys().collect();
    let mut expected: BTreeSet<&String> = sent.as_object().unwrap().keys().collect();
    let (id, meta) = ("id".to_owned(), "meta".to_owned());
    expected.extend([&id, &meta]);
    assert_eq!(names, expected);
}

#[tokio::test]
async fn a_password_is_accepted_and_never_seen_again() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let user = acme
        .create_user(json!({ "userName": "a", "password": "t1meMa$heen" }))
        .await;
    let operations = json!([{ "op": "replace", "path": "password", "value": "0ther$ecret" }]);
    let answers = [
        acme.get(&path(&user)).await,
        acme.patch(&path(&user), &patch(&operations)).await,
        acme.get(&format!("{}?attributes=password", path(&user)))
            .await,
        acme.get("/Users").await,
    ];
    for answer in answers {
        assert_eq!(answer.status, 200, "{answer:?}");
        let text = String::from_utf8(answer.body.clone()).unwrap();
        assert!(
            !text.contains("t1meMa$heen") && !text.contains("0ther$ecret"),
            "{text}"
        );
        assert!(!text.contains("\"password\""), "{text}");
    }
}

#[tokio::test]
async fn versions_guard_against_lost_updates() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let user = acme.create_user(json!({ "userName": "a" })).await;
    let first = user["meta"]["version"].as_str().unwrap();
    let with = async |method: Method, name: reqwest::header::HeaderName, tag: &str| {
        let body = match method {
            Method::PUT => json!({ "userName": "a", "title": tag }).to_string(),
            _ => String::new(),
        };
        let request = acme.request(method, &path(&user)).header(name, tag);
        Answer::of(
            request
                .header(CONTENT_TYPE, "application/scim+json")
                .body(body),
        )
        .await
    };

    assert_eq!(with(Method::GET, IF_NONE_MATCH, first).await.status, 304);
    let written = with(Method::PUT, IF_MATCH, first).await;
    assert_eq!(written.status, 200);
    with(Method::PUT, IF_MATCH, first)
        .await
        .scim_error(412, None);
    with(Method::DELETE, IF_MATCH, first)
        .await
        .scim_error(412, None);
    assert_eq!(with(Method::GET, IF_NONE_MATCH, first).await.status, 200);
    assert_eq!(with(Method::PUT, IF_MATCH, "*").await.status, 200);
    let current = acme.get(&path(&user)).await;
    let tag = current.header("etag").unwrap();
    assert_eq!(with(Method::DELETE, IF_MATCH, tag).await.status, 204);
}

#[tokio::test]
async fn odd_requests_that_real_clients_send_are_understood() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let user = acme.create_user(json!({ "userName": "odd" })).await;

    for content_type in [
        "application/scim+json",
        "application/json",
        "application/scim+json; charset=utf-8",
        "application/scim+json;charset=UTF-8",
        "Application/JSON;Charset=\"utf-8\"",
    ] {
        let body = json!({ "userName": "odd", "title": content_type }).to_string();
        let request = acme
            .request(Method::PUT, &path(&user))
            .header(CONTENT_TYPE, content_type);
        let answer = Answer::of(request.body(body)).await;
        assert_eq!(answer.status, 200, "{content_type}: {answer:?}");
    }
    let request = acme
        .request(Method::PUT, &path(&user))
        .header(CONTENT_TYPE, "text/xml");
    Answer::of(request.body("<user/>"))
        .await
        .scim_error(415, None);

    let base = path(&user);
    for odd in [
        format!("/{base}"),
        format!("{base}/"),
        format!("{base}?"),
        format!("{base}?&"),
        format!("{base}?aadOptscim062020"),
        format!("{base}?nobody=knows&this"),
        format!("//v2{base}"),
    ] {
        let answer = acme.get(&odd).await;
        assert_eq!(answer.status, 200, "{odd}: {answer:?}");
        assert_eq!(answer.json()["id"], user["id"], "{odd}");
    }

    for (accept, content_type) in [
        ("application/scim+json", "application/scim+json"),
        ("*/*", "application/scim+json"),
        ("application/json", "application/json"),
        (
            "application/json, application/scim+json",
            "application/scim+json",
        ),
        ("text/html, */*;q=0.1", "application/scim+json"),
    ] {
        let request = acme.request(Method::GET, &base).header(ACCEPT, accept);
        let answer = Answer::of(request).await;
        let found = answer.header("content-type").unwrap();
        assert!(found.starts_with(content_type), "{accept}: {found}");
    }
}

#[tokio::test]
async fn what_is_unknown_or_empty_is_dropped() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let user = acme
        .create_user(json!({
            "schemas": [USER, "urn:example:unknown:1.0"],
            "USERNAME": "case", "DisplayName": "Case", "shoeSize": 44,
            "title": null, "emails": [], "nickName": null,
            "urn:example:unknown:1.0": { "a": 1 },
            "meta": { "resourceType": "Spaceship", "created": "1999-01-01T00:00:00Z" },
            "id": "chosen", "groups": [{ "value": "x" }]
        }))
        .await;
    let names: BTreeSet<&str> = user
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let expected = BTreeSet::from([
        "schemas",
        "id",
        "userName",
        "displayName",
        "active",
        "timezone",
        "meta",
    ]);
    assert_eq!(names, expected);
    assert_eq!(user["schemas"], json!([USER]));
    assert_eq!(user["meta"]["resourceType"], "User");
    assert_ne!(user["id"], "chosen");
}

#[tokio::test]
async fn wrong_types_are_refused_by_name() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    for (user, attribute) in [
        (json!({ "userName": 7 }), "userName"),
        (json!({ "userName": "" }), "userName"),
        (json!({ "userName": "a", "active": "perhaps" }), "active"),
        (json!({ "userName": "a", "active": 1 }), "active"),
        (json!({ "userName": "a", "name": "Barbara" }), "name"),
        (json!({ "userName": "a", "name": [1, 2] }), "name"),
        (json!({ "userName": "a", "emails": [7] }), "emails"),
        (
            json!({ "userName": "a", "displayName": { "x": 1 } }),
            "displayName",
        ),
    ] {
        let answer = acme.post("/Users", &user).await;
        let detail = answer.scim_error(400, Some("invalidValue"));
        assert!(detail.contains(attribute), "{user}: {detail}");
    }
    assert_eq!(acme.get("/Users").await.json()["totalResults"], json!(0));
}

#[tokio::test]
async fn strings_that_say_true_or_false_are_booleans() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    for (n, (said, meant)) in [
        ("True", true),
        ("true", true),
        ("False", false),
        ("false", false),
    ]
    .iter()
    .enumerate()
    {
        let user = json!({ "userName": format!("u{n}"), "active": said });
        assert_eq!(
            acme.create_user(user).await["active"],
            json!(meant),
            "{said}"
        );
    }
    assert_eq!(acme.find("active eq true").await, ["u0", "u1"]);
    assert_eq!(acme.find("active eq \"False\"").await, ["u2", "u3"]);
    assert_eq!(acme.find("active eq False").await, ["u2", "u3"]);
}

async fn people() -> (World, Tenant) {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    for user in [
        json!({ "userName": "anna@example.com", "externalId": "E-1", "title": "Engineer",
                "displayName": "Anna Ång", "userType": "Employee",
                "name": { "givenName": "Anna", "familyName": "Ång" },
                "emails": [{ "value": "anna@example.com", "type": "work", "primary": true },
                           { "value": "anna@home.example", "type": "home" }],
                ENTERPRISE: { "employeeNumber": "1", "department": "R&D",
                              "manager": { "value": "boss" } } }),
        json!({ "userName": "Bert@example.com", "externalId": "e-1", "title": "Manager",
                "name": { "givenName": "Bert", "familyName": "Brown" },
                "emails": [{ "value": "bert@example.com", "type": "home" }],
                "phoneNumbers": [{ "value": "+1 555 0100", "type": "work" }],
                "active": false }),
        json!({ "userName": "carl", "userType": "Intern", "locale": "de-DE" }),
    ] {
        acme.create_user(user).await;
    }
    (world, acme)
}

const ANNA: &str = "anna@example.com";
const BERT: &str = "Bert@example.com";
const CARL: &str = "carl";

#[tokio::test]
async fn every_operator_finds_what_it_should() {
    let (_world, acme) = people().await;
    for (filter, expected) in [
        // eq, with the case rules of each attribute
        (r#"userName eq "bert@EXAMPLE.com""#, &[BERT] as &[&str]),
        (r#"externalId eq "e-1""#, &[BERT]),
        (r#"externalId eq "E-1""#, &[ANNA]),
        (r#"title eq "engineer""#, &[ANNA]),
        (r#"name.familyName eq "ång""#, &[ANNA]),
        (r#"displayName eq "anna ÅNG""#, &[ANNA]),
        // ne: an attribute that is not there differs from everything
        (r#"title ne "Engineer""#, &[BERT, CARL]),
        // co, sw, ew
        (r#"userName co "EXAMPLE""#, &[ANNA, BERT]),
        (r#"userName sw "B""#, &[BERT]),
        (r#"userName ew ".com""#, &[ANNA, BERT]),
        (r#"name.givenName co "nn""#, &[ANNA]),
        (r#"userName co "%""#, &[]),
        (r#"userName sw "_""#, &[]),
        // pr
        ("title pr", &[ANNA, BERT]),
        ("emails pr", &[ANNA, BERT]),
        ("emails.type pr", &[ANNA, BERT]),
        ("externalId pr", &[ANNA, BERT]),
        ("nickName pr", &[]),
        // gt, ge, lt, le: by code points, without case where the attribute has none
        (r#"userName gt "B""#, &[BERT, CARL]),
        (r#"userName ge "carl""#, &[CARL]),
        (r#"userName lt "b""#, &[ANNA]),
        (r#"userName le "ANNA@example.com""#, &[ANNA]),
        (
            r#"meta.created gt "2020-01-01T00:00:00Z""#,
            &[ANNA, BERT, CARL],
        ),
        (r#"meta.created lt "2020-01-01T00:00:00+05:00""#, &[]),
        // booleans
        ("active eq true", &[ANNA, CARL]),
        ("active eq false", &[BERT]),
        ("active ne true", &[BERT]),
        // multi-valued attributes: any element
        (r#"emails.value eq "ANNA@home.example""#, &[ANNA]),
        (r#"emails eq "bert@example.com""#, &[BERT]),
        (r#"emails.type eq "home""#, &[ANNA, BERT]),
        ("emails.primary eq true", &[ANNA]),
        (r#"phoneNumbers.value co "555""#, &[BERT]),
        // extension, with and without its URN
        (
            r#"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department eq "r&d""#,
            &[ANNA],
        ),
        (
            r#"URN:IETF:params:scim:schemas:extension:enterprise:2.0:user:EmployeeNumber eq "1""#,
            &[ANNA],
        ),
        (
            r#"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager.value eq "boss""#,
            &[ANNA],
        ),
        (r#"department eq "R&D""#, &[ANNA]),
        (
            r#"urn:ietf:params:scim:schemas:core:2.0:User:name.givenName eq "Bert""#,
            &[BERT],
        ),
        // names and operators without case
        (r#"USERNAME EQ "carl""#, &[CARL]),
        (r#"Emails.Value Co "home.EXAMPLE""#, &[ANNA]),
    ] {
        assert_eq!(acme.find(filter).await, expected, "{filter}");
    }
}

#[tokio::test]
async fn terms_combine_as_the_grammar_says() {
    let (_world, acme) = people().await;
    for (filter, expected) in [
        (r#"title pr and active eq true"#, &[ANNA] as &[&str]),
        (r#"userType eq "Intern" or active eq false"#, &[BERT, CARL]),
        // `and` binds closer than `or`
        (
            r#"userName eq "carl" or title pr and active eq false"#,
            &[BERT, CARL],
        ),
        (
            r#"(userName eq "carl" or title pr) and active eq false"#,
            &[BERT],
        ),
        (r#"not (title pr)"#, &[CARL]),
        (r#"NOT (title pr) OR active EQ false"#, &[BERT, CARL]),
        (
            r#"not (userName eq "carl") and not (active eq false)"#,
            &[ANNA],
        ),
        (r#"((((userName eq "carl"))))"#, &[CARL]),
        // a value path: one element fulfils all of it
        (r#"emails[type eq "work" and value co "anna"]"#, &[ANNA]),
        (r#"emails[type eq "work" and value co "home"]"#, &[]),
        (
            r#"emails[type eq "home" or primary eq true]"#,
            &[ANNA, BERT],
        ),
        (r#"emails[not (type eq "home")]"#, &[ANNA]),
        (r#"emails[type eq "home"] and active eq true"#, &[ANNA]),
        (
            r#"emails[type eq "work"].value eq "anna@example.com""#,
            &[ANNA],
        ),
        (r#"emails[type eq "home"].value ew ".example""#, &[ANNA]),
        // literals without quotes, escapes inside them
        ("userName eq carl", &[CARL]),
        (r#"userName eq "c\u0061rl""#, &[CARL]),
        (r#"userName eq """#, &[]),
        ("userName eq {}", &[]),
    ] {
        assert_eq!(acme.find(filter).await, expected, "{filter}");
    }
}

#[tokio::test]
async fn filters_that_make_no_sense_are_refused() {
    let (_world, acme) = people().await;
    for filter in [
        "word",
        "userName",
        "userName eq",
        r#"userName is "x""#,
        r#"eq "x""#,
        r#"userName eq "x" and"#,
        r#"userName eq "x" userName eq "y""#,
        r#"(userName eq "x""#,
        r#"userName eq "x")"#,
        r#"userName eq "x"#,
        r#"emails[type eq "work""#,
        r#"emails[]"#,
        r#"not userName eq "x""#,
        r#"nobodyKnowsThis eq "x""#,
        r#"name.nobodyKnowsThis eq "x""#,
        r#"urn:example:unknown:1.0:thing eq "x""#,
        "active gt true",
        r#"active co "tr""#,
        r#"meta.created gt "yesterday""#,
        r#"password eq "x""#,
    ] {
        let answer = acme.query(filter).await;
        assert!((400..=403).contains(&answer.status), "{filter}: {answer:?}");
        let body = answer.json();
        assert!(body["detail"].is_string(), "{filter}: {answer:?}");
        // RFC 7644 section 7.5.2 has a keyword of its own for what must not stand in a URL.
        let keyword = if filter.contains("password") {
            "sensitive"
        } else {
            "invalidFilter"
        };
        if answer.status == 400 {
            assert_eq!(body["scimType"], keyword, "{filter}: {answer:?}");
        }
    }
    // An empty filter says nothing; it must not be taken for "everybody".
    let empty = acme.get("/Users?filter=").await;
    assert!(
        empty.status == 400 || empty.json()["totalResults"] == json!(3),
        "{empty:?}"
    );
}

#[tokio::test]
async fn clients_ask_for_the_attributes_they_want() {
    let (_world, acme) = people().await;
    let names =
        |user: &Value| -> BTreeSet<String> { user.as_object().unwrap().keys().cloned().collect() };
    let set = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<BTreeSet<_>>()
    };
    let first = async |query: &str| {
        let list = acme.get(&format!("/Users?count=1&{query}")).await.json();
        list["Resources"][0].clone()
    };

    let user = first("attributes=userName").await;
    assert_eq!(names(&user), set(&["schemas", "id", "userName"]));
    let user = first("attributes=emails.value,NAME.familyname").await;
    assert_eq!(
        user["emails"],
        json!([{ "value": ANNA }, { "value": "anna@home.example" }])
    );
    assert_eq!(user["name"], json!({ "familyName": "Ång" }));
    let user = first(&format!("attributes={ENTERPRISE}:department")).await;
    assert_eq!(user[ENTERPRISE], json!({ "department": "R&D" }));
    assert_eq!(user.get("userName"), None);
    let user = first("attributes=meta.created").await;
    assert_eq!(names(&user["meta"]), set(&["created"]));
    let user = first("attributes=nobodyKnowsThis").await;
    assert_eq!(names(&user), set(&["schemas", "id"]));

    let whole = first("").await;
    let user = first("excludedAttributes=emails,name.givenName").await;
    let mut expected = names(&whole);
    expected.remove("emails");
    assert_eq!(names(&user), expected);
    assert_eq!(user["name"], json!({ "familyName": "Ång" }));
    // What is always returned cannot be excluded (RFC 7643 section 7, `returned`).
    let user = first("excludedAttributes=id,schemas").await;
    assert_eq!(user["id"], whole["id"]);
}

#[tokio::test]
async fn pages_are_complete_and_stable() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    for n in 0..25 {
        acme.create_user(json!({ "userName": format!("user{n:02}") }))
            .await;
    }
    let page = async |start: i64, count: i64, more: &str| {
        let answer = acme
            .get(&format!("/Users?startIndex={start}&count={count}{more}"))
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let list = answer.json();
        let names: Vec<String> = list["Resources"]
            .as_array()
            .map(|users| {
                users
                    .iter()
                    .map(|u| u["userName"].as_str().unwrap().to_owned())
                    .collect()
            })
            .unwrap_or_default();
        assert_eq!(list["itemsPerPage"], json!(names.len()));
        (list["totalResults"].as_i64().unwrap(), names)
    };

    for more in [
        "",
        "&filter=userName%20sw%20%22user%22",
        "&filter=active%20eq%20true",
    ] {
        let mut all = Vec::new();
        for start in [1, 11, 21, 31] {
            let (total, names) = page(start, 10, more).await;
            assert_eq!(total, 25, "{more}");
            all.extend(names);
        }
        let expected: Vec<String> = (0..25).map(|n| format!("user{n:02}")).collect();
        assert_eq!(all, expected, "{more}");
    }
    assert_eq!(page(1, 0, "").await, (25, Vec::new()));
    assert_eq!(page(-5, -5, "").await, (25, Vec::new()));
    assert_eq!(page(0, 1, "").await.1, ["user00"]);
    assert_eq!(page(26, 10, "").await, (25, Vec::new()));
    assert_eq!(page(i64::MAX, i64::MAX, "").await, (25, Vec::new()));
    assert_eq!(page(1, 1_000_000, "").await.1.len(), 25);
    for nonsense in ["startIndex=one", "count=many", "count=1.5"] {
        let answer = acme.get(&format!("/Users?{nonsense}")).await;
        assert_eq!(answer.status, 400, "{nonsense}: {answer:?}");
    }
    // Updates and deletes move nobody else.
    let (_, names) = page(1, 25, "&attributes=userName").await;
    let third = acme.get("/Users?startIndex=3&count=1").await.json()["Resources"][0].clone();
    acme.put(
        &path(&third),
        &json!({ "userName": "user02", "title": "moved?" }),
    )
    .await;
    assert_eq!(page(1, 25, "").await.1, names);
    acme.delete(&path(&third)).await;
    let rest: Vec<String> = names.into_iter().filter(|name| name != "user02").collect();
    assert_eq!(page(1, 25, "").await, (24, rest));
}

#[tokio::test]
async fn time_zones_are_kept_as_they_were_sent() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    for (n, (sent, kept)) in [
        (json!("Europe/Berlin"), "Europe/Berlin"),
        (json!("JWTTNIXQRYGX"), "JWTTNIXQRYGX"),
        (json!(""), "Etc/UTC"),
        (json!("  "), "Etc/UTC"),
        (Value::Null, "Etc/UTC"),
    ]
    .into_iter()
    .enumerate()
    {
        let user = json!({ "userName": format!("u{n}"), "timezone": sent });
        assert_eq!(acme.create_user(user).await["timezone"], kept, "{sent}");
    }
}

#[tokio::test]
async fn names_that_look_alike_are_one_name() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    for (name, twin) in [
        ("Straße", "STRASSE"),
        ("École", "e\u{301}cole"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("ｆｕｌｌ", "full"),
    ] {
        let user = acme.create_user(json!({ "userName": name })).await;
        assert_eq!(user["userName"], name, "kept as sent");
        let twin = acme.post("/Users", &json!({ "userName": twin })).await;
        twin.scim_error(409, Some("uniqueness"));
    }
}

#[tokio::test]
async fn a_tenant_can_insist_on_mail_addresses_as_names() {
    let world = World::start();
    let strict = world
        .tenant_with("strict", "us", r#"{"user_name":"email"}"#)
        .await;
    strict
        .create_user(json!({ "userName": "a.b+c@example.co.uk" }))
        .await;
    for name in ["bjensen", "a@", "@example.com", "a b@example.com", "a@b@c"] {
        let answer = strict.post("/Users", &json!({ "userName": name })).await;
        answer.scim_error(400, Some("invalidValue"));
    }
}
