//! [`LinkTls`]: TLS towards the nodes, by which both sides prove who they are (DESIGN section 6).

use std::sync::Arc;

use reqwest::Url;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use shared::tls::{IdentityFiles, LiveIdentity, PemError, authorities, client_config};
use shared::{Clock, Timestamp};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::{ConfigError, LinkTlsSettings};

/// What this gateway proves itself with to nodes, and by what it knows them.
#[derive(Debug)]
pub struct LinkTls {
    identity: Arc<LiveIdentity>,
    config: Arc<ClientConfig>,
    clock: Arc<dyn Clock>,
}

impl LinkTls {
    /// Reads the authorities, the certificate and the key of the table of this name.
    ///
    /// # Errors
    /// [`ConfigError`], with the name of the setting and the file.
    pub fn load(
        table: &str,
        settings: &LinkTlsSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ConfigError> {
        let failed = |setting: &str| {
            let setting = format!("{table}{setting}");
            move |source: PemError| ConfigError::tls(setting, source)
        };
        let roots = authorities(&settings.ca_file).map_err(failed(".ca_file"))?;
        let files = IdentityFiles {
            certificate_file: settings.certificate_file.clone(),
            key_file: settings.key_file.clone(),
        };
        let identity = LiveIdentity::read(files, clock.now())
            .map(Arc::new)
            .map_err(failed(".certificate_file"))?;
        let config = client_config(roots, Some(Arc::clone(&identity)));
        Ok(Self {
            identity,
            config: Arc::new(config.map_err(failed(""))?),
            clock,
        })
    }

    /// For an HTTP client that makes its connections itself.
    #[must_use]
    pub fn config(&self) -> ClientConfig {
        ClientConfig::clone(&self.config)
    }

    /// When this gateway's certificate ends.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.identity.not_after()
    }

    /// Reads the files again if they have changed, or in any case. What cannot be used leaves the
    /// old, and the log says why; it also warns once a day of a certificate that ends soon.
    pub fn refresh(&self, in_any_case: bool) {
        self.identity.renew(in_any_case, self.clock.now());
    }

    /// How the node of this URL is connected to; `None` when its host is none that a certificate
    /// could be for.
    #[must_use]
    pub fn towards(&self, node: &Url) -> Option<NodeTls> {
        let host = node.host_str()?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Some(NodeTls {
            connector: TlsConnector::from(Arc::clone(&self.config)),
            name: ServerName::try_from(host.to_owned()).ok()?,
        })
    }
}

/// TLS towards one node.
#[derive(Clone)]
pub struct NodeTls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl NodeTls {
    /// Encrypts a connection to the node.
    ///
    /// # Errors
    /// When the node does not prove to be the one, or the connection breaks.
    pub async fn over(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        self.connector.connect(self.name.clone(), stream).await
    }
}

impl std::fmt::Debug for NodeTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeTls")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
