//! [`Authority`]: certificates for tests of TLS. The gateway's own tests use this file too.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};
use shared::tls::IdentityFiles;

/// Signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    /// Its own certificate, as a file.
    pub(crate) fn file(&self, folder: &Path) -> PathBuf {
        let path = folder.join("authority.pem");
        place(&path, &self.certificate.pem());
        path
    }

    /// A certificate and its key for these names and addresses, as files of that name. Files that
    /// are there already are exchanged.
    pub(crate) fn identity(&self, folder: &Path, file: &str, names: &[&str]) -> IdentityFiles {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = IdentityFiles {
            certificate_file: folder.join(format!("{file}.pem")),
            key_file: folder.join(format!("{file}.key")),
        };
        place(&files.key_file, &key.serialize_pem());
        place(&files.certificate_file, &certificate.pem());
        files
    }
}

/// Puts a file where it belongs, whole and at once, as a tool that renews certificates does.
pub(crate) fn place(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, path).unwrap();
}
