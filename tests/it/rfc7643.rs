//! The characteristics of RFC 7643 section 7, as `/Schemas` tells them, tried on every attribute
//! one by one: what is said is done. The common attributes of section 3.1, which no schema lists,
//! are written down here.

use serde_json::{Map, Value, json};

use crate::support::{Tenant, World, encode, patch, path};

const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
const GROUP: &str = "urn:ietf:params:scim:schemas:core:2.0:Group";
const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";

async fn tenant() -> (World, Tenant) {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    (world, acme)
}

/// An attribute of users, or a sub-attribute, with all that discovery says of it.
struct Described {
    /// As in a PATCH: `emails.type`, or `urn:…:User:manager.value`.
    path: String,
    /// Where it stands in a resource: extension, attribute, sub-attribute.
    extension: Option<&'static str>,
    name: String,
    sub_name: Option<String>,
    /// The attribute's own description, and that of the attribute which holds it.
    own: Value,
    holder: Option<Value>,
}

impl Described {
    fn says(&self, characteristic: &str) -> &str {
        self.own[characteristic].as_str().unwrap_or_default()
    }

    fn is(&self, characteristic: &str) -> bool {
        self.own[characteristic] == json!(true)
    }

    /// Whether it or what holds it is read-only.
    fn is_read_only(&self) -> bool {
        let holder = self.holder.as_ref().map(|holder| &holder["mutability"]);
        self.own["mutability"] == "readOnly" || holder == Some(&json!("readOnly"))
    }

    fn is_in_list(&self) -> bool {
        let holder = self.holder.as_ref().unwrap_or(&self.own);
        holder["multiValued"] == json!(true)
    }

    /// A user with this attribute alone, beside its name.
    fn user(&self, name: &str, value: &Value) -> Value {
        let mut user = json!({ "userName": name });
        let home = match self.extension {
            None => &mut user,
            Some(urn) => {
                user[urn] = json!({});
                &mut user[urn]
            }
        };
        let value = match &self.sub_name {
            None => value.clone(),
            Some(sub) => json!({ (sub.as_str()): value }),
        };
        let is_wrapped = self.is_in_list() && (self.sub_name.is_some() || !value.is_array());
        home[self.name.as_str()] = if is_wrapped { json!([value]) } else { value };
        user
    }

    /// The attribute's value in a user.
    fn of<'u>(&self, user: &'u Value) -> Option<&'u Value> {
        let home = match self.extension {
            None => user,
            Some(urn) => user.get(urn)?,
        };
        let mut value = home.get(&self.name)?;
        if self.is_in_list() && self.sub_name.is_some() {
            value = value.get(0)?;
        }
        match &self.sub_name {
            None => Some(value),
            Some(sub) => value.get(sub),
        }
    }

    /// A value of its type.
    fn value(&self) -> Value {
        value_of(&self.own)
    }
}

fn value_of(attribute: &Value) -> Value {
    let name = attribute["name"].as_str().unwrap();
    let one = match attribute["type"].as_str().unwrap() {
        "string" => json!(format!("Some {name}")),
        "boolean" => json!(true),
        "reference" => json!(format!("https://example.com/{name}")),
        "binary" => json!("VGhpcyBpcyBubyBjZXJ0aWZpY2F0ZQ=="),
        "dateTime" => json!("2020-01-02T03:04:05Z"),
        "complex" => {
            let parts = attribute["subAttributes"].as_array().unwrap().iter();
            let parts = parts.filter(|part| part["mutability"] != "readOnly");
            let parts =
                parts.map(|part| (part["name"].as_str().unwrap().to_owned(), value_of(part)));
            Value::Object(parts.collect::<Map<_, _>>())
        }
        other => panic!("{other}"),
    };
    if attribute["multiValued"] == json!(true) {
        json!([one])
    } else {
        one
    }
}

