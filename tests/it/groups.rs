//! Groups: members, nesting, the groups of a user, names; groups switched off.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, NO_LIMITS, Tenant, World, encode, eventually, id, patch, path};

const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
const GROUP: &str = "urn:ietf:params:scim:schemas:core:2.0:Group";

async fn tenant() -> (World, Tenant) {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    (world, acme)
}

async fn user(tenant: &Tenant, name: &str) -> Value {
    tenant.create_user(json!({ "userName": name })).await
}

/// A group with members.
async fn group(tenant: &Tenant, name: &str, members: &[&Value]) -> Value {
    let members: Vec<Value> = members
        .iter()
        .map(|m| json!({ "value": m["id"] }))
        .collect();
    let body = json!({ "schemas": [GROUP], "displayName": name, "members": members });
    tenant.create_group(body).await
}

/// The ids of a group's members, in order.
async fn members(tenant: &Tenant, group: &Value) -> Vec<String> {
    let group = tenant.get(&path(group)).await.json();
    values(&group["members"])
}

fn values(list: &Value) -> Vec<String> {
    let elements = list.as_array().map_or(&[][..], Vec::as_slice);
    let mut ids: Vec<String> = elements
        .iter()
        .map(|element| element["value"].as_str().unwrap().to_owned())
        .collect();
    ids.sort_unstable();
    ids
}

