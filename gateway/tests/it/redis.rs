//! What gateways tell each other through Redis, and what becomes of it when Redis fails or lies.

use std::net::SocketAddr;
use std::time::Duration;

use gateway::config::Settings;
use serde_json::Value;
use shared::link::{Refusal, ResolveAnswer};
use shared::{ApiToken, Secret};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::redis_server::{Redis, Reply, free_ports};
use crate::support::{World, region, scim_error};

/// A gateway that waits for Redis as long as a busy machine needs.
fn patient(url: String) -> impl FnOnce(&mut Settings) {
    move |settings| {
        settings.redis.url = Some(Secret::new(&url));
        settings.redis.budget_ms = 5_000;
    }
}

/// One that waits as long as it does by default.
fn ordinary(url: String) -> impl FnOnce(&mut Settings) {
    move |settings| settings.redis.url = Some(Secret::new(&url))
}

async fn get(world: &World, token: &ApiToken) -> u16 {
    let answer = world.get("us", "/Users", token).send().await.unwrap();
    answer.status().as_u16()
}

fn at_least(name: &str, count: u64) -> impl Fn(&Value) -> bool {
    move |status| status[name].as_u64().unwrap() >= count
}

/// A world whose gateway has resolved a token and told Redis.
async fn told(redis: &Redis) -> (World, ApiToken) {
    let world = World::start_with(patient(redis.url())).await;
    let token = world.token("us");
    assert_eq!(get(&world, &token).await, 200);
    world.redis_until(at_least("stored", 1)).await;
    (world, token)
}

/// The grant that a token's region last gave to a gateway, as it came back to the node.
fn last_grant(world: &World) -> String {
    let call = world.end("us").last_call();
    call.header("authorization").unwrap().to_owned()
}

/// The text that all grants of a token begin with.
fn grant_of(world: &World, token: &ApiToken) -> String {
    let tokens = world.end("us").tokens.lock().unwrap();
    match tokens.get(&String::from(token.digest())) {
        Some(ResolveAnswer::Granted(resolved)) => resolved.grant.as_compact().to_owned(),
        other => panic!("not live: {other:?}"),
    }
}

#[tokio::test]
async fn what_one_gateway_has_looked_up_another_one_knows() {
    let redis = Redis::start();
    let (first, token) = told(&redis).await;
    let grant = last_grant(&first);
    let second = first.beside(patient(redis.url())).await;
    for _ in 0..3 {
        assert_eq!(get(&second, &token).await, 200);
    }
    assert_eq!(first.end("us").lookups(), 1);
    assert_eq!(last_grant(&second), grant);
    let status = second.redis().await;
    assert_eq!(status["hits"], 1, "then it is in memory: {status}");
    assert_eq!(status["reachable"], true);
}

