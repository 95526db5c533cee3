//! Backup and restore of a region, export and erasure of a tenant: by the real command and by the
//! operator's HTTP calls, on either engine and from one to the other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{StreamExt as _, stream};
use reqwest::{Body, Method};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::{
    Answer, Store, Tenant, World, eventually, id, meridian_command, one_json_value, patch, path,
    plain_client, scale,
};

/// A folder for files of backups.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn names(&self) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn backup(world: &World, to: &Path) -> Value {
    world.meridian(&["backup", "--region", "us", "--to", text(to)])
}

fn restore(world: &World, from: &Path, more: &[&str]) -> Value {
    world.meridian(&restore_arguments(from, more))
}

fn restore_arguments<'a>(from: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["restore", "--region", "us", "--from", text(from)];
    arguments.extend(more);
    arguments
}

/// Why a command did not do what it was asked.
fn refused(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    let answer = one_json_value(&output.stdout);
    answer["error"].as_str().unwrap().to_owned()
}

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What a backup holds, less what differs between two of the same region: time, and the numbers
/// that a restore moves on.
fn comparable(file: &Path) -> Vec<Value> {
    let mut lines = lines(file);
    let (_header, _end) = (lines.remove(0), lines.pop());
    for line in &mut lines {
        if let Some(tenant) = line.get_mut("tenant") {
            tenant["seq"] = json!(0);
            tenant["credential_version"] = json!(0);
        }
        if let Some(token) = line.get_mut("token") {
            token["token"]["last_used"] = json!(null);
        }
    }
    // The audit tells of the restore itself.
    lines.retain(|line| line.get("audit").is_none() && line.get("audithead").is_none());
    lines
}