/// Every attribute and sub-attribute of users, as discovery describes them.
async fn described(tenant: &Tenant) -> Vec<Described> {
    let mut all = Vec::new();
    for (urn, extension) in [(USER, None), (ENTERPRISE, Some(ENTERPRISE))] {
        let schema = tenant.get(&format!("/Schemas/{urn}")).await.json();
        let prefix = extension.map_or(String::new(), |urn| format!("{urn}:"));
        for attribute in schema["attributes"].as_array().unwrap() {
            let name = attribute["name"].as_str().unwrap().to_owned();
            let parts = attribute["subAttributes"].as_array();
            for part in parts.map_or(&[][..], Vec::as_slice) {
                let sub_name = part["name"].as_str().unwrap().to_owned();
                all.push(Described {
                    path: format!("{prefix}{name}.{sub_name}"),
                    extension,
                    name: name.clone(),
                    sub_name: Some(sub_name),
                    own: part.clone(),
                    holder: Some(attribute.clone()),
                });
            }
            all.push(Described {
                path: format!("{prefix}{name}"),
                extension,
                name,
                sub_name: None,
                own: attribute.clone(),
                holder: None,
            });
        }
    }
    assert!(all.len() > 60, "{}", all.len());
    all
}

#[tokio::test]
async fn s7_mutability() {
    let (_world, acme) = tenant().await;
    let mut tried = [0; 3];
    for (n, attribute) in described(&acme).await.iter().enumerate() {
        let place = &attribute.path;
        if place == "userName" {
            continue;
        }
        let user = acme
            .create_user(attribute.user(&format!("u{n}"), &attribute.value()))
            .await;
        let replace = json!([{ "op": "replace", "path": place, "value": attribute.value() }]);
        let remove = json!([{ "op": "remove", "path": place }]);
        if attribute.is_read_only() {
            tried[0] += 1;
            assert_eq!(
                attribute.of(&user),
                None,
                "{place} is ignored in a resource"
            );
            for operations in [replace, remove] {
                let answer = acme.patch(&path(&user), &patch(&operations)).await;
                answer.scim_error(400, Some("mutability"));
            }
            let answer = acme
                .put(
                    &path(&user),
                    &attribute.user(&format!("u{n}"), &attribute.value()),
                )
                .await;
            assert_eq!(answer.status, 200, "{place}: {answer:?}");
            assert_eq!(attribute.of(&answer.json()), None, "{place}");
            let value =
                json!([{ "op": "add", "value": attribute.user("ignored", &attribute.value()) }]);
            let mut value = value;
            value[0]["value"]
                .as_object_mut()
                .unwrap()
                .remove("userName");
            let answer = acme.patch(&path(&user), &patch(&value)).await;
            assert_eq!(
                answer.status, 200,
                "{place} is skipped without a path: {answer:?}"
            );
        } else if attribute.says("mutability") == "writeOnly" {
            tried[1] += 1;
            assert_eq!(attribute.of(&user), None, "{place}");
            let answer = acme.patch(&path(&user), &patch(&replace)).await;
            assert_eq!(answer.status, 200, "{place}: {answer:?}");
            assert_eq!(attribute.of(&answer.json()), None, "{place}");
        } else {
            tried[2] += 1;
            assert_eq!(attribute.says("mutability"), "readWrite", "{place}");
            assert_eq!(
                attribute.of(&user),
                Some(&attribute.value()),
                "{place} in {user}"
            );
            let read = acme.get(&path(&user)).await.json();
            assert_eq!(
                attribute.of(&read),
                Some(&attribute.value()),
                "{place} in {read}"
            );
            let answer = acme.patch(&path(&user), &patch(&remove)).await;
            assert_eq!(answer.status, 200, "{place}: {answer:?}");
            let after = answer.json();
            let default = match place.as_str() {
                "timezone" => after.get("timezone").cloned(),
                "active" => after.get("active").cloned(),
                _ => None,
            };
            assert_eq!(
                attribute.of(&after),
                default.as_ref(),
                "{place} is removed from {after}"
            );
            let answer = acme.patch(&path(&user), &patch(&replace)).await;
            assert_eq!(answer.status, 200, "{place}: {answer:?}");
            if !attribute.is_in_list() || attribute.sub_name.is_none() {
                let now = answer.json();
                assert_eq!(
                    attribute.of(&now),
                    Some(&attribute.value()),
                    "{place} in {now}"
                );
            }
            // A PUT without it clears it, but for what has a default.
            let put = acme
                .put(&path(&user), &json!({ "userName": format!("u{n}") }))
                .await
                .json();
            if !["timezone", "active"].contains(&place.as_str()) {
                assert_eq!(attribute.of(&put), None, "{place} in {put}");
            }
        }
    }
    assert!(tried[0] >= 5 && tried[1] == 1 && tried[2] > 50, "{tried:?}");
}

