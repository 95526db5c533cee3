//! What a client is told of its own mistakes. That nothing personal is in any log, `residency.rs`
//! shows.

use reqwest::Method;
use serde_json::json;

use crate::support::World;

#[tokio::test]
async fn errors_do_not_repeat_what_they_were_told() {
    let world = World::start();
    let acme = world.tenant("acme", "us").await;
    let word = "CanaryEchoZq7x";
    for answer in [
        acme.get(&format!("/Users/{word}")).await,
        acme.get(&format!("/{word}")).await,
        acme.post("/Users", &json!({ "userName": "a", "active": word }))
            .await,
        acme.send(Method::POST, "/Users", format!("{{{word}")).await,
        acme.region.get_as(word, "/Users").await,
    ] {
        assert!((400..500).contains(&answer.status), "{answer:?}");
        assert!(
            !String::from_utf8_lossy(&answer.body).contains(word),
            "{answer:?}"
        );
    }
}
