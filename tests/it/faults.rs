//! Gateways and nodes that are killed, frozen, stopped and cut off from each other under load: no
//! client ever hears that its token is bad, nothing is done twice, nothing that was acknowledged is
//! lost, and everything heals by itself.

use std::time::Duration;

use serde_json::json;

use crate::support::fleet::{Fleet, LINK_KEY, Plan};
use crate::support::history::Load;
use crate::support::link::State;
use crate::support::postgres::Postgres;
use crate::support::{Answer, Tenant, eventually, scale};

const CLIENTS: usize = 8;
/// Refused calls that are enough to believe that a fault is felt.
const ENOUGH: usize = 10;

/// Two gateways and two nodes of one region on one database.
async fn two_of_each() -> (Postgres, Fleet) {
    let server = Postgres::start();
    let plan = Plan {
        gateways: 2,
        nodes: 2,
        postgres: Some(&server.url()),
        of_gateways: "[timeouts]\ndrain_ms = 500\nnode_look_ms = 200",
        ..Plan::default()
    };
    let fleet = Fleet::start(plan).await;
    (server, fleet)
}

/// Ends the clients: each was always answered, and what is there is what they were told.
async fn all_is_there(load: &Load, clients: Vec<tokio::task::JoinHandle<()>>) {
    load.told.enough(clients).await;
    assert_eq!(load.told.silence(), 0);
    load.told
        .history()
        .check_service(&load.tenant, &load.group)
        .await;
}