#[tokio::test]
async fn s7_returned() {
    let (_world, acme) = tenant().await;
    for (n, attribute) in described(&acme).await.iter().enumerate() {
        let place = &attribute.path;
        if attribute.is_read_only() || place == "userName" {
            continue;
        }
        let user = acme
            .create_user(attribute.user(&format!("u{n}"), &attribute.value()))
            .await;
        let asked = acme
            .get(&format!("{}?attributes={}", path(&user), encode(place)))
            .await
            .json();
        let excluded = acme
            .get(&format!(
                "{}?excludedAttributes={}",
                path(&user),
                encode(place)
            ))
            .await
            .json();
        match attribute.says("returned") {
            "never" => {
                assert_eq!(attribute.of(&user), None, "{place}");
                assert_eq!(attribute.of(&asked), None, "{place}");
                let stored = user.to_string();
                assert!(!stored.contains(place), "{place} leaves no trace: {stored}");
            }
            "default" => {
                assert_eq!(
                    attribute.of(&asked),
                    Some(&attribute.value()),
                    "{place} in {asked}"
                );
                assert_eq!(asked.get("meta"), None, "{place} and nothing else: {asked}");
                assert_eq!(attribute.of(&excluded), None, "{place} in {excluded}");
                assert!(excluded.get("meta").is_some(), "{excluded}");
            }
            other => panic!("{place}: {other}"),
        }
    }
    // Those that no schema lists: `id` and `schemas` are returned always.
    let user = acme
        .create_user(json!({ "userName": "last", "externalId": "e" }))
        .await;
    let lean = acme
        .get(&format!(
            "{}?excludedAttributes=id,schemas,externalId,meta",
            path(&user)
        ))
        .await
        .json();
    assert_eq!(
        (&lean["id"], &lean["schemas"]),
        (&user["id"], &user["schemas"])
    );
    assert_eq!((lean.get("externalId"), lean.get("meta")), (None, None));
    let asked = acme
        .get(&format!("{}?attributes=externalId", path(&user)))
        .await
        .json();
    assert_eq!(
        asked,
        json!({ "schemas": [USER], "id": user["id"], "externalId": "e" })
    );
}

