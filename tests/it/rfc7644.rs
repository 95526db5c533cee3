//! RFC 7644 section by section, with the RFC's own examples, and RFC 9865. Names of tests begin
//! with the section. What conversations say better is in `tests/data/rfc7644`; filters are in
//! `users`.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Tenant, World, encode, id, last_segment, patch, path};

const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
const GROUP: &str = "urn:ietf:params:scim:schemas:core:2.0:Group";
const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
const SEARCH: &str = "urn:ietf:params:scim:api:messages:2.0:SearchRequest";
const LIST: &str = "urn:ietf:params:scim:api:messages:2.0:ListResponse";
const BULK: &str = "urn:ietf:params:scim:api:messages:2.0:BulkRequest";

async fn tenant() -> (World, Tenant) {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    (world, acme)
}

/// The resources of a list.
fn resources(list: &Value) -> &[Value] {
    list["Resources"].as_array().map_or(&[], Vec::as_slice)
}

/// A member of each resource of a list, in list order.
fn each<'l>(list: &'l Value, member: &str) -> Vec<&'l str> {
    let texts = resources(list).iter().map(|r| r[member].as_str());
    texts.map(Option::unwrap).collect()
}

async fn list(tenant: &Tenant, url: &str) -> Value {
    let answer = tenant.get(url).await;
    assert_eq!(answer.status, 200, "{url}: {answer:?}");
    answer.json()
}

async fn search(tenant: &Tenant, endpoint: &str, mut body: Value) -> Value {
    body["schemas"] = json!([SEARCH]);
    let answer = tenant.post(&format!("{endpoint}/.search"), &body).await;
    assert_eq!(answer.status, 200, "{body}: {answer:?}");
    answer.json()
}

/// The user of RFC 7643 section 8.2, as far as a client sends it.
fn barbara() -> Value {
    json!({
        "schemas": [USER], "externalId": "701984", "userName": "bjensen@example.com",
        "name": {
            "formatted": "Ms. Barbara J Jensen, III", "familyName": "Jensen", "givenName": "Barbara",
            "middleName": "Jane", "honorificPrefix": "Ms.", "honorificSuffix": "III"
        },
        "displayName": "Babs Jensen", "nickName": "Babs", "title": "Tour Guide", "userType": "Employee",
        "emails": [
            { "value": "bjensen@example.com", "type": "work", "primary": true },
            { "value": "babs@jensen.org", "type": "home" }
        ],
        "addresses": [
            {
                "type": "work", "streetAddress": "100 Universal City Plaza", "locality": "Hollywood",
                "region": "CA", "postalCode": "91608", "country": "USA",
                "formatted": "100 Universal City Plaza\nHollywood, CA 91608 USA", "primary": true
            },
            { "type": "home", "streetAddress": "456 Hollywood Blvd", "locality": "Hollywood" }
        ],
        "phoneNumbers": [
            { "value": "555-555-5555", "type": "work" }, { "value": "555-555-4444", "type": "mobile" }
        ]
    })
}

/// People in an order that is none by any attribute.
async fn people(tenant: &Tenant) -> Vec<Value> {
    let mut made = Vec::new();
    for (name, family, mail, primary, department) in [
        (
            "delta",
            "Öberg",
            "d@example.com",
            "z@example.com",
            Some("Sales"),
        ),
        ("Alpha", "Zorn", "b@example.com", "m@example.com", None),
        (
            "charlie",
            "adams",
            "c@example.com",
            "a@example.com",
            Some("accounts"),
        ),
        (
            "Bravo",
            "Baker",
            "a@example.com",
            "q@example.com",
            Some("Legal"),
        ),
    ] {
        let user = json!({
            "userName": name, "name": { "familyName": family }, "externalId": name,
            "emails": [{ "value": mail, "type": "home" }, { "value": primary, "type": "work", "primary": true }],
            ENTERPRISE: { "department": department },
        });
        made.push(tenant.create_user(user).await);
    }
    made
}

// ---- 3.4 ------------------------------------------------------------------------------------

#[tokio::test]
async fn s3_4_1_a_known_resource() {
    let (_world, acme) = tenant().await;
    let user = acme.create_user(barbara()).await;
    let answer = acme.get(&path(&user)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json(), user);
    assert_eq!(answer.header("etag"), user["meta"]["version"].as_str());
    assert_eq!(answer.header("location"), user["meta"]["location"].as_str());
    for missing in [
        "/Users/2819c223-7f76-453a-919d-413861904646",
        "/Users/x",
        "/Groups/x",
    ] {
        acme.get(missing).await.scim_error(404, None);
    }
    // A user is no group.
    let crossed = format!("/Groups/{}", id(&user));
    acme.get(&crossed).await.scim_error(404, None);
    acme.delete(&crossed).await.scim_error(404, None);
    let answer = acme.put(&crossed, &json!({ "displayName": "G" })).await;
    answer.scim_error(404, None);
}

#[tokio::test]
async fn s3_4_2_a_list_response() {
    let (_world, acme) = tenant().await;
    let empty = list(&acme, "/Users").await;
    assert_eq!(empty["schemas"], json!([LIST]));
    assert_eq!(empty["totalResults"], json!(0));
    people(&acme).await;
    let users = list(&acme, "/Users?attributes=userName").await;
    assert_eq!(users["totalResults"], json!(4));
    assert_eq!(users["itemsPerPage"], json!(4));
    for user in resources(&users) {
        assert!(
            user["id"].is_string() && user["userName"].is_string(),
            "{user}"
        );
        assert_eq!(user.get("name"), None);
    }
    // Groups and users do not mix.
    assert_eq!(list(&acme, "/Groups").await["totalResults"], json!(0));
}

#[tokio::test]
async fn s3_4_2_2_filters_of_groups() {
    let (_world, acme) = tenant().await;
    let anna = acme.create_user(json!({ "userName": "anna" })).await;
    let body = json!({ "displayName": "Tour Guides", "externalId": "G1", "members": [{ "value": anna["id"] }] });
    let guides = acme.create_group(body).await;
    acme.create_group(json!({ "displayName": "Employees" }))
        .await;
    for (filter, expected) in [
        ("displayName eq \"tour guides\"", 1),
        ("displayName sw \"T\"", 1),
        ("displayName co \"e\"", 2),
        ("displayName ew \"s\"", 2),
        ("externalId eq \"G1\"", 1),
        ("externalId eq \"g1\"", 0),
        ("externalId pr", 1),
        ("not (externalId pr)", 1),
        ("members pr", 1),
        ("members.type eq \"User\"", 1),
        ("members[type eq \"Group\"]", 0),
        (&format!("members eq \"{}\"", id(&anna)), 1),
        (
            &format!("members[value eq \"{}\" and type eq \"User\"]", id(&anna)),
            1,
        ),
        (&format!("id eq \"{}\"", id(&guides)), 1),
        ("meta.resourceType eq \"Group\"", 2),
        ("meta.created gt \"2011-05-13T04:42:34Z\"", 2),
        (&format!("schemas eq \"{GROUP}\""), 2),
        (&format!("{GROUP}:displayName eq \"employees\""), 1),
    ] {
        let found = list(&acme, &format!("/Groups?filter={}", encode(filter))).await;
        assert_eq!(found["totalResults"], json!(expected), "{filter}: {found}");
        assert_eq!(resources(&found).len(), expected);
    }
    for wrong in [
        "userName eq \"anna\"",
        "nobodyKnows eq \"x\"",
        "displayName",
        "displayName eq",
    ] {
        let answer = acme.get(&format!("/Groups?filter={}", encode(wrong))).await;
        answer.scim_error(400, Some("invalidFilter"));
    }
}

