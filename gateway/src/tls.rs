//! [`EdgeTls`]: how client connections are encrypted, with which certificate, and what becomes of
//! those that are not.
//!
//! A certificate is chosen by the exact name that the client gives; there is none for other names,
//! so a scanner that knows only our address learns no customer's hostname. Certificates are read
//! anew when their files change; open connections keep what they began with.
//!
//! What never lives here: what is said over a connection (`connection`, `serve`), and TLS towards
//! the nodes (`link`).

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring::Ticketer;
use rustls::server::{Acceptor, ClientHello, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::CertifiedKey;
use shared::file_watch::FileWatch;
use shared::tls::{ExpiryNotice, Identity, IdentityFiles, provider};
use shared::{Clock, Timestamp};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;

use crate::config::{ConfigError, TlsSettings};
use crate::connection::{ServerName, Stream, Wire, answer_to_plain_http};
use crate::host::{Hosts, RegionalHost};
use crate::serve::LINGER;

/// Sessions that are remembered for clients that take no tickets (TLS 1.2 without RFC 5077).
const SESSIONS: usize = 10_000;
/// What errors name.
const SETTING: &str = "tls.certificates";
/// Nothing but HTTP/1.1 is negotiated.
const ALPN: &[u8] = b"http/1.1";
/// The alert `unrecognized_name`, fatal, as a record of its own (RFC 8446 section 6.2).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Why a connection did not become an encrypted one.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The client spoke HTTP.
    #[error("the client spoke plain HTTP")]
    PlainHttp,
    /// The client named no host, or one that there is no certificate for.
    #[error("the client named no host of ours")]
    UnknownName,
    /// The client took too long.
    #[error("the handshake did not end in time")]
    TooSlow,
    /// The client left, or spoke something that is no TLS of ours.
    #[error("the handshake failed")]
    Broken(#[from] io::Error),
}

impl From<HandshakeError> for io::Error {
    fn from(error: HandshakeError) -> Self {
        match error {
            HandshakeError::Broken(error) => error,
            other => Self::new(io::ErrorKind::ConnectionAborted, other),
        }
    }
}

/// Client connections are encrypted with these certificates.
#[derive(Debug)]
pub struct EdgeTls {
    /// What the files hold. Locked only while they are read.
    entries: Mutex<Vec<Entry>>,
    current: RwLock<Current>,
    handshake: Duration,
    done: AtomicU64,
    failed: [AtomicU64; 4],
    clock: Arc<dyn Clock>,
}

/// One certificate of the settings.
#[derive(Clone, Debug)]
struct Entry {
    files: IdentityFiles,
    watch: FileWatch,
    /// What is in use.
    identity: Identity,
    /// What the files hold, where that is not in use.
    new: Option<Identity>,
    /// Whether the log says why it is not.
    is_told: bool,
    notice: ExpiryNotice,
}

impl Entry {
    fn read(files: &IdentityFiles) -> Result<Self, ConfigError> {
        let watch = FileWatch::of(files.paths());
        let identity = Identity::read(files).map_err(|source| ConfigError::tls(SETTING, source))?;
        Ok(Self {
            files: files.clone(),
            watch,
            identity,
            new: None,
            is_told: false,
            notice: ExpiryNotice::default(),
        })
    }

    fn read_again(&mut self) {
        self.is_told = false;
        self.new = match Identity::read(&self.files) {
            Ok(identity) => (!self.identity.is(&identity)).then_some(identity),
            Err(error) => {
                let file = self.files.certificate_file.display();
                let error = &error as &(dyn std::error::Error + 'static);
                tracing::error!(%file, error, "a certificate cannot be used: the old one stays");
                None
            }
        };
    }
}

/// What new connections get.
#[derive(Clone, Debug)]
struct Current {
    certificates: Arc<Certificates>,
    config: Arc<ServerConfig>,
}

impl EdgeTls {
    /// Reads all certificates. Each served hostname needs one.
    ///
    /// # Errors
    /// [`ConfigError`], with the name of the setting and the file, or the hostname that no
    /// certificate is for.
    pub fn load(
        settings: &TlsSettings,
        hosts: &Hosts,
        handshake: Duration,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ConfigError> {
        let entries = read_entries(settings, &[])?;
        let certificates = Certificates::of(entries.iter().map(|entry| &entry.identity));
        if let Some(host) = certificates.uncovered(&hosts.served()).first() {
            return Err(no_certificate_for(host));
        }
        Ok(Self {
            current: RwLock::new(Current::new(certificates)?),
            entries: Mutex::new(entries),
            handshake,
            done: AtomicU64::new(0),
            failed: Default::default(),
            clock,
        })
    }

    /// Makes an accepted connection an encrypted one.
    ///
    /// # Errors
    /// [`HandshakeError`]; then the client has been told what it can understand.
    pub async fn accept(&self, io: TcpStream) -> Result<(Stream, ServerName), HandshakeError> {
        let handshake = Box::pin(shake_hands(io, self.current()));
        let outcome = timeout(self.handshake, handshake)
            .await
            .unwrap_or(Err(HandshakeError::TooSlow));
        let counter = match &outcome {
            Ok(_) => Some(&self.done),
            Err(HandshakeError::PlainHttp) => self.failed.first(),
            Err(HandshakeError::UnknownName) => self.failed.get(1),
            Err(HandshakeError::TooSlow) => self.failed.get(2),
            Err(HandshakeError::Broken(_)) => self.failed.get(3),
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }

    /// Reads the files that have changed, or all. What is good is used when [`EdgeTls::settle`] finds
    /// that it can be; for what is not, the old stays, and the log says why. Warns once a day of
    /// certificates that end soon.
    pub fn read_again(&self, in_any_case: bool) {
        let now = self.clock.now();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in &mut *entries {
            if entry.watch.has_changed() || in_any_case {
                entry.read_again();
            }
            entry.notice.give(&entry.identity, &entry.files, now);
        }
    }

    /// Uses what was read, for these hosts and with the certificates of these settings, where there
    /// are any. A new certificate that would leave a host without one waits until it does not; the
    /// log says so, once.
    ///
    /// # Errors
    /// As [`EdgeTls::load`]; then the certificates stay as they were.
    pub fn settle(
        &self,
        settings: Option<&TlsSettings>,
        hosts: &[RegionalHost],
    ) -> Result<(), ConfigError> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if settings.is_none() && entries.iter().all(|entry| entry.new.is_none()) {
            return Ok(());
        }
        let mut next = match settings {
            Some(settings) => read_entries(settings, &entries)?,
            None => entries.clone(),
        };
        let waiting = waiting_for(&next, hosts)?;
        let mut changes = next
            .iter()
            .map(|entry| &entry.files)
            .ne(entries.iter().map(|entry| &entry.files));
        for (number, entry) in next.iter_mut().enumerate() {
            let file = entry.files.certificate_file.display();
            match waiting.get(&number) {
                None => {
                    if let Some(new) = entry.new.take() {
                        entry.identity = new;
                        entry.notice = ExpiryNotice::default();
                        changes = true;
                        tracing::info!(%file, "a new certificate is used from now on");
                    }
                }
                Some(error) if !std::mem::replace(&mut entry.is_told, true) => {
                    let error = error as &(dyn std::error::Error + 'static);
                    tracing::error!(%file, error, "a certificate is not used: the old one stays");
                }
                Some(_) => {}
            }
        }
        if changes {
            let used = next.iter().map(|entry| &entry.identity);
            self.present(Certificates::of(used))?;
        }
        *entries = next;
        Ok(())
    }

    fn present(&self, certificates: Certificates) -> Result<(), ConfigError> {
        let new = Current::new(certificates)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// How many handshakes of clients succeeded, and how many did not, by reason.
    #[must_use]
    pub fn handshakes(&self) -> (u64, [(&'static str, u64); 4]) {
        let [plain, name, slow, broken] = self
            .failed
            .each_ref()
            .map(|count| count.load(Ordering::Relaxed));
        let failed = [
            ("plain_http", plain),
            ("unknown_name", name),
            ("too_slow", slow),
            ("broken", broken),
        ];
        (self.done.load(Ordering::Relaxed), failed)
    }

    /// When the first certificate ends, in seconds since 1970.
    #[must_use]
    pub fn ends(&self) -> i64 {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = entries.iter().map(|entry| entry.identity.not_after());
        ends.min().map_or(0, Timestamp::as_seconds)
    }

    fn current(&self) -> Current {
        let current = self.current.read();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Current {
    fn new(certificates: Certificates) -> Result<Self, ConfigError> {
        let failed = |error: rustls::Error| ConfigError::tls(SETTING, error.into());
        let certificates = Arc::new(certificates);
        // TLS 1.2 and 1.3: rustls has no other.
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Certificates>::clone(&certificates));
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Both begin anew with a new certificate, so that nobody goes on with the old one's.
        config.ticketer = Ticketer::new().map_err(failed)?;
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        Ok(Self {
            certificates,
            config: Arc::new(config),
        })
    }
}

/// Those that are known already stay as they are: their files have a watch of their own.
fn read_entries(settings: &TlsSettings, known: &[Entry]) -> Result<Vec<Entry>, ConfigError> {
    let entries = settings.certificates.iter().map(|files| {
        let known = known.iter().find(|entry| entry.files == *files);
        known.map_or_else(|| Entry::read(files), |entry| Ok(entry.clone()))
    });
    entries.collect()
}

/// The entries whose new certificates have to wait so that each host has one, with the reason. All
/// others can be used together: a name may move from one certificate to another.
fn waiting_for(
    entries: &[Entry],
    hosts: &[RegionalHost],
) -> Result<BTreeMap<usize, ConfigError>, ConfigError> {
    let certificates = |waiting: &BTreeMap<usize, ConfigError>| {
        let used = entries.iter().enumerate().map(|(number, entry)| {
            let new = entry.new.as_ref();
            new.filter(|_| !waiting.contains_key(&number))
                .unwrap_or(&entry.identity)
        });
        Certificates::of(used)
    };
    let mut waiting = BTreeMap::new();
    let mut all = certificates(&waiting);
    let mut uncovered = all.uncovered(hosts);
    while let Some(host) = uncovered.first() {
        // One whose old certificate is for this host, and which helps more than it costs.
        let mut better = None;
        for (number, entry) in entries.iter().enumerate() {
            if entry.new.is_none() || waiting.contains_key(&number) {
                continue;
            }
            waiting.insert(number, no_certificate_for(host));
            let with_old = certificates(&waiting);
            if with_old.uncovered(hosts).len() < uncovered.len() {
                better = Some(with_old);
                break;
            }
            waiting.remove(&number);
        }
        all = better.ok_or_else(|| no_certificate_for(host))?;
        uncovered = all.uncovered(hosts);
    }
    Ok(waiting)
}

fn no_certificate_for(host: &RegionalHost) -> ConfigError {
    let host = host.as_str();
    let problem = format!("none of them is for {host}, which is served here: add one");
    ConfigError::invalid(SETTING, problem)
}

async fn shake_hands(
    io: TcpStream,
    current: Current,
) -> Result<(Stream, ServerName), HandshakeError> {
    let wire = Wire::new(io);
    // A handshake begins with 22; every HTTP method with a capital letter.
    if let Some(b'A'..=b'Z') = wire.first_byte().await? {
        refuse(wire, &answer_to_plain_http().unwrap_or_default()).await;
        return Err(HandshakeError::PlainHttp);
    }
    let start = LazyConfigAcceptor::new(Acceptor::default(), wire).await?;
    let name = start.client_hello().server_name().map(RegionalHost::parse);
    let Some(name) = name
        .and_then(Result::ok)
        .filter(|name| !current.certificates.of_name(name).is_empty())
    else {
        refuse(start.io, &UNRECOGNIZED_NAME).await;
        return Err(HandshakeError::UnknownName);
    };
    let stream = start.into_stream(current.config).await?;
    Ok((Stream::Tls(Box::new(stream)), ServerName(name)))
}

/// Says a last word, and reads for a moment what still comes: a connection that is closed with
/// unread bytes resets, and the reset may overtake the word. The connection counts until then.
async fn refuse(mut wire: Wire, word: &[u8]) {
    let reading = async {
        wire.write_all(word).await?;
        wire.shutdown().await?;
        let mut rest = [0; 4096];
        while wire.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    drop(timeout(LINGER, reading).await);
}

/// Certificates by the names that they are for.
#[derive(Debug, Default)]
struct Certificates {
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// By what follows the asterisk's dot: it stands for one label (RFC 9525 section 6.3).
    wildcard: HashMap<String, Vec<Arc<CertifiedKey>>>,
}

impl Certificates {
    /// Where two are for the same name, the first that a client can use is the one. An asterisk
    /// for all names of a top-level domain counts for nothing: no client takes it.
    fn of<'a>(identities: impl Iterator<Item = &'a Identity>) -> Self {
        let mut all = Self::default();
        for identity in identities {
            for name in identity.names() {
                let (names, name) = match name.strip_prefix("*.") {
                    Some(parent) if !parent.contains('.') => continue,
                    Some(parent) => (&mut all.wildcard, parent),
                    None => (&mut all.exact, name.as_str()),
                };
                let named = names.entry(name.to_owned()).or_default();
                named.push(Arc::clone(identity.certified_key()));
            }
        }
        all
    }

    /// The hosts that none of them is for, in order.
    fn uncovered<'h>(&self, hosts: &'h [RegionalHost]) -> Vec<&'h RegionalHost> {
        let mut uncovered: Vec<_> = hosts
            .iter()
            .filter(|host| self.of_name(host).is_empty())
            .collect();
        uncovered.sort_by_key(|host| host.as_str());
        uncovered
    }

    fn of_name(&self, host: &RegionalHost) -> &[Arc<CertifiedKey>] {
        let name = host.as_str();
        let exact = self.exact.get(name);
        let by_wildcard = || {
            let (_label, parent) = name.split_once('.')?;
            self.wildcard.get(parent)
        };
        exact.or_else(by_wildcard).map_or(&[], Vec::as_slice)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = RegionalHost::parse(hello.server_name()?).ok()?;
        let usable =
            |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        self.of_name(&host).iter().find(usable).cloned()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn identity(folder: &tempfile::TempDir, names: &[&str]) -> Identity {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names).unwrap();
        let certificate = certificate.self_signed(&key).unwrap();
        let files = IdentityFiles {
            certificate_file: folder.path().join("certificate"),
            key_file: folder.path().join("key"),
        };
        std::fs::write(&files.certificate_file, certificate.pem()).unwrap();
        std::fs::write(&files.key_file, key.serialize_pem()).unwrap();
        Identity::read(&files).unwrap()
    }

    #[test]
    fn the_exact_name_comes_before_a_wildcard_and_that_is_for_one_label() {
        let folder = tempfile::tempdir().unwrap();
        let wide = identity(&folder, &["*.example.com", "EXAMPLE.com", "*.localhost"]);
        let exact = identity(&folder, &["global-us.example.com"]);
        let certificates = Certificates::of([&wide, &exact].into_iter());
        for (name, expected) in [
            ("global-us.example.com", Some(&exact)),
            ("Global-US.example.com.", Some(&exact)),
            ("global-de.example.com", Some(&wide)),
            ("example.com", Some(&wide)),
            ("a.b.example.com", None),
            ("com", None),
            ("global-us.localhost", None),
            ("example.org", None),
            ("global-us.example.com.evil.example", None),
        ] {
            let host = RegionalHost::parse(name).unwrap();
            let found = certificates.of_name(&host).first().map(|key| &key.cert);
            let expected = expected.map(|identity| &identity.certified_key().cert);
            assert_eq!(found, expected, "{name}");
        }
    }
}
