//! TLS on the link, with real handshakes: who gets in, and what happens when the certificate
//! changes.

use std::path::Path;
use std::sync::Arc;

use region_node::config::{LinkTlsSettings, Settings};
use region_node::startup::Application;
use reqwest::{Client, Method, StatusCode};
use shared::link::{HEALTH_PATH, LINK_KEY};
use shared::tls::{Identity, IdentityFiles, LiveIdentity, authorities, client_config};
use shared::{SystemClock, Timestamp};

use crate::authority::Authority;
use crate::support::{LINK, Node, settings};

fn secured(folder: &tempfile::TempDir, node: &IdentityFiles, clients: &Authority) -> Settings {
    let mut settings = settings(folder);
    settings.limits.certificates_look_ms = 20;
    settings.link_tls = Some(LinkTlsSettings {
        certificate_file: node.certificate_file.clone(),
        key_file: node.key_file.clone(),
        client_ca_file: clients.file(folder.path()),
    });
    settings
}

/// A client that trusts an authority and proves itself with a certificate, where it has one.
fn client(folder: &Path, trusted: &Authority, identity: Option<IdentityFiles>) -> Client {
    let identity = identity.map(|files| {
        let identity = LiveIdentity::read(files, Timestamp(0)).unwrap();
        Arc::new(identity)
    });
    let roots = authorities(&trusted.file(&folder.join("trusted"))).unwrap();
    Client::builder()
        .tls_backend_preconfigured(client_config(roots, identity).unwrap())
        .no_proxy()
        .build()
        .unwrap()
}

async fn looks(client: &Client, url: &str) -> reqwest::Result<StatusCode> {
    let call = client.request(Method::GET, format!("{url}{HEALTH_PATH}"));
    Ok(call.header(LINK_KEY, LINK).send().await?.status())
}

#[tokio::test]
async fn only_who_has_a_certificate_of_the_authority_gets_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::create_dir(path.join("trusted")).unwrap();
    let (authority, foreign) = (Authority::new(), Authority::new());
    let identity = authority.identity(path, "node", &["127.0.0.1"]);
    let node = Node::start_with(secured(&folder, &identity, &authority)).await;
    let url = node.url.replace("http://", "https://");
    let ends = "meridian_region_node_link_certificate_ends_seconds";
    let own = Identity::read(&identity).unwrap().not_after();
    let told = node.metrics().await;
    assert_eq!(told[ends], u64::try_from(own.as_seconds()).unwrap());

    let gateway = authority.identity(path, "gateway", &["gateway.example"]);
    let stranger = foreign.identity(path, "stranger", &["gateway.example"]);
    let good = client(path, &authority, Some(gateway.clone()));
    for _ in 0..3 {
        assert_eq!(looks(&good, &url).await.unwrap(), StatusCode::OK);
    }
    // A certificate is not enough.
    let without_key = good.get(format!("{url}{HEALTH_PATH}")).send().await;
    assert!(without_key.unwrap().status().is_client_error());

    for (who, client) in [
        ("no certificate", client(path, &authority, None)),
        ("a foreign one", client(path, &authority, Some(stranger))),
        ("who trusts another", client(path, &foreign, Some(gateway))),
    ] {
        let outcome = looks(&client, &url).await;
        assert!(outcome.is_err(), "{who}: {outcome:?}");
    }
    // By another name than the certificate's.
    let outcome = looks(&good, &url.replace("127.0.0.1", "localhost")).await;
    assert!(outcome.is_err(), "{outcome:?}");
    // Without TLS.
    let outcome = looks(&good, &node.url).await;
    assert!(outcome.is_err(), "{outcome:?}");
    node.stop().await;
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::create_dir(path.join("trusted")).unwrap();
    let (first, second) = (Authority::new(), Authority::new());
    let identity = first.identity(path, "node", &["127.0.0.1"]);
    let node = Node::start_with(secured(&folder, &identity, &first)).await;
    let url = node.url.replace("http://", "https://");
    let gateway = first.identity(path, "gateway", &["gateway.example"]);
    let old = client(path, &first, Some(gateway.clone()));
    let new = client(path, &second, Some(gateway.clone()));
    assert_eq!(looks(&old, &url).await.unwrap(), StatusCode::OK);
    assert!(looks(&new, &url).await.is_err());

    second.identity(path, "node", &["127.0.0.1"]);
    let patience = tokio::time::timeout(std::time::Duration::from_secs(20), async {
        while looks(&new, &url).await.is_err() {}
    });
    patience.await.unwrap();
    // Its connection is open, and a new one of the same kind is refused.
    assert_eq!(looks(&old, &url).await.unwrap(), StatusCode::OK);
    let another = client(path, &first, Some(gateway));
    assert!(looks(&another, &url).await.is_err());
    node.stop().await;
}

#[tokio::test]
async fn what_cannot_be_started_with_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let authority = Authority::new();
    let identity = authority.identity(path, "node", &["127.0.0.1"]);
    let other = authority.identity(path, "other", &["127.0.0.1"]);
    let (absent, key) = (path.join("absent"), identity.key_file.clone());
    type Change<'a> = &'a dyn Fn(&mut LinkTlsSettings);
    let cases: [(Change<'_>, [&str; 2]); 5] = [
        (
            &|tls| tls.certificate_file = absent.clone(),
            ["`link_tls.certificate_file`", "absent cannot be read"],
        ),
        (
            &|tls| tls.key_file = absent.clone(),
            ["`link_tls.certificate_file`", "absent cannot be read"],
        ),
        (
            &|tls| tls.key_file = other.key_file.clone(),
            ["`link_tls.certificate_file`", "other.key does not belong"],
        ),
        (
            &|tls| tls.client_ca_file = absent.clone(),
            ["`link_tls.client_ca_file`", "absent cannot be read"],
        ),
        (
            &|tls| tls.client_ca_file = key.clone(),
            ["`link_tls.client_ca_file`", "node.key holds no certificate"],
        ),
    ];
    for (change, expected) in cases {
        let mut settings = secured(&folder, &identity, &authority);
        change(settings.link_tls.as_mut().unwrap());
        let built = Application::build(settings, Arc::new(SystemClock)).await;
        let Err(error) = built else {
            panic!("it started, and should have said {expected:?}");
        };
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            message.push_str(&format!(": {error}"));
            cause = error.source();
        }
        for part in expected {
            assert!(message.contains(part), "{part} in {message}");
        }
    }
}
