//! Certificates, keys and authorities: read from PEM files, checked, and read again when the files
//! change. Both programs and the operator's command prove themselves with these.
//!
//! The cryptography is ring's everywhere. What never lives here: a connection, and which
//! certificate is for whom.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{Error as PemSyntaxError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use serde::Deserialize;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::time::Time;

use crate::Timestamp;
use crate::file_watch::FileWatch;

/// Where a certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityFiles {
    /// The certificate, and behind it those that lead to its authority, in PEM form.
    pub certificate_file: PathBuf,
    /// Its private key, in PEM form and not encrypted.
    pub key_file: PathBuf,
}

impl IdentityFiles {
    /// Both files.
    #[must_use]
    pub fn paths(&self) -> [PathBuf; 2] {
        [self.certificate_file.clone(), self.key_file.clone()]
    }
}

/// Why files cannot be used. Never shows what is in them.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// A file cannot be read.
    #[error("{} cannot be read", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// A file has no certificate.
    #[error("{} holds no certificate in PEM form", .0.display())]
    NoCertificate(PathBuf),
    /// A file has something that is no certificate.
    #[error("a certificate in {} is malformed", .0.display())]
    Malformed(PathBuf),
    /// A file has no key.
    #[error("{} holds no private key in PEM form, or an encrypted one", .0.display())]
    NoKey(PathBuf),
    /// A key of another kind.
    #[error(
        "the key in {} cannot be used: it must be ECDSA (P-256, P-384), Ed25519 or RSA (2048 bits \
         or more)",
        .0.display()
    )]
    Key(PathBuf),
    /// The key of another certificate.
    #[error("the key in {} does not belong to the certificate in {}", key.display(), certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The library refuses its settings.
    #[error("TLS cannot be set up")]
    Library(#[from] rustls::Error),
}

/// The cryptography that everything here uses.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A certificate with its key.
#[derive(Clone, Debug)]
pub struct Identity {
    key: Arc<CertifiedKey>,
    names: Vec<String>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Identity {
    /// Reads a certificate and its key, and checks that they belong together.
    ///
    /// # Errors
    /// [`PemError`], which names the file.
    pub fn read(files: &IdentityFiles) -> Result<Self, PemError> {
        let chain = certificates(&files.certificate_file)?;
        let malformed = || PemError::Malformed(files.certificate_file.clone());
        let first = chain.first().ok_or_else(malformed)?;
        let first = Certificate::from_der(first).map_err(|_| malformed())?;
        let names = dns_names(&first).ok_or_else(malformed)?;
        let validity = first.tbs_certificate.validity;
        let key = PrivateKeyDer::from_pem_file(&files.key_file).map_err(|error| match error {
            PemSyntaxError::Io(error) => PemError::Read(files.key_file.clone(), error),
            _ => PemError::NoKey(files.key_file.clone()),
        })?;
        let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => PemError::Mismatch {
                certificate: files.certificate_file.clone(),
                key: files.key_file.clone(),
            },
            _ => PemError::Key(files.key_file.clone()),
        })?;
        Ok(Self {
            key: Arc::new(key),
            names,
            not_before: timestamp(validity.not_before),
            not_after: timestamp(validity.not_after),
        })
    }

    /// What rustls proves itself with.
    #[must_use]
    pub fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }

    /// The DNS names that the certificate is for, in lower case; `*.example.com` among them.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether the certificate is good at this time.
    #[must_use]
    pub fn is_valid_at(&self, time: Timestamp) -> bool {
        (self.not_before..=self.not_after).contains(&time)
    }

    /// When the certificate ends.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether it is the same certificate.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.key.cert == other.key.cert
    }
}

/// `None` when the certificate's list of names is malformed. A certificate without any has none:
/// the common name has not counted for a long time (RFC 9525 section 2).
fn dns_names(certificate: &Certificate) -> Option<Vec<String>> {
    let Some((_is_critical, SubjectAltName(names))) =
        certificate.tbs_certificate.get::<SubjectAltName>().ok()?
    else {
        return Some(Vec::new());
    };
    let names = names.iter().filter_map(|name| match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_ascii_lowercase()),
        _ => None,
    });
    Some(names.collect())
}

fn timestamp(time: Time) -> Timestamp {
    Timestamp(0).after(time.to_unix_duration())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let failed = |error| match error {
        PemSyntaxError::Io(error) => PemError::Read(path.to_owned(), error),
        _ => PemError::Malformed(path.to_owned()),
    };
    let found = CertificateDer::pem_file_iter(path).map_err(failed)?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(failed)?;
    if found.is_empty() {
        return Err(PemError::NoCertificate(path.to_owned()));
    }
    Ok(found)
}

/// The authorities whose certificates are in a file.
///
/// # Errors
/// [`PemError`], which names the file.
pub fn authorities(path: &Path) -> Result<RootCertStore, PemError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        let added = roots.add(certificate);
        added.map_err(|_| PemError::Malformed(path.to_owned()))?;
    }
    Ok(roots)
}