#[tokio::test]
async fn s3_4_2_3_sorting() {
    let (_world, acme) = tenant().await;
    people(&acme).await;
    for (query, expected) in [
        // Strings without case, unless caseExact says otherwise.
        ("sortBy=userName", ["Alpha", "Bravo", "charlie", "delta"]),
        (
            "sortBy=userName&sortOrder=ascending",
            ["Alpha", "Bravo", "charlie", "delta"],
        ),
        (
            "sortBy=userName&sortOrder=descending",
            ["delta", "charlie", "Bravo", "Alpha"],
        ),
        (
            "sortBy=USERNAME&sortOrder=DESCENDING",
            ["delta", "charlie", "Bravo", "Alpha"],
        ),
        ("sortBy=externalId", ["Alpha", "Bravo", "charlie", "delta"]),
        (
            "sortBy=name.familyName",
            ["charlie", "Bravo", "Alpha", "delta"],
        ),
        // By the primary value of a multi-valued attribute.
        ("sortBy=emails", ["charlie", "Alpha", "Bravo", "delta"]),
        (
            "sortBy=emails.value&sortOrder=descending",
            ["delta", "Bravo", "Alpha", "charlie"],
        ),
        (
            "sortBy=meta.created",
            ["delta", "Alpha", "charlie", "Bravo"],
        ),
        (
            "sortBy=meta.lastModified&sortOrder=descending",
            ["Bravo", "charlie", "Alpha", "delta"],
        ),
    ] {
        let found = list(&acme, &format!("/Users?{query}")).await;
        assert_eq!(each(&found, "userName"), expected, "{query}");
    }
    // Whoever has no value comes last when ascending, first when descending.
    let by = format!("sortBy={ENTERPRISE}:department");
    let found = list(&acme, &format!("/Users?{by}")).await;
    assert_eq!(
        each(&found, "userName"),
        ["charlie", "Bravo", "delta", "Alpha"]
    );
    let found = list(&acme, &format!("/Users?{by}&sortOrder=descending")).await;
    assert_eq!(
        each(&found, "userName"),
        ["Alpha", "delta", "Bravo", "charlie"]
    );

    // With a filter, with pages, and with the attribute not shown.
    let url = "/Users?sortBy=userName&filter=userName%20ne%20%22bravo%22&startIndex=2&count=1&attributes=name";
    let found = list(&acme, url).await;
    assert_eq!(
        (&found["totalResults"], &found["itemsPerPage"]),
        (&json!(3), &json!(1))
    );
    assert_eq!(resources(&found)[0]["name"]["familyName"], "adams");
    // sortOrder without sortBy orders nothing.
    let found = list(&acme, "/Users?sortOrder=descending").await;
    assert_eq!(
        each(&found, "userName"),
        ["delta", "Alpha", "charlie", "Bravo"]
    );
    let found = search(
        &acme,
        "/Users",
        json!({ "sortBy": "userName", "sortOrder": "descending" }),
    )
    .await;
    assert_eq!(
        each(&found, "userName"),
        ["delta", "charlie", "Bravo", "Alpha"]
    );

    for wrong in [
        "sortBy=nobodyKnows",
        "sortBy=name",
        "sortBy=password",
        "sortBy=userName&sortOrder=sideways",
        "sortBy=emails%5Btype%20eq%20%22work%22%5D",
    ] {
        let answer = acme.get(&format!("/Users?{wrong}")).await;
        assert_eq!(answer.status, 400, "{wrong}: {answer:?}");
    }
}

#[tokio::test]
async fn s3_4_2_3_upper_case_before_lower_case_where_case_is_exact() {
    let (_world, acme) = tenant().await;
    for (name, external_id) in [("one", "b"), ("two", "B"), ("three", "a"), ("four", "A")] {
        acme.create_user(json!({ "userName": name, "externalId": external_id }))
            .await;
    }
    let found = list(&acme, "/Users?sortBy=externalId").await;
    assert_eq!(each(&found, "externalId"), ["A", "B", "a", "b"]);
}

#[tokio::test]
async fn s3_4_2_4_index_pages() {
    let (_world, acme) = tenant().await;
    acme.create_many_users((0..12).map(|n| format!("user{n:02}")))
        .await;
    let groups = (0..3).map(|n| format!("group{n}"));
    for name in groups {
        acme.create_group(json!({ "displayName": name })).await;
    }
    for (query, start, items, total) in [
        ("startIndex=1&count=10", 1, 10, 12),
        ("startIndex=11&count=10", 11, 2, 12),
        ("startIndex=13&count=10", 13, 0, 12),
        ("startIndex=0&count=10", 1, 10, 12),
        ("startIndex=-7&count=10", 1, 10, 12),
        ("count=-1", 1, 0, 12),
        ("count=0", 1, 0, 12),
        ("count=100000", 1, 12, 12),
        ("STARTINDEX=2&COUNT=3", 2, 3, 12),
        (
            "filter=userName%20sw%20%22user0%22&startIndex=9&count=5",
            9,
            2,
            10,
        ),
    ] {
        let found = list(&acme, &format!("/Users?{query}")).await;
        assert_eq!(found["startIndex"], json!(start), "{query}");
        assert_eq!(found["itemsPerPage"], json!(items), "{query}");
        assert_eq!(found["totalResults"], json!(total), "{query}");
        assert_eq!(resources(&found).len(), items, "{query}");
    }
    let page = list(&acme, "/Groups?startIndex=2&count=1").await;
    assert_eq!(each(&page, "displayName"), ["group1"]);
    assert_eq!(page["totalResults"], json!(3));
}

#[tokio::test]
async fn s3_4_2_4_nobody_is_lost_while_others_are_deleted() {
    let (_world, acme) = tenant().await;
    for more in ["", "&filter=active%20eq%20true"] {
        acme.create_many_users((0..30).map(|n| format!("user{n:02}")))
            .await;
        let before = list(&acme, "/Users?count=100").await;
        let mut seen = BTreeSet::new();
        let (mut start, mut total) = (1, 1);
        // As Okta's import does: on by the count, until the total is passed.
        while start <= total {
            let page = list(&acme, &format!("/Users?startIndex={start}&count=5{more}")).await;
            for user in resources(&page) {
                assert!(seen.insert(id(user).to_owned()), "{user} comes twice");
                // Who was shown goes: everybody behind moves up.
                acme.delete(&path(user)).await;
            }
            start += 5;
            total = page["totalResults"].as_i64().unwrap();
        }
        for user in resources(&before) {
            assert!(seen.contains(id(user)), "{user} was not seen");
        }
        assert_eq!(list(&acme, "/Users").await["totalResults"], json!(0));
    }
}

