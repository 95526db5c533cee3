//! TLS at the edge, with real handshakes: which certificate a client gets, what is refused, and
//! what happens when certificates change.

use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use gateway::config::{LinkTlsSettings, RegionSettings, Scheme, Settings, TlsSettings};
use gateway::startup::Application;
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion, version};
use shared::SystemClock;
use shared::tls::{IdentityFiles, authorities, provider};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::authority::{Authority, place};
use crate::support::{Manner, PATIENCE, World};

const US: &str = "global-us.example.com";
const DE: &str = "global-de.example.com";
const CUSTOMER: &str = "scim.customer.example";

/// A gateway with one certificate for the regional hosts and one for a customer's hostname.
struct Secured {
    world: World,
    authority: Authority,
    folder: TempDir,
    regional: IdentityFiles,
}

impl Secured {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let regional = authority.identity(folder.path(), "regional", &["*.example.com"]);
        let customer = authority.identity(folder.path(), "customer", &[CUSTOMER]);
        let certificates = vec![regional.clone(), customer];
        let world = World::start_with(|settings| {
            settings.tls = Some(TlsSettings { certificates });
            settings.domain = "example.com".to_owned();
            settings.public_scheme = Scheme::Https;
            settings.timeouts.certificates_look_ms = 20;
            change(settings);
        })
        .await;
        Self {
            world,
            authority,
            folder,
            regional,
        }
    }

    fn client(&self) -> ClientConfig {
        self.client_of(&[&version::TLS13, &version::TLS12])
    }

    fn client_of(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        let roots = authorities(&self.authority.file(self.folder.path())).unwrap();
        ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    /// A connection for a hostname.
    async fn connect(&self, name: &'static str) -> TlsStream<TcpStream> {
        self.connect_with(self.client(), name).await.unwrap()
    }

    async fn connect_with(
        &self,
        client: ClientConfig,
        name: &'static str,
    ) -> io::Result<TlsStream<TcpStream>> {
        let socket = TcpStream::connect(self.world.gateway).await.unwrap();
        let name = ServerName::try_from(name).unwrap();
        let connecting = TlsConnector::from(Arc::new(client)).connect(name, socket);
        timeout(PATIENCE, connecting).await.unwrap()
    }

    /// The certificate that new connections for a hostname get.
    async fn certificate(&self, name: &'static str) -> CertificateDer<'static> {
        certificate_of(&self.connect(name).await)
    }

    /// A counter of the gateway.
    async fn count(&self, name: &str) -> u64 {
        let url = format!("http://{}/metrics", self.world.management);
        let text = self.world.http.get(url).send().await.unwrap();
        let text = text.text().await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().parse().unwrap()
    }

    async fn failed(&self, reason: &str) -> u64 {
        let name = "meridian_gateway_tls_handshakes_failed_total";
        self.count(&format!("{name}{{reason=\"{reason}\"}}")).await
    }
}

fn certificate_of(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}

fn get(host: &str, token: &str) -> String {
    format!(
        "GET /api/v1/scim/Users HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
}

/// Sends a request and reads its answer; the connection stays.
async fn ask(stream: &mut TlsStream<TcpStream>, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    timeout(PATIENCE, read_answer(stream)).await.unwrap()
}

async fn read_answer(stream: &mut TlsStream<TcpStream>) -> String {
    let mut answer = String::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some((head, body)) = answer.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                return answer;
            }
        }
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0, "the connection ended behind {answer:?}");
        answer.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
}

