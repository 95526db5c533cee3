//! The peers: the gateway, and proxies that do its job or less. Each is a process of its own with two
//! workers, settings made here, keep-alive to the same far end, and a log with a line for each
//! request in a file.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use shared::ApiToken;
use shared::link::{BASE_URL, LINK_KEY, REQUEST_ID};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::common::client::{Connection, Server};
use crate::common::program::{Program, beside};
use crate::tokens::{ENOUGH, KEEP, resolved};
use crate::upstream::ECHO;

/// The regional host that clients call.
pub(crate) const HOST: &str = "global-us.localhost";
/// Proves to the far end that a peer is a gateway of the region. Nothing there checks it.
const KEY: &str = "link-0123456789abcdefghijklmnopqrstuv";
const WORKERS: u32 = 2;

/// What a peer is, in the order of the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Hands everything on.
    NginxPlain,
    /// The gateway's job, done by hand: what the goals are measured by.
    NginxMap,
    /// The same.
    HaproxyMap,
    Gateway,
    /// The same, with traces and figures going to a collector.
    GatewayTraced,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [
        Self::NginxPlain,
        Self::NginxMap,
        Self::HaproxyMap,
        Self::Gateway,
        Self::GatewayTraced,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NginxPlain => "nginx, plain",
            Self::NginxMap => "nginx with a token map",
            Self::HaproxyMap => "HAProxy with maps",
            Self::Gateway => "meridian-gateway",
            Self::GatewayTraced => "the same, with OTLP",
        }
    }
}

/// What is the same for all peers.
pub(crate) struct Site<'s> {
    /// A folder of our own.
    pub(crate) folder: &'s Path,
    /// The far end.
    pub(crate) upstream: SocketAddr,
    pub(crate) tokens: &'s [ApiToken],
    /// What the peers prove themselves with, where clients call within TLS.
    pub(crate) tls: Option<Identity>,
}

impl Site<'_> {
    fn base_url(&self, address: SocketAddr) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{HOST}:{}/api/v1/scim", address.port())
    }

    /// Settings that only TLS needs.
    fn of_tls(&self, settings: impl Fn(&Identity) -> String) -> String {
        self.tls.as_ref().map_or_else(String::new, settings)
    }
}

/// A certificate for [`HOST`] that signs itself, and its key.
pub(crate) struct Identity {
    pem: String,
    certificate: PathBuf,
    key: PathBuf,
    /// Both in one file, as HAProxy wants them.
    both: PathBuf,
}

impl Identity {
    pub(crate) fn new(folder: &Path) -> Self {
        let made = rcgen::generate_simple_self_signed([HOST.to_owned()]).expect("a certificate");
        let (pem, key_pem) = (made.cert.pem(), made.signing_key.serialize_pem());
        let place = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).expect("a folder of our own");
            path
        };
        Self {
            certificate: place("certificate.pem", &pem),
            key: place("certificate.key", &key_pem),
            both: place("both.pem", &format!("{pem}{key_pem}")),
            pem,
        }
    }
}

/// A peer that serves.
pub(crate) struct Peer {
    pub(crate) kind: Kind,
    pub(crate) server: Server,
    base_url: String,
    program: Program,
}

