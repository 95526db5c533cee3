//! Replays the conversations under `tests/data`, each with a tenant of its own, through the
//! gateway, by the region's hostname.

use std::path::Path;

use crate::support::World;
use crate::support::conversation::Conversation;

/// Replays every file of a folder and tells all that went wrong, not only the first.
async fn replay_all(folder: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("data")
        .join(folder);
    let mut files: Vec<_> = folder
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| extension == "http")
    });
    files.sort();
    assert!(
        !files.is_empty(),
        "{} has no conversations",
        folder.display()
    );

    let world = World::start();
    let mut failures = Vec::new();
    for file in files {
        // The limits of an ordinary tenant: the clients must be content with them.
        let tenant = world.tenant_with("replay", "us", "{}").await;
        if let Err(why) = Conversation::read(&file).replay(&tenant).await {
            failures.push(why);
        }
    }
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n\n"));
}

#[tokio::test]
async fn okta() {
    replay_all("okta").await;
}

#[tokio::test]
async fn entra() {
    replay_all("entra").await;
}

#[tokio::test]
async fn pingone() {
    replay_all("pingone").await;
}

#[tokio::test]
async fn onelogin() {
    replay_all("onelogin").await;
}

#[tokio::test]
async fn jumpcloud() {
    replay_all("jumpcloud").await;
}

#[tokio::test]
async fn scim11() {
    replay_all("scim11").await;
}

#[tokio::test]
async fn authentik() {
    replay_all("authentik").await;
}

#[tokio::test]
async fn rfc7644() {
    replay_all("rfc7644").await;
}