/// Everything that a client of the tenant reads, by path: bodies and ETags, with the world's
/// address taken out.
async fn all_that_is_read(tenant: &Tenant) -> BTreeMap<String, (Option<String>, String)> {
    let mut read = BTreeMap::new();
    let mut paths = vec!["/Schemas".to_owned(), "/ResourceTypes".to_owned()];
    for kind in ["Users", "Groups"] {
        let list = tenant.get(&format!("/{kind}?count=1000")).await.json();
        let resources = list["Resources"].as_array().cloned().unwrap_or_default();
        assert_eq!(list["totalResults"], json!(resources.len()));
        paths.extend(resources.iter().map(path));
        paths.push(format!("/{kind}?count=1000"));
    }
    for path in paths {
        let answer = tenant.get(&path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        let body = String::from_utf8(answer.body.clone()).unwrap();
        let body = body.replace(&tenant.region.base_url, "BASE");
        read.insert(path, (answer.header("etag").map(str::to_owned), body));
    }
    read
}

/// Users with all kinds of attributes, groups in groups, an own schema.
async fn a_full_tenant(world: &World, name: &str) -> Tenant {
    let tenant = world.tenant(name, "us").await;
    let admin = world
        .token("us", &tenant.id, json!({ "scope": "admin" }))
        .await;
    let urn = "urn:acme:badge:1.0";
    let schema = json!({
        "resourceType": "User", "indexed": ["number"],
        "schema": { "id": urn, "name": "Badge",
            "attributes": [{ "name": "number", "type": "string" }] },
    });
    let base_url = tenant.region.base_url.replace("/scim", "/admin");
    let request = tenant.region.client.post(format!("{base_url}/schemas"));
    let request = request.bearer_auth(&admin.secret).body(schema.to_string());
    let made = Answer::of(request).await;
    assert_eq!(made.status, 201, "{made:?}");
    let mut members = Vec::new();
    for number in 0..5 {
        let user = tenant
            .create_user(json!({
                "userName": format!("Üser{number}@{name}.example"),
                "externalId": format!("X{number}"),
                "name": { "givenName": "Ada", "familyName": "Byron" },
                "emails": [{ "value": format!("u{number}@{name}.example"), "type": "work" }],
                "active": number != 3,
            }))
            .await;
        members.push(json!({ "value": id(&user) }));
    }
    let team = tenant
        .create_group(json!({ "displayName": "team", "members": members }))
        .await;
    let nested = json!([{ "value": id(&team) }, members[0]]);
    tenant
        .create_group(json!({ "displayName": "all", "members": nested }))
        .await;
    tenant
}

/// A world of the other engine, if there is a server for it; else another one of the same.
fn another_world() -> World {
    match std::env::var("MERIDIAN_TEST_POSTGRES") {
        Ok(_) if crate::support::postgres_of_this_run().is_some() => World::on(Store::File),
        Ok(server) => {
            let (server, _) = server.rsplit_once('/').unwrap();
            World::on(Store::Postgres(format!("{server}/b{}", std::process::id())))
        }
        Err(_) => World::start(),
    }
}

#[tokio::test]
async fn a_restored_region_reads_as_before_on_either_engine() {
    let (world, files) = (World::start(), Files::new());
    let acme = a_full_tenant(&world, "acme").await;
    let long = format!("{}@example.com", "long".repeat(300));
    acme.create_user(json!({ "userName": "long", "emails": [{ "value": long }] }))
        .await;
    let umbrella = a_full_tenant(&world, "umbrella").await;
    world.meridian(&["tenant", "suspend", &umbrella.id]);
    let before = all_that_is_read(&acme).await;

    let file = files.path("us.backup");
    let told = backup(&world, &file);
    assert_eq!(told["file"], json!(text(&file)));
    assert_eq!(told["region"], "us");
    // With the tenant that a first start makes.
    assert_eq!((&told["tenants"], &told["users"]), (&json!(3), &json!(11)));
    assert_eq!((&told["groups"], &told["members"]), (&json!(4), &json!(14)));
    assert_eq!(
        told["bytes"],
        json!(std::fs::metadata(&file).unwrap().len())
    );
    assert!(told["seconds"].is_number());
    assert_eq!(files.names(), BTreeSet::from(["us.backup".to_owned()]));
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    // There is the tenant of a first start: it gives way only when that is said.
    let other = another_world();
    let why = refused(&other.try_meridian(&restore_arguments(&file, &[])));
    assert!(why.contains("--replace"), "{why}");
    let restored = restore(&other, &file, &["--replace"]);
    assert_eq!(restored["tenants"], json!(3));
    assert_eq!(restored["live_tokens"], told["tokens"]);
    assert_eq!(restored["tenants_gone"].as_array().unwrap().len(), 1);
    let there = acme.in_world(&other);
    assert_eq!(all_that_is_read(&there).await, before);
    let found = there.find(&format!("emails.value eq \"{long}\"")).await;
    assert_eq!(found, ["long"], "a key that one engine cuts");
    assert_eq!(
        umbrella.in_world(&other).get("/Users").await.status,
        403,
        "still suspended"
    );

    // And back: a backup of the restored region is the same, and so is what it restores.
    let second = files.path("second.backup");
    backup(&other, &second);
    let numbered = |file: &Path| {
        let mut rows = comparable(file);
        // Long keys are kept in each engine's own form.
        rows.retain(|row| !row.to_string().contains("longlong"));
        rows
    };
    assert_eq!(numbered(&second), numbered(&file));
    restore(&world, &second, &["--replace"]);
    assert_eq!(all_that_is_read(&acme).await, before);
    let found = acme.find(&format!("emails.value eq \"{long}\"")).await;
    assert_eq!(found, ["long"]);
    // What comes now has a version that was never given before.
    let new = acme.create_user(json!({ "userName": "new" })).await;
    let version = new["meta"]["version"].as_str().unwrap();
    let number: u64 = version
        .trim_matches(|c: char| !c.is_ascii_digit())
        .parse()
        .unwrap();
    assert!(number > 1_000_000, "{version}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_is_one_moment_of_the_region() {
    let (world, files) = (World::start(), Files::new());
    let acme = world.tenant("acme", "us").await;
    let group = acme.create_group(json!({ "displayName": "all" })).await;
    let stop = Arc::new(AtomicBool::new(false));
    // Each writer makes a user, makes it a member, and deletes every third one: so users, members
    // and counters move all the time.
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (acme, group, stop) = (acme.clone(), path(&group), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    let name = format!("w{writer}n{number}");
                    let user = acme.create_user(json!({ "userName": name })).await;
                    let add = patch(&json!([{
                        "op": "add", "path": "members", "value": [{ "value": id(&user) }],
                    }]));
                    assert!(acme.patch(&group, &add).await.status < 300);
                    if number % 3 == 0 {
                        assert_eq!(acme.delete(&path(&user)).await.status, 204);
                    }
                    number += 1;
                }
                number
            })
        })
        .collect();
    let enough = || async { acme.get("/Users?count=0").await.json()["totalResults"].clone() };
    let mut taken = Vec::new();
    for round in 1..=4 {
        while enough().await.as_u64().unwrap() < round * 15 {}
        let file = files.path(&format!("{round}.backup"));
        let told = tokio::task::block_in_place(|| backup(&world, &file));
        // Each of the writers may have deleted one since.
        assert!(told["users"].as_u64().unwrap() >= round * 15 - 4);
        taken.push(file);
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        assert!(writer.await.unwrap() > 0);
    }
    for file in &taken {
        check_consistency(file);
    }
    // Each of them can be restored, and is what it says.
    for file in [&taken[1], &taken[3]] {
        restore(&world, file, &["--replace"]);
        let again = files.path("again.backup");
        backup(&world, &again);
        assert!(comparable(&again) == comparable(file));
    }
}