#[tokio::test]
async fn s3_4_3_search_at_an_endpoint() {
    let (_world, acme) = tenant().await;
    people(&acme).await;
    let found = search(
        &acme,
        "/Users",
        json!({
            "attributes": ["userName", "name.familyName"], "filter": "name.familyName sw \"a\"",
            "startIndex": 1, "count": 10
        }),
    )
    .await;
    assert_eq!(found["schemas"], json!([LIST]));
    assert_eq!(found["totalResults"], json!(1));
    assert_eq!(found["startIndex"], json!(1));
    let user = &resources(&found)[0];
    assert_eq!(user["name"], json!({ "familyName": "adams" }));
    assert_eq!((user.get("emails"), user.get("meta")), (None, None));

    let found = search(
        &acme,
        "/Users",
        json!({ "excludedAttributes": ["emails", "name"], "count": 1 }),
    )
    .await;
    let user = &resources(&found)[0];
    assert_eq!((user.get("emails"), user.get("name")), (None, None));
    assert!(user["meta"].is_object());
    assert_eq!(found["totalResults"], json!(4));
    let found = search(&acme, "/Groups", json!({})).await;
    assert_eq!(found["totalResults"], json!(0));

    for (body, scim_type) in [
        (json!({ "filter": "nonsense" }), Some("invalidFilter")),
        (json!({ "filter": 7 }), Some("invalidValue")),
        (json!({ "startIndex": "one" }), Some("invalidValue")),
    ] {
        let answer = acme.post("/Users/.search", &body).await;
        answer.scim_error(400, scim_type);
    }
    let answer = acme.send(Method::POST, "/Users/.search", "[]").await;
    answer.scim_error(400, Some("invalidSyntax"));
    for method in [Method::GET, Method::PUT, Method::PATCH, Method::DELETE] {
        let answer = acme.send(method, "/Users/.search", "{}").await;
        answer.scim_error(405, None);
    }
}

#[tokio::test]
async fn s3_4_3_search_at_the_root() {
    let (_world, acme) = tenant().await;
    acme.create_user(json!({ "userName": "smith", "displayName": "Smith, James" }))
        .await;
    acme.create_user(json!({ "userName": "jones", "displayName": "Jones" }))
        .await;
    acme.create_group(json!({ "displayName": "Smith Family" }))
        .await;
    acme.create_group(json!({ "displayName": "Guides" })).await;

    // The example of the RFC.
    let found = search(
        &acme,
        "",
        json!({
            "attributes": ["displayName", "userName"], "filter": "displayName sw \"smith\"",
            "startIndex": 1, "count": 10
        }),
    )
    .await;
    assert_eq!(found["schemas"], json!([LIST]));
    assert_eq!(found["totalResults"], json!(2));
    assert_eq!(
        each(&found, "displayName"),
        ["Smith, James", "Smith Family"]
    );
    assert_eq!(resources(&found)[0]["userName"], "smith");
    assert_eq!(resources(&found)[0]["schemas"], json!([USER]));
    assert_eq!(resources(&found)[1]["schemas"], json!([GROUP]));

    let found = search(&acme, "", json!({})).await;
    assert_eq!(found["totalResults"], json!(4));
    let found = search(
        &acme,
        "",
        json!({ "filter": "meta.resourceType eq \"Group\"" }),
    )
    .await;
    assert_eq!(found["totalResults"], json!(2));
    // What one type does not have, none of its resources matches.
    let found = search(&acme, "", json!({ "filter": "userName eq \"jones\"" })).await;
    assert_eq!(found["totalResults"], json!(1));
    // Sorted together.
    let found = search(&acme, "", json!({ "sortBy": "displayName" })).await;
    let sorted = ["Guides", "Jones", "Smith Family", "Smith, James"];
    assert_eq!(each(&found, "displayName"), sorted);
    // Pages over both types, in order.
    for by in [json!(null), json!("displayName")] {
        let mut walked = BTreeSet::new();
        for start in 1..=4 {
            let page = search(
                &acme,
                "",
                json!({ "startIndex": start, "count": 1, "sortBy": by }),
            )
            .await;
            assert_eq!(page["totalResults"], json!(4));
            walked.extend(each(&page, "displayName").into_iter().map(str::to_owned));
        }
        assert_eq!(walked.len(), 4, "{walked:?}");
    }
    let answer = acme
        .post("/.search", &json!({ "filter": "nobodyKnows pr" }))
        .await;
    answer.scim_error(400, Some("invalidFilter"));
}

// ---- 3.5 and 3.6 ----------------------------------------------------------------------------

#[tokio::test]
async fn s3_5_1_replacing_with_put() {
    let (_world, acme) = tenant().await;
    let user = acme.create_user(barbara()).await;
    // The example: a client GETs, changes and PUTs what it has read.
    let mut changed = acme.get(&path(&user)).await.json();
    changed["roles"] = json!([]);
    changed["name"]["middleName"] = json!("Jane");
    changed["emails"] = json!([{ "value": "bjensen@example.com" }, { "value": "babs@jensen.org" }]);
    changed["meta"]["created"] = json!("1999-01-01T00:00:00Z");
    let answer = acme.put(&path(&user), &changed).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let replaced = answer.json();
    assert_eq!(replaced["emails"], changed["emails"]);
    assert_eq!(replaced["meta"]["created"], user["meta"]["created"]);
    assert_ne!(replaced["meta"]["version"], user["meta"]["version"]);
    assert_eq!(replaced.get("roles"), None);
    // What is not sent is cleared; what is read-only stays; an id of somebody else is ignored.
    let body = json!({ "schemas": [USER], "id": "other", "userName": "bjensen@example.com" });
    let replaced = acme.put(&path(&user), &body).await.json();
    assert_eq!((replaced.get("name"), replaced.get("emails")), (None, None));
    assert_eq!(replaced["id"], user["id"]);
    // PUT creates nothing.
    let answer = acme
        .put("/Users/2819c223-7f76-453a-919d-413861904646", &body)
        .await;
    answer.scim_error(404, None);
}

