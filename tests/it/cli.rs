//! The `meridian` command: its surface, its JSON, its sentences.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::fleet::{Fleet, Plan};
use crate::support::{World, meridian_command, one_json_value, plain_client};

#[test]
fn a_first_start_makes_something_to_try_and_later_ones_do_not() {
    let mut world = World::with_regions(&["us", "de"]);
    let ready = world.ready.clone();
    for region in ["us", "de"] {
        let demo = &ready["demo"][region];
        let prefix = format!("mrd_{region}_");
        assert!(
            demo["scim_token"].as_str().unwrap().starts_with(&prefix),
            "{ready}"
        );
        assert!(
            demo["admin_token"].as_str().unwrap().starts_with(&prefix),
            "{ready}"
        );
        assert!(
            demo["tenant"].as_str().unwrap().starts_with("ten_"),
            "{ready}"
        );
    }
    world.kill_and_restart();
    assert_eq!(world.ready["demo"], json!({}));
    let tenants = world.meridian(&["tenant", "list"]);
    let names: Vec<&str> = tenants["tenants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tenant| tenant["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["demo", "demo"]);
}

#[test]
fn local_json_tells_where_everything_is_and_goes_with_the_process() {
    let mut world = World::with_regions(&["us", "de"]);
    let path = world.data_dir().join("local.json");
    let local = one_json_value(&std::fs::read(&path).unwrap());
    assert_eq!(local["pid"], json!(world.pid()));
    assert_eq!(
        local["gateway"],
        json!(format!("http://{}", world.address()))
    );
    assert!(
        local["management"]
            .as_str()
            .unwrap()
            .starts_with("http://127.0.0.1:")
    );
    let us = &local["regions"]["us"];
    let port = world.address().port();
    let base_url = format!("http://global-us.localhost:{port}/api/v1/scim");
    assert_eq!(us["base_url"], json!(base_url));
    assert!(
        us["node"]
            .as_str()
            .unwrap()
            .starts_with("http://127.0.0.1:")
    );
    let key = us["operator_key_file"].as_str().unwrap();
    assert_eq!(std::fs::read_to_string(key).unwrap().trim().len(), 64);
    for region in ["us", "de"] {
        for key in ["link.key", "operator.key", "grant.key"] {
            use std::os::unix::fs::PermissionsExt as _;
            let path = world.data_dir().join(region).join("keys").join(key);
            let mode = std::fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{key} of {region}");
        }
    }
    assert!(world.stop().success());
    assert!(!path.exists());
}

#[test]
fn the_curl_line_works_as_printed() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = meridian_command()
        .args([
            "up",
            "--listen",
            "127.0.0.1:0",
            "--regions",
            "us",
            "--data-dir",
        ])
        .arg(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(up.stdout.take().unwrap());
    let lines = stdout.lines();
    let line = lines
        .map(|line| line.unwrap())
        .find(|line| line.trim().starts_with("curl "));
    let line = line.expect("a curl line is printed");
    let output = std::process::Command::new("sh")
        .args(["-c", &line])
        .output()
        .unwrap();
    up.kill().unwrap();
    up.wait().unwrap();
    let list = one_json_value(&output.stdout);
    assert_eq!(list["totalResults"], json!(0), "{line}: {list}");
}

#[tokio::test]
async fn tenants_are_made_shown_suspended_resumed_and_deleted() {
    let world = World::with_regions(&["us", "de"]);
    let tenant = world.meridian(&["tenant", "create", "--region", "de", "--name", "Acme GmbH"]);
    let id = tenant["id"].as_str().unwrap();
    assert!(id.starts_with("ten_"));
    assert_eq!(tenant["region"], "de");
    assert_eq!(tenant["name"], "Acme GmbH");
    assert_eq!(tenant["state"], "active");

    assert_eq!(world.meridian(&["tenant", "show", id]), tenant);
    let list = world.meridian(&["tenant", "list", "--region", "de"]);
    assert!(
        list["tenants"].as_array().unwrap().contains(&tenant),
        "{list}"
    );
    let list = world.meridian(&["tenant", "list", "--region", "us"]);
    assert!(
        !list["tenants"].as_array().unwrap().contains(&tenant),
        "{list}"
    );
    assert_eq!(
        world.meridian(&["tenant", "suspend", id])["state"],
        "suspended"
    );
    assert_eq!(
        world.meridian(&["tenant", "suspend", id])["state"],
        "suspended",
        "twice is fine"
    );
    assert_eq!(world.meridian(&["tenant", "resume", id])["state"], "active");
    let gone = world.meridian(&["tenant", "delete", id]);
    assert_eq!(gone["id"], json!(id));
    assert_eq!((&gone["deleted"], &gone["left"]), (&json!(true), &json!(0)));
    assert_eq!(gone["erased"]["users"], json!(0));
    let why = refused(&world, &["tenant", "show", id]);
    assert!(why.contains("no tenant"), "{why}");
}

