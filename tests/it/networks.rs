//! From where an API token may be used: told by the operator, kept by the region, seen to by the
//! gateway.

use serde_json::{Value, json};

use crate::oauth::ask;
use crate::support::{Tenant, Token, World};

fn token(value: &Value) -> Token {
    let text = |name: &str| value[name].as_str().unwrap().to_owned();
    Token {
        id: text("id"),
        secret: text("token"),
    }
}

#[tokio::test]
async fn a_token_is_good_from_its_networks_alone() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let create = ["token", "create", "--tenant", &acme.id];
    let with = |networks: &[&'static str]| {
        let mut arguments = create.to_vec();
        for network in networks {
            arguments.extend(["--network", network]);
        }
        token(&world.meridian(&arguments))
    };
    let here = with(&["127.0.0.0/8", "::1/128"]);
    let elsewhere = with(&["203.0.113.0/24", "2001:db8::/32"]);
    let acme_here = Tenant {
        token: here.clone(),
        ..acme.clone()
    };
    let acme_elsewhere = Tenant {
        token: elsewhere.clone(),
        ..acme.clone()
    };
    let listed = world.meridian(&["token", "list", "--tenant", &acme.id]);
    let networks: Vec<&Value> = listed["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| &token["networks"])
        .collect();
    let expected = [
        &json!([]),
        &json!(["127.0.0.0/8", "::1/128"]),
        &json!(["203.0.113.0/24", "2001:db8::/32"]),
    ];
    assert_eq!(networks, expected);

    acme_here
        .create_user(json!({ "userName": "bjensen" }))
        .await;
    let refused = acme_elsewhere.get("/Users").await;
    let told = refused.scim_error(403, None);
    assert!(told.contains("127.0.0.1"), "{told}");
    let body = json!({ "userName": "from-elsewhere" });
    let refused = acme_elsewhere.post("/Users", &body).await;
    refused.scim_error(403, None);
    assert_eq!(acme_here.find("userName pr").await, ["bjensen"]);

    // Its access tokens: none elsewhere, and those of here are good here.
    let answer = ask(&acme.region, &elsewhere.id, &elsewhere.secret).await;
    assert_eq!(answer.status, 403, "{answer:?}");
    let client = crate::oauth::exchanged(&acme_here).await;
    assert_eq!(client.get("/Users").await.status, 200);

    // A rotation keeps the networks, or brings others.
    let rotated = token(&world.meridian(&["token", "rotate", &elsewhere.id]));
    let refused = acme.region.get_as(&rotated.secret, "/Users").await;
    refused.scim_error(403, None);
    let arguments = ["token", "rotate", &rotated.id, "--network", "127.0.0.1"];
    let rotated = token(&world.meridian(&arguments));
    let served = acme.region.get_as(&rotated.secret, "/Users").await;
    assert_eq!(served.status, 200);
}

#[test]
fn what_is_no_network_is_said_in_a_sentence() {
    let output = crate::support::meridian_command()
        .args(["token", "create", "--tenant", "ten_0123456789012345678901"])
        .args(["--network", "203.0.113.5/24"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("203.0.113.0/24"), "{told}");
}
