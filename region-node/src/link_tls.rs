//! [`LinkTls`]: TLS on the link, by which gateways and the operator prove who they are before they
//! say anything (DESIGN section 6). The link key and the operator key are needed all the same.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use shared::Clock;
use shared::tls::{IdentityFiles, LiveIdentity, PemError, authorities, provider};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use crate::config::{ConfigError, LinkTlsSettings};

/// What this node proves itself with, and whom it lets in.
#[derive(Debug)]
pub struct LinkTls {
    /// The certificate, which is read again when its files change.
    pub identity: Arc<LiveIdentity>,
    config: ServerConfig,
    clock: Arc<dyn Clock>,
}

impl LinkTls {
    /// Reads the certificate, the key and the authorities.
    ///
    /// # Errors
    /// [`ConfigError`], with the name of the setting and the file.
    pub fn load(settings: &LinkTlsSettings, clock: Arc<dyn Clock>) -> Result<Self, ConfigError> {
        let failed = |setting| move |source: PemError| ConfigError::Tls { setting, source };
        let roots = authorities(&settings.client_ca_file);
        let roots = roots.map_err(failed("link_tls.client_ca_file"))?;
        let files = IdentityFiles {
            certificate_file: settings.certificate_file.clone(),
            key_file: settings.key_file.clone(),
        };
        let identity = LiveIdentity::read(files, clock.now())
            .map(Arc::new)
            .map_err(failed("link_tls.certificate_file"))?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let verifier = verifier.build().map_err(|error| {
            let error = rustls::Error::General(error.to_string());
            failed("link_tls.client_ca_file")(error.into())
        })?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| failed("link_tls")(error.into()))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::<LiveIdentity>::clone(&identity));
        // Connections are kept for long; who makes a new one proves itself anew.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self {
            identity,
            config,
            clock,
        })
    }

    /// For the listener.
    #[must_use]
    pub fn config(&self) -> ServerConfig {
        self.config.clone()
    }

    /// Looks at the files so often, and on each SIGHUP, for as long as the task runs: new
    /// connections get the new certificate. The log warns once a day of one that ends soon.
    pub async fn keep_watch(&self, every: Duration) {
        let mut hangup = signal(SignalKind::hangup()).ok();
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked_to = tokio::select! {
                _ = ticks.tick() => false,
                () = next(&mut hangup) => true,
            };
            self.identity.renew(asked_to, self.clock.now());
        }
    }
}

async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