#[tokio::test]
async fn tokens_are_made_listed_rotated_and_revoked() {
    let world = World::with_regions(&["us", "de"]);
    let tenant = world.meridian(&["tenant", "create", "--region", "de", "--name", "Acme"]);
    let tenant = tenant["id"].as_str().unwrap();
    let token = world.meridian(&[
        "token",
        "create",
        "--region",
        "de",
        "--tenant",
        tenant,
        "--name",
        "Okta",
        "--expires",
        "365d",
    ]);
    let id = token["id"].as_str().unwrap();
    assert!(token["token"].as_str().unwrap().starts_with("mrd_de_"));
    assert_eq!(token["scope"], "scim");
    assert_eq!(token["name"], "Okta");
    assert!(token["expires"].is_string(), "{token}");
    let secret = token["token"].as_str().unwrap();
    assert_eq!(
        world.region("de").get_as(secret, "/Users").await.status,
        200
    );

    // The region need not be named where an id says enough.
    let successor = world.meridian(&["token", "rotate", id]);
    assert_ne!(successor["id"], token["id"]);
    assert!(successor["token"].as_str().unwrap().starts_with("mrd_de_"));
    let admin = world.meridian(&["token", "create", "--tenant", tenant, "--scope", "admin"]);
    assert_eq!(admin["scope"], "admin");

    let revoked = world.meridian(&["token", "revoke", id]);
    assert_eq!(revoked["state"], "revoked");
    let list = world.meridian(&["token", "list", "--tenant", tenant]);
    let tokens = list["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), 3);
    let states: Vec<&Value> = tokens.iter().map(|token| &token["state"]).collect();
    assert_eq!(states, ["revoked", "live", "live"]);
    assert!(
        !list.to_string().contains("mrd_de_"),
        "no secret is shown again: {list}"
    );
}

#[test]
fn mistakes_get_sentences() {
    let world = World::with_regions(&["us", "de"]);
    let nobody = "ten_0000000000000000000000";
    for (arguments, expected) in [
        (vec!["tenant", "create", "--name", "x"], "--region"),
        (
            vec!["tenant", "create", "--region", "jp", "--name", "x"],
            "de or us",
        ),
        (vec!["tenant", "show", nobody], "no tenant"),
        (vec!["token", "create", "--tenant", nobody], "no tenant"),
        (
            vec!["token", "revoke", "tok_0000000000000000000000"],
            "no token",
        ),
        (vec!["tenant", "show", "acme"], "ten_"),
        (
            vec![
                "token",
                "create",
                "--tenant",
                nobody,
                "--expires",
                "tomorrow",
            ],
            "365d",
        ),
        (
            vec!["token", "create", "--tenant", nobody, "--scope", "root"],
            "scim",
        ),
        (
            vec!["tenant", "create", "--region", "us", "--name", ""],
            "name",
        ),
    ] {
        let why = refused(&world, &arguments);
        assert!(why.contains(expected), "{arguments:?}: {why}");
    }
    let second = world.try_meridian(&["up", "--listen", "127.0.0.1:0"]);
    assert_eq!(second.status.code(), Some(1));
    let why = one_json_value(&second.stdout)["error"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        why.contains(&world.pid().to_string()) && why.contains("--data-dir"),
        "{why}"
    );
}

/// Runs a command that must fail, and returns its `error`.
fn refused(world: &World, arguments: &[&str]) -> String {
    let output = world.try_meridian(arguments);
    assert!(!output.status.success(), "{arguments:?}: {output:?}");
    assert!(output.stderr.is_empty(), "{arguments:?}: {output:?}");
    let answer = one_json_value(&output.stdout);
    answer["error"]
        .as_str()
        .unwrap_or_else(|| panic!("{arguments:?}: {answer}"))
        .to_owned()
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let output = meridian_command()
        .args([
            "up",
            "--listen",
            &taken.local_addr().unwrap().to_string(),
            "--data-dir",
        ])
        .arg(folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let why = String::from_utf8(output.stderr).unwrap();
    assert!(why.contains("--listen") && why.contains("in use"), "{why}");
}

#[test]
fn without_a_running_meridian_commands_say_how_to_start_one() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [vec!["tenant", "list"], vec!["doctor"]] {
        let output = meridian_command()
            .args(&arguments)
            .arg("--data-dir")
            .arg(folder.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = [output.stdout, output.stderr].concat();
        assert!(
            String::from_utf8(said).unwrap().contains("meridian up"),
            "{arguments:?}"
        );
    }
}

#[test]
fn the_doctor_finds_a_healthy_system_healthy_and_a_dead_one_dead() {
    let mut world = World::with_regions(&["us", "de"]);
    let report = world.meridian(&["doctor"]);
    assert_eq!(report["ok"], json!(true), "{report}");
    let checks = report["checks"].as_array().unwrap();
    for check in [
        "process",
        "gateway",
        "region us",
        "operator key of de",
        "base URL of de",
        "disk",
    ] {
        let found = checks.iter().find(|c| c["check"] == check);
        assert_eq!(
            found.unwrap_or_else(|| panic!("{check}: {report}"))["status"],
            "ok",
            "{check}"
        );
    }
    world.kill();
    let output = world.try_meridian(&["doctor"]);
    assert_eq!(output.status.code(), Some(1));
    let report = one_json_value(&output.stdout);
    assert_eq!(report["ok"], json!(false));
}

#[tokio::test]
async fn whoever_looks_after_tokens_is_told_of_those_that_end_soon() {
    let mut world = World::restartable(&["us"], "info");
    let acme = world.tenant("Acme", "us").await;
    let mut ids = Vec::new();
    for (name, days) in [("Okta", 20), ("Entra", 80), ("PingOne", 100), ("spare", 20)] {
        let expires = format!("{days}d");
        let token = world.meridian(&[
            "token",
            "create",
            "--tenant",
            &acme.id,
            "--name",
            name,
            "--expires",
            &expires,
        ]);
        if name != "spare" {
            let secret = token["token"].as_str().unwrap();
            let answer = acme.region.get_as(secret, "/Users?count=0").await;
            assert_eq!(answer.status, 200);
        }
        ids.push(token["id"].as_str().unwrap().to_owned());
    }
    // Times of last use are written before a node ends; a node that begins looks first of all.
    assert!(world.stop().success());
    world.restart();
    let warned = format!(
        r#""token_id":"{}","tenant_id":"{}","days_left":19"#,
        ids[0], acme.id
    );
    let begun = std::time::Instant::now();
    while !world.log().contains(&warned) {
        assert!(begun.elapsed().as_secs() < 20, "{}", world.log());
        tokio::task::yield_now().await;
    }
    let log = world.log();
    let lines = log.lines().filter(|line| line.contains("days_left"));
    let lines: Vec<&str> = lines.collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    for line in lines {
        assert!(line.contains("\"level\":\"WARN\""), "{line}");
        assert!(!line.contains("Okta") && !line.contains("Acme"), "{line}");
    }

    let listed = world.meridian(&["token", "list", "--tenant", &acme.id]);
    let told: Vec<(&Value, bool)> = listed["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| (&token["expires_in_days"], token["warning"].is_string()))
        .collect();
    let expected = [
        (&json!(null), false),
        (&json!(19), true),
        (&json!(79), true),
        (&json!(99), false),
        (&json!(19), false),
    ];
    assert_eq!(told, expected);

    let report = world.meridian(&["doctor"]);
    assert_eq!(report["ok"], json!(true), "{report}");
    let check = format!("API tokens of Acme ({})", acme.id);
    let found: Vec<(&str, &str)> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|found| found["check"] == json!(check))
        .map(|found| {
            let text = |name: &str| found[name].as_str().unwrap();
            (text("status"), text("detail"))
        })
        .collect();
    assert_eq!(found.len(), 2, "{report}");
    for ((status, detail), (expected, name, id)) in found
        .iter()
        .zip([("warning", "Okta", &ids[0]), ("note", "Entra", &ids[1])])
    {
        assert_eq!(*status, expected);
        assert!(detail.starts_with(name), "{detail}");
        let command = format!("meridian token rotate {id}");
        assert!(detail.ends_with(&command), "{detail}");
    }
}

#[test]
fn an_endpoint_and_a_key_do_in_place_of_a_data_directory() {
    let world = World::start();
    let us = &world.ready["regions"]["us"];
    let (node, key) = (
        us["node"].as_str().unwrap(),
        us["operator_key_file"].as_str().unwrap(),
    );
    let list = |configure: &dyn Fn(&mut std::process::Command)| {
        let mut command = meridian_command();
        command.args(["tenant", "list", "--json"]);
        command.env("MERIDIAN_DATA_DIR", "/nonexistent");
        configure(&mut command);
        let output = command.output().unwrap();
        (output.status.success(), one_json_value(&output.stdout))
    };
    let (good, answer) = list(&|command| {
        command.args(["--endpoint", node, "--operator-key", key]);
    });
    assert!(good && answer["tenants"].is_array(), "{answer}");
    let (good, answer) = list(&|command| {
        command
            .env("MERIDIAN_ENDPOINT", node)
            .env("MERIDIAN_OPERATOR_KEY_FILE", key);
    });
    assert!(good && answer["tenants"].is_array(), "{answer}");
    let wrong = world.data_dir().join("us/keys/link.key");
    let (good, answer) = list(&|command| {
        command
            .args(["--endpoint", node, "--operator-key"])
            .arg(&wrong);
    });
    assert!(
        !good && answer["error"].as_str().unwrap().contains("operator key"),
        "{answer}"
    );
}

/// A command that was told where to work goes nowhere else, whatever the environment holds.
#[test]
fn a_data_directory_on_the_command_line_goes_before_an_endpoint_in_the_environment() {
    let (live, drill) = (World::start(), World::start());
    let us = &live.ready["regions"]["us"];
    let (node, key) = (
        us["node"].as_str().unwrap(),
        us["operator_key_file"].as_str().unwrap(),
    );
    let run = |arguments: &[&str], with_key: bool| {
        let mut command = meridian_command();
        command.args(arguments).arg("--json");
        command.env("MERIDIAN_ENDPOINT", node);
        if with_key {
            command.env("MERIDIAN_OPERATOR_KEY_FILE", key);
        }
        let output = command.output().unwrap();
        (output.status.code(), one_json_value(&output.stdout))
    };
    let folder = drill.data_dir().to_str().unwrap();
    let backup = drill.data_dir().join("us.backup");
    let backup = backup.to_str().unwrap();
    let before = live.meridian(&["tenant", "list"]);
    for with_key in [true, false] {
        let (code, listed) = run(&["--data-dir", folder, "tenant", "list"], with_key);
        assert_eq!(code, Some(0), "{listed}");
        assert_eq!(listed, drill.meridian(&["tenant", "list"]));
        assert_ne!(listed, before);
        let (code, report) = run(&["doctor", "--data-dir", folder], with_key);
        assert_eq!(code, Some(0), "{report}");
        assert_eq!(report["checks"][0]["check"], "process");
    }
    let (code, told) = run(&["backup", "--to", backup, "--data-dir", folder], true);
    assert_eq!(code, Some(0), "{told}");
    let restore = [
        "restore",
        "--from",
        backup,
        "--replace",
        "--data-dir",
        folder,
    ];
    let (code, told) = run(&restore, true);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(live.meridian(&["tenant", "list"]), before);
    // Without one the environment counts, and two places on the command line are too many.
    assert_eq!(run(&["tenant", "list"], true), (Some(0), before));
    let both = ["tenant", "list", "--data-dir", folder, "--endpoint", node];
    let (code, told) = run(&both, true);
    assert_eq!(code, Some(2), "{told}");
    let told = told["error"].as_str().unwrap();
    assert!(
        told.contains("--data-dir and --endpoint") && told.contains("give one"),
        "{told}"
    );
}

#[test]
fn a_node_of_another_region_than_asked_for_is_left_alone() {
    let world = World::with_regions(&["us", "de"]);
    let us = &world.ready["regions"]["us"];
    let (node, key) = (
        us["node"].as_str().unwrap(),
        us["operator_key_file"].as_str().unwrap(),
    );
    let file = world.data_dir().join("file");
    let file = file.to_str().unwrap();
    let run = |region: &str, arguments: &[&str]| {
        let output = meridian_command()
            .args(arguments)
            .args(["--region", region, "--json"])
            .args(["--endpoint", node, "--operator-key", key])
            .output()
            .unwrap();
        (output.status.success(), one_json_value(&output.stdout))
    };
    let (good, told) = run("us", &["backup", "--to", file]);
    assert!(good, "{told}");
    let restore = ["restore", "--from", file, "--replace"];
    let (good, told) = run("us", &restore);
    assert!(good, "{told}");
    std::fs::remove_file(file).unwrap();

    let before = world.meridian(&["tenant", "list"]);
    let nobody = "ten_0000000000000000000000";
    for arguments in [
        &["tenant", "create", "--name", "x"][..],
        &["tenant", "list"],
        &["token", "create", "--tenant", nobody],
        &["backup", "--to", file],
        &restore,
    ] {
        let (good, told) = run("de", arguments);
        assert!(!good, "{arguments:?}: {told}");
        let told = told["error"].as_str().unwrap();
        assert!(
            told.contains("is of region us, and --region says de"),
            "{arguments:?}: {told}"
        );
    }
    assert_eq!(world.meridian(&["tenant", "list"]), before);
    assert!(!std::path::Path::new(file).exists());
}

/// A node of a release that cannot say its region: so it answers these calls, and 404 to others.
fn older_node(answers: Vec<(&'static str, Vec<u8>)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut lines = BufReader::new(connection.try_clone().unwrap()).lines();
            let asked = lines.next().unwrap().unwrap();
            lines.find(|line| line.as_ref().unwrap().is_empty());
            let path = asked.split(' ').nth(1).unwrap().to_owned();
            let known = answers.iter().find(|(known, _)| path.ends_with(known));
            let (status, body) = match known {
                Some((_, body)) => ("200 OK", body.clone()),
                None => (
                    "404 Not Found",
                    br#"{"detail":"There is no such endpoint."}"#.to_vec(),
                ),
            };
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
            );
            connection
                .write_all(&[head.into_bytes(), body].concat())
                .unwrap();
        }
    });
    format!("http://{address}")
}