/// Head rows, resources, memberships and changes of a backup fit together.
fn check_consistency(file: &Path) {
    struct Seen {
        tenant: Value,
        users: BTreeSet<i64>,
        groups: BTreeSet<i64>,
        versions: Vec<i64>,
        changes: BTreeSet<i64>,
    }
    let mut tenants: Vec<Seen> = Vec::new();
    for line in lines(file) {
        if let Some(tenant) = line.get("tenant") {
            tenants.push(Seen {
                tenant: tenant.clone(),
                users: BTreeSet::new(),
                groups: BTreeSet::new(),
                versions: Vec::new(),
                changes: BTreeSet::new(),
            });
        }
        let Some(seen) = tenants.last_mut() else {
            continue;
        };
        let number = |value: &Value| value.as_i64().unwrap();
        if let Some(resource) = line.get("resource") {
            let places = if resource["kind"] == "User" {
                &mut seen.users
            } else {
                &mut seen.groups
            };
            assert!(places.insert(number(&resource["place"])));
            seen.versions.push(number(&resource["version"]));
        }
        if let Some(members) = line.get("members") {
            assert!(seen.groups.contains(&number(&members["group"])));
            for user in members["users"].as_array().unwrap() {
                assert!(seen.users.contains(&number(user)), "a member that is none");
            }
        }
        if let Some(change) = line.get("change") {
            seen.changes.insert(number(&change["seq"]));
        }
    }
    for seen in tenants {
        let head = |name: &str| seen.tenant[name].as_u64().unwrap();
        assert_eq!(head("users"), seen.users.len() as u64);
        assert_eq!(head("groups"), seen.groups.len() as u64);
        let seq = i64::try_from(head("seq")).unwrap();
        assert!(seen.versions.iter().all(|version| *version <= seq));
        let all: BTreeSet<i64> = (1..=seq).collect();
        assert_eq!(seen.changes, all, "every write is told, and no later one");
    }
}