fn ids(resources: &[&Value]) -> Vec<String> {
    let mut ids: Vec<String> = resources.iter().map(|r| id(r).to_owned()).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn a_group_lives_from_create_to_delete() {
    let (_world, acme) = tenant().await;
    let anna = user(&acme, "anna").await;
    let body = json!({ "schemas": [GROUP], "displayName": "Guides", "externalId": "g-1",
        "members": [{ "value": anna["id"], "display": "Anna", "type": "User" }] });
    let answer = acme.post("/Groups", &body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let guides = answer.json();
    let location = format!("{}{}", acme.region.base_url, path(&guides));
    assert_eq!(answer.header("location"), Some(location.as_str()));
    assert_eq!(answer.header("etag"), guides["meta"]["version"].as_str());
    assert_eq!(guides["schemas"], json!([GROUP]));
    assert_eq!(guides["meta"]["resourceType"], "Group");
    assert_eq!(guides["meta"]["location"], json!(location));
    let member = format!("{}{}", acme.region.base_url, path(&anna));
    assert_eq!(
        guides["members"],
        json!([{ "value": anna["id"], "$ref": member, "type": "User" }])
    );
    assert_eq!(acme.get(&path(&guides)).await.json(), guides);

    let renamed = acme
        .put(&path(&guides), &json!({ "displayName": "Tour Guides" }))
        .await
        .json();
    assert_eq!(renamed["displayName"], "Tour Guides");
    assert_eq!(renamed.get("externalId"), None);
    assert_eq!(renamed["members"], guides["members"], "not named, so kept");
    assert_eq!(renamed["meta"]["created"], guides["meta"]["created"]);
    assert_ne!(renamed["meta"]["version"], guides["meta"]["version"]);

    assert_eq!(acme.delete(&path(&guides)).await.status, 204);
    acme.get(&path(&guides)).await.scim_error(404, None);
    acme.delete(&path(&guides)).await.scim_error(404, None);
    assert_eq!(acme.get(&path(&anna)).await.json().get("groups"), None);
}

#[tokio::test]
async fn a_group_must_have_a_name_and_members_that_are_members() {
    let (_world, acme) = tenant().await;
    let detail = acme
        .post("/Groups", &json!({ "schemas": [GROUP] }))
        .await
        .scim_error(400, Some("invalidValue"));
    assert!(detail.contains("displayName"), "{detail}");
    for members in [json!([{ "display": "Anna" }]), json!([7]), json!([null])] {
        let body = json!({ "displayName": "G", "members": members });
        let answer = acme.post("/Groups", &body).await;
        let detail = answer.scim_error(400, Some("invalidValue"));
        assert!(detail.contains("members"), "{members}: {detail}");
    }
    assert_eq!(acme.get("/Groups").await.json()["totalResults"], json!(0));
    // Somebody who was deleted a moment ago, or never was, is nobody's member.
    let never = "00000000-0000-4000-8000-000000000000";
    for (n, members) in [
        json!([{ "value": never }]),
        json!([{ "value": "" }]),
        json!("not an id"),
    ]
    .into_iter()
    .enumerate()
    {
        let body = json!({ "displayName": format!("G{n}"), "members": members });
        assert_eq!(
            acme.create_group(body).await["members"],
            json!([]),
            "{members}"
        );
    }
}

#[tokio::test]
async fn a_refused_change_changes_nothing() {
    let (_world, acme) = tenant().await;
    let (anna, ben) = (user(&acme, "anna").await, user(&acme, "ben").await);
    let guides = group(&acme, "Guides", &[&anna]).await;
    for operations in [
        json!([{ "op": "add", "path": "members", "value": [{ "value": ben["id"] }, 7] }]),
        json!([
            { "op": "replace", "path": "displayName", "value": "Other" },
            { "op": "remove", "path": "members" },
            { "op": "add", "path": "members", "value": [{ "display": "Ben" }] },
        ]),
        json!([
            { "op": "add", "path": "members", "value": [{ "value": ben["id"] }] },
            { "op": "remove", "path": "displayName" },
        ]),
        json!([
            { "op": "add", "path": "members", "value": [{ "value": ben["id"] }] },
            { "op": "replace", "path": "id", "value": "x" },
        ]),
    ] {
        let answer = acme.patch(&path(&guides), &patch(&operations)).await;
        assert_eq!(answer.status, 400, "{operations}: {answer:?}");
        let now = acme.get(&path(&guides)).await.json();
        assert_eq!(now, guides, "{operations}");
    }
}

#[tokio::test]
async fn members_come_and_go_in_every_form() {
    let (_world, acme) = tenant().await;
    let (anna, ben, cleo) = (
        user(&acme, "anna").await,
        user(&acme, "ben").await,
        user(&acme, "cleo").await,
    );
    let guides = group(&acme, "Guides", &[]).await;
    let (a, b, c) = (id(&anna), id(&ben), id(&cleo));
    let everybody = [&anna, &ben, &cleo];
    for (operation, expected) in [
        (
            json!({ "op": "add", "path": "members", "value": [{ "value": a }] }),
            &everybody[..1],
        ),
        (
            json!({ "op": "add", "path": "members", "value": { "value": a } }),
            &everybody[..1],
        ),
        (
            json!({ "op": "Add", "path": "members", "value": b }),
            &everybody[..2],
        ),
        (
            json!({ "op": "add", "value": { "members": [{ "value": c }] } }),
            &everybody[..],
        ),
        (
            json!({ "op": "remove", "path": "members", "value": [] }),
            &everybody[..],
        ),
        (
            json!({ "op": "remove", "path": format!("members[value eq \"{c}\"]") }),
            &everybody[..2],
        ),
        (
            json!({ "op": "remove", "path": format!("members[value eq \"{c}\"]") }),
            &everybody[..2],
        ),
        (
            json!({ "op": "replace", "path": "members", "value": [{ "value": a }, { "value": b }, { "value": c }] }),
            &everybody[..],
        ),
        (
            json!({ "op": "remove", "path": format!("members[value eq \"{c}\" or value eq \"{b}\"]") }),
            &everybody[..1],
        ),
        (
            json!({ "op": "replace", "value": { "members": [{ "value": a }, { "value": b }] } }),
            &everybody[..2],
        ),
        (
            json!({ "op": "Remove", "path": "members", "value": [{ "$ref": null, "value": b }] }),
            &everybody[..1],
        ),
        (
            json!({ "op": "remove", "path": "members", "value": "nobody" }),
            &everybody[..1],
        ),
        (
            json!({ "op": "add", "path": format!("{GROUP}:members"), "value": [{ "value": b }] }),
            &everybody[..2],
        ),
        (
            json!({ "op": "remove", "path": "members[type eq \"Group\"]" }),
            &everybody[..2],
        ),
        (
            json!({ "op": "remove", "path": "members[type eq \"User\"]" }),
            &everybody[..0],
        ),
        (
            json!({ "op": "replace", "path": "members", "value": [{ "value": a }] }),
            &everybody[..1],
        ),
        (
            json!({ "op": "remove", "path": "members" }),
            &everybody[..0],
        ),
        (
            json!({ "op": "add", "path": "members", "value": [{ "value": a }, { "value": a }] }),
            &everybody[..1],
        ),
        (
            json!({ "op": "replace", "path": "members", "value": [] }),
            &everybody[..0],
        ),
    ] {
        let answer = acme
            .patch(&path(&guides), &patch(&json!([operation])))
            .await;
        assert!(
            [200, 204].contains(&answer.status),
            "{operation}: {answer:?}"
        );
        assert_eq!(members(&acme, &guides).await, ids(expected), "{operation}");
    }
}

#[tokio::test]
async fn a_change_of_members_shows_a_small_group_and_moves_the_version() {
    let (_world, acme) = tenant().await;
    let anna = user(&acme, "anna").await;
    let guides = group(&acme, "Guides", &[]).await;
    let add = json!([{ "op": "add", "path": "members", "value": [{ "value": anna["id"] }] }]);
    let answer = acme.patch(&path(&guides), &patch(&add)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let after = acme.get(&path(&guides)).await.json();
    assert_eq!(answer.json(), after);
    assert_ne!(after["meta"]["version"], guides["meta"]["version"]);

    let rename = json!([{ "op": "replace", "path": "displayName", "value": "Walkers" }]);
    let answer = acme.patch(&path(&guides), &patch(&rename)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["displayName"], "Walkers");
}

#[tokio::test]
async fn groups_nest_and_a_user_knows_them() {
    let (_world, acme) = tenant().await;
    let anna = user(&acme, "anna").await;
    let inner = group(&acme, "Inner", &[&anna]).await;
    let middle = group(&acme, "Middle", &[&inner]).await;
    let outer = group(&acme, "Outer", &[&middle, &anna]).await;
    let link = |resource: &Value| format!("{}{}", acme.region.base_url, path(resource));

    let shown = acme.get(&path(&middle)).await.json();
    let member = json!({ "value": inner["id"], "$ref": link(&inner), "type": "Group" });
    assert_eq!(shown["members"], json!([member]));

    // Direct ones always, indirect ones for whoever asks (RFC 7643 section 4.1.2, `groups`).
    let membership = |group: &Value, kind: &str| json!({ "value": group["id"], "$ref": link(group), "type": kind, "display": group["displayName"] });
    let sorted = |list: &Value| {
        let mut list = list.as_array().unwrap().clone();
        list.sort_by_key(|element| element["display"].as_str().unwrap().to_owned());
        list
    };
    let shown = acme.get(&path(&anna)).await.json();
    assert_eq!(
        sorted(&shown["groups"]),
        [membership(&inner, "direct"), membership(&outer, "direct")]
    );
    let asked = acme
        .get(&format!("{}?attributes=groups", path(&anna)))
        .await;
    assert_eq!(
        sorted(&asked.json()["groups"]),
        [
            membership(&inner, "direct"),
            membership(&middle, "indirect"),
            membership(&outer, "direct"),
        ]
    );
    let without = format!("{}?excludedAttributes=groups", path(&anna));
    assert_eq!(acme.get(&without).await.json().get("groups"), None);

    // Found by them, too.
    let filter = format!("groups.value eq \"{}\"", id(&inner));
    assert_eq!(acme.find(&filter).await, ["anna"]);
    assert_eq!(acme.find("groups.display eq \"outer\"").await, ["anna"]);
    let filter = encode(&format!("members.value eq \"{}\"", id(&inner)));
    let found = acme.get(&format!("/Groups?filter={filter}")).await.json();
    assert_eq!(found["totalResults"], json!(1), "{found}");
    assert_eq!(found["Resources"][0]["id"], middle["id"]);

    // A rename is seen at once.
    acme.put(&path(&inner), &json!({ "displayName": "Core" }))
        .await;
    let shown = acme.get(&path(&anna)).await.json();
    assert!(shown["groups"].to_string().contains("Core"), "{shown}");
}

#[tokio::test]
async fn a_circle_of_groups_ends() {
    let (_world, acme) = tenant().await;
    let anna = user(&acme, "anna").await;
    let one = group(&acme, "One", &[&anna]).await;
    let two = group(&acme, "Two", &[&one]).await;
    let close = json!([{ "op": "add", "path": "members", "value": [{ "value": two["id"] }] }]);
    let answer = acme.patch(&path(&one), &patch(&close)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let asked = acme
        .get(&format!("{}?attributes=groups", path(&anna)))
        .await;
    assert_eq!(values(&asked.json()["groups"]), ids(&[&one, &two]));
    // So does a group that holds itself.
    let own = json!([{ "op": "add", "path": "members", "value": [{ "value": one["id"] }] }]);
    let answer = acme.patch(&path(&one), &patch(&own)).await;
    assert!([200, 400].contains(&answer.status), "{answer:?}");
    assert_eq!(acme.get(&path(&one)).await.status, 200);
    assert_eq!(acme.delete(&path(&one)).await.status, 204);
    assert_eq!(members(&acme, &two).await, Vec::<String>::new());
}

#[tokio::test]
async fn whoever_is_deleted_is_nobodys_member() {
    let (_world, acme) = tenant().await;
    let (anna, ben) = (user(&acme, "anna").await, user(&acme, "ben").await);
    let inner = group(&acme, "Inner", &[&anna, &ben]).await;
    let outer = group(&acme, "Outer", &[&anna, &inner]).await;
    assert_eq!(acme.delete(&path(&anna)).await.status, 204);
    assert_eq!(members(&acme, &inner).await, ids(&[&ben]));
    assert_eq!(members(&acme, &outer).await, ids(&[&inner]));
    assert_eq!(acme.delete(&path(&inner)).await.status, 204);
    assert_eq!(members(&acme, &outer).await, Vec::<String>::new());
    let filter = encode(&format!("members.value eq \"{}\"", id(&anna)));
    let found = acme.get(&format!("/Groups?filter={filter}")).await.json();
    assert_eq!(found["totalResults"], json!(0));
    // Nobody comes back with the name.
    let again = user(&acme, "anna").await;
    assert_eq!(acme.get(&path(&again)).await.json().get("groups"), None);
}

#[tokio::test]
async fn who_loses_a_member_has_another_version() {
    let (_world, acme) = tenant().await;
    let anna = user(&acme, "anna").await;
    let guides = group(&acme, "Guides", &[&anna]).await;
    acme.delete(&path(&anna)).await;
    let request = acme
        .request(Method::GET, &path(&guides))
        .header("if-none-match", guides["meta"]["version"].as_str().unwrap());
    let answer = Answer::of(request).await;
    assert_eq!(answer.status, 200, "its members are others: {answer:?}");
}

#[tokio::test]
async fn names_are_unique_without_case() {
    let (_world, acme) = tenant().await;
    let guides = group(&acme, "Straße", &[]).await;
    for taken in ["straße", "STRASSE", "Strasse", "STRAßE"] {
        let body = json!({ "displayName": taken });
        let answer = acme.post("/Groups", &body).await;
        let detail = answer.scim_error(409, Some("uniqueness"));
        assert!(detail.contains("displayName"), "{detail}");
    }
    // Its own name is no conflict, whatever the method or the case.
    let other = group(&acme, "Gasse", &[]).await;
    for own in ["Straße", "STRASSE", "Straße"] {
        let replaced = acme
            .put(&path(&guides), &json!({ "displayName": own }))
            .await;
        assert_eq!(replaced.status, 200, "{replaced:?}");
        assert_eq!(replaced.json()["displayName"], own);
        let rename =
            json!([{ "op": "replace", "value": { "id": guides["id"], "displayName": own } }]);
        let answer = acme.patch(&path(&guides), &patch(&rename)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let steal = json!([{ "op": "replace", "path": "displayName", "value": "strasse" }]);
    let answer = acme.patch(&path(&other), &patch(&steal)).await;
    answer.scim_error(409, Some("uniqueness"));
    let answer = acme
        .put(&path(&other), &json!({ "displayName": "STRASSE" }))
        .await;
    answer.scim_error(409, Some("uniqueness"));
    // The name of a user is another matter, and a group that is gone frees its own.
    user(&acme, "strasse").await;
    acme.delete(&path(&guides)).await;
    group(&acme, "Strasse", &[]).await;
}

#[tokio::test]
async fn members_are_left_out_where_nobody_wants_them() {
    let (_world, acme) = tenant().await;
    let anna = user(&acme, "anna").await;
    let guides = group(&acme, "Guides", &[&anna]).await;
    let lean = "excludedAttributes=members";
    for url in [
        format!("{}?{lean}", path(&guides)),
        format!("{}?attributes=displayName", path(&guides)),
    ] {
        let shown = acme.get(&url).await.json();
        assert_eq!(shown.get("members"), None, "{shown}");
        assert_eq!(shown["displayName"], "Guides");
    }
    let list = acme.get(&format!("/Groups?{lean}")).await.json();
    assert_eq!(list["Resources"][0].get("members"), None, "{list}");
    let replaced = acme
        .put(
            &format!("{}?{lean}", path(&guides)),
            &json!({ "displayName": "Guides" }),
        )
        .await
        .json();
    assert_eq!(replaced.get("members"), None, "{replaced}");
    let shown = acme
        .get(&format!("{}?attributes=members.value", path(&guides)))
        .await
        .json();
    assert_eq!(shown["members"], json!([{ "value": anna["id"] }]));
}

#[tokio::test]
async fn members_of_another_tenant_are_as_unknown_as_nobodys() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let umbrella = world.tenant("umbrella", "us").await;
    let stranger = user(&umbrella, "anna").await;
    let their_group = group(&umbrella, "Guides", &[&stranger]).await;
    let guides = group(&acme, "Guides", &[]).await;
    let never = json!({ "id": "00000000-0000-4000-8000-000000000000" });
    for member in [&stranger, &their_group, &never] {
        let add = json!([{ "op": "add", "path": "members", "value": [{ "value": member["id"] }] }]);
        let answer = acme.patch(&path(&guides), &patch(&add)).await;
        assert_eq!((answer.status, answer.json()), (200, guides.clone()));
        let body = json!({ "displayName": "Guides", "members": [{ "value": member["id"] }] });
        let answer = acme.put(&path(&guides), &body).await;
        assert_eq!((answer.status, answer.json()), (200, guides.clone()));
    }
    acme.get(&path(&their_group)).await.scim_error(404, None);
    acme.delete(&path(&their_group)).await.scim_error(404, None);
    let add = json!([{ "op": "add", "path": "members", "value": [{ "value": stranger["id"] }] }]);
    let answer = acme.patch(&path(&their_group), &patch(&add)).await;
    answer.scim_error(404, None);
    assert_eq!(members(&umbrella, &their_group).await, ids(&[&stranger]));
}

#[tokio::test]
async fn groups_can_be_switched_off() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let anna = user(&acme, "anna").await;
    let guides = group(&acme, "Guides", &[&anna]).await;
    let mut settings: Value = serde_json::from_str(NO_LIMITS).unwrap();
    settings["groups"] = json!("off");
    let set = format!("/tenants/{}/settings", acme.id);
    world
        .operator("us", Method::PUT, &set, Some(settings.clone()))
        .await;

    // Settings reach a caller with its next grant at the latest.
    eventually(501, || async {
        acme.post("/Groups", &json!({ "displayName": "G" })).await
    })
    .await
    .scim_error(501, None);
    let list = acme.get("/Groups?startIndex=1&count=100").await;
    assert_eq!(list.status, 200, "Okta probes it: {list:?}");
    assert_eq!(list.json()["totalResults"], json!(0), "{list:?}");
    acme.get(&path(&guides)).await.scim_error(404, None);
    let rename = json!({ "displayName": "H" });
    acme.put(&path(&guides), &rename)
        .await
        .scim_error(501, None);
    let add =
        patch(&json!([{ "op": "add", "path": "members", "value": [{ "value": anna["id"] }] }]));
    acme.patch(&path(&guides), &add).await.scim_error(501, None);
    acme.delete(&path(&guides)).await.scim_error(501, None);
    let operations = json!([{ "method": "POST", "path": "/Groups", "bulkId": "g", "data": { "displayName": "G" } }]);
    assert_eq!(
        acme.bulk(&operations).await["Operations"][0]["status"],
        "501"
    );
    let search = acme
        .post("/.search", &json!({ "filter": "displayName pr" }))
        .await;
    assert_eq!(search.json()["totalResults"], json!(0), "{search:?}");
    let search = acme.post("/Groups/.search", &json!({})).await;
    assert_eq!(search.json()["totalResults"], json!(0), "{search:?}");

    let types = acme.get("/ResourceTypes").await.json();
    assert_eq!(types["totalResults"], json!(1), "{types}");
    acme.get("/ResourceTypes/Group").await.scim_error(404, None);
    let schemas = acme.get("/Schemas").await.json();
    assert!(!schemas.to_string().contains(GROUP), "{schemas}");
    acme.get(&format!("/Schemas/{GROUP}"))
        .await
        .scim_error(404, None);

    // On again, everything is where it was.
    settings["groups"] = json!("on");
    world
        .operator("us", Method::PUT, &set, Some(settings))
        .await;
    eventually(200, || async { acme.get(&path(&guides)).await }).await;
    assert_eq!(members(&acme, &guides).await, ids(&[&anna]));
    assert_eq!(
        acme.get("/ResourceTypes").await.json()["totalResults"],
        json!(2)
    );
}

#[tokio::test]
async fn names_that_deceive_the_eye_are_refused() {
    let (_world, acme) = tenant().await;
    // Full width, mathematical, circled, superscript and composed letters: what Unicode calls
    // compatible, and what a directory that normalises would take for the same.
    user(&acme, "apollo2@example.com").await;
    for alike in [
        "\u{ff41}pollo2@example.com",
        "\u{ff21}\u{ff30}OLLO2@example.com",
        "\u{1d41a}pollo2@example.com",
        "\u{24d0}pollo2@example.com",
        "apollo\u{b2}@example.com",
        "apo\u{2113}lo2@example.com",
        "apollo2\u{ff20}example.com",
        "APOLLO2@EXAMPLE.COM",
    ] {
        let answer = acme
            .post("/Users", &json!({ "schemas": [USER], "userName": alike }))
            .await;
        let detail = answer.scim_error(409, Some("uniqueness"));
        assert!(detail.contains("userName"), "{alike}: {detail}");
    }
    // In either order.
    user(&acme, "\u{fb01}n@example.com").await;
    let answer = acme
        .post("/Users", &json!({ "userName": "fin@example.com" }))
        .await;
    answer.scim_error(409, Some("uniqueness"));
    // Renaming into one is the same thing.
    let ben = user(&acme, "ben@example.com").await;
    let rename =
        json!([{ "op": "replace", "path": "userName", "value": "\u{ff41}pollo2@example.com" }]);
    let answer = acme.patch(&path(&ben), &patch(&rename)).await;
    answer.scim_error(409, Some("uniqueness"));
    // Names of one script that are no look-alikes live side by side.
    for other in [
        "\u{438}\u{432}\u{430}\u{43d}@example.com",
        "apolla@example.com",
        "zo\u{eb}@example.com",
        "zoe@example.com",
    ] {
        user(&acme, other).await;
    }
}

#[tokio::test]
async fn what_cannot_be_seen_is_no_part_of_an_identifier() {
    let (_world, acme) = tenant().await;
    for hidden in [
        '\u{200b}', '\u{200d}', '\u{2060}', '\u{feff}', '\u{00ad}', '\u{202e}', '\u{2066}',
        '\u{200f}', '\u{7}', '\u{1b}', '\u{85}',
    ] {
        let name = format!("an{hidden}na");
        for (endpoint, body, attribute) in [
            ("/Users", json!({ "userName": name }), "userName"),
            (
                "/Users",
                json!({ "userName": "u", "externalId": name }),
                "externalId",
            ),
            ("/Groups", json!({ "displayName": name }), "displayName"),
        ] {
            let answer = acme.post(endpoint, &body).await;
            let detail = answer.scim_error(400, Some("invalidValue"));
            assert!(detail.contains(attribute), "{hidden:?}: {detail}");
            assert!(!detail.contains(hidden), "{hidden:?} is repeated");
        }
    }
    assert_eq!(acme.get("/Users").await.json()["totalResults"], json!(0));
    // What people read may hold an emoji with a joiner.
    let family = "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}";
    let anna = acme
        .create_user(json!({ "userName": "anna", "nickName": family }))
        .await;
    assert_eq!(anna["nickName"], family);
}