#[tokio::test]
async fn s7_case_exact() {
    let (_world, acme) = tenant().await;
    let mut tried = [0; 2];
    for (n, attribute) in described(&acme).await.iter().enumerate() {
        let place = &attribute.path;
        let searchable = ["string", "reference", "binary"].contains(&attribute.says("type"))
            && !attribute.is_read_only()
            && attribute.says("returned") != "never";
        if !searchable {
            continue;
        }
        let name = format!("u{n}");
        // Long, and in both cases whatever the attribute is called.
        let value = match attribute.says("type") {
            "binary" => "QWJjRGVmR2hJ".to_owned(),
            _ => format!("https://Example.com/AbC{n}"),
        };
        let user = if place == "userName" {
            json!({ "userName": value })
        } else {
            attribute.user(&name, &json!(value))
        };
        let user = acme.create_user(user).await;
        let find = async |literal: &str| acme.find(&format!("{place} eq \"{literal}\"")).await;
        let found = [user["userName"].as_str().unwrap().to_owned()];
        assert_eq!(find(&value).await, found, "{place}");
        let lower = find(&value.to_lowercase()).await;
        if attribute.is("caseExact") {
            tried[0] += 1;
            assert_eq!(lower, Vec::<String>::new(), "{place} is compared exactly");
        } else {
            tried[1] += 1;
            assert_eq!(lower, found, "{place} has no case");
        }
        acme.delete(&path(&user)).await;
    }
    assert!(tried[0] >= 3 && tried[1] > 30, "{tried:?}");
    // Those that no schema lists.
    let user = acme
        .create_user(json!({ "userName": "last", "externalId": "AbC" }))
        .await;
    assert_eq!(acme.find("externalId eq \"AbC\"").await, ["last"]);
    assert_eq!(
        acme.find("externalId eq \"abc\"").await,
        Vec::<String>::new()
    );
    let upper = user["id"].as_str().unwrap().to_uppercase();
    assert_eq!(
        acme.find(&format!("id eq \"{upper}\"")).await,
        Vec::<String>::new()
    );
    assert_eq!(
        acme.find("meta.resourceType eq \"user\"").await,
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn s7_uniqueness() {
    let (_world, acme) = tenant().await;
    for (n, attribute) in described(&acme).await.iter().enumerate() {
        let place = &attribute.path;
        if attribute.is_read_only() || attribute.says("returned") == "never" {
            continue;
        }
        if attribute.says("uniqueness") == "server" {
            assert_eq!(place, "userName");
            acme.create_user(json!({ "userName": "One" })).await;
            let answer = acme.post("/Users", &json!({ "userName": "oNE" })).await;
            answer.scim_error(409, Some("uniqueness"));
        } else {
            for twin in ["a", "b"] {
                acme.create_user(attribute.user(&format!("u{n}{twin}"), &attribute.value()))
                    .await;
            }
        }
    }
    let group = acme.get(&format!("/Schemas/{GROUP}")).await.json();
    let display_name = &group["attributes"][0];
    assert_eq!(
        (&display_name["name"], &display_name["uniqueness"]),
        (&json!("displayName"), &json!("server"))
    );
    acme.create_group(json!({ "displayName": "One", "externalId": "e" }))
        .await;
    let answer = acme.post("/Groups", &json!({ "displayName": "ONE" })).await;
    answer.scim_error(409, Some("uniqueness"));
    // externalId is the client's, and may come twice.
    acme.create_group(json!({ "displayName": "Two", "externalId": "e" }))
        .await;
}

#[tokio::test]
async fn s7_required() {
    let (_world, acme) = tenant().await;
    let required: Vec<String> = described(&acme)
        .await
        .iter()
        .filter(|attribute| attribute.is("required"))
        .map(|attribute| attribute.path.clone())
        .collect();
    assert_eq!(required, ["userName"]);
    for none in [
        json!({}),
        json!({ "userName": null }),
        json!({ "userName": "" }),
        json!({ "userName": "  " }),
        json!({ "userName": [] }),
    ] {
        let answer = acme.post("/Users", &none).await;
        let detail = answer.scim_error(400, Some("invalidValue"));
        assert!(detail.contains("userName"), "{none}: {detail}");
    }
    let group = acme.get(&format!("/Schemas/{GROUP}")).await.json();
    for attribute in group["attributes"].as_array().unwrap() {
        let name = attribute["name"].as_str().unwrap();
        let mut body = json!({ "displayName": "G", "members": [] });
        body.as_object_mut().unwrap().remove(name);
        let answer = acme.post("/Groups", &body).await;
        if attribute["required"] == json!(true) {
            let detail = answer.scim_error(400, Some("invalidValue"));
            assert!(detail.contains(name), "{detail}");
        } else {
            assert_eq!(answer.status, 201, "{name}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn s7_types() {
    let (_world, acme) = tenant().await;
    for attribute in described(&acme).await {
        let place = &attribute.path;
        if attribute.is_read_only()
            || attribute.says("mutability") == "writeOnly"
            || place == "userName"
        {
            continue;
        }
        let wrong = match attribute.says("type") {
            "boolean" => json!("perhaps"),
            "complex" => json!([[7]]),
            _ => json!({ "no": "text" }),
        };
        let answer = acme.post("/Users", &attribute.user("typed", &wrong)).await;
        let detail = answer.scim_error(400, Some("invalidValue"));
        assert!(detail.contains(&attribute.name), "{place}: {detail}");
    }
    assert_eq!(acme.get("/Users").await.json()["totalResults"], json!(0));
}

#[tokio::test]
async fn s7_canonical_values_are_suggestions() {
    let (_world, acme) = tenant().await;
    let mut tried = 0;
    for (n, attribute) in described(&acme).await.iter().enumerate() {
        let canonical = attribute.own["canonicalValues"].as_array();
        if attribute.is_read_only() || canonical.is_none_or(Vec::is_empty) {
            continue;
        }
        for (m, value) in canonical
            .unwrap()
            .iter()
            .chain(&[json!("something else")])
            .enumerate()
        {
            let user = acme
                .create_user(attribute.user(&format!("u{n}-{m}"), value))
                .await;
            assert_eq!(attribute.of(&user), Some(value), "{}", attribute.path);
            tried += 1;
        }
    }
    assert!(tried > 20, "{tried}");
}

#[tokio::test]
async fn s7_multi_valued() {
    let (_world, acme) = tenant().await;
    for (n, attribute) in described(&acme).await.iter().enumerate() {
        if attribute.sub_name.is_some() || attribute.is_read_only() || !attribute.is("multiValued")
        {
            continue;
        }
        let place = &attribute.path;
        let part = |value: &str| match attribute.name.as_str() {
            "addresses" => json!({ "locality": value, "type": "work" }),
            "x509Certificates" => json!({ "value": "AAAA", "type": value }),
            _ => json!({ "value": value, "type": "work" }),
        };
        // At most one primary, the first of those who say so (RFC 7643 section 2.4).
        let mut elements = [part("a"), part("b"), part("c")];
        elements[1]["primary"] = json!(true);
        elements[2]["primary"] = json!(true);
        let user = acme
            .create_user(json!({ "userName": format!("u{n}"), (place.as_str()): elements }))
            .await;
        let shown = user[place.as_str()].as_array().unwrap();
        assert_eq!(shown.len(), 3, "{place}: {user}");
        let primaries = shown.iter().filter(|e| e["primary"] == json!(true)).count();
        assert_eq!(
            (primaries, &shown[1]["primary"]),
            (1, &json!(true)),
            "{place}: {user}"
        );
        // One more by PATCH; the new primary takes over (RFC 7644 section 3.5.2).
        let mut another = part("d");
        another["primary"] = json!(true);
        let add = json!([{ "op": "add", "path": place, "value": another }]);
        let changed = acme.patch(&path(&user), &patch(&add)).await.json();
        let shown = changed[place.as_str()].as_array().unwrap();
        assert_eq!(shown.len(), 4, "{place}: {changed}");
        let primaries: Vec<&Value> = shown
            .iter()
            .filter(|e| e["primary"] == json!(true))
            .collect();
        assert_eq!(primaries, [&another], "{place}");
    }
}

#[tokio::test]
async fn s3_1_common_attributes() {
    let (_world, acme) = tenant().await;
    let chosen = json!({
        "userName": "common", "id": "chosen", "schemas": [USER],
        "meta": { "resourceType": "X", "created": "1999-01-01T00:00:00Z", "location": "x", "version": "x" }
    });
    let user = acme.create_user(chosen.clone()).await;
    assert_ne!(user["id"], "chosen");
    assert_eq!(user["meta"]["resourceType"], "User");
    assert_ne!(user["meta"]["created"], "1999-01-01T00:00:00Z");
    for place in [
        "id",
        "meta",
        "meta.created",
        "meta.version",
        "meta.location",
        "meta.resourceType",
        "schemas",
    ] {
        for operations in [
            json!([{ "op": "replace", "path": place, "value": "x" }]),
            json!([{ "op": "remove", "path": place }]),
        ] {
            let answer = acme.patch(&path(&user), &patch(&operations)).await;
            answer.scim_error(400, Some("mutability"));
        }
        let asked = acme
            .get(&format!("{}?attributes={place}", path(&user)))
            .await
            .json();
        assert_eq!(asked["id"], user["id"]);
    }
    assert_eq!(
        acme.put(&path(&user), &chosen).await.json()["id"],
        user["id"]
    );
}

#[tokio::test]
async fn s4_2_members_are_immutable() {
    let (_world, acme) = tenant().await;
    let anna = acme.create_user(json!({ "userName": "anna" })).await;
    let ben = acme.create_user(json!({ "userName": "ben" })).await;
    let group = acme
        .create_group(json!({ "displayName": "G", "members": [{ "value": anna["id"] }] }))
        .await;
    let schema = acme.get(&format!("/Schemas/{GROUP}")).await.json();
    let members = schema["attributes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|a| a["name"] == "members")
        .unwrap();
    for part in members["subAttributes"].as_array().unwrap() {
        assert_eq!(part["mutability"], "immutable", "{part}");
        let name = part["name"].as_str().unwrap();
        let place = format!(
            "members[value eq \"{}\"].{name}",
            anna["id"].as_str().unwrap()
        );
        let replace = json!([{ "op": "replace", "path": place, "value": ben["id"] }]);
        let answer = acme.patch(&path(&group), &patch(&replace)).await;
        answer.scim_error(400, Some("mutability"));
    }
    assert_eq!(acme.get(&path(&group)).await.json(), group);
}
