//! [`Reload`]: what is read again while the gateway runs, because its files have changed or because
//! the operator asks by SIGHUP: the hostnames, the certificates of the edge and their list, and the
//! certificates of the links.
//!
//! One task reads all that has changed, and then decides about hostnames and certificates together:
//! neither is good without the other, and they come in any order. What cannot be used yet is tried
//! again at each look, and told once. What never lives here: which certificates are good for which
//! hosts (`tls`).

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Data;
use shared::file_watch::FileWatch;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use crate::config::{ConfigError, Settings};
use crate::host::Hosts;
use crate::link::LinkTls;
use crate::serve::Edge;

/// Keeps what can change in step with its files.
pub struct Reload {
    edge: Data<Edge>,
    links: Vec<Arc<LinkTls>>,
    settings: Settings,
    public_port: Option<u16>,
    file: FileWatch,
    /// What the settings file asks for, until it is so.
    wanted: Option<Settings>,
    /// Why it is not so, as the log has it.
    told: Option<String>,
}

impl Reload {
    /// Changes from now on.
    #[must_use]
    pub fn new(
        edge: Data<Edge>,
        link_tls: Option<Arc<LinkTls>>,
        settings: Settings,
        public_port: Option<u16>,
    ) -> Self {
        let mut links: Vec<_> = link_tls.into_iter().collect();
        for tls in edge.regions.iter().filter_map(|region| region.link.tls()) {
            if !links.iter().any(|known| Arc::ptr_eq(known, tls)) {
                links.push(Arc::clone(tls));
            }
        }
        Self {
            edge,
            links,
            public_port,
            file: FileWatch::of(settings.file.iter().cloned()),
            settings,
            wanted: None,
            told: None,
        }
    }

    /// Looks at the files so often as the settings say, and on each SIGHUP, for as long as the task
    /// runs. Where there are none SIGHUP asks for nothing, and must not end the program.
    pub async fn keep_watch(mut self) {
        let mut hangup = signal(SignalKind::hangup()).ok();
        let every = Duration::from_millis(self.settings.timeouts.certificates_look_ms);
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked_to = tokio::select! {
                _ = ticks.tick() => false,
                () = next(&mut hangup) => true,
            };
            self.look(asked_to);
        }
    }

    /// Reads what has changed, or all of it, and uses what can be used.
    fn look(&mut self, asked_to: bool) {
        if self.file.has_changed() || asked_to {
            self.read_settings();
        }
        if let Some(tls) = &self.edge.tls {
            tls.read_again(asked_to);
        }
        self.settle();
        for link in &self.links {
            link.refresh(asked_to);
        }
    }

    fn read_settings(&mut self) {
        let Some(file) = &self.settings.file else {
            return;
        };
        self.told = None;
        let read = Settings::load(Some(file)).and_then(|read| read.check().map(|()| read));
        match read {
            Ok(read) => self.wanted = Some(read),
            Err(error) => {
                // What the file asked for before, it asks for no more.
                self.wanted = None;
                complain(&error);
            }
        }
    }

    fn settle(&mut self) {
        if let Some(wanted) = self.wanted.take() {
            match self.exchange(&wanted) {
                Ok(()) => {
                    self.told = None;
                    let hostnames = wanted.hostname.len();
                    tracing::info!(hostnames, "the hostnames were read again");
                    return;
                }
                Err(error) => {
                    self.wanted = Some(wanted);
                    let text = in_full(&error);
                    if self.told.as_ref() != Some(&text) {
                        complain(&error);
                        self.told = Some(text);
                    }
                }
            }
        }
        if let Some(tls) = &self.edge.tls
            && let Err(error) = tls.settle(None, &self.edge.hosts.served())
        {
            let error = &error as &(dyn Error + 'static);
            tracing::error!(error, "the certificates stay as they were");
        }
    }

    /// Hostnames and certificates for those of other settings: all, or none.
    fn exchange(&self, wanted: &Settings) -> Result<(), ConfigError> {
        let (edge, port) = (&self.edge, self.public_port);
        let settings = Settings {
            hostname: wanted.hostname.clone(),
            ..self.settings.clone()
        };
        settings.check_hostnames()?;
        let hosts = Hosts::build(&settings, &edge.regions, port)?;
        if let Some(tls) = &edge.tls {
            tls.settle(wanted.tls.as_ref(), &hosts.served())?;
        }
        edge.hosts.exchange(&settings, &edge.regions, port)?;
        warn_of_hostnames_not_served(&settings);
        Ok(())
    }
}

/// They can be meant, where several gateways have the same file.
pub fn warn_of_hostnames_not_served(settings: &Settings) {
    for hostname in settings.hostnames_not_served() {
        tracing::warn!(
            "setting `hostname.{}`: region {} is not served here, and the hostname is answered 421",
            hostname.name,
            hostname.region
        );
    }
}

fn complain(error: &ConfigError) {
    let why = error as &(dyn Error + 'static);
    tracing::error!(error = why, "the hostnames stay as they were: {error}");
}

/// With its causes.
fn in_full(error: &ConfigError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}

async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