impl Peer {
    /// Starts a peer and waits until it listens.
    pub(crate) async fn start(kind: Kind, site: &Site<'_>) -> Self {
        let address = free_address();
        let folder = site.folder.join(format!("{kind:?}"));
        fs::create_dir(&folder).expect("a folder of our own");
        let mut command = match kind {
            Kind::NginxPlain => nginx(&folder, &nginx_plain(address, site), site),
            Kind::NginxMap => nginx(&folder, &nginx_map(&folder, address, site), site),
            Kind::HaproxyMap => haproxy(&folder, address, site),
            Kind::Gateway => gateway(&folder, address, site, ""),
            Kind::GatewayTraced => {
                let collector = format!("otlp_endpoint = \"http://{}\"\n", site.upstream);
                gateway(&folder, address, site, &collector)
            }
        };
        let mut program = Program::start(&mut command);
        while TcpStream::connect(address).await.is_err() {
            let ended = program.child().try_wait().expect("a child of ours");
            if let Some(status) = ended {
                let said = fs::read_to_string(folder.join("log")).unwrap_or_default();
                panic!("{} ended: {status}\n{said}", kind.name());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self {
            kind,
            server: match &site.tls {
                Some(identity) => encrypted(address, &identity.pem),
                None => address.into(),
            },
            base_url: site.base_url(address),
            program,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// Makes sure that this peer does the job: the far end gets the token's grant in its place,
    /// the request's id, the public base URL and the link key; a bad token and another host get
    /// nothing.
    pub(crate) async fn check(&self, token: &ApiToken) {
        if self.kind == Kind::NginxPlain {
            return;
        }
        let name = self.kind.name();
        let headers = match self.ask(HOST, token.reveal()).await {
            (200, body) => serde_json::from_slice::<Value>(&body).expect("headers in JSON"),
            (status, _) => panic!("{name}: {status} to a good token"),
        };
        let grant = resolved(token.digest()).grant;
        let wanted = format!("Bearer {}", grant.as_compact());
        assert_eq!(headers["authorization"], wanted, "{name}");
        assert_eq!(headers[BASE_URL], self.base_url, "{name}");
        assert_eq!(headers[LINK_KEY], KEY, "{name}");
        let id = headers[REQUEST_ID].as_str().expect("a request's id");
        assert!(id.len() >= 32, "{name}: {id}");
        let bad = format!("mrd_us_{}", "0".repeat(38));
        assert_eq!(self.ask(HOST, &bad).await.0, 401, "{name}: a bad token");
        let elsewhere = self.ask("global-xx.localhost", token.reveal()).await.0;
        assert_eq!(elsewhere, 421, "{name}: another host");
    }

    async fn ask(&self, host: &str, token: &str) -> (u16, Vec<u8>) {
        let request = format!(
            "GET /api/v1/scim/Users/{ECHO} HTTP/1.1\r\nhost: {host}:{}\r\n\
             authorization: Bearer {token}\r\n\r\n",
            self.server.address.port()
        );
        let mut connection = Connection::open(self.server.clone()).await;
        let answer = connection.call(request.as_bytes()).await;
        (answer.status, answer.body.to_vec())
    }
}

/// A server that is called by TLS 1.3 with AES-128-GCM, which each of them can do: so all of them
/// encrypt alike.
fn encrypted(address: SocketAddr, authority: &str) -> Server {
    let mut provider = ring::default_provider();
    provider.cipher_suites = vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256];
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(authority.as_bytes());
    roots
        .add(authority.expect("a certificate of our own"))
        .expect("a certificate of our own");
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the suite is one of TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(HOST).expect("a name");
    Server {
        address,
        tls: Some((TlsConnector::from(Arc::new(config)), name)),
    }
}

/// The versions of the proxies, as they tell them.
pub(crate) fn versions() -> String {
    let said = |program: &str| {
        let ran = Command::new(program).arg("-v").output();
        let ran = ran.unwrap_or_else(|error| panic!("{program}: {error}"));
        let text = [ran.stdout, ran.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        // "nginx version: nginx/1.22.1", "HAProxy version 2.6.12-1 2026/10/17 - https://…"
        let mut words = text
            .split_whitespace()
            .skip_while(|word| !word.starts_with("version"));
        words.nth(1).unwrap_or("of an unknown version").to_owned()
    };
    let nginx = said("nginx");
    format!(
        "nginx {}, HAProxy {}",
        nginx.trim_start_matches("nginx/"),
        said("haproxy")
    )
}

/// Port 0 means nothing to nginx and HAProxy.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("it is bound")
}

/// A line for each token: `entry` makes it of the token, and of the tenant's and the token's id as
/// they stand in the log.
fn write_map(file: &Path, site: &Site<'_>, entry: impl Fn(&str, &str, &str) -> String) {
    let mut text = String::new();
    for token in site.tokens {
        let known = resolved(token.digest());
        let ids = format!(
            r#""tenant_id":"{}","token_id":"{}""#,
            known.tenant_id, known.token_id
        );
        text.push_str(&entry(token.reveal(), known.grant.as_compact(), &ids));
        text.push('\n');
    }
    fs::write(file, text).expect("a folder of our own");
}

/// nginx in the foreground, on settings of its own alone.
fn nginx(folder: &Path, servers: &str, site: &Site<'_>) -> Command {
    let upstream = site.upstream;
    let place = folder.display();
    // Its workers would be nobody, who may not enter the folder.
    let user = match fs::metadata("/proc/self").map(|own| own.uid()) {
        Ok(0) => "user root;",
        _ => "",
    };
    let mut temporary = String::new();
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        let _ = writeln!(temporary, "    {kind}_temp_path {place}/{kind};");
    }
    let text = format!(
        "daemon off;\n{user}\nworker_processes {WORKERS};\npid {place}/pid;\n\
         error_log {place}/log warn;\nevents {{ worker_connections 4096; }}\nhttp {{\n{temporary}\
         \x20   keepalive_timeout 600s;\n    keepalive_requests {ENOUGH};\n\
         \x20   upstream far_end {{\n        server {upstream};\n        keepalive 256;\n\
         \x20       keepalive_requests {ENOUGH};\n        keepalive_timeout 600s;\n    }}\n\
         \x20   proxy_http_version 1.1;\n    proxy_set_header Connection \"\";\n{servers}}}\n"
    );
    let settings = folder.join("nginx.conf");
    fs::write(&settings, text).expect("a folder of our own");
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder).arg("-c").arg(settings);
    command.arg("-e").arg(folder.join("log"));
    command
}

/// The facts of the gateway's line, as far as the proxy knows them.
fn nginx_log(ids: &str) -> String {
    format!(
        "    log_format facts escape=none '{{\"timestamp\":\"$time_iso8601\",\"level\":\"INFO\",\
         \"request_id\":\"$request_id\",\"method\":\"$request_method\",\"route\":\"/Users/{{id}}\",\
         \"region\":\"us\",{ids}\"status\":$status,\"duration_s\":$request_time,\
         \"upstream_s\":\"$upstream_response_time\",\"bytes_in\":$request_length,\
         \"bytes_out\":$body_bytes_sent,\"message\":\"request finished\"}}';\n\
         \x20   access_log requests facts buffer=64k flush=1s;\n"
    )
}

/// The certificate of all servers, and what their listeners add for it.
fn nginx_tls(site: &Site) -> (String, &'static str) {
    let settings = site.of_tls(|tls| {
        let (certificate, key) = (tls.certificate.display(), tls.key.display());
        format!(
            "    ssl_protocols TLSv1.3;\n    ssl_certificate {certificate};\n    \
             ssl_certificate_key {key};\n"
        )
    });
    (settings, if site.tls.is_some() { " ssl" } else { "" })
}

fn nginx_plain(address: SocketAddr, site: &Site<'_>) -> String {
    let (tls, ssl) = nginx_tls(site);
    format!(
        "{}{tls}    server {{\n        listen {address}{ssl} reuseport;\n\
         \x20       location / {{ proxy_pass http://far_end; }}\n    }}\n",
        nginx_log("")
    )
}

fn nginx_map(folder: &Path, address: SocketAddr, site: &Site<'_>) -> String {
    let (grants, ids) = (folder.join("grants"), folder.join("ids"));
    write_map(&grants, site, |token, grant, _| {
        format!("\"Bearer {token}\" \"Bearer {grant}\";")
    });
    write_map(&ids, site, |token, _, ids| {
        format!("\"Bearer {token}\" '{ids},';")
    });
    let (tls, ssl) = nginx_tls(site);
    // About one entry for every second bucket: nothing is to be gained by more.
    let buckets = (2 * site.tokens.len()).max(2048);
    format!(
        "{log}{tls}    map_hash_max_size {buckets};\n    map_hash_bucket_size 512;\n\
         \x20   map $http_authorization $grant {{\n        default \"\";\n        include {grants};\n    }}\n\
         \x20   map $http_authorization $ids {{\n        default \"\";\n        include {ids};\n    }}\n\
         \x20   server {{\n        listen {address}{ssl} reuseport default_server;\n        return 421;\n    }}\n\
         \x20   server {{\n        listen {address}{ssl};\n        server_name {HOST};\n\
         \x20       location / {{\n            if ($grant = \"\") {{ return 401; }}\n\
         \x20           proxy_pass http://far_end;\n\
         \x20           proxy_set_header Connection \"\";\n\
         \x20           proxy_set_header Authorization $grant;\n\
         \x20           proxy_set_header {REQUEST_ID} $request_id;\n\
         \x20           proxy_set_header {BASE_URL} {base_url};\n\
         \x20           proxy_set_header {LINK_KEY} {KEY};\n        }}\n    }}\n",
        log = nginx_log("$ids"),
        grants = grants.display(),
        ids = ids.display(),
        base_url = site.base_url(address),
    )
}

/// HAProxy in the foreground. It writes its log line by line.
fn haproxy(folder: &Path, address: SocketAddr, site: &Site<'_>) -> Command {
    let (grants, ids) = (folder.join("grants"), folder.join("ids"));
    write_map(&grants, site, |token, grant, _| format!("{token} {grant}"));
    write_map(&ids, site, |token, _, ids| format!("{token} {ids}"));
    let text = format!(
        "global\n    nbthread {WORKERS}\n    maxconn 4096\n    log stdout format raw local0\n\
         defaults\n    mode http\n    log global\n    timeout connect 5s\n    timeout client 600s\n\
         \x20   timeout server 600s\n    timeout http-keep-alive 600s\n    http-reuse always\n\
         frontend edge\n    bind {address}{ssl}\n    unique-id-format %[uuid()]\n\
         \x20   log-format '{{\"timestamp\":\"%tr\",\"level\":\"INFO\",\"request_id\":\"%ID\",\
         \"method\":\"%HM\",\"route\":\"/Users/{{id}}\",\"region\":\"us\",%[var(txn.ids)],\
         \"status\":%ST,\"duration_ms\":%Ta,\"upstream_ms\":%Tr,\"bytes_in\":%U,\"bytes_out\":%B,\
         \"message\":\"request finished\"}}'\n\
         \x20   http-request return status 421 unless {{ req.hdr(host),field(1,:) -i {HOST} }}\n\
         \x20   http-request set-var(txn.grant) http_auth_bearer,map_str({grants})\n\
         \x20   http-request return status 401 unless {{ var(txn.grant) -m found }}\n\
         \x20   http-request set-var(txn.ids) http_auth_bearer,map_str({ids})\n\
         \x20   http-request set-header authorization \"Bearer %[var(txn.grant)]\"\n\
         \x20   http-request set-header {REQUEST_ID} %[unique-id]\n\
         \x20   http-request set-header {BASE_URL} {base_url}\n\
         \x20   http-request set-header {LINK_KEY} {KEY}\n\
         \x20   default_backend far_end\nbackend far_end\n    server one {upstream}\n",
        grants = grants.display(),
        ids = ids.display(),
        base_url = site.base_url(address),
        upstream = site.upstream,
        ssl = site.of_tls(|tls| format!(" ssl crt {}", tls.both.display())),
    );
    let settings = folder.join("haproxy.cfg");
    fs::write(&settings, text).expect("a folder of our own");
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(settings);
    command.stdout(file(folder.join("requests")));
    command.stderr(file(folder.join("log")));
    command
}

/// Our program, with limits that nothing runs into, what is said of telemetry, and else its default
/// settings.
fn gateway(folder: &Path, address: SocketAddr, site: &Site<'_>, telemetry: &str) -> Command {
    let cache_mib = 64 + site.tokens.len() / 256;
    let keep_s = KEEP.as_secs();
    let text = format!(
        "listen = \"{address}\"\nmanagement_listen = \"127.0.0.1:0\"\npublic_port = 0\n\
         public_scheme = \"{}\"\nworkers = {WORKERS}\n\
         [regions.us]\nnodes = [\"http://{}\"]\nlink_key = \"{KEY}\"\n\
         [limits]\nlookups_per_s = {ENOUGH}\nlookups_burst = {ENOUGH}\nlookups_in_flight = 4096\n\
         failures_per_s = {ENOUGH}\nfailures_burst = {ENOUGH}\nnode_in_flight = 4096\n\
         connections_per_source = 4096\n[cache]\nlive_mib = {cache_mib}\nkeep_max_s = {keep_s}\n\
         [telemetry]\n{telemetry}{}",
        if site.tls.is_some() { "https" } else { "http" },
        site.upstream,
        site.of_tls(|tls| {
            let (certificate, key) = (tls.certificate.display(), tls.key.display());
            format!(
                "[tls]\ncertificates = [\n    {{ certificate_file = \"{certificate}\", \
                 key_file = \"{key}\" }},\n]\n"
            )
        })
    );
    let settings = folder.join("gateway.toml");
    fs::write(&settings, text).expect("a folder of our own");
    let mut command = Command::new(beside("meridian-gateway"));
    command.arg(settings).stderr(file(folder.join("log")));
    command
}

fn file(path: PathBuf) -> Stdio {
    File::create(path).expect("a folder of our own").into()
}