/// Waits for a state of the gateway that comes in its own time.
async fn until<F: Future<Output = bool>>(is_so: impl Fn() -> F) {
    let waiting = async {
        while !is_so().await {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap();
}

#[tokio::test]
async fn each_host_gets_its_own_certificate_and_is_served() {
    let secured = Secured::start().await;
    let token = secured.world.token("us");
    for versions in [
        &[&version::TLS13][..],
        &[&version::TLS12],
        &[&version::TLS13, &version::TLS12],
    ] {
        for name in [US, CUSTOMER] {
            let client = secured.client_of(versions);
            let mut stream = secured.connect_with(client, name).await.unwrap();
            for _ in 0..2 {
                let answer = ask(&mut stream, &get(name, token.reveal())).await;
                assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            }
            let call = secured.world.end("us").last_call();
            let base = call.header("x-meridian-base-url").unwrap();
            assert!(base.starts_with(&format!("https://{name}")), "{base}");
        }
    }
    // The trailing dot and capitals are the same host.
    let mut stream = secured.connect("GLOBAL-us.example.com").await;
    let answer = ask(
        &mut stream,
        &get("Global-US.example.com.:443", token.reveal()),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_ne!(
        secured.certificate(US).await,
        secured.certificate(CUSTOMER).await
    );
    assert_eq!(secured.certificate(US).await, secured.certificate(DE).await);
}

#[tokio::test]
async fn a_host_that_is_not_ours_gets_no_certificate() {
    let secured = Secured::start().await;
    let mut nameless = secured.client();
    nameless.enable_sni = false;
    for (client, name) in [
        (secured.client(), "other.example"),
        (secured.client(), "x.global-us.example.com"),
        (secured.client(), "127.0.0.1"),
        (nameless, US),
    ] {
        let error = secured.connect_with(client, name).await.unwrap_err();
        let error = error.to_string();
        assert!(error.contains("UnrecognisedName"), "{name}: {error}");
    }
    until(async || secured.failed("unknown_name").await == 4).await;
    assert_eq!(
        secured
            .count("meridian_gateway_tls_handshakes_total ")
            .await,
        0
    );
}

#[tokio::test]
async fn a_connection_carries_requests_for_its_own_host_only() {
    let secured = Secured::start().await;
    let token = secured.world.token("de");
    let mut stream = secured.connect(US).await;
    for host in [DE, CUSTOMER, "other.example"] {
        let answer = ask(&mut stream, &get(host, token.reveal())).await;
        assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
        assert!(answer.contains("urn:ietf:params:scim:api:messages:2.0:Error"));
    }
    for region in ["us", "de"] {
        assert_eq!(secured.world.end(region).lookups(), 0);
        assert!(secured.world.end(region).calls().is_empty());
    }
    // The connection is as good as before for its own host.
    let token = secured.world.token("us");
    let answer = ask(&mut stream, &get(US, token.reveal())).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[tokio::test]
async fn only_http_1_1_is_negotiated() {
    let secured = Secured::start().await;
    for (offered, negotiated) in [
        (&["h2", "http/1.1"][..], Some("http/1.1")),
        (&["http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        let mut client = secured.client();
        client.alpn_protocols = offered.iter().map(|one| one.as_bytes().to_vec()).collect();
        let stream = secured.connect_with(client, US).await.unwrap();
        let agreed = stream.get_ref().1.alpn_protocol();
        assert_eq!(agreed, negotiated.map(str::as_bytes));
    }
    let mut client = secured.client();
    client.alpn_protocols = vec![b"h2".to_vec()];
    let error = secured.connect_with(client, US).await.unwrap_err();
    let error = error.to_string();
    assert!(error.contains("NoApplicationProtocol"), "{error}");
}

#[tokio::test]
async fn tls_1_1_is_refused() {
    let secured = Secured::start().await;
    // A ClientHello of TLS 1.1: random, no session, two cipher suites, no compression, and the
    // names extension.
    let mut hello = vec![3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 4, 0xc0, 0x13, 0, 0x2f, 1, 0]);
    let name = US.as_bytes();
    let length = |more: usize| u16::try_from(name.len() + more).unwrap().to_be_bytes();
    hello.extend(length(9));
    hello.extend([0, 0]);
    hello.extend(length(5));
    hello.extend(length(3));
    hello.push(0);
    hello.extend(length(0));
    hello.extend(name);
    let body = u16::try_from(hello.len()).unwrap();
    let mut record = vec![22, 3, 1];
    record.extend((body + 4).to_be_bytes());
    record.extend([1, 0]);
    record.extend(body.to_be_bytes());
    record.extend(hello);

    let mut socket = TcpStream::connect(secured.world.gateway).await.unwrap();
    socket.write_all(&record).await.unwrap();
    let mut answer = Vec::new();
    let ended = timeout(PATIENCE, socket.read_to_end(&mut answer)).await;
    ended.expect("the connection stays open").ok();
    // A fatal alert: protocol_version, or handshake_failure for what TLS 1.2 would have had.
    assert_eq!(answer.first(), Some(&21), "{answer:?}");
    assert!(matches!(answer[5..], [2, 70 | 40]), "{answer:?}");
}

#[tokio::test]
async fn plain_http_is_told_so_and_not_redirected() {
    let secured = Secured::start().await;
    let token = secured.world.token("us");
    for request in [
        get(US, token.reveal()),
        format!(
            "POST /api/v1/scim/Users HTTP/1.1\r\nHost: {US}\r\nContent-Length: 100000\r\n\r\n{{"
        ),
        "GET".to_owned(),
    ] {
        let answer = secured.world.raw(request.as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(!head.to_ascii_lowercase().contains("location"), "{answer}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert!(
            body["detail"].as_str().unwrap().contains("https://"),
            "{body}"
        );
    }
    // What is neither is closed.
    let answer = secured.world.raw(b"\0\0\0\0\0\0\0\0").await;
    assert!(!answer.contains("HTTP"), "{answer}");
    until(async || secured.failed("plain_http").await == 3).await;
    until(async || secured.failed("broken").await == 1).await;
    assert_eq!(secured.world.end("us").lookups(), 0);
}

#[tokio::test]
async fn a_slow_handshake_is_cut_off_and_takes_a_place_until_then() {
    let secured = Secured::start_with(|settings| {
        settings.timeouts.handshake_ms = 300;
        settings.limits.connections_per_source = 2;
        settings.workers = Some(1);
    })
    .await;
    let (mut silent, mut halting) = (
        TcpStream::connect(secured.world.gateway).await.unwrap(),
        TcpStream::connect(secured.world.gateway).await.unwrap(),
    );
    halting.write_all(&[22, 3, 1, 2, 0, 1, 0]).await.unwrap();
    let third = secured.connect_with(secured.client(), US).await;
    assert!(third.is_err(), "three connections of one address");
    for socket in [&mut silent, &mut halting] {
        let mut rest = Vec::new();
        let ended = timeout(PATIENCE, socket.read_to_end(&mut rest)).await;
        ended.expect("the connection stays open").ok();
    }
    until(async || secured.failed("too_slow").await == 2).await;
    until(async || secured.connect_with(secured.client(), US).await.is_ok()).await;
}

#[tokio::test]
async fn a_connection_without_a_request_ends_in_order_and_one_with_requests_stays() {
    let secured = Secured::start_with(|settings| settings.timeouts.keep_alive_ms = 1000).await;
    let token = secured.world.token("us");
    let request = get(US, token.reveal());
    let (mut used, mut unused) = (secured.connect(US).await, secured.connect(US).await);
    ask(&mut unused, &request).await;
    let mut rest = Vec::new();
    let ends = unused.read_to_end(&mut rest);
    let mut ended = std::pin::pin!(timeout(PATIENCE, ends));
    // The other one is used until this one has ended.
    let ended = loop {
        tokio::select! {
            ended = &mut ended => break ended,
            _answer = ask(&mut used, &request) => {}
        }
    };
    // TLS says that it ends (RFC 8446 section 6.1), else this would be an error.
    ended.expect("the connection stays open").unwrap();
    assert!(rest.is_empty());
    let mut rest = Vec::new();
    let ended = timeout(PATIENCE, used.read_to_end(&mut rest)).await;
    ended.expect("the connection stays open").unwrap();
}

#[tokio::test]
async fn the_limits_of_a_connection_hold_within_tls_too() {
    let secured = Secured::start_with(|settings| {
        settings.timeouts.write_stall_ms = 300;
        settings.timeouts.header_read_ms = 1000;
    })
    .await;
    // A framing error is answered in SCIM, and the connection ends.
    let mut stream = secured.connect(US).await;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHo st: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    let ended = timeout(PATIENCE, stream.read_to_string(&mut answer)).await;
    ended.expect("the connection stays open").unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(
        answer.contains("no well-formed HTTP/1.1 request"),
        "{answer}"
    );

    // A second header that does not come.
    let token = secured.world.token("us");
    let mut stream = secured.connect(US).await;
    ask(&mut stream, &get(US, token.reveal())).await;
    stream.write_all(b"GET /api").await.unwrap();
    let mut rest = Vec::new();
    let ended = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    ended.expect("the connection stays open").ok();
    assert!(rest.is_empty());

    // A client that does not read: a large answer, and then one that TLS's own buffer takes. We
    // read nothing until the gateway has given up: writing to it then fails.
    for size in [60 * 1024 * 1024, 16 * 1024 * 1024] {
        secured.world.end("us").behave(Manner::Large(size));
        let mut stream = secured.connect(US).await;
        stream
            .write_all(get(US, token.reveal()).as_bytes())
            .await
            .unwrap();
        let cut = async {
            let mut tick = tokio::time::interval(Duration::from_millis(50));
            loop {
                tick.tick().await;
                if stream.write_all(b"x").await.is_err() || stream.flush().await.is_err() {
                    return;
                }
            }
        };
        timeout(PATIENCE, cut)
            .await
            .expect("the connection stays open");
    }
}

#[tokio::test]
async fn a_session_is_resumed() {
    let secured = Secured::start().await;
    let token = secured.world.token("us");
    for version in [&version::TLS13, &version::TLS12] {
        let mut client = secured.client_of(&[version]);
        client.resumption = Resumption::in_memory_sessions(8);
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let mut stream = secured.connect_with(client.clone(), US).await.unwrap();
            // The ticket comes with the first answer.
            ask(&mut stream, &get(US, token.reveal())).await;
            kinds.push(stream.get_ref().1.handshake_kind().unwrap());
        }
        assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed]);
    }
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections() {
    let secured = Secured::start().await;
    let token = secured.world.token("us");
    let mut resuming = secured.client();
    resuming.resumption = Resumption::in_memory_sessions(8);
    let mut old = secured.connect_with(resuming.clone(), US).await.unwrap();
    ask(&mut old, &get(US, token.reveal())).await;
    let (before, other) = (certificate_of(&old), secured.certificate(CUSTOMER).await);

    let folder = secured.folder.path();
    secured
        .authority
        .identity(folder, "regional", &["*.example.com"]);
    until(async || secured.certificate(US).await != before).await;
    // Those that are open go on, the other host has what it had, and nobody resumes with the old.
    let answer = ask(&mut old, &get(US, token.reveal())).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(secured.certificate(CUSTOMER).await, other);
    let resumed = secured.connect_with(resuming, US).await.unwrap();
    assert_eq!(
        resumed.get_ref().1.handshake_kind(),
        Some(HandshakeKind::Full)
    );
    assert_ne!(certificate_of(&resumed), before);
}

#[tokio::test]
async fn a_bad_new_certificate_leaves_the_old_one() {
    let secured = Secured::start().await;
    let before = secured.certificate(US).await;
    let folder = secured.folder.path();
    let files = &secured.regional;
    let spare = secured
        .authority
        .identity(folder, "spare", &["*.example.com"]);
    let bad: [&dyn Fn(); 4] = [
        // Half a file, a certificate of another key, no file, and a certificate that is not for all
        // the hosts that it was for.
        &|| place(&files.certificate_file, "-----BEGIN CERTIFICATE-----\nMIIB"),
        &|| std::fs::rename(&spare.certificate_file, &files.certificate_file).unwrap(),
        &|| std::fs::remove_file(&files.certificate_file).unwrap(),
        &|| drop(secured.authority.identity(folder, "regional", &[US])),
    ];
    for make_bad in bad {
        make_bad();
        // The other certificate is exchanged after it: when that is there, this was looked at.
        let other = secured.certificate(CUSTOMER).await;
        secured.authority.identity(folder, "customer", &[CUSTOMER]);
        until(async || secured.certificate(CUSTOMER).await != other).await;
        assert_eq!(secured.certificate(US).await, before);
    }
    // And a good one is taken.
    secured.authority.identity(folder, "regional", &[US, DE]);
    until(async || secured.certificate(US).await != before).await;
    assert_eq!(secured.certificate(DE).await, secured.certificate(US).await);
}

/// The settings file of a gateway with these hostnames and certificates.
fn settings_file(hostnames: &[&str], identities: &[&IdentityFiles]) -> String {
    let hostnames = hostnames
        .iter()
        .map(|name| format!("[[hostname]]\nname = \"{name}\"\nregion = \"us\"\n"));
    let certificates = identities.iter().map(|files| {
        let (certificate, key) = (&files.certificate_file, &files.key_file);
        format!("{{ certificate_file = {certificate:?}, key_file = {key:?} }}")
    });
    format!(
        "public_scheme = \"https\"\n{}\
         [regions.us]\nnodes = [\"http://127.0.0.1:9\"]\n\
         [tls]\ncertificates = [{}]\n",
        hostnames.collect::<String>(),
        certificates.collect::<Vec<_>>().join(", ")
    )
}

impl Secured {
    /// Waits until the gateway has looked at all of its files once more.
    async fn look(&self) {
        // Files are read in the order of the list, and this one is the last.
        let before = self.certificate(SPARE).await;
        let folder = self.folder.path();
        self.authority.identity(folder, "spare", &[SPARE]);
        until(async || self.certificate(SPARE).await != before).await;
    }

    async fn is_served(&self, host: &'static str) -> bool {
        let Ok(mut stream) = self.connect_with(self.client(), host).await else {
            return false;
        };
        let token = self.world.token("us");
        let answer = ask(&mut stream, &get(host, token.reveal())).await;
        answer.starts_with("HTTP/1.1 200 ")
    }
}

const SPARE: &str = "spare.customer.example";
const NEW: &str = "scim.new.example";

/// A gateway with a settings file, which serves a customer's hostname and another one.
async fn with_file() -> (Secured, PathBuf, [IdentityFiles; 3]) {
    let mut identities = None;
    let secured = Secured::start_with(|settings| {
        let tls = settings.tls.as_mut().unwrap();
        let [regional, customer] = tls.certificates.as_slice() else {
            panic!()
        };
        let of = |name: &str| IdentityFiles {
            certificate_file: regional
                .certificate_file
                .with_file_name(format!("{name}.pem")),
            key_file: regional.key_file.with_file_name(format!("{name}.key")),
        };
        let spare = of("spare");
        // To be signed by the authority of the others in a moment.
        std::fs::copy(&customer.certificate_file, &spare.certificate_file).unwrap();
        std::fs::copy(&customer.key_file, &spare.key_file).unwrap();
        identities = Some([regional.clone(), customer.clone(), spare.clone()]);
        settings.file = Some(regional.certificate_file.with_file_name("gateway.toml"));
        tls.certificates.push(spare);
    })
    .await;
    let identities = identities.unwrap();
    secured
        .authority
        .identity(secured.folder.path(), "spare", &[SPARE]);
    let [regional, customer, spare] = &identities;
    let all = [regional, customer, spare];
    let file = secured.folder.path().join("gateway.toml");
    place(&file, &settings_file(&[CUSTOMER, SPARE], &all));
    until(async || secured.is_served(SPARE).await).await;
    (secured, file, identities)
}

#[tokio::test]
async fn a_hostname_and_the_renewed_certificate_for_it_come_in_any_order() {
    for file_first in [true, false] {
        let (secured, file, [regional, customer, spare]) = with_file().await;
        let folder = secured.folder.path();
        let all = [&regional, &customer, &spare];
        let add_hostname = || place(&file, &settings_file(&[CUSTOMER, SPARE, NEW], &all));
        let renew = || {
            secured
                .authority
                .identity(folder, "customer", &[CUSTOMER, NEW])
        };
        if file_first {
            add_hostname();
            secured.look().await;
            assert!(!secured.is_served(NEW).await);
            renew();
        } else {
            renew();
            secured.look().await;
            add_hostname();
        }
        until(async || secured.is_served(NEW).await).await;
        assert!(secured.is_served(CUSTOMER).await);
    }
}

#[tokio::test]
async fn a_certificate_that_was_refused_is_used_when_nothing_needs_the_old_one() {
    let (secured, file, [regional, customer, spare]) = with_file().await;
    let folder = secured.folder.path();
    let before = secured.certificate(CUSTOMER).await;
    // It leaves out a hostname that is served.
    secured.authority.identity(folder, "customer", &[NEW]);
    secured.look().await;
    assert_eq!(secured.certificate(CUSTOMER).await, before);
    assert!(secured.is_served(CUSTOMER).await);

    let all = [&regional, &customer, &spare];
    place(&file, &settings_file(&[NEW, SPARE], &all));
    until(async || secured.is_served(NEW).await).await;
    assert!(!secured.is_served(CUSTOMER).await);
}

#[tokio::test]
async fn a_name_moves_from_one_certificate_to_another() {
    for loser_first in [true, false] {
        let (secured, _file, _) = with_file().await;
        let folder = secured.folder.path();
        let before = secured.certificate(CUSTOMER).await;
        let lose = || secured.authority.identity(folder, "customer", &[NEW]);
        let gain = || {
            secured
                .authority
                .identity(folder, "regional", &["*.example.com", CUSTOMER])
        };
        if loser_first {
            lose();
            secured.look().await;
            assert_eq!(secured.certificate(CUSTOMER).await, before);
            gain();
        } else {
            gain();
            secured.look().await;
            lose();
        }
        until(async || secured.certificate(CUSTOMER).await == secured.certificate(US).await).await;
        assert!(secured.is_served(CUSTOMER).await && secured.is_served(US).await);
    }
}

#[tokio::test]
async fn a_new_hostname_comes_with_its_certificate() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_owned();
    let secured = Secured::start_with(|settings| settings.file = Some(path)).await;
    let (folder, other) = (secured.folder.path(), "scim.other.example");
    let write = |hostname: &str, identities: &[&IdentityFiles]| {
        place(file.path(), &settings_file(&[hostname], identities));
    };
    let new = secured.authority.identity(folder, "other", &[other]);
    // What is there when the gateway begins to look is no change.
    secured.certificate(US).await;
    write(other, &[&secured.regional, &new]);
    until(async || secured.connect_with(secured.client(), other).await.is_ok()).await;
    assert!(
        secured
            .connect_with(secured.client(), CUSTOMER)
            .await
            .is_err()
    );
    let token = secured.world.token("us");
    let mut stream = secured.connect(other).await;
    let served = async {
        while !ask(&mut stream, &get(other, token.reveal()))
            .await
            .starts_with("HTTP/1.1 200 ")
        {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, served).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_started_with_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let authority = Authority::new();
    let all = authority.identity(path, "all", &["*.example.com"]);
    let other = authority.identity(path, "other", &["*.example.com"]);
    let (absent, empty) = (path.join("absent"), path.join("empty"));
    place(&empty, "");
    let with = |certificate: &PathBuf, key: &PathBuf| IdentityFiles {
        certificate_file: certificate.clone(),
        key_file: key.clone(),
    };
    let only_us = authority.identity(path, "only-us", &[US]);
    let cases: Vec<(Vec<IdentityFiles>, Scheme, &[&str])> = vec![
        (vec![], Scheme::Https, &["`tls.certificates`", "lists none"]),
        (
            vec![all.clone()],
            Scheme::Http,
            &["`public_scheme`", "https"],
        ),
        (
            vec![with(&absent, &all.key_file)],
            Scheme::Https,
            &["`tls.certificates`", "absent cannot be read"],
        ),
        (
            vec![with(&all.certificate_file, &absent)],
            Scheme::Https,
            &["`tls.certificates`", "absent cannot be read"],
        ),
        (
            vec![with(&empty, &all.key_file)],
            Scheme::Https,
            &["`tls.certificates`", "empty holds no certificate"],
        ),
        (
            vec![with(&all.certificate_file, &empty)],
            Scheme::Https,
            &["`tls.certificates`", "empty holds no private key"],
        ),
        (
            vec![with(&all.certificate_file, &other.key_file)],
            Scheme::Https,
            &["`tls.certificates`", "other.key does not belong"],
        ),
        (
            vec![only_us],
            Scheme::Https,
            &["`tls.certificates`", DE, "served here"],
        ),
    ];
    for (certificates, scheme, expected) in cases {
        let change = |settings: &mut Settings| {
            settings.public_scheme = scheme;
            settings.tls = Some(TlsSettings { certificates });
        };
        assert_complaint(change, expected).await;
    }
}

/// Asserts that a gateway does not start, and says why in these words.
async fn assert_complaint(change: impl FnOnce(&mut Settings), expected: &[&str]) {
    let mut settings = Settings::defaults().unwrap();
    settings.listen = "127.0.0.1:0".parse().unwrap();
    settings.management_listen = settings.listen;
    settings.domain = "example.com".to_owned();
    for name in ["us", "de"] {
        let region = RegionSettings {
            nodes: vec!["http://127.0.0.1:9".to_owned()],
            link_key: Some(shared::Secret::new(crate::support::LINK_KEY)),
            ..RegionSettings::default()
        };
        let id = crate::support::region(name);
        settings.regions.insert(id, region);
    }
    change(&mut settings);
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

#[tokio::test]
async fn what_the_link_cannot_be_encrypted_with_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let authority = Authority::new();
    let ca_file = authority.file(path);
    let own = authority.identity(path, "own", &["gateway.example"]);
    let other = authority.identity(path, "other", &["gateway.example"]);
    let absent = path.join("absent");
    let good = LinkTlsSettings {
        ca_file,
        certificate_file: own.certificate_file,
        key_file: own.key_file,
    };
    let with = |change: &dyn Fn(&mut LinkTlsSettings)| {
        let mut settings = good.clone();
        change(&mut settings);
        Some(settings)
    };
    let (http, https) = ("http://127.0.0.1:9", "https://127.0.0.1:9");
    // A region's own comes in the place of what holds for all.
    let own_of_region = |of_all: Option<LinkTlsSettings>, change: &dyn Fn(&mut LinkTlsSettings)| {
        let own = with(change);
        move |settings: &mut Settings| {
            settings.link_tls = of_all;
            let us = crate::support::region("us");
            let region = settings.regions.get_mut(&us).unwrap();
            region.nodes = vec![https.to_owned()];
            region.link_tls = own;
            settings.serves = Some(vec![us]);
        }
    };
    for of_all in [None, Some(good.clone())] {
        let bad_ca = own_of_region(of_all.clone(), &|link| link.ca_file = absent.clone());
        let expected = ["`regions.us.link_tls.ca_file`", "absent cannot be read"];
        assert_complaint(bad_ca, &expected).await;
        let bad_key = own_of_region(of_all, &|link| link.key_file = other.key_file.clone());
        let expected = [
            "`regions.us.link_tls.certificate_file`",
            "other.key does not belong",
        ];
        assert_complaint(bad_key, &expected).await;
    }
    let cases: Vec<(Option<LinkTlsSettings>, &str, &[&str])> = vec![
        (
            None,
            https,
            &["`regions.us.nodes`", "there is no [link_tls]"],
        ),
        (
            Some(good.clone()),
            http,
            &["`regions.us.nodes`", "there is a [link_tls]"],
        ),
        (
            with(&|link| link.ca_file = absent.clone()),
            https,
            &["`link_tls.ca_file`", "absent cannot be read"],
        ),
        (
            with(&|link| link.ca_file = other.key_file.clone()),
            https,
            &["`link_tls.ca_file`", "other.key holds no certificate"],
        ),
        (
            with(&|link| link.certificate_file = absent.clone()),
            https,
            &["`link_tls.certificate_file`", "absent cannot be read"],
        ),
        (
            with(&|link| link.key_file = other.key_file.clone()),
            https,
            &["`link_tls.certificate_file`", "other.key does not belong"],
        ),
    ];
    for (link_tls, node, expected) in cases {
        let change = |settings: &mut Settings| {
            settings.link_tls = link_tls;
            let us = crate::support::region("us");
            settings.regions.get_mut(&us).unwrap().nodes = vec![node.to_owned()];
            settings.serves = Some(vec![us]);
        };
        assert_complaint(change, expected).await;
    }
}

#[tokio::test]
async fn sighup_reads_the_certificates_at_once() {
    let hour = 3_600_000;
    let secured =
        Secured::start_with(|settings| settings.timeouts.certificates_look_ms = hour).await;
    let before = secured.certificate(US).await;
    let folder = secured.folder.path();
    secured
        .authority
        .identity(folder, "regional", &["*.example.com"]);
    let pid = std::process::id().to_string();
    let asked = Command::new("kill").args(["-HUP", &pid]).status();
    assert!(asked.unwrap().success());
    until(async || secured.certificate(US).await != before).await;
}
