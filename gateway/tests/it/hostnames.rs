//! A customer's own hostname: what it is good for, and how it comes and goes while the gateway runs.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use gateway::config::{HostnameSettings, Settings};
use reqwest::{Response, StatusCode};
use shared::link::Refusal;
use shared::{ApiToken, TenantId};

use crate::support::{PATIENCE, World, region, scim_error};

async fn get(world: &World, host: &str, token: &ApiToken) -> Response {
    let request = world
        .http
        .get(format!("http://{}/api/v1/scim/Users", world.gateway));
    let request = request.header("host", host).bearer_auth(token.reveal());
    request.send().await.unwrap()
}

#[tokio::test]
async fn a_hostname_of_one_tenant_knows_no_other() {
    let acme = TenantId::generate().unwrap();
    let world = World::start_with(|settings| {
        settings.hostname.push(HostnameSettings {
            name: "scim.acme.example".to_owned(),
            region: region("us"),
            tenant: Some(acme.clone()),
        });
    })
    .await;
    let host = "scim.acme.example";
    let own = world.token_with("us", |resolved| resolved.tenant_id = acme.clone());
    assert_eq!(get(&world, host, &own).await.status(), 200);
    // The same token is good at the region's own host too, where all tenants are.
    assert_eq!(get(&world, "global-us.localhost", &own).await.status(), 200);

    let unknown = ApiToken::generate(&region("us")).unwrap();
    let expected = scim_error(get(&world, host, &unknown).await, 401).await;
    let other = world.token("us");
    assert_eq!(
        get(&world, "global-us.localhost", &other).await.status(),
        200
    );
    let elsewhere = world.token("de");
    let before = world.end("us").calls().len();
    for foreign in [&other, &elsewhere] {
        let told = scim_error(get(&world, host, foreign).await, 401).await;
        assert_eq!(told, expected);
    }
    assert_eq!(world.end("us").calls().len(), before);
    assert_eq!(world.end("de").lookups(), 0);
}

#[tokio::test]
async fn a_hostname_of_one_tenant_tells_nothing_of_the_bad_tokens_of_others() {
    let (acme, other) = (TenantId::generate().unwrap(), TenantId::generate().unwrap());
    let world = World::start_with(|settings| {
        settings.hostname.push(HostnameSettings {
            name: "scim.acme.example".to_owned(),
            region: region("us"),
            tenant: Some(acme.clone()),
        });
    })
    .await;
    let host = "scim.acme.example";
    let unknown = ApiToken::generate(&region("us")).unwrap();
    let nothing = scim_error(get(&world, host, &unknown).await, 401).await;
    let exchange = async |token: &ApiToken| {
        let url = format!("http://{}/oauth2/token", world.gateway);
        let (id, secret) = (shared::TokenId::generate().unwrap(), token.reveal());
        let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
        let request = world.http.post(url).header("host", host).body(form);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.text().await.unwrap())
    };
    let no_client = exchange(&unknown).await;

    let reasons = [
        (Refusal::Revoked, 401),
        (Refusal::Expired, 401),
        (Refusal::TenantSuspended, 403),
    ];
    for (reason, status) in reasons {
        let refused = |whose| {
            let token = ApiToken::generate(&region("us")).unwrap();
            world.refuse_of(&token, reason, whose);
            token
        };
        // From the region, and from memory.
        let of_other = refused(Some(&other));
        for _ in 0..2 {
            let told = scim_error(get(&world, host, &of_other).await, 401).await;
            assert_eq!(told, nothing, "{reason:?}");
            assert_eq!(exchange(&of_other).await, no_client, "{reason:?}");
        }
        let own = refused(Some(&acme));
        for _ in 0..2 {
            let told = scim_error(get(&world, host, &own).await, status).await;
            assert_ne!(told, nothing, "{reason:?}");
            assert_ne!(exchange(&own).await, no_client, "{reason:?}");
        }
        // An older node does not say whose it is.
        let unsaid = refused(None);
        let told = get(&world, host, &unsaid).await;
        match reason {
            Refusal::TenantSuspended => drop(scim_error(told, 403).await),
            _ => assert_eq!(scim_error(told, 401).await, nothing, "{reason:?}"),
        }
        // At the region's own host everybody is told.
        let told = get(&world, "global-us.localhost", &of_other).await;
        assert_ne!(scim_error(told, status).await, nothing);
    }
}

fn write(file: &Path, hostnames: &str) {
    let key = "0123456789abcdef0123456789abcdef";
    let text = format!(
        "[regions.us]\nnodes = [\"http://127.0.0.1:1\"]\nlink_key = \"{key}\"\n{hostnames}"
    );
    std::fs::write(file, text).unwrap();
}

/// Waits until a host answers so.
async fn wait_for(world: &World, host: &str, token: &ApiToken, status: u16) {
    let began = Instant::now();
    while get(world, host, token).await.status() != status {
        assert!(began.elapsed() < PATIENCE, "{host} never answers {status}");
    }
}

#[tokio::test]
async fn hostnames_are_read_again_when_the_file_changes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    write(&file, "");
    let world = World::start_with(|settings| settings.file = Some(file.clone())).await;
    let token = world.token("us");
    let new = "scim.new.example";
    assert_eq!(
        get(&world, new, &token).await.status(),
        StatusCode::MISDIRECTED_REQUEST
    );

    write(
        &file,
        "[[hostname]]\nname = \"scim.new.example\"\nregion = \"us\"\n",
    );
    wait_for(&world, new, &token, 200).await;
    // What the file does not name any more is gone.
    let gone = get(&world, "scim.customer.example", &token).await;
    assert_eq!(gone.status(), StatusCode::MISDIRECTED_REQUEST);

    // A file that cannot be used changes nothing, and one that can is taken afterwards.
    write(
        &file,
        "[[hostname]]\nname = \"not a name\"\nregion = \"us\"\n",
    );
    hang_up();
    assert_eq!(get(&world, new, &token).await.status(), 200);
    write(
        &file,
        "[[hostname]]\nname = \"scim.next.example\"\nregion = \"us\"\n",
    );
    hang_up();
    wait_for(&world, "scim.next.example", &token, 200).await;
    assert_eq!(
        get(&world, new, &token).await.status(),
        StatusCode::MISDIRECTED_REQUEST
    );
}

/// Asks this process, in which the gateway runs, to read its files again.
fn hang_up() {
    let pid = std::process::id().to_string();
    let asked = Command::new("kill").args(["-HUP", &pid]).status();
    assert!(asked.unwrap().success());
}

#[test]
fn a_file_of_one_region_and_one_hostname_is_enough() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    write(
        &file,
        "[[hostname]]\nname = \"scim.acme.example\"\nregion = \"us\"\n",
    );
    let settings = Settings::load(Some(&file)).unwrap();
    settings.check().unwrap();
    assert_eq!(settings.hostname.len(), 1);
}
