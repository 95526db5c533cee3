//! Many clients at once: no change is lost, nobody comes twice, a walk loses nobody.
//! `MERIDIAN_TEST_MEMBERS` and `MERIDIAN_TEST_WALK` ask for the figures of the promise.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Tenant, World, patch, path, scale};

const CLIENTS: usize = 50;

async fn many(world: &World, count: usize) -> (Tenant, Vec<String>) {
    let acme = world.tenant("acme", "us").await;
    let ids = acme
        .create_many_users((0..count).map(|n| format!("user{n:05}")))
        .await;
    assert_eq!(ids.len(), count);
    (acme, ids)
}

/// Runs a task for each of the parts, all at once, and waits until all are done.
async fn at_once<F>(tasks: impl Iterator<Item = F>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let running: Vec<_> = tasks.map(tokio::spawn).collect();
    for task in running {
        task.await.unwrap();
    }
}

fn members(group: &Value) -> Vec<&str> {
    let members = group["members"].as_array().unwrap().iter();
    members
        .map(|member| member["value"].as_str().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_many_clients_add_at_once_are_all_there() {
    let each = scale("MERIDIAN_TEST_MEMBERS", 40);
    let world = World::start();
    let (acme, ids) = many(&world, CLIENTS * each).await;
    let group = acme
        .create_group(json!({ "displayName": "Everybody" }))
        .await;
    let url = Arc::new(path(&group));
    let parts = ids.chunks(each).map(<[String]>::to_vec);
    at_once(parts.map(|part| {
        let (acme, url) = (acme.clone(), url.clone());
        async move {
            for id in part {
                let add = json!([{ "op": "add", "path": "members", "value": [{ "value": id }] }]);
                let answer = acme.patch(&url, &patch(&add)).await;
                assert!([200, 204].contains(&answer.status), "{answer:?}");
            }
        }
    }))
    .await;
    let group = acme.get(&url).await.json();
    let found = members(&group);
    let distinct: HashSet<&str> = found.iter().copied().collect();
    assert_eq!((found.len(), distinct.len()), (ids.len(), ids.len()));
    assert!(ids.iter().all(|id| distinct.contains(id.as_str())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go_at_once_and_none_is_lost() {
    let world = World::start();
    let (acme, ids) = many(&world, 200).await;
    let (stay, go) = ids.split_at(100);
    let list: Vec<Value> = go.iter().map(|id| json!({ "value": id })).collect();
    let group = acme
        .create_group(json!({ "displayName": "Everybody", "members": list }))
        .await;
    let url = Arc::new(path(&group));
    let changes = stay.iter().zip(go);
    at_once(changes.enumerate().map(|(n, (comes, goes))| {
        let (acme, url) = (acme.clone(), url.clone());
        // Renames and everything else of the group move at the same time.
        let operations = json!([
            { "op": "add", "path": "members", "value": [{ "value": comes }] },
            { "op": "remove", "path": format!("members[value eq \"{goes}\"]") },
            { "op": "replace", "value": { "externalId": format!("e{n}") } },
        ]);
        let operations = if n % 4 == 0 {
            operations
        } else {
            Value::from(operations.as_array().unwrap()[..2].to_vec())
        };
        async move {
            // A change of the group itself may be told to try again; nothing of it is done then.
            loop {
                let answer = acme.patch(&url, &patch(&operations)).await;
                if answer.status != 409 && answer.status != 503 {
                    assert!([200, 204].contains(&answer.status), "{answer:?}");
                    return;
                }
            }
        }
    }))
    .await;
    let group = acme.get(&url).await.json();
    let found: BTreeSet<&str> = members(&group).into_iter().collect();
    assert_eq!(found, stay.iter().map(String::as_str).collect());
}

/// Each client adds a role, an address and a number of its own to one user.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_patches_of_one_user_all_take_effect() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let user = acme.create_user(json!({ "userName": "anna" })).await;
    let url = Arc::new(path(&user));
    let attributes = ["roles", "emails", "phoneNumbers"];
    at_once((0..CLIENTS).map(|n| {
        let (acme, url) = (acme.clone(), url.clone());
        async move {
            for attribute in attributes {
                let value = json!([{ "value": format!("{attribute}{n}@example.com") }]);
                let add = json!([{ "op": "add", "path": attribute, "value": value }]);
                loop {
                    let answer = acme.patch(&url, &patch(&add)).await;
                    if answer.status != 503 {
                        assert_eq!(answer.status, 200, "{answer:?}");
                        break;
                    }
                }
            }
        }
    }))
    .await;
    let user = acme.get(&url).await.json();
    for attribute in attributes {
        let values = user[attribute].as_array().unwrap().iter();
        let values: BTreeSet<&str> = values.map(|v| v["value"].as_str().unwrap()).collect();
        assert_eq!(values.len(), CLIENTS, "{user}");
    }
}

/// Clients that count on one user: read, add one, write on condition that nobody else did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_update_is_lost_between_reading_and_writing() {
    const COUNTERS: usize = 10;
    const EACH: usize = 10;
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let user = acme
        .create_user(json!({ "userName": "anna", "title": "0" }))
        .await;
    let url = Arc::new(path(&user));
    at_once((0..COUNTERS).map(|_| {
        let (acme, url) = (acme.clone(), url.clone());
        async move {
            let mut done = 0;
            while done < EACH {
                let read = acme.get(&url).await;
                let count: usize = read.json()["title"].as_str().unwrap().parse().unwrap();
                let next =
                    json!([{ "op": "replace", "path": "title", "value": (count + 1).to_string() }]);
                let request = acme
                    .request(Method::PATCH, &url)
                    .header("if-match", read.header("etag").unwrap())
                    .body(patch(&next).to_string());
                let answer = Answer::of(request).await;
                assert!([200, 412, 503].contains(&answer.status), "{answer:?}");
                done += usize::from(answer.status == 200);
            }
        }
    }))
    .await;
    let user = acme.get(&url).await.json();
    assert_eq!(user["title"], (COUNTERS * EACH).to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_users_with_one_name_one_is_made() {
    let rounds = scale("MERIDIAN_TEST_RACES", 10);
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    for round in 0..rounds {
        let made = Arc::new(AtomicUsize::new(0));
        at_once((0..CLIENTS).map(|n| {
            let (acme, made) = (acme.clone(), made.clone());
            async move {
                let name = format!("{}{round}", if n % 2 == 0 { "anna" } else { "ANNA" });
                let answer = acme.post("/Users", &json!({ "userName": name })).await;
                if answer.status == 201 {
                    made.fetch_add(1, Ordering::Relaxed);
                } else {
                    answer.scim_error(409, Some("uniqueness"));
                }
            }
        }))
        .await;
        assert_eq!(made.load(Ordering::Relaxed), 1);
        let found = acme.find(&format!("userName eq \"anna{round}\"")).await;
        assert_eq!(found.len(), 1);
    }
    assert_eq!(
        acme.get("/Users?count=0").await.json()["totalResults"],
        rounds
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_groups_with_one_name_one_is_made() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    at_once((0..CLIENTS).map(|n| {
        let acme = acme.clone();
        async move {
            let name = if n % 2 == 0 { "Guides" } else { "GUIDES" };
            let answer = acme.post("/Groups", &json!({ "displayName": name })).await;
            assert!([201, 409].contains(&answer.status), "{answer:?}");
        }
    }))
    .await;
    assert_eq!(acme.get("/Groups").await.json()["totalResults"], json!(1));
}

/// `GET /Users` by index as Okta's import walks: on by 100, until the total is passed.
async fn walk(acme: &Tenant) -> Vec<String> {
    let (mut seen, mut start, mut total) = (Vec::new(), 1, 1);
    while start <= total {
        let url = format!("/Users?startIndex={start}&count=100&attributes=userName");
        let answer = acme.get(&url).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let page = answer.json();
        let users = page["Resources"].as_array().unwrap().iter();
        seen.extend(users.map(|user| user["id"].as_str().unwrap().to_owned()));
        start += 100;
        total = page["totalResults"].as_u64().unwrap();
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_meets_every_survivor_once() {
    let count = scale("MERIDIAN_TEST_WALK", 2000);
    let world = World::start();
    let (acme, ids) = many(&world, count).await;
    // All over the list, among them those who have been shown and those who have not.
    let go: Vec<String> = ids
        .iter()
        .step_by(count / CLIENTS)
        .take(CLIENTS)
        .cloned()
        .collect();
    let walking = {
        let acme = acme.clone();
        tokio::spawn(async move { walk(&acme).await })
    };
    at_once(go.clone().into_iter().map(|id| {
        let acme = acme.clone();
        async move {
            let answer = acme.delete(&format!("/Users/{id}")).await;
            assert_eq!(answer.status, 204, "{answer:?}");
        }
    }))
    .await;
    let seen = walking.await.unwrap();
    let distinct: HashSet<&String> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len(), "somebody came twice");
    let go: HashSet<&String> = go.iter().collect();
    let lost: Vec<&String> = ids
        .iter()
        .filter(|id| !go.contains(id) && !distinct.contains(id))
        .collect();
    assert!(lost.is_empty(), "{} of {count} were not seen", lost.len());
}
