//! Every claim of `/ServiceProviderConfig`, `/ResourceTypes` and `/Schemas` is tried, both ways:
//! what is said to be there works, and what is said not to be is refused.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, NO_LIMITS, Tenant, World, id, patch, path};

async fn tenant() -> (World, Tenant) {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    (world, acme)
}

/// Whether a feature is said to be there.
fn supported(config: &Value, feature: &str) -> bool {
    config[feature]["supported"]
        .as_bool()
        .unwrap_or_else(|| panic!("{feature}: {config}"))
}

#[tokio::test]
async fn the_service_provider_config_is_true() {
    let (_world, acme) = tenant().await;
    let config = acme.get("/ServiceProviderConfig").await.json();
    let user = acme
        .create_user(json!({ "userName": "anna", "title": "b" }))
        .await;
    let (url, tag) = (path(&user), user["meta"]["version"].as_str().unwrap());

    let operations = patch(&json!([{ "op": "replace", "path": "title", "value": "c" }]));
    let patched = acme.patch(&url, &operations).await;
    assert_eq!(
        patched.status == 200,
        supported(&config, "patch"),
        "{patched:?}"
    );

    let bulk = acme.post("/Bulk", &json!({ "Operations": [] })).await;
    assert_eq!(bulk.status == 200, supported(&config, "bulk"), "{bulk:?}");

    let filtered = acme.query("userName eq \"nobody\"").await;
    let works = filtered.status == 200 && filtered.json()["totalResults"] == json!(0);
    assert_eq!(works, supported(&config, "filter"), "{filtered:?}");

    acme.create_user(json!({ "userName": "Zoe" })).await;
    let sorted = acme
        .get("/Users?sortBy=userName&sortOrder=descending")
        .await;
    let works = sorted.json()["Resources"][0]["userName"] == "Zoe";
    assert_eq!(works, supported(&config, "sort"), "{sorted:?}");

    let request = acme.request(Method::GET, &url).header("if-none-match", "*");
    let known = Answer::of(request).await;
    let request = acme.request(Method::DELETE, &url).header("if-match", tag);
    let stale = Answer::of(request).await;
    let works = known.header("etag").is_some() || known.status == 304;
    assert_eq!(
        works && stale.status == 412,
        supported(&config, "etag"),
        "{known:?} {stale:?}"
    );

    // A password can be sent and changes nothing that anybody could find out.
    assert!(!supported(&config, "changePassword"));
    let before = acme.get(&url).await.json();
    let operations = patch(&json!([{ "op": "replace", "path": "password", "value": "secret" }]));
    let after = acme.patch(&url, &operations).await.json();
    assert_eq!(after["meta"]["version"], before["meta"]["version"]);
}

