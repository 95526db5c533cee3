//! What adding one member to a group costs the server, at 1,000 and at 100,000 members: CPU time
//! of the whole `meridian` process, gateway and region-node together.
//!
//! `cargo build --release -p deploy && cargo bench -p tests --bench members`.
//! `MERIDIAN_BENCH_MEMBERS` is the size of the large group.

#[path = "../it/support/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    reason = "the support of all tests; this is one user of it"
)]
mod support;

use std::fs;

use serde_json::{Value, json};

use support::{Tenant, World, patch, path, scale};

const SMALL: usize = 1000;
/// Adds per turn; the groups take turns, so that neither has the better moment.
const ADDS: usize = 250;
const TURNS: usize = 4;
/// Members that fit into one request of a megabyte.
const AT_ONCE: usize = 10_000;
/// Of `/proc`, fixed by the kernel's interface to user space.
const TICKS_PER_S: f64 = 100.0;
const GOAL: f64 = 1.5;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let large = scale("MERIDIAN_BENCH_MEMBERS", 100_000);
    let world = World::with(&["us"], "warn");
    let acme = world.tenant("acme", "us").await;
    let names = (0..large + ADDS * TURNS).map(|n| format!("user{n}"));
    let ids = acme.create_many_users(names).await;
    let (members, newcomers) = ids.split_at(large);
    let groups = [
        group(&acme, "small", &members[..SMALL.min(large)]).await,
        group(&acme, "large", members).await,
    ];

    let mut spent = [0.0; 2];
    for turn in newcomers.chunks(ADDS) {
        for (group, spent) in groups.iter().zip(&mut spent) {
            let before = cpu_s(&world);
            for id in turn {
                add(&acme, group, std::slice::from_ref(id)).await;
            }
            *spent += cpu_s(&world) - before;
        }
    }
    let each = spent.map(|seconds| seconds * 1e6 / newcomers.len() as f64);
    let ratio = each[1] / each[0];
    println!("add one member to {SMALL}: {:.0} us of CPU", each[0]);
    println!("add one member to {large}: {:.0} us of CPU", each[1]);
    println!("ratio: {ratio:.2} (goal: at most {GOAL})");
}

async fn group(acme: &Tenant, name: &str, members: &[String]) -> String {
    let group = path(&acme.create_group(json!({ "displayName": name })).await);
    for some in members.chunks(AT_ONCE) {
        add(acme, &group, some).await;
    }
    group
}

async fn add(acme: &Tenant, group: &str, ids: &[String]) {
    let value: Vec<Value> = ids.iter().map(|id| json!({ "value": id })).collect();
    let operations = json!([{ "op": "add", "path": "members", "value": value }]);
    let answer = acme.patch(group, &patch(&operations)).await;
    assert!([200, 204].contains(&answer.status), "{answer:?}");
}

/// CPU time that the process has had, in user and in system mode, in seconds (proc(5), `stat`).
fn cpu_s(world: &World) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", world.pid())).unwrap();
    // The second field may hold blanks, and ends with the last parenthesis.
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<&str> = rest.split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / TICKS_PER_S
}
