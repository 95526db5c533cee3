//! Whether and how the connections to PostgreSQL are encrypted.
//!
//! `sslmode=require` in the URL means TLS with a certificate that is verified, for the host that
//! the URL names; anything else means none. An encrypted connection to whoever answers would keep
//! nobody out, so there is nothing in between.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::SslMode;
use tokio_postgres::{CancelToken, Client, Config, Error, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file with the authorities' certificates cannot be used.
    #[error("{0} holds no certificates in PEM form (setting `store.ca_file`)")]
    Authorities(std::path::PathBuf),
    /// The system has none either.
    #[error(
        "the system knows no certificate authorities; name a file with that of PostgreSQL's certificate in `store.ca_file`"
    )]
    NoAuthorities,
    /// The library refuses its settings.
    #[error("TLS cannot be set up")]
    Library(#[from] rustls::Error),
}

type Serving = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// How connections are made.
#[derive(Clone)]
pub(super) enum Tls {
    Off,
    On(MakeRustlsConnect),
}

impl Tls {
    /// As the URL asks for; `authorities` is a PEM file that stands in for the system's.
    pub(super) fn of(config: &mut Config, authorities: Option<&Path>) -> Result<Self, TlsError> {
        if config.get_ssl_mode() != SslMode::Require {
            config.ssl_mode(SslMode::Disable);
            return Ok(Self::Off);
        }
        let mut roots = RootCertStore::empty();
        match authorities {
            Some(path) => {
                let unusable = || TlsError::Authorities(path.to_owned());
                let certificates = CertificateDer::pem_file_iter(path).map_err(|_| unusable())?;
                for certificate in certificates {
                    roots.add(certificate.map_err(|_| unusable())?)?;
                }
                if roots.is_empty() {
                    return Err(unusable());
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    return Err(TlsError::NoAuthorities);
                }
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self::On(MakeRustlsConnect::new(client)))
    }

    /// Connects; the future has to be polled for as long as the client is used.
    pub(super) async fn connect(&self, config: &Config) -> Result<(Client, Serving), Error> {
        match self {
            Self::Off => {
                let (client, connection) = config.connect(NoTls).await?;
                Ok((client, Box::pin(connection)))
            }
            Self::On(tls) => {
                let (client, connection) = config.connect(tls.clone()).await?;
                Ok((client, Box::pin(connection)))
            }
        }
    }

    /// Asks the server to give up what runs on a connection.
    pub(super) async fn cancel(&self, token: &CancelToken) -> Result<(), Error> {
        match self {
            Self::Off => token.cancel_query(NoTls).await,
            Self::On(tls) => token.cancel_query(tls.clone()).await,
        }
    }
}