/// For a client that trusts these authorities and no others, and proves itself with a certificate
/// where it has one. Connections are not resumed: a certificate that is checked once in its
/// connection's life is checked at the beginning of each.
///
/// # Errors
/// [`PemError::Library`] when the library refuses.
pub fn client_config(
    authorities: RootCertStore,
    identity: Option<Arc<LiveIdentity>>,
) -> Result<ClientConfig, PemError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(authorities);
    let mut config = match identity {
        Some(identity) => config.with_client_cert_resolver(identity),
        None => config.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// For a client that speaks plain HTTP only: no authority is trusted. An HTTP client has to be
/// given this where it would look for the system's authorities otherwise.
///
/// # Errors
/// [`PemError::Library`] when the library refuses.
pub fn trusting_nobody() -> Result<ClientConfig, PemError> {
    client_config(RootCertStore::empty(), None)
}

/// A certificate and key that are read again while the program runs. Either side of a connection
/// can prove itself with it; connections that are open keep what they began with.
#[derive(Debug)]
pub struct LiveIdentity {
    files: IdentityFiles,
    watch: Mutex<FileWatch>,
    notice: Mutex<ExpiryNotice>,
    current: RwLock<Identity>,
}

impl LiveIdentity {
    /// Reads them for the first time, and warns of a certificate that is not good now or ends soon.
    ///
    /// # Errors
    /// [`PemError`], which names the file.
    pub fn read(files: IdentityFiles, now: Timestamp) -> Result<Self, PemError> {
        let watch = FileWatch::of(files.paths());
        let identity = Identity::read(&files)?;
        let mut notice = ExpiryNotice::default();
        notice.give(&identity, &files, now);
        Ok(Self {
            files,
            watch: Mutex::new(watch),
            notice: Mutex::new(notice),
            current: RwLock::new(identity),
        })
    }

    /// Reads them again if the files have changed, or in any case. What cannot be used leaves the
    /// old certificate; the log says what happened. Warns once a day of a certificate that is not
    /// good now or ends soon.
    pub fn renew(&self, in_any_case: bool, now: Timestamp) {
        let file = self.files.certificate_file.display().to_string();
        match self.refresh(in_any_case) {
            Ok(false) => {}
            Ok(true) => {
                tracing::info!(file, "a new certificate is used from now on");
                *self.lock_notice() = ExpiryNotice::default();
            }
            Err(error) => {
                let error = &error as &(dyn std::error::Error + 'static);
                tracing::error!(
                    file,
                    error,
                    "a certificate cannot be used: the old one stays"
                );
            }
        }
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        self.lock_notice().give(&current, &self.files, now);
    }

    /// When the certificate that is in use ends.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.not_after()
    }

    fn lock_notice(&self) -> MutexGuard<'_, ExpiryNotice> {
        self.notice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is a new certificate.
    fn refresh(&self, in_any_case: bool) -> Result<bool, PemError> {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        if !(watch.has_changed() || in_any_case) {
            return Ok(false);
        }
        let identity = Identity::read(&self.files)?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = !current.is(&identity);
        *current = identity;
        Ok(is_new)
    }

    fn key_for(&self, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let key = current.certified_key();
        key.key.choose_scheme(schemes)?;
        Some(Arc::clone(key))
    }
}

impl ResolvesServerCert for LiveIdentity {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.key_for(hello.signature_schemes())
    }
}