#[tokio::test]
async fn what_was_revoked_stays_revoked() {
    let (world, files) = (World::start(), Files::new());
    let acme = a_full_tenant(&world, "acme").await;
    let gone = world.token("us", &acme.id, json!({})).await;
    let rotated = world.token("us", &acme.id, json!({})).await;
    let user = acme
        .create_user(json!({ "userName": "deleted later" }))
        .await;
    let changed = acme
        .create_user(json!({ "userName": "changed later" }))
        .await;
    let file = files.path("us.backup");
    backup(&world, &file);

    // All of it is known to the gateway, and none of it to the backup.
    for token in [&gone, &rotated] {
        let answer = acme.region.get_as(&token.secret, "/Users").await;
        assert_eq!(answer.status, 200);
    }
    world.meridian(&["token", "revoke", &gone.id]);
    let successor = world.meridian(&["token", "rotate", &rotated.id, "--overlap", "1s"]);
    let successor = successor["token"].as_str().unwrap();
    assert_eq!(acme.delete(&path(&user)).await.status, 204);
    let lost = acme.create_user(json!({ "userName": "lost" })).await;
    let replace = json!([{ "op": "replace", "path": "title", "value": "x" }]);
    let lost_version = acme.patch(&path(&changed), &patch(&replace)).await;
    let lost_tag = lost_version.header("etag").unwrap().to_owned();
    let patience = std::time::Instant::now();
    let state = || {
        let list = world.meridian(&["token", "list", "--tenant", &acme.id]);
        let tokens = list["tokens"].as_array().unwrap().clone();
        let token = tokens
            .into_iter()
            .find(|token| token["id"] == json!(rotated.id));
        token.unwrap()["state"].clone()
    };
    while state() != "expired" {
        assert!(patience.elapsed().as_secs() < 30, "it lives on");
    }

    let restored = restore(&world, &file, &["--replace"]);
    assert_eq!(restored["tokens_kept_ended"], json!(2), "{restored}");
    assert_eq!(restored["resources_back"], json!(1));
    assert_eq!(restored["resources_gone"], json!(1));
    let back = json!([{ "tenant": acme.id, "kind": "User", "id": id(&user) }]);
    assert_eq!(restored["back"], back);
    for token in [&gone, &rotated] {
        let answer = acme.region.get_as(&token.secret, "/Users").await;
        answer.scim_error(401, None);
    }
    // Live ones go on as if nothing had been, also those that the backup does not know.
    assert_eq!(acme.region.get_as(successor, "/Users").await.status, 200);
    assert_eq!(acme.get(&path(&user)).await.status, 200);
    assert_eq!(acme.get(&path(&lost)).await.status, 404);

    // A tag of the lost time names no version, now or ever again.
    let read = acme.get(&path(&changed)).await;
    assert_ne!(read.header("etag"), Some(lost_tag.as_str()));
    let conditional = |method, name: &'static str, tag: String| {
        let request = acme.request(method, &path(&changed)).header(name, tag);
        Answer::of(
            request
                .header("content-type", "application/scim+json")
                .body(patch(&replace).to_string()),
        )
    };
    let written = conditional(Method::PATCH, "if-match", lost_tag.clone()).await;
    written.scim_error(412, None);
    let unread = conditional(Method::GET, "if-none-match", lost_tag.clone()).await;
    assert_eq!(unread.status, 200);
    let mut tags = BTreeSet::from([lost_tag]);
    for value in ["a", "b", "c"] {
        let replace = json!([{ "op": "replace", "path": "title", "value": value }]);
        let answer = acme.patch(&path(&changed), &patch(&replace)).await;
        assert!(tags.insert(answer.header("etag").unwrap().to_owned()));
    }

    // And all at once.
    let restored = restore(&world, &file, &["--replace", "--revoke-tokens"]);
    assert_eq!(restored["live_tokens"], json!(0));
    for secret in [successor, &acme.token.secret] {
        let answer = acme.region.get_as(secret, "/Users").await;
        answer.scim_error(401, None);
    }
}

/// A file that is not right is refused in a sentence, by the command and by the node.
#[tokio::test]
async fn a_file_that_is_not_right_changes_nothing() {
    let (world, files) = (World::with_regions(&["us", "de"]), Files::new());
    let acme = a_full_tenant(&world, "acme").await;
    let file = files.path("us.backup");
    backup(&world, &file);
    let good = std::fs::read(&file).unwrap();
    let german = files.path("de.backup");
    world.meridian(&["backup", "--region", "de", "--to", text(&german)]);
    acme.create_user(json!({ "userName": "after the backup" }))
        .await;
    let before = all_that_is_read(&acme).await;

    let end = good.len();
    let at = |needle: &[u8]| {
        good.windows(needle.len())
            .position(|w| w == needle)
            .unwrap()
    };
    let mut flipped = good.clone();
    flipped[at(b"Byron")] ^= 1;
    let line = |number: usize| {
        let mut starts = good.split_inclusive(|byte| *byte == b'\n');
        starts.by_ref().take(number).map(<[u8]>::len).sum::<usize>()
    };
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", Vec::new(), "no backup"),
        ("foreign", b"{\"hello\":1}\n".to_vec(), "no backup"),
        ("cut in the header", good[..20].to_vec(), "no backup"),
        ("cut in a line", good[..end / 2].to_vec(), "cut off"),
        ("cut at a line", good[..line(4)].to_vec(), "cut off"),
        ("without its end", good[..end - 1].to_vec(), "cut off"),
        ("a letter changed", flipped, "damaged"),
        (
            "a line gone",
            [&good[..line(3)], &good[line(4)..]].concat(),
            "damaged",
        ),
        ("twice", [good.clone(), good.clone()].concat(), "goes on"),
        (
            "of another region",
            std::fs::read(&german).unwrap(),
            "region de",
        ),
        (
            "of a later release",
            String::from_utf8(good.clone())
                .unwrap()
                .replacen("\"format\":3", "\"format\":7", 1)
                .into_bytes(),
            "format 7",
        ),
    ];
    for (what, bytes, sentence) in cases {
        let bad = files.path("bad.backup");
        std::fs::write(&bad, &bytes).unwrap();
        let why = refused(&world.try_meridian(&restore_arguments(&bad, &["--replace"])));
        assert!(why.contains(sentence), "{what}: {why}");
        let answer = send_restore(&world, "?replace=true", Body::from(bytes)).await;
        let detail = answer.scim_error(400, None);
        assert!(detail.contains("Nothing was restored"), "{what}: {detail}");
        assert!(detail.contains(sentence), "{what}: {detail}");
    }
    for query in ["?replace=1", "?everything=true"] {
        let answer = send_restore(&world, query, Body::from(good.clone())).await;
        answer.scim_error(400, None);
    }
    let missing = files.path("missing.backup");
    let why = refused(&world.try_meridian(&restore_arguments(&missing, &[])));
    assert!(why.contains("missing.backup"), "{why}");
    let nowhere = files.path("no/such/folder.backup");
    let output = world.try_meridian(&["backup", "--region", "us", "--to", text(&nowhere)]);
    assert!(refused(&output).contains("folder.backup"));
    assert_eq!(all_that_is_read(&acme).await, before);

    let again = files.path("again.backup");
    backup(&world, &again);
    restore(&world, &file, &["--replace"]);
    assert_eq!(acme.find("userName eq \"after the backup\"").await, [""; 0]);
    restore(&world, &again, &["--replace"]);
    assert_eq!(all_that_is_read(&acme).await, before);
}