#[tokio::test]
async fn many_that_ask_at_once_ask_redis_once() {
    let redis = Redis::start();
    let (first, token) = told(&redis).await;
    let second = first.beside(patient(redis.url())).await;
    let waiting: Vec<_> = (0..50)
        .map(|_| tokio::spawn(second.get("us", "/Users", &token).send()))
        .collect();
    for request in waiting {
        assert_eq!(request.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(second.redis().await["hits"], 1);
    assert_eq!(first.end("us").lookups(), 1);
}

#[tokio::test]
async fn an_entry_ends_when_the_first_look_up_ends() {
    let redis = Redis::start();
    let (first, token) = told(&redis).await;
    match redis.command(&[b"PTTL", &redis.keys()[0]]) {
        Reply::Number(left) => assert!((1..=300_000).contains(&left), "{left}"),
        other => panic!("{other:?}"),
    }
    first.clock.advance(Duration::from_secs(250));
    let second = first.beside(patient(redis.url())).await;
    assert_eq!(get(&second, &token).await, 200);
    assert_eq!(first.end("us").lookups(), 1);
    // 300 s after the first gateway asked, and 50 s after the second one heard of it.
    first.clock.advance(Duration::from_secs(50));
    assert_eq!(get(&second, &token).await, 200);
    assert_eq!(first.end("us").lookups(), 2);
    let third = first.beside(|settings| {
        patient(redis.url())(settings);
        settings.cache.keep_max_s = 10;
    });
    let third = third.await;
    second.redis_until(at_least("stored", 1)).await;
    first.clock.advance(Duration::from_secs(10));
    assert_eq!(get(&third, &token).await, 200);
    assert_eq!(first.end("us").lookups(), 3, "it may keep nothing so long");
}

#[tokio::test]
async fn the_server_forgets_what_is_over() {
    let redis = Redis::start();
    let (first, token) = told(&redis).await;
    // Gone by the server's count, whatever the gateways' clocks say.
    let reply = redis.command(&[b"PEXPIRE", &redis.keys()[0], b"0"]);
    assert_eq!(reply, Reply::Number(1));
    let second = first.beside(patient(redis.url())).await;
    assert_eq!(get(&second, &token).await, 200);
    assert_eq!(first.end("us").lookups(), 2);
    assert_eq!(second.redis().await["misses"], 1);
}

#[tokio::test]
async fn bad_tokens_are_not_told() {
    let redis = Redis::start();
    let world = World::start_with(patient(redis.url())).await;
    for reason in [
        Refusal::Unknown,
        Refusal::Expired,
        Refusal::Revoked,
        Refusal::TenantSuspended,
    ] {
        let token = world.token("us");
        world.refuse(&token, reason);
        assert!(matches!(get(&world, &token).await, 401 | 403));
    }
    // Told after those, if they were.
    let token = world.token("us");
    assert_eq!(get(&world, &token).await, 200);
    world.redis_until(at_least("stored", 1)).await;
    assert_eq!(redis.keys().len(), 1);
}

#[tokio::test]
async fn a_gateway_that_starts_anew_knows_its_clients_whatever_the_look_up_limit() {
    let redis = Redis::start();
    let first = World::start_with(patient(redis.url())).await;
    let tokens: Vec<ApiToken> = (0..20).map(|_| first.token("us")).collect();
    for token in &tokens {
        assert_eq!(get(&first, token).await, 200);
    }
    first.redis_until(at_least("stored", 20)).await;
    let narrow = |settings: &mut Settings| {
        patient(redis.url())(settings);
        settings.limits.lookups_per_s = 1;
        settings.limits.lookups_burst = 1;
    };
    let second = first.beside(narrow).await;
    for token in &tokens {
        assert_eq!(get(&second, token).await, 200);
    }
    // Strangers are still limited, and those past the limit of Redis are not asked about there.
    assert_eq!(get(&second, &second.token("us")).await, 200);
    let answer = second.get("us", "/Users", &second.token("us")).send().await;
    scim_error(answer.unwrap(), 503).await;
    let third = first.beside(|settings| {
        narrow(settings);
        settings.redis.lookups_per_s = 1;
    });
    let third = third.await;
    assert_eq!(get(&third, &tokens[0]).await, 200);
    assert_eq!(get(&third, &tokens[1]).await, 200);
    assert_eq!(get(&third, &tokens[2]).await, 503);
    assert_eq!(third.redis().await["hits"], 1);
}

#[tokio::test]
async fn what_redis_knows_is_good_from_an_address_that_has_failed_too_often() {
    let redis = Redis::start();
    let (first, token) = told(&redis).await;
    let strict = |settings: &mut Settings| {
        patient(redis.url())(settings);
        settings.limits.failures_per_s = 1;
        settings.limits.failures_burst = 2;
    };
    let second = first.beside(strict).await;
    let stranger = || ApiToken::generate(&region("us")).unwrap();
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(get(&second, &stranger()).await);
    }
    assert_eq!(statuses, [401, 401, 429]);
    let lookups = second.end("us").lookups();
    assert_eq!(get(&second, &token).await, 200);
    assert_eq!(get(&second, &second.token("us")).await, 429);
    assert_eq!(second.end("us").lookups(), lookups);
}

#[tokio::test]
async fn redis_may_be_away_at_the_start_and_is_used_when_it_comes() {
    let mut redis = Redis::start();
    redis.kill();
    let world = World::start_with(patient(redis.url())).await;
    for _ in 0..20 {
        assert_eq!(get(&world, &world.token("us")).await, 200);
    }
    assert_eq!(world.end("us").lookups(), 20);
    let status = world
        .redis_until(|status| status["resting"].as_bool().unwrap())
        .await;
    assert_eq!(status["reachable"], false);
    assert!(
        status["trouble"]
            .as_str()
            .unwrap()
            .contains("cannot be reached"),
        "{status}"
    );
    let failures = status["failures"].as_u64().unwrap();
    assert!((5..20).contains(&failures), "left alone: {status}");
    assert!(at_least("spared", 1)(&status), "{status}");

    redis.start_again();
    world.clock.advance(Duration::from_secs(3));
    let token = world.token("us");
    assert_eq!(get(&world, &token).await, 200);
    let status = world.redis_until(at_least("stored", 1)).await;
    assert_eq!(status["resting"], false);
    let second = world.beside(patient(redis.url())).await;
    assert_eq!(get(&second, &token).await, 200);
    assert_eq!(world.end("us").lookups(), 21);
}

#[tokio::test]
async fn redis_may_be_killed_and_emptied_at_any_time() {
    let mut redis = Redis::start();
    let (first, token) = told(&redis).await;
    redis.kill();
    let second = first.beside(patient(redis.url())).await;
    // Nobody fails, and the region is asked once for all.
    let waiting: Vec<_> = (0..50)
        .map(|_| tokio::spawn(second.get("us", "/Users", &token).send()))
        .collect();
    for request in waiting {
        assert_eq!(request.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(first.end("us").lookups(), 2);
    assert_eq!(get(&first, &token).await, 200);
    assert_eq!(first.end("us").lookups(), 2);

    // Back, and empty. The first gateway's connection of before is of no use any more.
    redis.start_again();
    let new = first.token("us");
    assert_eq!(get(&first, &new).await, 200);
    first.redis_until(at_least("stored", 2)).await;
    assert_eq!(first.redis().await["failures"], 0);
    assert_eq!(redis.command(&[b"FLUSHALL"]), Reply::Status("OK".into()));
    let third = first.beside(patient(redis.url())).await;
    assert_eq!(get(&third, &new).await, 200);
    assert_eq!(first.end("us").lookups(), 4);
}

#[tokio::test]
async fn a_redis_that_hangs_costs_a_budget_a_few_times_and_nobody_fails() {
    let redis = Redis::start();
    let (first, _) = told(&redis).await;
    let second = first.beside(ordinary(redis.url())).await;
    redis.freeze();
    for _ in 0..40 {
        assert_eq!(get(&second, &second.token("us")).await, 200);
    }
    assert_eq!(first.end("us").lookups(), 41, "one for each token");
    let status = second.redis().await;
    assert_eq!(status["resting"], true);
    assert_eq!(status["reachable"], false);
    assert!(status["failures"].as_u64().unwrap() <= 10, "{status}");
    assert!(at_least("spared", 30)(&status), "{status}");

    redis.thaw();
    // It may take a moment until it has read what had come in.
    let using = async {
        while second.redis().await["stored"] == 0 {
            second.clock.advance(Duration::from_secs(3));
            assert_eq!(get(&second, &second.token("us")).await, 200);
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, using)
        .await
        .expect("it is used again");
}

/// Passes bytes on to a server, and its answers late.
async fn slow(server: SocketAddr, by: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(server).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move {
                drop(tokio::io::copy(&mut from_client, &mut to_server).await);
            });
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(length @ 1..) = from_server.read(&mut buffer).await {
                    tokio::time::sleep(by).await;
                    if to_client.write_all(&buffer[..length]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_redis_that_is_slow_is_not_waited_for() {
    let redis = Redis::start();
    let (first, token) = told(&redis).await;
    let server = SocketAddr::from(([127, 0, 0, 1], redis.port()));
    let late = slow(server, Duration::from_millis(100)).await;
    let second = first.beside(ordinary(format!("redis://{late}"))).await;
    assert_eq!(get(&second, &token).await, 200);
    for _ in 0..20 {
        assert_eq!(get(&second, &second.token("us")).await, 200);
    }
    assert_eq!(first.end("us").lookups(), 22);
    let status = second.redis().await;
    assert_eq!(status["hits"], 0);
    assert_eq!(status["resting"], true);

    // Whoever has the time gets the answer that is his.
    let third = first.beside(patient(format!("redis://{late}"))).await;
    assert_eq!(get(&third, &token).await, 200);
    assert_eq!(first.end("us").lookups(), 22);
    assert!(last_grant(&third).contains(&grant_of(&third, &token)));
}

#[tokio::test]
async fn nothing_that_others_put_there_is_believed() {
    let redis = Redis::start();
    let (first, token) = told(&redis).await;
    let key = redis.keys().remove(0);
    let genuine = redis.get(&key).unwrap();
    let other = first.token("us");
    assert_eq!(get(&first, &other).await, 200);
    first.redis_until(at_least("stored", 2)).await;
    let others = redis.keys().into_iter().find(|name| *name != key).unwrap();
    let copied = redis.get(&others).unwrap();
    let mut flipped = genuine.clone();
    *flipped.last_mut().unwrap() ^= 0x80;
    let mut other_form = genuine.clone();
    other_form[0] += 1;
    let poison = [
        b"x".to_vec(),
        br#"{"outcome":"granted","grant":"forged"}"#.to_vec(),
        copied,
        genuine[..genuine.len() / 2].to_vec(),
        genuine[..5].to_vec(),
        [genuine.as_slice(), b"x"].concat(),
        flipped,
        other_form,
        vec![1; 4 * 1024 * 1024],
    ];
    for (number, value) in poison.into_iter().enumerate() {
        redis.set(&key, &value);
        let gateway = first.beside(patient(redis.url())).await;
        let before = first.end("us").lookups();
        assert_eq!(get(&gateway, &token).await, 200, "{number}");
        assert!(last_grant(&gateway).contains(&grant_of(&first, &token)));
        assert_eq!(first.end("us").lookups(), before + 1, "{number}");
        let status = gateway.redis_until(at_least("stored", 1)).await;
        assert_eq!(status["rejected"], 1, "{number}: {status}");
        assert_eq!(status["hits"], 0, "{number}: {status}");
        assert_eq!(status["failures"], 0, "{number}: {status}");
    }
    // What is no value at all.
    redis.command(&[b"DEL", &key]);
    redis.command(&[b"RPUSH", &key, b"x"]);
    let gateway = first.beside(patient(redis.url())).await;
    assert_eq!(get(&gateway, &token).await, 200);
    let status = gateway.redis_until(at_least("stored", 1)).await;
    assert_eq!(status["rejected"], 1, "{status}");
    // A good entry has taken its place.
    let before = first.end("us").lookups();
    let gateway = first.beside(patient(redis.url())).await;
    assert_eq!(get(&gateway, &token).await, 200);
    assert_eq!(first.end("us").lookups(), before);
    assert_eq!(gateway.redis().await["hits"], 1);
}

#[tokio::test]
async fn an_old_entry_that_comes_back_opens_nothing() {
    let redis = Redis::start();
    let (first, token) = told(&redis).await;
    let key = redis.keys().remove(0);
    let old = redis.get(&key).unwrap();

    // A new grant: whoever has the old one hears it from the region, and tells Redis.
    first.end("us").refuse_current_grant(&token);
    assert_eq!(get(&first, &token).await, 200);
    first.redis_until(at_least("stored", 2)).await;
    assert_ne!(redis.get(&key).unwrap(), old);
    redis.set(&key, &old);
    let second = first.beside(patient(redis.url())).await;
    let before = first.end("us").lookups();
    assert_eq!(get(&second, &token).await, 200);
    assert_eq!(
        first.end("us").lookups(),
        before + 1,
        "one look-up, no loop"
    );
    let status = second.redis_until(at_least("stored", 1)).await;
    assert_eq!(status["hits"], 1, "the old one was tried: {status}");
    assert_eq!(status["removed"], 1, "{status}");
    assert_eq!(status["rejected"], 0, "{status}");
    let third = first.beside(patient(redis.url())).await;
    assert_eq!(get(&third, &token).await, 200);
    assert_eq!(first.end("us").lookups(), before + 1);

    // Revoked: the gateways that knew it and those that find it in Redis say the same. It is
    // taken away twice: when the grant is refused, and when the region has said why.
    let newest = redis.get(&key).unwrap();
    first.end("us").refuse_current_grant(&token);
    first.refuse(&token, Refusal::Revoked);
    assert_eq!(get(&third, &token).await, 401);
    third.redis_until(at_least("removed", 2)).await;
    for value in [&old, &newest] {
        redis.set(&key, value);
        let gateway = first.beside(patient(redis.url())).await;
        let answered = first.end("us").calls().len();
        let answer = gateway.get("us", "/Users", &token).send().await.unwrap();
        scim_error(answer, 401).await;
        let calls = first.end("us").calls().len() - answered;
        assert_eq!(calls, 1, "it was tried once");
        gateway.redis_until(at_least("removed", 2)).await;
        assert!(redis.keys().is_empty());
    }
}

#[tokio::test]
async fn a_wrong_password_is_no_reason_to_fail() {
    let redis = Redis::start_with(&["--requirepass", "the-right-one"], &[]);
    for (password, works) in [("the-wrong-one", false), ("the-right-one", true)] {
        let url = format!("redis://:{password}@127.0.0.1:{}", redis.port());
        let world = World::start_with(patient(url)).await;
        for _ in 0..10 {
            assert_eq!(get(&world, &world.token("us")).await, 200);
        }
        assert_eq!(world.end("us").lookups(), 10);
        if works {
            world.redis_until(at_least("stored", 10)).await;
        } else {
            let status = world
                .redis_until(|status| status["resting"].as_bool().unwrap())
                .await;
            let trouble = status["trouble"].as_str().unwrap();
            assert!(trouble.contains("refuses the user or the password"));
            assert!(!status.to_string().contains("the-wrong-one"));
        }
    }
}

/// What docs/OPERATIONS.md gives to a gateway's user is what a gateway needs.
#[tokio::test]
async fn a_user_who_may_do_little_is_enough() {
    const RULES: &str = "~meridian:* resetchannels -@all \
                         +ping +unwatch +getrange +pttl +set +del";
    let operations = include_str!("../../../docs/OPERATIONS.md");
    let redis = Redis::start();
    let rules = RULES.split_whitespace();
    assert!(operations.contains(&rules.clone().collect::<Vec<_>>().join(" ")));
    let user = ["ACL", "SETUSER", "gateway", "on", ">a-password"];
    let words: Vec<&[u8]> = user.into_iter().chain(rules).map(str::as_bytes).collect();
    assert_eq!(redis.command(&words), Reply::Status("OK".to_owned()));
    let url = format!("redis://gateway:a-password@127.0.0.1:{}", redis.port());
    let first = World::start_with(patient(url.clone())).await;
    let token = first.token("us");
    for count in 1..=3 {
        assert_eq!(get(&first, &token).await, 200);
        first.redis_until(at_least("stored", count)).await;
        first.end("us").refuse_current_grant(&token);
    }
    let second = first.beside(patient(url)).await;
    assert_eq!(get(&second, &token).await, 200);
    second.redis_until(at_least("stored", 1)).await;
    for (world, hits, removed) in [(&first, 0, 2), (&second, 1, 1)] {
        let status = world.redis().await;
        assert_eq!(status["failures"], 0, "{status}");
        assert_eq!(status["hits"], hits, "{status}");
        assert_eq!(status["removed"], removed, "{status}");
    }
}

#[tokio::test]
async fn a_dump_tells_nothing() {
    let redis = Redis::start();
    let (world, token) = told(&redis).await;
    let dump = redis.dump();
    assert!(dump.len() > 200, "there is an entry");
    let resolved = {
        let tokens = world.end("us").tokens.lock().unwrap();
        match tokens.get(&String::from(token.digest())) {
            Some(ResolveAnswer::Granted(resolved)) => resolved.clone(),
            other => panic!("{other:?}"),
        }
    };
    let secret = token.reveal();
    let (_, random) = secret.rsplit_once('_').unwrap();
    let digest = token.digest();
    let secrets: [&[u8]; 8] = [
        secret.as_bytes(),
        random.as_bytes(),
        digest.as_bytes(),
        &String::from(token.digest()).into_bytes(),
        resolved.tenant_id.as_str().as_bytes(),
        resolved.token_id.as_str().as_bytes(),
        resolved.grant.as_compact().as_bytes(),
        b"tenant_id",
    ];
    for secret in secrets {
        let found = dump.windows(secret.len()).any(|part| part == secret);
        assert!(!found, "{}", secret.escape_ascii());
    }
}

#[tokio::test]
async fn redis_is_reached_over_tls_and_its_certificate_counts() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let tls_port = free_ports().next().unwrap();
    let redis = Redis::start_with(
        &[
            "--tls-port",
            &tls_port.to_string(),
            "--tls-cert-file",
            "cert.pem",
            "--tls-key-file",
            "key.pem",
            "--tls-ca-cert-file",
            "cert.pem",
            "--tls-auth-clients",
            "no",
        ],
        &[
            ("cert.pem", &made.cert.pem()),
            ("key.pem", &made.signing_key.serialize_pem()),
            ("other.pem", &other.cert.pem()),
        ],
    );
    let over_tls = |host: &str, authorities: &str| {
        let url = format!("rediss://{host}:{tls_port}");
        let file = redis.file(authorities);
        move |settings: &mut Settings| {
            patient(url)(settings);
            settings.redis.ca_file = Some(file);
        }
    };
    let first = World::start_with(over_tls("localhost", "cert.pem")).await;
    let token = first.token("us");
    assert_eq!(get(&first, &token).await, 200);
    first.redis_until(at_least("stored", 1)).await;
    let second = first.beside(over_tls("localhost", "cert.pem")).await;
    assert_eq!(get(&second, &token).await, 200);
    assert_eq!(first.end("us").lookups(), 1);
    // Another authority, another name.
    for (host, authorities) in [("localhost", "other.pem"), ("127.0.0.1", "cert.pem")] {
        let third = first.beside(over_tls(host, authorities)).await;
        assert_eq!(get(&third, &token).await, 200);
        let status = third.redis().await;
        assert_eq!(status["reachable"], false, "{host}");
        assert_eq!(status["hits"], 0);
    }
}