#[tokio::test]
async fn the_numbers_of_the_service_provider_config_are_true() {
    let (_world, acme) = tenant().await;
    let config = acme.get("/ServiceProviderConfig").await.json();
    let number = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    let pagination = &config["pagination"];
    let (most, usual) = (
        number(&pagination["maxPageSize"]),
        number(&pagination["defaultPageSize"]),
    );
    assert_eq!(number(&config["filter"]["maxResults"]), most);
    acme.create_many_users((0..=most).map(|n| format!("user{n}")))
        .await;
    for (query, expected) in [
        (format!("count={}", most + 1), most),
        (format!("count={}&filter=userName%20pr", most + 1), most),
        (format!("count={most}"), most),
        (String::new(), usual),
        ("cursor".to_owned(), usual),
        (format!("cursor&count={}", most + 1), most),
    ] {
        let list = acme
            .get(&format!("/Users?attributes=id&{query}"))
            .await
            .json();
        assert_eq!(
            list["Resources"].as_array().unwrap().len(),
            expected,
            "{query}"
        );
        assert_eq!(list["itemsPerPage"], json!(expected), "{query}");
        assert_eq!(list["totalResults"], json!(most + 1), "{query}");
        // RFC 9865: `index` and `cursor` say which ways there are, the default which one is taken.
        let by_cursor = list.get("nextCursor").is_some();
        assert_eq!(by_cursor, query.starts_with("cursor"), "{query}");
        assert_eq!(list.get("startIndex").is_some(), !by_cursor, "{query}");
    }
    assert_eq!(pagination["index"], json!(true));
    assert_eq!(pagination["cursor"], json!(true));
    assert_eq!(pagination["defaultPaginationMethod"], "index");
    assert!(pagination["cursorTimeout"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn every_authentication_scheme_works_and_no_other() {
    let (_world, acme) = tenant().await;
    let config = acme.get("/ServiceProviderConfig").await.json();
    let mut kinds: Vec<&str> = config["authenticationSchemes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|scheme| scheme["type"].as_str().unwrap())
        .collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["httpbasic", "oauthbearertoken"]);
    let ask = || acme.region.request(Method::GET, "/Users");
    let secret = &acme.token.secret;
    assert_eq!(Answer::of(ask().bearer_auth(secret)).await.status, 200);
    assert_eq!(
        Answer::of(ask().basic_auth("anybody", Some(secret)))
            .await
            .status,
        200
    );
    assert_eq!(
        Answer::of(ask().header("authorization", secret))
            .await
            .status,
        200
    );
    for other in [
        "Digest x",
        "Basic bm9ib2R5Om5vdGhpbmc=",
        "Bearer",
        "Negotiate x",
    ] {
        let answer = Answer::of(ask().header("authorization", other)).await;
        answer.scim_error(401, None);
    }
    Answer::of(ask()).await.scim_error(401, None);
}

#[tokio::test]
async fn every_resource_type_is_served_where_it_says() {
    let (_world, acme) = tenant().await;
    let types = acme.get("/ResourceTypes").await.json();
    let mut schemas = Vec::new();
    for kind in types["Resources"].as_array().unwrap() {
        let (name, endpoint) = (
            kind["name"].as_str().unwrap(),
            kind["endpoint"].as_str().unwrap(),
        );
        let core = kind["schema"].as_str().unwrap();
        schemas.push(core.to_owned());
        let body = match name {
            "User" => json!({ "userName": "anna" }),
            "Group" => json!({ "displayName": "guides" }),
            other => panic!("{other}"),
        };
        let created = acme.post(endpoint, &body).await;
        assert_eq!(created.status, 201, "{created:?}");
        let created = created.json();
        assert_eq!(created["schemas"], json!([core]));
        assert_eq!(created["meta"]["resourceType"], name);
        assert_eq!(path(&created), format!("{endpoint}/{}", id(&created)));
        for extension in kind["schemaExtensions"]
            .as_array()
            .map_or(&[][..], Vec::as_slice)
        {
            let urn = extension["schema"].as_str().unwrap();
            schemas.push(urn.to_owned());
            assert_eq!(extension["required"], json!(false), "{kind}");
            let mut body = body.clone();
            body[urn] = json!({ "department": "D" });
            let extended = acme.put(&path(&created), &body).await.json();
            assert_eq!(extended["schemas"], json!([core, urn]));
            assert_eq!(extended[urn], json!({ "department": "D" }));
        }
        assert_eq!(acme.get(endpoint).await.json()["totalResults"], json!(1));
        assert_eq!(acme.delete(&path(&created)).await.status, 204);
    }
    // No schema belongs to nothing, and nothing to no schema.
    let list = acme.get("/Schemas").await.json();
    let mut listed: Vec<String> = list["Resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|schema| id(schema).to_owned())
        .collect();
    listed.sort_unstable();
    schemas.sort_unstable();
    assert_eq!(listed, schemas);
    // What no resource type names is not served.
    for endpoint in ["/Roles", "/Entitlements", "/Agents", "/Devices"] {
        acme.get(endpoint).await.scim_error(404, None);
        acme.post(endpoint, &json!({ "displayName": "x" }))
            .await
            .scim_error(404, None);
    }
}

#[tokio::test]
async fn an_extension_that_is_not_in_discovery_is_not_served() {
    let (_world, acme) = tenant().await;
    let urn = "urn:okta:custom:group:1.0";
    let body = json!({ "displayName": "g", "schemas": [urn], urn: { "description": "d" } });
    let group = acme.create_group(body).await;
    assert!(!group.to_string().contains("okta"), "{group}");
    let answer = acme
        .get(&format!("/Groups?filter={urn}:description%20pr"))
        .await;
    answer.scim_error(400, Some("invalidFilter"));
    acme.get(&format!("/Schemas/{urn}"))
        .await
        .scim_error(404, None);
}

#[tokio::test]
async fn scim11_says_what_it_can_do() {
    let world = World::start();
    let acme = world.tenant_with("acme", "us", NO_LIMITS).await;
    let config = acme.get("/v1/ServiceProviderConfigs").await.json();
    let user = acme.post("/v1/Users", &json!({ "userName": "anna" })).await;
    let url = format!("/v1/Users/{}", id(&user.json()));
    let patched = acme.patch(&url, &json!({ "title": "t" })).await;
    assert_eq!(
        patched.status == 200,
        supported(&config, "patch"),
        "{patched:?}"
    );
    assert_eq!(patched.json()["title"], "t");
    let bulk = acme.post("/v1/Bulk", &json!({ "Operations": [] })).await;
    assert_eq!(bulk.status == 200, supported(&config, "bulk"), "{bulk:?}");
    let sorted = acme.get("/v1/Users?sortBy=userName").await;
    assert_eq!(
        sorted.status == 200,
        supported(&config, "sort"),
        "{sorted:?}"
    );
    let request = acme
        .request(Method::GET, "/v1/Users")
        .header("accept", "application/xml");
    let xml = Answer::of(request).await;
    let is_xml = xml
        .header("content-type")
        .is_some_and(|kind| kind.contains("xml"));
    assert_eq!(is_xml, supported(&config, "xmlDataFormat"), "{xml:?}");
    // Every schema that it lists describes an endpoint that it has.
    let schemas = acme.get("/v1/Schemas").await.json();
    for schema in schemas["Resources"].as_array().unwrap() {
        let endpoint = schema["endpoint"].as_str().unwrap();
        assert_eq!(
            acme.get(&format!("/v1{endpoint}")).await.status,
            200,
            "{endpoint}"
        );
        let single = acme.get(&format!("/v1/Schemas/{}", id(schema))).await;
        assert_eq!(&single.json(), schema);
    }
}
