//! A gateway that is told to stop says so first, and answers everybody until it does.

use std::time::Duration;

use crate::support::World;

#[tokio::test]
async fn a_gateway_that_is_about_to_stop_says_so_and_still_serves() {
    let mut world = World::start_with(|settings| settings.timeouts.drain_ms = 1500).await;
    let token = world.token("us");
    let readyz = format!("http://{}/readyz", world.management);
    let first = world.get("us", "/Users", &token).send().await.unwrap();
    assert_eq!(first.status(), 200);
    assert!(first.headers().get("connection").is_none());
    assert_eq!(world.http.get(&readyz).send().await.unwrap().status(), 200);

    world.stop();
    let said_so = async { while world.http.get(&readyz).send().await.unwrap().status() != 503 {} };
    tokio::time::timeout(Duration::from_secs(10), said_so)
        .await
        .unwrap();
    let last = world.get("us", "/Users", &token).send().await.unwrap();
    assert_eq!(last.status(), 200);
    assert_eq!(last.headers()["connection"], "close");
    (&mut world.ended).await.unwrap().unwrap();
    assert!(world.get("us", "/Users", &token).send().await.is_err());
}