/// The operator's call, as the command makes it.
async fn send_restore(world: &World, query: &str, body: Body) -> Answer {
    send_restore_to(&world.ready["regions"]["us"], query, body).await
}

async fn send_restore_to(region: &Value, query: &str, body: Body) -> Answer {
    let key = std::fs::read_to_string(region["operator_key_file"].as_str().unwrap()).unwrap();
    let node = region["node"].as_str().unwrap();
    let url = format!("{node}/internal/v1/operator/restore{query}");
    let request = plain_client()
        .post(url)
        .header("x-meridian-operator-key", key.trim());
    Answer::of(request.body(body)).await
}

/// The process is killed in the middle of a restore: the region is as it was, and nothing of the
/// rest stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_in_a_restore_leaves_the_region_as_it_was() {
    let (mut world, files) = (World::restartable(&["us"], "info"), Files::new());
    let mut acme = a_full_tenant(&world, "acme").await;
    let before = all_that_is_read(&acme).await;
    let mine = files.path("mine.backup");
    backup(&world, &mine);
    let large = generated_backup(&mine, &acme, 2500, 100);
    let last_line = large.len()
        - large
            .split_inclusive(|b| *b == b'\n')
            .next_back()
            .unwrap()
            .len();
    for (length, seen) in [(large.len() / 2, 600), (last_line, 1900)] {
        // The rest never comes: only the kill ends the call.
        let first = stream::iter([Ok::<_, std::io::Error>(large[..length].to_vec())]);
        let body = Body::wrap_stream(first.chain(stream::pending()));
        let call = {
            let region = world.ready["regions"]["us"].clone();
            tokio::spawn(async move { send_restore_to(&region, "?replace=true", body).await })
        };
        until_stored(&world, &staged_name(seen), true);
        assert_eq!(all_that_is_read(&acme).await, before, "nobody sees it");
        world.kill_and_restart();
        call.abort();
        acme = acme.reconnected();
        assert_eq!(all_that_is_read(&acme).await, before);
        until_stored(&world, &staged_name(seen), false);
        assert_eq!(all_that_is_read(&acme).await, before);
    }

    // The real command, killed somewhere: all of it or nothing.
    let file = files.path("large.backup");
    std::fs::write(&file, &large).unwrap();
    let mut command = meridian_command()
        .args(restore_arguments(&file, &["--replace", "--data-dir"]))
        .arg(world.data_dir())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    until_stored(&world, &staged_name(900), true);
    world.kill_and_restart();
    command.wait().unwrap();
    acme = acme.reconnected();
    let total = acme.get("/Users?count=0").await.json()["totalResults"].clone();
    assert!(total == json!(5) || total == json!(2505), "{total}");

    // A whole one still goes in.
    restore(&world, &file, &["--replace"]);
    let total = acme.get("/Users?count=0").await.json()["totalResults"].clone();
    assert_eq!(total, json!(2505));
    let found = acme
        .find(&format!("userName eq \"{}\"", staged_name(2499)))
        .await;
    assert_eq!(found, [staged_name(2499)]);
}