impl ResolvesClientCert for LiveIdentity {
    fn resolve(
        &self,
        _authorities: &[&[u8]],
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.key_for(schemes)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// So long before a certificate ends, those who run the program are told.
pub const EXPIRY_NOTICE: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// From one warning about a certificate to the next.
const WARN_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// When there was a warning about a certificate.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExpiryNotice(Option<Timestamp>);

impl ExpiryNotice {
    /// Writes a warning, once a day, about a certificate that is not good now, or not for much
    /// longer. To be asked at each look at the files.
    pub fn give(&mut self, identity: &Identity, files: &IdentityFiles, now: Timestamp) {
        let is_due = self.0.is_none_or(|last| now.since(last) >= WARN_EVERY);
        if is_due && warn_of_expiry(identity, files, now) {
            self.0 = Some(now);
        }
    }
}

/// Whether there was something to warn of.
fn warn_of_expiry(identity: &Identity, files: &IdentityFiles, now: Timestamp) -> bool {
    let file = files.certificate_file.display();
    let ends = identity.not_after();
    if !identity.is_valid_at(now) {
        tracing::warn!(%file, "a certificate is not valid at this time: clients will refuse it");
    } else if !identity.is_valid_at(now.after(EXPIRY_NOTICE)) {
        let days = ends.since(now).as_secs() / (24 * 60 * 60);
        tracing::warn!(%file, days, "a certificate ends soon");
    } else {
        return false;
    }
    true
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn write(folder: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
        // As a tool that renews certificates does: the file is there, whole, all at once.
        let (path, new) = (folder.path().join(name), folder.path().join("new"));
        fs::write(&new, text).unwrap();
        fs::rename(&new, &path).unwrap();
        path
    }

    fn pair(names: &[&str]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2026, 3, 1);
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    #[test]
    fn a_certificate_says_for_whom_and_how_long_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) =
            pair(&["Global-US.example.com", "*.customer.example", "192.0.2.1"]);
        let files = IdentityFiles {
            certificate_file: write(&folder, "certificate", &certificate),
            key_file: write(&folder, "key", &key),
        };
        let identity = Identity::read(&files).unwrap();
        let names = ["global-us.example.com", "*.customer.example"];
        assert_eq!(identity.names(), names);
        // 2026-01-01 and 2026-03-01.
        let (from, until) = (Timestamp(1_767_225_600_000), Timestamp(1_772_323_200_000));
        assert_eq!(identity.not_after(), until);
        let second = Duration::from_secs(1);
        for (time, is_valid) in [
            (from.before(second), false),
            (from, true),
            (until, true),
            (until.after(second), false),
        ] {
            assert_eq!(identity.is_valid_at(time), is_valid, "{time:?}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = pair(&["a.example"]);
        let (_, other_key) = pair(&["a.example"]);
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let absent = folder.path().join("absent");
        let good = write(&folder, "certificate", &certificate);
        let key = write(&folder, "key", &key);
        let other_key = write(&folder, "other-key", &other_key);
        let empty = write(&folder, "empty", "");
        let broken = write(&folder, "broken", broken);
        for (certificate_file, key_file, complaint) in [
            (&absent, &key, "absent cannot be read"),
            (&good, &absent, "absent cannot be read"),
            (&empty, &key, "empty holds no certificate"),
            (&key, &key, "key holds no certificate"),
            (&broken, &key, "broken is malformed"),
            (&good, &empty, "empty holds no private key"),
            (&good, &good, "certificate holds no private key"),
            (&good, &other_key, "other-key does not belong"),
        ] {
            let files = IdentityFiles {
                certificate_file: certificate_file.clone(),
                key_file: key_file.clone(),
            };
            let message = Identity::read(&files).unwrap_err().to_string();
            assert!(message.contains(complaint), "{message}");
        }
        for file in [&absent, &empty, &broken] {
            assert!(authorities(file).is_err());
        }
        assert_eq!(authorities(&good).unwrap().len(), 1);
    }

    fn names(live: &LiveIdentity) -> Vec<String> {
        live.current.read().unwrap().names().to_vec()
    }

    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Output {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
        }
    }

    #[test]
    fn a_certificate_that_ends_is_told_of_once_a_day() {
        let output = Output::default();
        let writer = output.clone();
        let log = tracing_subscriber::fmt().with_writer(move || writer.clone());
        let _logging = tracing::subscriber::set_default(log.finish());
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = pair(&["first.example"]);
        let files = IdentityFiles {
            certificate_file: write(&folder, "certificate", &certificate),
            key_file: write(&folder, "key", &key),
        };
        // Until 2026-03-01.
        let (end, hour) = (Timestamp(1_772_323_200_000), Duration::from_secs(3600));
        let before = end.before(hour * 24 * 15);
        let live = LiveIdentity::read(files, before).unwrap();
        assert_eq!(live.not_after(), end);
        let mut told = Vec::new();
        for hours in 0..24 * 18 {
            live.renew(false, before.after(hour * hours));
            told.push(output.take());
        }
        let told: Vec<_> = told
            .iter()
            .enumerate()
            .filter(|(_, line)| !line.is_empty())
            .collect();
        for (at, (hours, line)) in told.iter().enumerate() {
            assert_eq!(*hours, 25 + 24 * at, "{line}");
            let expected = if *hours <= 24 * 15 {
                "a certificate ends soon"
            } else {
                "a certificate is not valid at this time"
            };
            assert!(line.contains(expected), "{hours}: {line}");
        }
        assert_eq!(told.len(), 17);
        // A new one begins anew.
        let (certificate, key) = pair(&["second.example"]);
        write(&folder, "key", &key);
        write(&folder, "certificate", &certificate);
        live.renew(false, end.after(hour * 24 * 3));
        assert!(output.take().contains("not valid at this time"));
    }

    #[test]
    fn a_new_certificate_is_taken_and_a_bad_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = pair(&["first.example"]);
        let files = IdentityFiles {
            certificate_file: write(&folder, "certificate", &certificate),
            key_file: write(&folder, "key", &key),
        };
        let live = LiveIdentity::read(files, Timestamp(0)).unwrap();
        assert!(!live.refresh(false).unwrap());

        let (certificate, key) = pair(&["second.example"]);
        write(&folder, "certificate", &certificate);
        assert!(live.refresh(false).is_err());
        assert_eq!(names(&live), ["first.example"]);
        // Said once.
        assert!(!live.refresh(false).unwrap());

        write(&folder, "key", &key);
        assert!(live.refresh(false).unwrap());
        assert_eq!(names(&live), ["second.example"]);
        assert!(!live.refresh(true).unwrap());
    }
}