#[tokio::test]
async fn s3_5_2_1_add() {
    let (_world, acme) = tenant().await;
    let user = acme.create_user(json!({ "userName": "bjensen" })).await;
    let group = acme.create_group(json!({ "displayName": "Group" })).await;

    // "Add a member to a group, without a path."
    let member =
        json!({ "display": "Babs Jensen", "$ref": user["meta"]["location"], "value": user["id"] });
    let operations = json!([{ "op": "add", "path": "members", "value": [member] }]);
    let answer = acme.patch(&path(&group), &patch(&operations)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let shown = acme.get(&path(&group)).await.json();
    assert_eq!(shown["members"][0]["value"], user["id"]);

    // "Add without a path: emails and nickname."
    let operations = json!([{ "op": "add", "value": {
        "emails": [{ "value": "babs@jensen.org", "type": "home" }], "nickname": "Babs" } }]);
    let changed = acme.patch(&path(&user), &patch(&operations)).await.json();
    assert_eq!(changed["nickName"], "Babs");
    assert_eq!(
        changed["emails"],
        json!([{ "value": "babs@jensen.org", "type": "home" }])
    );
    let version = changed["meta"]["version"].clone();

    // "If the value already exists, no changes SHOULD be made": the version stays.
    let again = acme.patch(&path(&user), &patch(&operations)).await.json();
    assert_eq!(again["emails"], changed["emails"]);
    assert_eq!(again["meta"]["version"], version);

    // A complex attribute is added to, not replaced; a sub-attribute is made.
    let operations = json!([
        { "op": "add", "path": "name.givenName", "value": "Barbara" },
        { "op": "add", "path": "name", "value": { "familyName": "Jensen" } },
        { "op": "add", "path": "emails[type eq \"home\"].display", "value": "Babs" },
        { "op": "add", "path": format!("{ENTERPRISE}:department"), "value": "Tours" },
        { "op": "add", "path": ENTERPRISE, "value": { "division": "Park" } },
    ]);
    let changed = acme.patch(&path(&user), &patch(&operations)).await.json();
    assert_eq!(
        changed["name"],
        json!({ "givenName": "Barbara", "familyName": "Jensen" })
    );
    assert_eq!(changed["emails"][0]["display"], "Babs");
    assert_eq!(
        changed[ENTERPRISE],
        json!({ "department": "Tours", "division": "Park" })
    );
    assert_eq!(changed["schemas"], json!([USER, ENTERPRISE]));
}

#[tokio::test]
async fn s3_5_2_2_remove() {
    let (_world, acme) = tenant().await;
    let user = acme.create_user(barbara()).await;
    let other = acme.create_user(json!({ "userName": "jsmith" })).await;
    let members = json!([{ "value": user["id"] }, { "value": other["id"] }]);
    let group = acme
        .create_group(json!({ "displayName": "Group", "members": members }))
        .await;
    let change = async |operations: Value| {
        let answer = acme.patch(&path(&group), &patch(&operations)).await;
        assert!([200, 204].contains(&answer.status), "{answer:?}");
        acme.get(&path(&group)).await.json()
    };

    // "Remove a single member."
    let one = format!("members[value eq \"{}\"]", id(&other));
    let shown = change(json!([{ "op": "remove", "path": one }])).await;
    assert_eq!(shown["members"].as_array().unwrap().len(), 1);
    assert_eq!(shown["members"][0]["value"], user["id"]);
    // "Remove all members."
    let shown = change(json!([{ "op": "remove", "path": "members" }])).await;
    assert_eq!(shown["members"], json!([]));
    // "Remove and add a member in one operation."
    change(json!([{ "op": "add", "path": "members", "value": [{ "value": other["id"] }] }])).await;
    let shown = change(json!([
        { "op": "remove", "path": one },
        { "op": "add", "path": "members", "value": [{ "display": "Babs", "value": user["id"] }] },
    ]))
    .await;
    assert_eq!(shown["members"].as_array().unwrap().len(), 1);
    assert_eq!(shown["members"][0]["value"], user["id"]);
    // "Replace all members."
    let shown = change(json!([
        { "op": "remove", "path": "members" },
        { "op": "add", "path": "members", "value": members },
    ]))
    .await;
    assert_eq!(shown["members"].as_array().unwrap().len(), 2);

    // "Remove by a complex filter."
    let operations = json!([{ "op": "remove", "path": "emails[type eq \"work\" and value ew \"example.com\"]" }]);
    let changed = acme.patch(&path(&user), &patch(&operations)).await.json();
    assert_eq!(
        changed["emails"],
        json!([{ "value": "babs@jensen.org", "type": "home" }])
    );
    // What is removed to the last value is unassigned.
    let operations = json!([{ "op": "remove", "path": "emails[type eq \"home\"]" }]);
    let changed = acme.patch(&path(&user), &patch(&operations)).await.json();
    assert_eq!(changed.get("emails"), None);
    // No target: the RFC's noTarget for a filter that fits nothing is for `replace`; a removal of
    // what is not there is done already.
    let operations = json!([{ "op": "remove", "path": "emails[type eq \"home\"]" }]);
    let answer = acme.patch(&path(&user), &patch(&operations)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let operations = json!([{ "op": "remove" }]);
    let answer = acme.patch(&path(&user), &patch(&operations)).await;
    answer.scim_error(400, Some("noTarget"));
}

#[tokio::test]
async fn s3_5_2_3_replace() {
    let (_world, acme) = tenant().await;
    let user = acme.create_user(barbara()).await;
    let other = acme.create_user(json!({ "userName": "jsmith" })).await;
    let group = acme
        .create_group(json!({ "displayName": "Group", "members": [{ "value": user["id"] }] }))
        .await;

    // "Replace all of the members of a group with a different members list."
    let operations = json!([{ "op": "replace", "path": "members", "value": [
        { "display": "James Smith", "value": other["id"] }] }]);
    assert_eq!(
        acme.patch(&path(&group), &patch(&operations)).await.status,
        200
    );
    let shown = acme.get(&path(&group)).await.json();
    assert_eq!(shown["members"].as_array().unwrap().len(), 1);
    assert_eq!(shown["members"][0]["value"], other["id"]);

    // "Change a User's entire work address."
    let address = json!({
        "type": "work", "streetAddress": "911 Universal City Plaza", "locality": "Hollywood",
        "region": "CA", "postalCode": "91608", "country": "US",
        "formatted": "911 Universal City Plaza\nHollywood, CA 91608 US", "primary": true });
    let operations =
        json!([{ "op": "replace", "path": "addresses[type eq \"work\"]", "value": address }]);
    let changed = acme.patch(&path(&user), &patch(&operations)).await.json();
    let addresses = changed["addresses"].as_array().unwrap();
    assert_eq!(addresses.len(), 2);
    assert!(addresses.contains(&address), "{changed}");

    // "Change a specific sub-attribute."
    let operations = json!([{ "op": "replace", "path": "addresses[type eq \"work\"].streetAddress", "value": "1010 Broadway Ave" }]);
    let changed = acme.patch(&path(&user), &patch(&operations)).await.json();
    let work = changed["addresses"]
        .as_array()
        .unwrap()
        .iter()
        .find(|a| a["type"] == "work")
        .unwrap();
    assert_eq!(work["streetAddress"], "1010 Broadway Ave");
    assert_eq!(work["locality"], "Hollywood");

    // "Replace all values of one or more specific attributes", without a path.
    let operations = json!([{ "op": "replace", "value": {
        "emails": [
            { "value": "bjensen@example.com", "type": "work", "primary": true },
            { "value": "babs@jensen.org", "type": "home" }
        ],
        "nickname": "Babs" } }]);
    let changed = acme.patch(&path(&user), &patch(&operations)).await.json();
    assert_eq!(changed["nickName"], "Babs");
    assert_eq!(changed["emails"].as_array().unwrap().len(), 2);
    // Where nothing is there, replace is add.
    let operations = json!([{ "op": "replace", "path": "preferredLanguage", "value": "en-US" }]);
    let changed = acme.patch(&path(&user), &patch(&operations)).await.json();
    assert_eq!(changed["preferredLanguage"], "en-US");
}

#[tokio::test]
async fn s3_5_2_errors() {
    let (_world, acme) = tenant().await;
    let user = acme.create_user(barbara()).await;
    for (operations, scim_type) in [
        (
            json!([{ "op": "move", "path": "title", "value": "x" }]),
            "invalidSyntax",
        ),
        (json!([{ "path": "title", "value": "x" }]), "invalidSyntax"),
        (json!([{ "op": "add", "path": "title" }]), "invalidSyntax"),
        (json!([{ "op": "add", "value": "x" }]), "invalidSyntax"),
        (json!([7]), "invalidSyntax"),
        (json!("replace"), "invalidSyntax"),
        (
            json!([{ "op": "replace", "path": "emails[type eq", "value": "x" }]),
            "invalidPath",
        ),
        (
            json!([{ "op": "replace", "path": "name..givenName", "value": "x" }]),
            "invalidPath",
        ),
        (
            json!([{ "op": "replace", "path": "id", "value": "x" }]),
            "mutability",
        ),
        (
            json!([{ "op": "add", "path": "groups", "value": [{ "value": "x" }] }]),
            "mutability",
        ),
        (
            json!([{ "op": "remove", "path": "meta.created" }]),
            "mutability",
        ),
        (
            json!([{ "op": "remove", "path": "userName" }]),
            "mutability",
        ),
        (
            json!([{ "op": "replace", "path": "active", "value": "maybe" }]),
            "invalidValue",
        ),
        (
            json!([{ "op": "replace", "path": "name", "value": "Babs" }]),
            "invalidValue",
        ),
        (
            json!([{ "op": "replace", "path": "emails[value co \"nobody\"].display", "value": "x" }]),
            "noTarget",
        ),
    ] {
        let answer = acme.patch(&path(&user), &patch(&operations)).await;
        assert_eq!(answer.status, 400, "{operations}: {answer:?}");
        let found = answer.json()["scimType"].clone();
        assert_eq!(found, json!(scim_type), "{operations}: {answer:?}");
    }
    let answer = acme.patch(&path(&user), &json!({ "Operations": 7 })).await;
    answer.scim_error(400, Some("invalidSyntax"));
    assert_eq!(
        acme.get(&path(&user)).await.json(),
        user,
        "nothing of it happened"
    );
}

#[tokio::test]
async fn s3_6_deleting() {
    let (_world, acme) = tenant().await;
    let user = acme.create_user(barbara()).await;
    let answer = acme.delete(&path(&user)).await;
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    for answer in [
        acme.get(&path(&user)).await,
        acme.delete(&path(&user)).await,
        acme.put(&path(&user), &barbara()).await,
        acme.patch(
            &path(&user),
            &patch(&json!([{ "op": "remove", "path": "title" }])),
        )
        .await,
    ] {
        answer.scim_error(404, None);
    }
    assert_eq!(
        acme.find("userName eq \"bjensen@example.com\"").await,
        Vec::<String>::new()
    );
    assert_eq!(list(&acme, "/Users").await["totalResults"], json!(0));
    // Deleted resources are not considered in conflict calculation.
    let again = acme.create_user(barbara()).await;
    assert_ne!(again["id"], user["id"]);
}

// ---- 3.7 ------------------------------------------------------------------------------------

/// The statuses of a Bulk response, in order.
fn statuses(response: &Value) -> Vec<&str> {
    let outcomes = response["Operations"].as_array().unwrap();
    outcomes
        .iter()
        .map(|o| o["status"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn s3_7_1_groups_that_refer_to_each_other() {
    let (_world, acme) = tenant().await;
    let group = |name: &str, own: &str, other: &str| {
        json!({ "method": "POST", "path": "/Groups", "bulkId": own, "data": {
            "schemas": [GROUP], "displayName": name,
            "members": [{ "type": "Group", "value": format!("bulkId:{other}") }] } })
    };
    let response = acme
        .bulk(&json!([
            group("Group A", "qwerty", "ytrewq"),
            group("Group B", "ytrewq", "qwerty")
        ]))
        .await;
    assert_eq!(statuses(&response), ["201", "201"], "{response}");
    let outcomes = response["Operations"].as_array().unwrap();
    let ids: Vec<String> = outcomes
        .iter()
        .map(|o| last_segment(&o["location"]))
        .collect();
    for (own, other) in [(0, 1), (1, 0)] {
        let group = acme.get(&format!("/Groups/{}", ids[own])).await.json();
        assert_eq!(group["members"][0]["value"], json!(ids[other]), "{group}");
        assert_eq!(outcomes[own]["bulkId"], ["qwerty", "ytrewq"][own]);
        assert_eq!(outcomes[own]["method"], "POST");
    }
    // A circle of three, one that holds itself, and users on the way.
    let member = |id: &str| json!({ "value": format!("bulkId:{id}") });
    let make = |name: &str, members: Value| json!({ "method": "POST", "path": "/Groups", "bulkId": name, "data": { "displayName": name, "members": members } });
    let response = acme
        .bulk(&json!([
            make("one", json!([member("two"), member("u")])),
            make("two", json!([member("three")])),
            make("three", json!([member("one")])),
            { "method": "POST", "path": "/Users", "bulkId": "u", "data": { "userName": "u" } },
        ]))
        .await;
    assert_eq!(statuses(&response), ["201"; 4], "{response}");
    let first = last_segment(&response["Operations"][0]["location"]);
    let one = acme.get(&format!("/Groups/{first}")).await.json();
    assert_eq!(one["members"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn s3_7_2_bulk_ids_stand_for_ids() {
    let (_world, acme) = tenant().await;
    // The example: a group whose member is made by the same request.
    let response = acme
        .bulk(&json!([
            { "method": "POST", "path": "/Users", "bulkId": "qwerty", "data": { "schemas": [USER], "userName": "Alice" } },
            { "method": "POST", "path": "/Groups", "bulkId": "ytrewq", "data": {
                "schemas": [GROUP], "displayName": "Tour Guides",
                "members": [{ "type": "User", "value": "bulkId:qwerty" }] } },
        ]))
        .await;
    assert_eq!(
        response["schemas"],
        json!(["urn:ietf:params:scim:api:messages:2.0:BulkResponse"])
    );
    assert_eq!(statuses(&response), ["201", "201"], "{response}");
    let alice = &response["Operations"][0];
    assert_eq!(alice["bulkId"], "qwerty");
    let read = Answer::of(
        acme.region
            .client
            .get(alice["location"].as_str().unwrap())
            .bearer_auth(&acme.token.secret),
    )
    .await;
    assert_eq!(read.status, 200, "the location leads there");
    assert_eq!(read.json()["meta"]["version"], alice["version"]);
    let group = last_segment(&response["Operations"][1]["location"]);
    let group = acme.get(&format!("/Groups/{group}")).await.json();
    assert_eq!(
        group["members"][0]["value"],
        json!(last_segment(&alice["location"]))
    );

    // The other example: a manager, who comes later in the request; and references in paths.
    let response = acme
        .bulk(&json!([
            { "method": "PATCH", "path": "/Users/bulkId:bob", "data": patch(&json!([{ "op": "add", "path": "title", "value": "T" }])) },
            { "method": "POST", "path": "/Users", "bulkId": "bob", "data": {
                "schemas": [USER, ENTERPRISE], "userName": "Bob",
                ENTERPRISE: { "employeeNumber": "11250", "manager": { "value": "bulkId:boss" } } } },
            { "method": "POST", "path": "/Users", "bulkId": "boss", "data": { "userName": "Boss" } },
        ]))
        .await;
    assert_eq!(statuses(&response), ["200", "201", "201"], "{response}");
    let bob = last_segment(&response["Operations"][1]["location"]);
    let bob = acme.get(&format!("/Users/{bob}")).await.json();
    assert_eq!(bob["title"], "T");
    let boss = last_segment(&response["Operations"][2]["location"]);
    assert_eq!(bob[ENTERPRISE]["manager"]["value"], json!(boss));
}

#[tokio::test]
async fn s3_7_2_what_cannot_be_resolved_is_a_conflict() {
    let (_world, acme) = tenant().await;
    let response = acme
        .bulk(&json!([
            { "method": "POST", "path": "/Groups", "bulkId": "g", "data": { "displayName": "G", "members": [{ "value": "bulkId:nobody" }] } },
            { "method": "POST", "path": "/Users", "bulkId": "bad", "data": { "displayName": "without a name" } },
            { "method": "POST", "path": "/Groups", "bulkId": "h", "data": { "displayName": "H", "members": [{ "value": "bulkId:bad" }] } },
            { "method": "DELETE", "path": "/Users/bulkId:bad" },
            { "method": "POST", "path": "/Users", "bulkId": "good", "data": { "userName": "good" } },
        ]))
        .await;
    assert_eq!(
        statuses(&response),
        ["409", "400", "409", "409", "201"],
        "{response}"
    );
    let error = &response["Operations"][0]["response"];
    assert_eq!(
        error["schemas"],
        json!(["urn:ietf:params:scim:api:messages:2.0:Error"])
    );
    assert_eq!(error["status"], "409");
    assert!(error["detail"].is_string());
    assert_eq!(list(&acme, "/Groups").await["totalResults"], json!(0));
    // On a circle, too: neither group is left behind.
    let response = acme
        .bulk(&json!([
            { "method": "POST", "path": "/Groups", "bulkId": "a", "data": { "displayName": "A", "members": [{ "value": "bulkId:b" }] } },
            { "method": "POST", "path": "/Groups", "bulkId": "b", "data": { "members": [{ "value": "bulkId:a" }] } },
        ]))
        .await;
    assert_eq!(statuses(&response), ["409", "400"], "{response}");
    assert_eq!(list(&acme, "/Groups").await["totalResults"], json!(0));
}

#[tokio::test]
async fn s3_7_3_every_method_in_one_request() {
    let (_world, acme) = tenant().await;
    let (bob, dave, eve) = (
        acme.create_user(json!({ "userName": "Bob" })).await,
        acme.create_user(json!({ "userName": "Dave" })).await,
        acme.create_user(json!({ "userName": "Eve" })).await,
    );
    // The example, with versions.
    let body = json!({ "schemas": [BULK], "failOnErrors": 1, "Operations": [
        { "method": "POST", "path": "/Users", "bulkId": "qwerty", "data": { "schemas": [USER], "userName": "Alice" } },
        { "method": "PUT", "path": path(&bob), "version": bob["meta"]["version"], "data": { "schemas": [USER], "id": bob["id"], "userName": "Bobby" } },
        { "method": "PATCH", "path": path(&dave), "version": dave["meta"]["version"],
          "data": { "Operations": [
              { "op": "remove", "path": "nickName" },
              { "op": "add", "path": "userName", "value": "Davey" } ] } },
        { "method": "DELETE", "path": path(&eve), "version": eve["meta"]["version"] },
    ] });
    let answer = acme.post("/Bulk", &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let response = answer.json();
    assert_eq!(statuses(&response), ["201", "200", "200", "204"]);
    let outcomes = response["Operations"].as_array().unwrap();
    let expected = [
        ("POST", None),
        ("PUT", Some(&bob)),
        ("PATCH", Some(&dave)),
        ("DELETE", Some(&eve)),
    ];
    for (outcome, (method, resource)) in outcomes.iter().zip(expected) {
        assert_eq!(outcome["method"], method);
        if let Some(resource) = resource {
            assert_eq!(outcome["location"], resource["meta"]["location"]);
            assert_eq!(outcome.get("bulkId"), None);
        }
        assert_eq!(outcome.get("response"), None, "only failures say more");
    }
    for outcome in &outcomes[..3] {
        assert!(
            outcome["version"].as_str().unwrap().starts_with("W/\""),
            "{outcome}"
        );
    }
    let mut names = acme.find("userName pr").await;
    names.sort_unstable();
    assert_eq!(names, ["Alice", "Bobby", "Davey"]);

    // A version that has passed.
    let body = json!([
        { "method": "PUT", "path": path(&bob), "version": bob["meta"]["version"], "data": { "userName": "Robert" } },
        { "method": "DELETE", "path": path(&dave), "version": "W/\"0\"" },
        { "method": "PATCH", "path": "/Users/nobody", "data": patch(&json!([])) },
    ]);
    assert_eq!(statuses(&acme.bulk(&body).await), ["412", "412", "404"]);
}

#[tokio::test]
async fn s3_7_3_fail_on_errors() {
    let (_world, acme) = tenant().await;
    let create = |n: usize, name: &str| json!({ "method": "POST", "path": "/Users", "bulkId": format!("b{n}"), "data": { "userName": name } });
    let send = async |limit: Value, names: &[&str]| {
        let operations: Vec<Value> = names
            .iter()
            .enumerate()
            .map(|(n, name)| create(n, name))
            .collect();
        let mut body = json!({ "schemas": [BULK], "Operations": operations });
        if !limit.is_null() {
            body["failOnErrors"] = limit;
        }
        acme.post("/Bulk", &body).await
    };
    let response = send(json!(1), &["a", "", "b"]).await.json();
    assert_eq!(
        statuses(&response),
        ["201", "400"],
        "the rest is left alone"
    );
    assert_eq!(acme.find("userName pr").await, ["a"]);
    let error = &response["Operations"][1];
    assert_eq!(error["response"]["scimType"], "invalidValue");
    assert_eq!(error["bulkId"], "b1");
    assert_eq!(error.get("location"), None, "a POST that failed has none");
    let response = send(json!(2), &["A", "c", "", "d"]).await.json();
    assert_eq!(statuses(&response), ["409", "201", "400"]);
    assert_eq!(
        response["Operations"][0]["response"]["scimType"],
        "uniqueness"
    );
    let response = send(Value::Null, &["", "A", "", "d"]).await.json();
    assert_eq!(statuses(&response), ["400", "409", "400", "201"]);
    for nonsense in [json!(0), json!(-1), json!("one"), json!(1.5)] {
        let answer = send(nonsense, &["x"]).await;
        answer.scim_error(400, Some("invalidSyntax"));
    }
    assert_eq!(acme.find("userName eq \"x\"").await, Vec::<String>::new());
}

#[tokio::test]
async fn s3_7_3_what_is_no_operation_fails_alone() {
    let (_world, acme) = tenant().await;
    let response = acme
        .bulk(&json!([
            { "method": "GET", "path": "/Users" },
            { "method": "POST", "path": "/Users", "data": { "userName": "no bulkId" } },
            { "method": "POST", "path": "/Nothing", "bulkId": "n", "data": {} },
            { "method": "PUT", "path": "/Users", "data": {} },
            { "method": "POST", "bulkId": "p", "data": { "userName": "no path" } },
            { "method": "POST", "path": "/Users", "bulkId": "d" },
            7,
            { "method": "POST", "path": "/Users", "bulkId": "good", "data": { "userName": "good" } },
        ]))
        .await;
    assert_eq!(
        statuses(&response),
        ["400", "400", "400", "400", "400", "400", "400", "201"],
        "{response}"
    );
    for body in [
        json!({ "schemas": [BULK] }),
        json!({ "Operations": {} }),
        json!({ "Operations": [
            { "method": "POST", "path": "/Users", "bulkId": "same", "data": { "userName": "s1" } },
            { "method": "POST", "path": "/Users", "bulkId": "same", "data": { "userName": "s2" } } ] }),
    ] {
        let answer = acme.post("/Bulk", &body).await;
        answer.scim_error(400, Some("invalidSyntax"));
    }
    assert_eq!(acme.find("userName pr").await, ["good"]);
    assert_eq!(statuses(&acme.bulk(&json!([])).await), Vec::<&str>::new());
}

#[tokio::test]
async fn s3_7_a_call_that_is_repeated_doubles_nothing() {
    let (_world, acme) = tenant().await;
    let operations = json!([
        { "method": "POST", "path": "/Users", "bulkId": "u", "data": { "userName": "u" } },
        { "method": "POST", "path": "/Groups", "bulkId": "g", "data": { "displayName": "G", "members": [{ "value": "bulkId:u" }] } },
    ]);
    assert_eq!(statuses(&acme.bulk(&operations).await), ["201", "201"]);
    let again = acme.bulk(&operations).await;
    assert_eq!(again["Operations"][0]["status"], "409", "{again}");
    assert_eq!(again["Operations"][1]["status"], "409", "{again}");
    assert_eq!(list(&acme, "/Users").await["totalResults"], json!(1));
    assert_eq!(list(&acme, "/Groups").await["totalResults"], json!(1));
}

#[tokio::test]
async fn s3_7_4_the_limits_are_those_of_discovery() {
    let (_world, acme) = tenant().await;
    let config = acme.get("/ServiceProviderConfig").await.json();
    let most = usize::try_from(config["bulk"]["maxOperations"].as_u64().unwrap()).unwrap();
    let size = usize::try_from(config["bulk"]["maxPayloadSize"].as_u64().unwrap()).unwrap();
    let operations =
        |n: usize| -> Vec<Value> { vec![json!({ "method": "DELETE", "path": "/Users/x" }); n] };
    let answer = acme
        .post("/Bulk", &json!({ "Operations": operations(most) }))
        .await;
    assert_eq!(answer.status, 200, "as many as are allowed");
    let answer = acme
        .post("/Bulk", &json!({ "Operations": operations(most + 1) }))
        .await;
    let detail = answer.scim_error(413, None);
    assert!(detail.contains(&most.to_string()), "{detail}");

    let mut body = json!({ "schemas": [BULK], "Operations": [] }).to_string();
    body.push_str(&" ".repeat(size - body.len()));
    assert_eq!(
        acme.send(Method::POST, "/Bulk", body.clone()).await.status,
        200
    );
    body.push(' ');
    let detail = acme
        .send(Method::POST, "/Bulk", body)
        .await
        .scim_error(413, None);
    assert!(
        detail.contains(&size.to_string()) || detail.contains("bytes"),
        "{detail}"
    );
}

// ---- 3.9 to 3.14 ----------------------------------------------------------------------------

#[tokio::test]
async fn s3_9_attributes_of_every_answer() {
    let (_world, acme) = tenant().await;
    let only = |user: &Value, expected: &[&str]| {
        let names: BTreeSet<&str> = user
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(names, expected.iter().copied().collect::<BTreeSet<_>>());
    };
    let created = acme.post("/Users?attributes=userName", &barbara()).await;
    assert_eq!(created.status, 201);
    only(&created.json(), &["schemas", "id", "userName"]);
    assert!(created.header("location").is_some() && created.header("etag").is_some());
    let url = format!("/Users/{}", id(&created.json()));
    let read = acme
        .get(&format!("{url}?attributes=userName,name.familyName"))
        .await
        .json();
    only(&read, &["schemas", "id", "userName", "name"]);
    assert_eq!(read["name"], json!({ "familyName": "Jensen" }));
    let replaced = acme
        .put(&format!("{url}?attributes={USER}:displayName"), &barbara())
        .await
        .json();
    only(&replaced, &["schemas", "id", "displayName"]);
    let operations = json!([{ "op": "replace", "path": "title", "value": "Boss" }]);
    let patched = acme
        .patch(&format!("{url}?attributes=title"), &patch(&operations))
        .await
        .json();
    only(&patched, &["schemas", "id", "title"]);
    let read = acme
        .get(&format!(
            "{url}?excludedAttributes=name,emails,addresses,phoneNumbers,meta"
        ))
        .await
        .json();
    for gone in ["name", "emails", "addresses", "phoneNumbers", "meta"] {
        assert_eq!(read.get(gone), None, "{gone}");
    }
    assert_eq!(read["title"], "Boss");
}

#[tokio::test]
async fn s3_10_names_may_say_their_schema() {
    let (_world, acme) = tenant().await;
    acme.create_user(barbara()).await;
    for filter in [
        format!("{USER}:userName eq \"bjensen@example.com\""),
        format!("{USER}:name.familyName eq \"jensen\""),
        format!("{}:userName pr", USER.to_uppercase()),
    ] {
        assert_eq!(
            acme.find(&filter).await,
            ["bjensen@example.com"],
            "{filter}"
        );
    }
}

#[tokio::test]
async fn s3_12_an_error_says_what_is_wrong() {
    let (_world, acme) = tenant().await;
    acme.create_user(barbara()).await;
    let detail = acme
        .post("/Users", &barbara())
        .await
        .scim_error(409, Some("uniqueness"));
    assert!(detail.contains("userName"), "{detail}");
    assert!(
        !detail.contains("bjensen"),
        "no value is repeated: {detail}"
    );
}

#[tokio::test]
async fn s3_14_versions_of_resources() {
    let (_world, acme) = tenant().await;
    let user = acme.create_user(barbara()).await;
    let group = acme
        .create_group(json!({ "displayName": "G", "members": [{ "value": user["id"] }] }))
        .await;
    for (resource, body, operations) in [
        (
            &group,
            json!({ "displayName": "H" }),
            json!([{ "op": "replace", "path": "displayName", "value": "I" }]),
        ),
        (
            &user,
            barbara(),
            json!([{ "op": "replace", "path": "title", "value": "x" }]),
        ),
    ] {
        let current = resource["meta"]["version"].as_str().unwrap().to_owned();
        assert!(current.starts_with("W/\""), "{current}");
        let send = async |method: Method, header: &str, tag: &str, body: Value| {
            let request = acme
                .request(method, &path(resource))
                .header(header, tag)
                .header("content-type", "application/scim+json");
            Answer::of(request.body(body.to_string())).await
        };
        let strong = current.trim_start_matches("W/").to_owned();
        // If-None-Match: weakly compared, lists, `*`.
        for known in [
            current.clone(),
            strong.clone(),
            format!("W/\"x\", {current}"),
            "*".to_owned(),
        ] {
            let answer = send(Method::GET, "if-none-match", &known, Value::Null).await;
            assert_eq!(
                (answer.status, answer.body.len()),
                (304, 0),
                "{known}: {answer:?}"
            );
        }
        for other in ["W/\"x\"", "W/\"0\"", "nonsense", "\"\""] {
            let answer = send(Method::GET, "if-none-match", other, Value::Null).await;
            assert_eq!(answer.status, 200, "{other}: {answer:?}");
        }
        // If-Match: what has passed changes nothing, whatever the method.
        for stale in ["W/\"0\"", "W/\"x\"", "nonsense", "\"\""] {
            for (method, body) in [
                (Method::PUT, body.clone()),
                (Method::PATCH, patch(&operations)),
                (Method::DELETE, Value::Null),
            ] {
                let answer = send(method.clone(), "if-match", stale, body).await;
                answer.scim_error(412, None);
            }
        }
        let now = acme.get(&path(resource)).await;
        assert_eq!(now.header("etag"), Some(current.as_str()));
        let answer = send(Method::PUT, "if-match", &current, body.clone()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let answer = send(Method::PATCH, "if-match", "*", patch(&operations)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let newest = answer.header("etag").unwrap().to_owned();
        assert_ne!(newest, current);
        let several = format!("W/\"0\", {newest}");
        let answer = send(Method::DELETE, "if-match", &several, Value::Null).await;
        assert_eq!(answer.status, 204, "{answer:?}");
        let answer = send(Method::PUT, "if-match", "*", body).await;
        assert!([404, 412].contains(&answer.status), "{answer:?}");
    }
}

#[tokio::test]
async fn s3_14_conditions_guard_members_too() {
    let (_world, acme) = tenant().await;
    let user = acme.create_user(barbara()).await;
    let group = acme.create_group(json!({ "displayName": "G" })).await;
    let add =
        patch(&json!([{ "op": "add", "path": "members", "value": [{ "value": user["id"] }] }]));
    let send = async |tag: &str| {
        let request = acme
            .request(Method::PATCH, &path(&group))
            .header("if-match", tag);
        let request = request.header("content-type", "application/scim+json");
        Answer::of(request.body(add.to_string())).await
    };
    send("W/\"0\"").await.scim_error(412, None);
    let version = group["meta"]["version"].as_str().unwrap();
    assert_eq!(send(version).await.status, 200);
    send(version).await.scim_error(412, None);
}

#[tokio::test]
async fn s3_14_what_changes_nothing_keeps_its_version() {
    let (_world, acme) = tenant().await;
    let user = acme.create_user(barbara()).await;
    let same = acme.put(&path(&user), &barbara()).await.json();
    assert_eq!(same["meta"], user["meta"]);
    let operations = json!([{ "op": "replace", "path": "title", "value": "Tour Guide" }]);
    let same = acme.patch(&path(&user), &patch(&operations)).await.json();
    assert_eq!(same["meta"], user["meta"]);
}

// ---- RFC 9865 -------------------------------------------------------------------------------

#[tokio::test]
async fn rfc9865_2_a_walk_by_cursors() {
    let (_world, acme) = tenant().await;
    acme.create_many_users((0..25).map(|n| format!("user{n:02}")))
        .await;
    let expected: Vec<String> = (0..25).map(|n| format!("user{n:02}")).collect();
    for more in [
        "",
        "&filter=active%20eq%20true",
        "&sortBy=userName",
        "&filter=userName%20sw%20%22user%22&sortBy=userName",
    ] {
        // A blank cursor, with and without the sign of equality, asks for the first page.
        for blank in ["cursor", "cursor="] {
            let mut walked: Vec<String> = Vec::new();
            let mut page = list(&acme, &format!("/Users?{blank}&count=10{more}")).await;
            assert_eq!(page.get("previousCursor"), None, "{page}");
            assert_eq!(page.get("startIndex"), None, "{page}");
            let mut pages = vec![];
            loop {
                assert_eq!(page["totalResults"], json!(25), "{more}");
                walked.extend(each(&page, "userName").into_iter().map(str::to_owned));
                pages.push(page.clone());
                let Some(next) = page["nextCursor"].as_str() else {
                    break;
                };
                page = list(
                    &acme,
                    &format!("/Users?cursor={}&count=10{more}", encode(next)),
                )
                .await;
            }
            assert_eq!(pages.len(), 3, "{more}");
            assert_eq!(walked, expected, "{more}");
            // And back again.
            for n in [2, 1] {
                let previous = pages[n]["previousCursor"].as_str().unwrap();
                let back = list(
                    &acme,
                    &format!("/Users?cursor={}&count=10{more}", encode(previous)),
                )
                .await;
                assert_eq!(resources(&back), resources(&pages[n - 1]), "{more}");
            }
        }
    }
    // A cursor can be used again, and with another count.
    let first = list(&acme, "/Users?cursor&count=2").await;
    let next = encode(first["nextCursor"].as_str().unwrap());
    for count in [1, 3, 3] {
        let page = list(&acme, &format!("/Users?cursor={next}&count={count}")).await;
        assert_eq!(each(&page, "userName")[0], "user02");
        assert_eq!(resources(&page).len(), count);
    }
    // Exactly one page: nothing comes next.
    let all = list(&acme, "/Users?cursor&count=25").await;
    assert_eq!(
        (all.get("nextCursor"), all.get("previousCursor")),
        (None, None),
        "{all}"
    );
    let none = list(&acme, "/Users?cursor&filter=userName%20eq%20%22x%22").await;
    assert_eq!(
        (none["totalResults"].clone(), none.get("nextCursor")),
        (json!(0), None)
    );
}

#[tokio::test]
async fn rfc9865_2_cursors_in_a_search() {
    let (_world, acme) = tenant().await;
    acme.create_many_users((0..5).map(|n| format!("user{n}")))
        .await;
    let first = search(&acme, "/Users", json!({ "cursor": "", "count": 3 })).await;
    assert_eq!(each(&first, "userName"), ["user0", "user1", "user2"]);
    let next = search(
        &acme,
        "/Users",
        json!({ "cursor": first["nextCursor"], "count": 3 }),
    )
    .await;
    assert_eq!(each(&next, "userName"), ["user3", "user4"]);
    assert_eq!(next.get("nextCursor"), None);
    // Without a cursor the same endpoint pages by index.
    let index = search(&acme, "/Users", json!({ "count": 3 })).await;
    assert_eq!(
        (index["startIndex"].clone(), index.get("nextCursor")),
        (json!(1), None)
    );
}

#[tokio::test]
async fn rfc9865_2_1_a_cursor_means_nothing_elsewhere() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let umbrella = world.tenant("umbrella", "us").await;
    for tenant in [&acme, &umbrella] {
        tenant
            .create_many_users((0..5).map(|n| format!("user{n}")))
            .await;
        for n in 0..3 {
            tenant
                .create_group(json!({ "displayName": format!("group{n}") }))
                .await;
        }
    }
    let first = list(&acme, "/Users?cursor&count=2").await;
    let cursor = first["nextCursor"].as_str().unwrap().to_owned();
    let filter = "filter=active%20eq%20true";
    let filtered = list(&acme, &format!("/Users?cursor&count=2&{filter}")).await;
    let other = filtered["nextCursor"].as_str().unwrap().to_owned();
    let refused = async |tenant: &Tenant, url: &str| {
        let answer = tenant.get(url).await;
        answer.scim_error(400, Some("invalidCursor"));
    };
    refused(&umbrella, &format!("/Users?cursor={cursor}&count=2")).await;
    refused(&acme, &format!("/Groups?cursor={cursor}&count=2")).await;
    refused(&acme, &format!("/Users?cursor={cursor}&count=2&{filter}")).await;
    refused(
        &acme,
        &format!("/Users?cursor={cursor}&count=2&sortBy=userName"),
    )
    .await;
    refused(&acme, &format!("/Users?cursor={other}&count=2")).await;
    let mut flipped = cursor.clone();
    let last = if flipped.pop() == Some('A') { 'Q' } else { 'A' };
    flipped.push(last);
    for odd in [
        "x",
        "1",
        "%00",
        "-1",
        "null",
        "..%2F",
        &flipped,
        &cursor[1..],
        &cursor[..cursor.len() - 4],
        &"A".repeat(2000),
    ] {
        let answer = acme.get(&format!("/Users?cursor={odd}")).await;
        assert_eq!(answer.status, 400, "{odd}: {answer:?}");
        if odd != "%00" {
            answer.scim_error(400, Some("invalidCursor"));
        }
    }
    // It tells nothing: not the tenant's id, not a name.
    assert!(
        !cursor.contains("user") && !cursor.contains(&acme.id),
        "{cursor}"
    );
    // The token that asked first is not needed to go on: a tenant rotates tokens.
    let second = world.token("us", &acme.id, json!({})).await;
    let page = acme
        .region
        .get_as(&second.secret, &format!("/Users?cursor={cursor}&count=2"))
        .await;
    assert_eq!(each(&page.json(), "userName"), ["user2", "user3"]);
}

#[tokio::test]
async fn rfc9865_nobody_is_lost_while_others_are_deleted() {
    let (_world, acme) = tenant().await;
    acme.create_many_users((0..20).map(|n| format!("user{n:02}")))
        .await;
    let mut seen = BTreeSet::new();
    let mut page = list(&acme, "/Users?cursor&count=5").await;
    loop {
        for user in resources(&page) {
            assert!(
                seen.insert(user["userName"].as_str().unwrap().to_owned()),
                "{user} comes twice"
            );
            acme.delete(&path(user)).await;
        }
        let Some(next) = page["nextCursor"].as_str() else {
            break;
        };
        page = list(&acme, &format!("/Users?cursor={next}&count=5")).await;
    }
    assert_eq!(seen.len(), 20, "{seen:?}");
}