async fn load_on(fleet: &Fleet) -> Load {
    Load::on(fleet.tenant("acme", "us").await, None).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_all_programs_is_not_noticed() {
    let enough = scale("MERIDIAN_TEST_ROLLING", 400);
    let (_server, mut fleet) = two_of_each().await;
    let load = load_on(&fleet).await;
    let told = load.told.clone();
    let clients = load.start(0, CLIENTS);
    let before = told.acknowledged();
    while told.acknowledged() < before + enough {
        for program in fleet.programs() {
            told.wait_for(10).await;
            program.stop().await;
            told.wait_for(10).await;
            program.start();
            program.ready().await;
        }
    }
    all_is_there(&load, clients).await;
    assert_eq!(told.refused(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_only_node_is_not_noticed() {
    let mut fleet = Fleet::start(Plan::default()).await;
    let load = load_on(&fleet).await;
    let told = load.told.clone();
    let clients = load.start(0, CLIENTS);
    for _ in 0..scale("MERIDIAN_TEST_KILLS", 6) / 2 {
        told.wait_for(40).await;
        let node = &mut fleet.nodes.get_mut("us").unwrap()[0].program;
        node.stop().await;
        node.start();
    }
    told.wait_for(40).await;
    all_is_there(&load, clients).await;
    assert_eq!(told.refused(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_nodes_one_may_be_killed_or_hang() {
    let (_server, mut fleet) = two_of_each().await;
    let load = load_on(&fleet).await;
    let told = load.told.clone();
    let clients = load.start(0, CLIENTS);
    let nodes = |fleet: &mut Fleet| fleet.nodes.remove("us").unwrap();
    let mut nodes = nodes(&mut fleet);
    for node in &mut nodes {
        told.wait_for(40).await;
        node.program.kill();
        told.wait_for(40).await;
        node.program.start();
        node.program.ready().await;

        // Its connections stay open, and whoever waits for it is sent to the other one.
        node.program.freeze();
        told.wait_for(200).await;
        node.program.thaw();
        told.wait_for(40).await;
    }
    all_is_there(&load, clients).await;
    assert_eq!(told.refused(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_whose_only_node_hangs_is_503_and_comes_back() {
    let plan = Plan {
        of_gateways: "[timeouts]\nnode_look_ms = 300\nnode_hold_ms = 1000",
        ..Plan::default()
    };
    let fleet = Fleet::start(plan).await;
    let load = load_on(&fleet).await;
    let told = load.told.clone();
    let clients = load.start(0, CLIENTS);
    told.wait_for(40).await;
    let node = &fleet.nodes["us"][0].program;
    node.freeze();
    let refused = told.refused();
    told.wait_until(|| told.refused() > refused + ENOUGH).await;
    node.thaw();
    told.wait_for(40).await;
    all_is_there(&load, clients).await;
}

/// A node that refuses a gateway is no reason to call a client's token bad.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_does_not_know_the_link_key_is_503_and_comes_back() {
    let plan = Plan {
        of_gateways: "[timeouts]\nnode_look_ms = 300\nnode_hold_ms = 1000",
        ..Plan::default()
    };
    let mut fleet = Fleet::start(plan).await;
    let load = load_on(&fleet).await;
    let told = load.told.clone();
    let clients = load.start(0, CLIENTS);
    told.wait_for(40).await;
    let node = &mut fleet.nodes.get_mut("us").unwrap()[0].program;
    let other_key = LINK_KEY.replace("link", "knil");
    node.stop().await;
    node.change_settings(LINK_KEY, &other_key);
    node.start();
    // Until then calls are refused because nobody is there.
    node.alive().await;
    let refused = told.refused();
    told.wait_until(|| told.refused() > refused + ENOUGH).await;
    node.stop().await;
    node.change_settings(&other_key, LINK_KEY);
    node.start();
    told.wait_for(40).await;
    all_is_there(&load, clients).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_to_a_connection_nothing_is_lost_or_done_twice() {
    let rounds = scale("MERIDIAN_TEST_FAULTS", 1);
    let plan = Plan {
        links: true,
        of_gateways: "[timeouts]\nnode_look_ms = 300\nnode_hold_ms = 500\nrequest_ms = 5000",
        ..Plan::default()
    };
    let fleet = Fleet::start(plan).await;
    let load = load_on(&fleet).await;
    let told = load.told.clone();
    let clients = load.start(0, CLIENTS);
    let link = &fleet.nodes["us"][0].link;
    for _ in 0..rounds {
        for (fault, is_felt) in [
            (State::Slow(Duration::from_millis(30)), false),
            (State::ResetAfter(0), true),
            (State::ResetAfter(100), true),
            (State::CutAfter(0), true),
            (State::CutAfter(100), true),
            (State::Silent, true),
            (State::Hangs, true),
            (State::Broken, true),
        ] {
            told.wait_for(20).await;
            link.is(fault);
            if is_felt {
                let refused = told.refused();
                told.wait_until(|| told.refused() >= refused + ENOUGH).await;
            } else {
                told.wait_for(20).await;
            }
            // What passes again is what is new: a part of an answer is missing on the others.
            link.breaks();
            link.works();
        }
    }
    told.wait_for(20).await;
    all_is_there(&load, clients).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_region_of_four_is_gone_and_the_others_do_not_notice() {
    let plan = Plan {
        regions: &["us", "de", "jp", "au"],
        links: true,
        of_gateways: "[timeouts]\nnode_look_ms = 300\nnode_hold_ms = 500\nrequest_ms = 5000",
        ..Plan::default()
    };
    let fleet = Fleet::start(plan).await;
    let mut loads = Vec::new();
    for region in ["de", "jp", "au"] {
        loads.push(Load::on(fleet.tenant("acme", region).await, None).await);
    }
    let gone = fleet.tenant("acme", "us").await;
    assert_eq!(gone.get("/Users").await.status, 200);
    let clients: Vec<_> = loads.iter().map(|load| load.start(0, 2)).collect();
    let link = &fleet.nodes["us"][0].link;
    for fault in [
        State::Broken,
        State::Hangs,
        State::Silent,
        State::Slow(Duration::from_secs(5)),
    ] {
        link.is(fault);
        let asking: Vec<_> = (0..20).map(|_| ask_in_vain(&gone)).collect();
        futures_util::future::join_all(asking).await;
        for load in &loads {
            load.told.wait_for(20).await;
        }
        link.breaks();
        link.works();
        eventually(200, || gone.get("/Users")).await;
    }
    for (load, clients) in loads.iter().zip(clients) {
        all_is_there(load, clients).await;
        assert_eq!(load.told.refused(), 0);
    }
}

/// What a tenant is told whose region is away: to come again, and nothing else.
async fn ask_in_vain(tenant: &Tenant) {
    let answer = tenant.get("/Users?count=1").await;
    answer.scim_error(503, None);
    let after = answer.header("retry-after").unwrap_or_default();
    assert!(after.parse::<u32>().is_ok(), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_starts_without_anything_else_heals_by_itself() {
    let plan = Plan {
        of_gateways: "[timeouts]\nnode_hold_ms = 200",
        ..Plan::default()
    };
    let mut fleet = Fleet::prepare(plan).await;
    // A tenant from a time when all was well.
    let node = &mut fleet.nodes.get_mut("us").unwrap()[0].program;
    node.start();
    node.ready().await;
    let acme = fleet.tenant("acme", "us").await;
    fleet.nodes.get_mut("us").unwrap()[0].program.kill();

    let gateway = &mut fleet.gateways[0];
    gateway.start();
    gateway.alive().await;
    ask_in_vain(&acme).await;
    fleet.nodes.get_mut("us").unwrap()[0].program.start();
    eventually(200, || acme.get("/Users")).await;
    fleet.gateways[0].ready().await;
}

/// Two tenants share connections, to the gateway and behind it, and one call in five is given up by
/// its client: nobody is shown what is another's (failure class 10).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_reaches_the_wrong_tenant() {
    const LANES: usize = 16;
    let calls = scale("MERIDIAN_TEST_MIXUP", 5_000);
    let fleet = Fleet::start(Plan::default()).await;
    let one = fleet.tenant("one", "us").await;
    let mut other = fleet.tenant("other", "us").await;
    // The same client, and so the same connections.
    other.region = one.region.clone();
    for (tenant, name) in [(&one, "canary-of-one"), (&other, "canary-of-the-other")] {
        tenant.create_user(json!({ "userName": name })).await;
    }
    let lanes = (0..LANES).map(|lane| {
        let tenants = [one.clone(), other.clone()];
        tokio::spawn(async move {
            let names = ["canary-of-one", "canary-of-the-other"];
            for number in (lane..calls).step_by(LANES) {
                let own = (number / LANES + lane) % 2;
                let call = tenants[own].get("/Users");
                if number % 5 == 0 {
                    // Given up after a few steps, at another stage each time.
                    let mut call = Box::pin(call);
                    for _ in 0..number % 7 {
                        let step = futures_util::poll!(&mut call);
                        if step.is_ready() {
                            break;
                        }
                        tokio::task::yield_now().await;
                    }
                    continue;
                }
                let answer: Answer = call.await;
                assert_eq!(answer.status, 200, "{answer:?}");
                let shown = String::from_utf8_lossy(&answer.body);
                assert!(shown.contains(names[own]), "{answer:?}");
                assert!(!shown.contains(names[1 - own]), "{answer:?}");
            }
        })
    });
    for lane in lanes.collect::<Vec<_>>() {
        lane.await.unwrap();
    }
}