fn until_stored(world: &World, what: &str, is_there: bool) {
    let patience = std::time::Instant::now();
    while contains(&world.stored("us"), what) != is_there {
        assert!(patience.elapsed().as_secs() < 60, "{what}: {is_there}");
    }
}

fn contains(bytes: &[u8], what: &str) -> bool {
    let what = what.as_bytes();
    bytes.windows(what.len()).any(|window| window == what)
}

fn staged_name(number: usize) -> String {
    format!("staged-{number:05}-name")
}

/// A backup whose tenant has many users more, with documents of so many bytes.
fn generated_backup(mine: &Path, acme: &Tenant, users: usize, bytes: usize) -> Vec<u8> {
    let mut made = Vec::new();
    let mut end = json!(null);
    let add = |line: &Value, made: &mut Vec<u8>| {
        made.extend(line.to_string().into_bytes());
        made.push(b'\n');
    };
    for mut line in lines(mine) {
        if line.get("end").is_some() {
            end = line;
            break;
        }
        let is_acme = line
            .get("tenant")
            .is_some_and(|tenant| tenant["id"] == json!(acme.id));
        if !is_acme {
            add(&line, &mut made);
            continue;
        }
        let tenant = &mut line["tenant"];
        let seq = usize::try_from(tenant["seq"].as_u64().unwrap()).unwrap();
        tenant["seq"] = json!(seq + users);
        tenant["users"] = json!(tenant["users"].as_u64().unwrap() + users as u64);
        add(&line, &mut made);
        for number in 0..users {
            let (name, place) = (staged_name(number), seq + 1 + number);
            let id = format!("{number:08x}-0000-4000-8000-{place:012x}");
            let document = json!({
                "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
                "id": id, "userName": name, "title": "t".repeat(bytes),
            });
            let resource = json!({
                "kind": "User", "place": place, "id": id, "version": place,
                "created": 1_700_000_000_000_u64, "modified": 1_700_000_000_000_u64,
                "keys": { "user_name": name, "active": true }, "document": document,
            });
            add(&json!({ "resource": resource }), &mut made);
        }
    }
    let rows = &mut end["end"]["rows"];
    rows["users"] = json!(rows["users"].as_u64().unwrap() + users as u64);
    end["end"]["sha256"] = json!(hex::encode(Sha256::digest(&made)));
    add(&end, &mut made);
    made
}

/// 20,000 users go in and out, and the process does not hold them all at any moment.
#[tokio::test]
async fn memory_does_not_grow_with_the_region() {
    const BYTES: usize = 4000;
    let users = scale("MERIDIAN_TEST_BACKUP_USERS", 20_000);
    let (world, files) = (World::start(), Files::new());
    let acme = world.tenant("acme", "us").await;
    let small = files.path("small.backup");
    backup(&world, &small);
    let file = files.path("large.backup");
    std::fs::write(&file, generated_backup(&small, &acme, users, BYTES)).unwrap();
    restore(&world, &small, &["--replace"]);

    let before = world.resident_kib();
    restore(&world, &file, &["--replace"]);
    let again = files.path("again.backup");
    let told = backup(&world, &again);
    assert_eq!(told["users"], json!(users));
    let grown = world.resident_kib().saturating_sub(before);
    let size = std::fs::metadata(&again).unwrap().len() / 1024;
    assert!(size as usize > users * BYTES / 1024);
    assert!(
        grown < size / 2,
        "{grown} KiB more for a backup of {size} KiB"
    );
    let last = acme
        .find(&format!("userName eq \"{}\"", staged_name(users - 1)))
        .await;
    assert_eq!(last, [staged_name(users - 1)]);
}