#[test]
fn an_older_node_is_known_by_its_tenants_or_by_its_backup() {
    let world = World::start();
    let folder = world.data_dir();
    let (backup, file) = (folder.join("us.backup"), folder.join("de.backup"));
    world.meridian(&["backup", "--to", backup.to_str().unwrap()]);
    let key = &world.ready["regions"]["us"]["operator_key_file"];
    let run = |node: &str, region: &str, arguments: &[&str]| {
        let output = meridian_command()
            .args(arguments)
            .args(["--region", region, "--json", "--endpoint", node])
            .args(["--operator-key", key.as_str().unwrap()])
            .output()
            .unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        (one_json_value(&output.stdout), told)
    };
    let list = ["tenant", "list"];
    let tenants = br#"{"tenants":[{"id":"ten_0000000000000000000000","region":"us"}]}"#;
    let full = older_node(vec![("/tenants", tenants.to_vec())]);
    let (answer, told) = run(&full, "us", &list);
    assert!(answer["tenants"].is_array() && told.is_empty(), "{answer}");
    let (answer, _) = run(&full, "de", &list);
    assert!(
        answer["error"]
            .as_str()
            .unwrap()
            .contains("is of region us"),
        "{answer}"
    );

    let empty = older_node(vec![
        ("/tenants", br#"{"tenants":[]}"#.to_vec()),
        ("/backup", std::fs::read(&backup).unwrap()),
    ]);
    let (answer, told) = run(&empty, "de", &list);
    assert!(answer["tenants"].is_array(), "{answer}");
    assert!(told.contains("older release"), "{told}");
    let to = ["backup", "--to", file.to_str().unwrap()];
    let (answer, _) = run(&empty, "de", &to);
    assert!(
        answer["error"]
            .as_str()
            .unwrap()
            .contains("is of region us"),
        "{answer}"
    );
    assert!(!file.exists() && !folder.join("de.backup.partial").exists());
    let (answer, _) = run(&empty, "us", &to);
    assert_eq!(answer["region"], "us", "{answer}");
    assert!(file.exists());
}

/// A terminal that goes away takes `meridian up` with it, in good order.
#[test]
fn a_hangup_stops_everything_orderly() {
    let mut world = World::start();
    let local = world.data_dir().join("local.json");
    assert!(local.exists());
    assert!(world.stop_by("HUP").success());
    assert!(!local.exists());
}

/// The programs read files again on SIGHUP, where they have any, and go on where they have none.
#[tokio::test]
async fn a_hangup_ends_neither_node_nor_gateway() {
    let mut fleet = Fleet::start(Plan::default()).await;
    for program in fleet.programs() {
        program.hang_up();
    }
    for program in fleet.programs() {
        program.alive().await;
        program.stop().await;
    }
}

#[tokio::test]
async fn a_hostname_of_a_region_that_is_not_here_is_refused_aloud() {
    let fleet = Fleet::start(Plan {
        regions: &["us", "de"],
        of_gateways: "serves = [\"us\"]\n",
        ..Plan::default()
    })
    .await;
    let gateway = &fleet.gateways[0];
    let began = std::time::Instant::now();
    let says = async |sentence: &str| {
        while !gateway.log().contains(sentence) {
            assert!(began.elapsed().as_secs() < 60, "{}", gateway.log());
            tokio::task::yield_now().await;
        }
    };
    // One of a region that others serve is taken, and told of.
    gateway.add_settings("[[hostname]]\nname = \"scim.de.example\"\nregion = \"de\"\n");
    gateway.hang_up();
    says("region de is not served here").await;
    says("the hostnames were read again").await;
    gateway.add_settings(
        "[regions.jp]\nnodes = [\"http://127.0.0.1:1\"]\n\
         link_key = \"0123456789abcdef0123456789abcdef\"\n\
         [[hostname]]\nname = \"scim.jp.example\"\nregion = \"jp\"\n",
    );
    gateway.hang_up();
    says("hostname.scim.jp.example").await;
    assert!(gateway.log().contains("there is no region jp here"));

    // A line that cannot be read is told of by its place, not by what stands in it.
    gateway.add_settings("[redis]\nurl = \"redis://:canary-password@127.0.0.1:1\n");
    gateway.hang_up();
    says("setting `url`").await;
    assert!(!gateway.log().contains("canary-password"));
}

#[tokio::test]
async fn the_operator_api_is_closed_to_everybody_else() {
    let world = World::start();
    let node = world.ready["regions"]["us"]["node"].as_str().unwrap();
    let url = format!("{node}/internal/v1/operator/tenants");
    let client = plain_client();
    for request in [
        client.get(&url),
        client.get(&url).header("x-meridian-operator-key", ""),
        client
            .get(&url)
            .header("x-meridian-operator-key", "0".repeat(64)),
        client
            .get(&url)
            .bearer_auth(world.ready["demo"]["us"]["admin_token"].as_str().unwrap()),
    ] {
        let status = request.send().await.unwrap().status();
        assert!([401, 403].contains(&status.as_u16()), "{status}");
    }
    // Nor does the link open without its key.
    for path in ["/scim/v2/Users", "/scim/v2/Schemas"] {
        let answer = client.get(format!("{node}{path}")).send().await.unwrap();
        assert!(
            [401, 403].contains(&answer.status().as_u16()),
            "{path}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn management_listeners_say_how_they_are() {
    let world = World::start();
    let gateway = world.ready["management"].as_str().unwrap();
    let node = world.ready["regions"]["us"]["management"].as_str().unwrap();
    for url in [gateway, node] {
        for path in ["/livez", "/readyz"] {
            let answer = plain_client()
                .get(format!("{url}{path}"))
                .send()
                .await
                .unwrap();
            assert_eq!(answer.status(), 200, "{url}{path}");
        }
    }
}