#[tokio::test]
async fn an_export_is_the_tenant_as_its_clients_read_it_and_nothing_else() {
    let (world, files) = (World::start(), Files::new());
    let acme = a_full_tenant(&world, "acme").await;
    let other = a_full_tenant(&world, "canary-of-another").await;
    let file = files.path("acme.export");
    let told = world.meridian(&["tenant", "export", &acme.id, "--to", text(&file)]);
    assert_eq!(told["resources"], json!(7));
    assert_eq!(told["id"], json!(acme.id));
    let lines = lines(&file);
    let tenant = &lines[0]["tenant"];
    assert_eq!(
        (&tenant["id"], &tenant["name"]),
        (&json!(acme.id), &json!("acme"))
    );
    assert_eq!(
        (&tenant["users"], &tenant["groups"]),
        (&json!(5), &json!(2))
    );
    assert!(tenant["settings"]["limits"].is_object());
    let mut exported: Vec<String> = Vec::new();
    for line in &lines[1..] {
        let read = acme.get(&path(line)).await.json();
        assert_eq!(*line, read, "as a client reads it");
        exported.push(id(line).to_owned());
    }
    let mut all: Vec<String> = Vec::new();
    for kind in ["Users", "Groups"] {
        let list = acme.get(&format!("/{kind}?count=100")).await.json();
        let resources = list["Resources"].as_array().unwrap();
        all.extend(resources.iter().map(|resource| id(resource).to_owned()));
    }
    assert_eq!(exported, all);
    let bytes = std::fs::read(&file).unwrap();
    for foreign in ["canary-of-another", &other.id, "digest", "tok_", "mrd_"] {
        assert!(!contains(&bytes, foreign), "{foreign}");
    }
    let nobody = "ten_0123456789012345678901";
    let output = world.try_meridian(&["tenant", "export", nobody, "--to", text(&file)]);
    assert!(refused(&output).contains("no tenant"));
    assert_eq!(std::fs::read(&file).unwrap(), bytes, "the older file stays");
    assert_eq!(files.names().len(), 1);
}

#[tokio::test]
async fn an_erasure_says_what_is_gone_and_nothing_is_left() {
    let world = World::start();
    let acme = a_full_tenant(&world, "canary-5e1d").await;
    let other = a_full_tenant(&world, "stays").await;
    assert!(
        contains(&world.stored("us"), "canary-5e1d"),
        "the scan finds it"
    );
    let before = all_that_is_read(&other).await;
    let gone = world.meridian(&["tenant", "delete", &acme.id]);
    assert_eq!(
        (&gone["id"], &gone["deleted"]),
        (&json!(acme.id), &json!(true))
    );
    let erased = &gone["erased"];
    assert_eq!(
        (&erased["users"], &erased["groups"]),
        (&json!(5), &json!(2))
    );
    assert_eq!(
        (&erased["members"], &erased["tokens"]),
        (&json!(7), &json!(2))
    );
    assert_eq!(erased["changes"], json!(7));
    assert_eq!(gone["left"], json!(0));
    let stored = world.stored("us");
    for trace in ["canary-5e1d", &acme.id] {
        assert!(!contains(&stored, trace), "{trace}");
    }
    assert!(contains(&stored, "stays"));
    assert_eq!(all_that_is_read(&other).await, before);
    eventually(401, || acme.get("/Users")).await;
}

/// What a person is told.
#[tokio::test]
async fn people_are_told_in_sentences() {
    let (world, files) = (World::start(), Files::new());
    let acme = a_full_tenant(&world, "acme").await;
    let file = files.path("us.backup");
    let say = |arguments: &[&str]| {
        let output = meridian_command()
            .args(arguments)
            .arg("--data-dir")
            .arg(world.data_dir())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let progress = String::from_utf8(output.stderr).unwrap();
        (String::from_utf8(output.stdout).unwrap(), progress)
    };
    let (told, progress) = say(&["backup", "--to", text(&file)]);
    assert!(told.contains("2 tenants, 5 users and 2 groups"), "{told}");
    assert!(told.contains("keep it in the region"), "{told}");
    assert!(progress.contains("backup: "), "{progress}");
    acme.create_user(json!({ "userName": "later" })).await;
    let (told, progress) = say(&["restore", "--from", text(&file), "--replace"]);
    assert!(told.contains("tokens are live"), "{told}");
    assert!(
        told.contains("1 users and groups that were created after"),
        "{told}"
    );
    assert!(progress.contains("checked: "), "{progress}");
    let (told, _) = say(&["tenant", "delete", &acme.id]);
    assert!(told.contains("5 users, 2 groups"), "{told}");
    assert!(told.contains("found 0 rows"), "{told}");
}
