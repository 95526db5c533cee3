//! [`Settings`]: what an operator can set, read once at start.
//!
//! Layers: the compiled-in `config.default.toml`, a file, the environment
//! (`MERIDIAN_GATEWAY__…`). Here live the settings and the checks that need no I/O but reading a
//! key file. What never lives here: the parts that are built from them (`startup`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;
use shared::link::MAX_GROUP_REPLACE_BYTES;
use shared::settings::{Layers, SettingsError};
use shared::tls::{IdentityFiles, PemError};
use shared::{LogFormat, LogLevel, Network, RegionId, Secret, TenantId};
use telemetry::ExportSettings;

use crate::link::{LinkTls, Node};

/// The commented defaults.
pub const DEFAULTS: &str = include_str!("../config.default.toml");
/// What the names of environment variables begin with.
pub const ENVIRONMENT_PREFIX: &str = "MERIDIAN_GATEWAY__";

/// Why the settings cannot be used. Every message names the setting.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A layer cannot be read, lacks a setting, has an unknown one, or one of the wrong type.
    #[error(transparent)]
    Read(#[from] SettingsError),
    /// A setting is of the right type and does not make sense.
    #[error("setting `{setting}`: {problem}")]
    Invalid {
        /// The setting's full name.
        setting: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file with a certificate or a key cannot be used.
    #[error("setting `{setting}` cannot be used")]
    Tls {
        /// The setting's full name.
        setting: String,
        /// Which file, and why.
        #[source]
        source: PemError,
    },
}

impl ConfigError {
    /// A file with a certificate or a key that cannot be used.
    #[must_use]
    pub fn tls(setting: impl Into<String>, source: PemError) -> Self {
        Self::Tls {
            setting: setting.into(),
            source,
        }
    }

    /// A setting that does not make sense.
    pub fn invalid(setting: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid {
            setting: setting.into(),
            problem: problem.into(),
        }
    }
}

/// Everything that can be set. `config.default.toml` says what each means.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where provisioning clients connect.
    pub listen: SocketAddr,
    /// Where health checks connect.
    pub management_listen: SocketAddr,
    /// Regional hosts are `global-{region}.{domain}`.
    pub domain: String,
    /// Scheme of the public base URL.
    pub public_scheme: Scheme,
    /// Port of the public base URL: absent is the scheme's own, 0 is the listener's.
    pub public_port: Option<u16>,
    /// Whether the stricter checks of production apply.
    pub production: bool,
    /// Threads that serve requests; absent is one a processor.
    pub workers: Option<usize>,
    /// Proxies that are believed when they say whom they speak for.
    pub trusted_proxies: Vec<Network>,
    /// Regions that are served; absent is all.
    pub serves: Option<Vec<RegionId>>,
    /// The regions that are known.
    #[serde(default)]
    pub regions: BTreeMap<RegionId, RegionSettings>,
    /// Further hostnames.
    #[serde(default)]
    pub hostname: Vec<HostnameSettings>,
    /// How client connections are encrypted; absent is not at all.
    pub tls: Option<TlsSettings>,
    /// How connections to the nodes of regions are encrypted that do not say so themselves; absent
    /// is not at all.
    pub link_tls: Option<LinkTlsSettings>,
    /// How much is too much.
    pub limits: LimitSettings,
    /// How long is too long.
    pub timeouts: TimeoutSettings,
    /// What is remembered.
    pub cache: CacheSettings,
    /// What gateways tell each other.
    pub redis: RedisSettings,
    /// What is written to the log.
    pub telemetry: TelemetrySettings,
    /// The file that was read, if there was one: hostnames are read from it again when it changes.
    #[serde(skip)]
    pub file: Option<PathBuf>,
}

/// Scheme of the public base URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Plain HTTP: development.
    Http,
    /// HTTPS, ended here or before us.
    Https,
}

impl Scheme {
    /// The scheme as it stands in a URL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// One region.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionSettings {
    /// Link listeners of the region's nodes, as `http://host:port`, or `https://` with `[link_tls]`.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// The link key itself.
    pub link_key: Option<Secret>,
    /// A file that holds the link key.
    pub link_key_file: Option<PathBuf>,
    /// How connections to its nodes are encrypted, in place of what holds for all regions.
    pub link_tls: Option<LinkTlsSettings>,
}

/// A hostname besides `global-{region}.{domain}`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostnameSettings {
    /// The hostname.
    pub name: String,
    /// The region that it means.
    pub region: RegionId,
    /// The only tenant whose tokens are good there; absent is any of the region's.
    pub tenant: Option<TenantId>,
}

/// `[tls]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// The certificates, each with its key.
    pub certificates: Vec<IdentityFiles>,
}

/// `[link_tls]`, for all regions, and `[regions.<name>.link_tls]`, for one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkTlsSettings {
    /// The authorities that sign the nodes' certificates.
    pub ca_file: PathBuf,
    /// What this gateway proves itself with.
    pub certificate_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
}

/// `[limits]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitSettings {
    /// Look-ups of strangers a second, for each region.
    pub lookups_per_s: u32,
    /// Look-ups of strangers at once after a pause, for each region.
    pub lookups_burst: u32,
    /// Look-ups of strangers under way, for each region.
    pub lookups_in_flight: usize,
    /// Look-ups under way of tokens that were live here before, for each region.
    pub known_lookups_in_flight: usize,
    /// Access tokens in the making, for each region. A quarter of them may be one tenant's.
    pub issuing_in_flight: u32,
    /// Bad look-ups a second, for each source address.
    pub failures_per_s: u32,
    /// Bad look-ups at once after a pause, for each source address.
    pub failures_burst: u32,
    /// Calls under way, for each node of a region.
    pub node_in_flight: usize,
    /// Calls that wait for their turn, for each region.
    pub region_waiting: usize,
    /// Connections, for each worker.
    pub connections: usize,
    /// Connections from one source address.
    pub connections_per_source: u32,
    /// Memory for request bodies, in MiB.
    pub body_memory_mib: u32,
    /// Largest answer that is passed on, in MiB.
    pub answer_max_mib: u32,
}

impl LimitSettings {
    /// What one tenant's bodies may take of the memory, in MiB: an eighth of it, and at least one
    /// body of the largest.
    #[must_use]
    pub fn tenant_body_mib(&self) -> u32 {
        let largest = u32::try_from(MAX_GROUP_REPLACE_BYTES / (1024 * 1024)).unwrap_or(u32::MAX);
        // The buffer of a body grows by doubling.
        (self.body_memory_mib / 8).max(largest.saturating_mul(2))
    }
}

/// `[timeouts]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeoutSettings {
    /// For a client's TLS handshake.
    pub handshake_ms: u64,
    /// For a client's header.
    pub header_read_ms: u64,
    /// For a client's body.
    pub body_read_ms: u64,
    /// Without any byte taken by the client.
    pub write_stall_ms: u64,
    /// Between two requests of one connection.
    pub keep_alive_ms: u64,
    /// For a whole request.
    pub request_ms: u64,
    /// For connecting to a node.
    pub node_connect_ms: u64,
    /// For a node's answer about a token.
    pub lookup_ms: u64,
    /// For a node to come back.
    pub node_hold_ms: u64,
    /// Between two requests on a connection to a node.
    pub node_idle_ms: u64,
    /// For a call's turn at its region.
    pub turn_ms: u64,
    /// From one look at a node's health to the next.
    pub node_look_ms: u64,
    /// From one look at the certificates' files to the next.
    pub certificates_look_ms: u64,
    /// Between the wish to stop and the end of listening.
    pub drain_ms: u64,
    /// For requests under way at stop, in seconds.
    pub shutdown_s: u64,
}

/// `[cache]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheSettings {
    /// Memory for live tokens' grants, in MiB.
    pub live_mib: u32,
    /// Longest time that a grant is kept, in seconds.
    pub keep_max_s: u32,
    /// How many bad tokens are remembered.
    pub refused_entries: u64,
    /// How long a bad token is remembered, in seconds.
    pub refused_s: u32,
}

/// `[redis]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisSettings {
    /// The server; absent is none.
    pub url: Option<Secret>,
    /// A file that holds the URL.
    pub url_file: Option<PathBuf>,
    /// Authorities of the server's certificate, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// How long a look-up waits for an answer.
    pub budget_ms: u64,
    /// Connections, at most.
    pub connections: usize,
    /// Failures in a row after which the server is left alone.
    pub breaker_after: u32,
    /// For how long.
    pub breaker_ms: u64,
    /// Look-ups of strangers a second.
    pub lookups_per_s: u32,
}

/// `[telemetry]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetrySettings {
    /// Of our own lines.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
    /// Whether clients are believed when they name a trace.
    pub trust_traceparent: bool,
    /// Tenants that have figures of their own.
    pub tenants: usize,
    /// The collector's address; absent sends nothing.
    pub otlp_endpoint: Option<String>,
    /// Authorities that the collector's certificate must come from; absent is the system's.
    pub otlp_ca_file: Option<PathBuf>,
    /// The share of requests that are traced.
    pub sample_ratio: f64,
    /// Spans that may wait for the collector.
    pub otlp_queue: usize,
    /// How often metrics are sent, in milliseconds.
    pub otlp_metrics_ms: u64,
}

impl TelemetrySettings {
    /// Where traces and metrics go.
    #[must_use]
    pub fn export(&self) -> ExportSettings {
        ExportSettings {
            endpoint: self.otlp_endpoint.clone(),
            ca_file: self.otlp_ca_file.clone(),
            sample_ratio: self.sample_ratio,
            queue: self.otlp_queue,
            metrics_every: Duration::from_millis(self.otlp_metrics_ms),
        }
    }
}

impl Settings {
    /// Defaults, then the file, then the environment.
    ///
    /// # Errors
    /// [`ConfigError::Read`] when a layer cannot be read or has an unknown key.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut layers = Layers::of(DEFAULTS)?;
        if let Some(path) = file {
            layers = layers.with_file(path)?;
        }
        let settings: Self = layers.with_environment(ENVIRONMENT_PREFIX).extract()?;
        Ok(Self {
            file: file.map(Path::to_owned),
            ..settings
        })
    }

    /// The compiled-in defaults alone. They have no region, and so are no settings to start with.
    ///
    /// # Errors
    /// [`ConfigError::Read`] when `config.default.toml` was broken at build time.
    pub fn defaults() -> Result<Self, ConfigError> {
        Ok(Layers::of(DEFAULTS)?.extract()?)
    }

    /// Whether this gateway serves a region.
    #[must_use]
    pub fn is_served(&self, region: &RegionId) -> bool {
        self.serves
            .as_ref()
            .is_none_or(|served| served.contains(region))
    }

    /// Checks the regions of the further hostnames: against those that the gateway started with,
    /// when the hostnames are read again.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] when one means a region that is not configured.
    pub fn check_hostnames(&self) -> Result<(), ConfigError> {
        let unknown = |hostname: &&HostnameSettings| !self.regions.contains_key(&hostname.region);
        match self.hostname.iter().find(unknown) {
            Some(hostname) => Err(ConfigError::invalid(
                format!("hostname.{}", hostname.name),
                format!(
                    "there is no region {0} here: a new [regions.{0}] table needs a restart",
                    hostname.region
                ),
            )),
            None => Ok(()),
        }
    }

    /// The further hostnames whose region is configured and not served here: they are answered 421.
    pub fn hostnames_not_served(&self) -> impl Iterator<Item = &HostnameSettings> {
        let hostnames = self.hostname.iter();
        hostnames.filter(|hostname| !self.is_served(&hostname.region))
    }

    /// Checks what types cannot: settings against each other.
    ///
    /// # Errors
    /// The first of [`Settings::problems`].
    pub fn check(&self) -> Result<(), ConfigError> {
        self.problems().into_iter().next().map_or(Ok(()), Err)
    }

    /// All that is wrong with settings of the right types: each a [`ConfigError::Invalid`] with the
    /// setting's name.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigError> {
        let mut problems = Vec::new();
        let mut problem =
            |setting: &str, text: String| problems.push(ConfigError::invalid(setting, text));
        if self.regions.is_empty() {
            let text = "there is none: a gateway needs at least one [regions.<name>] table";
            problem("regions", text.to_owned());
        }
        if self.serves.as_ref().is_some_and(Vec::is_empty) {
            let text =
                "lists none: name the regions that this gateway serves, or leave it out for all";
            problem("serves", text.to_owned());
        }
        for region in self.serves.iter().flatten() {
            if !self.regions.contains_key(region) {
                let text = format!("region {region} has no [regions.{region}] table");
                problem("serves", text);
            }
        }
        if self
            .trusted_proxies
            .iter()
            .any(|proxies| proxies.prefix() == 0)
        {
            let text = "has a network of all addresses: anybody could say where a request comes \
                        from. List the addresses of your proxies alone";
            problem("trusted_proxies", text.to_owned());
        }
        if self.production && self.public_scheme != Scheme::Https {
            problem(
                "public_scheme",
                "must be \"https\" in production".to_owned(),
            );
        }
        if let Some(tls) = &self.tls {
            if tls.certificates.is_empty() {
                let text = "lists none: add one, or leave out [tls] for plain HTTP";
                problem("tls.certificates", text.to_owned());
            }
            if self.public_scheme != Scheme::Https {
                let text = "must be \"https\" with [tls]: clients are told URLs that begin with it";
                problem("public_scheme", text.to_owned());
            }
        }
        // actix-http reads a clock that moves in half seconds, and never fires for a time that is
        // over when it is set.
        for (setting, value) in [
            ("timeouts.header_read_ms", self.timeouts.header_read_ms),
            ("timeouts.keep_alive_ms", self.timeouts.keep_alive_ms),
        ] {
            if value < 1000 {
                problem(setting, "must be at least 1000".to_owned());
            }
        }
        for (setting, value) in self.amounts() {
            if value == 0 {
                problem(setting, "must be more than 0".to_owned());
            }
        }
        problems.extend(self.check_hostnames().err());
        problems
    }

    fn amounts(&self) -> [(&'static str, u64); 27] {
        let (limits, timeouts, cache) = (&self.limits, &self.timeouts, &self.cache);
        let redis = &self.redis;
        [
            ("limits.lookups_per_s", limits.lookups_per_s.into()),
            ("limits.lookups_burst", limits.lookups_burst.into()),
            ("limits.lookups_in_flight", limits.lookups_in_flight as u64),
            (
                "limits.known_lookups_in_flight",
                limits.known_lookups_in_flight as u64,
            ),
            ("limits.issuing_in_flight", limits.issuing_in_flight.into()),
            ("limits.failures_per_s", limits.failures_per_s.into()),
            ("limits.failures_burst", limits.failures_burst.into()),
            ("limits.node_in_flight", limits.node_in_flight as u64),
            ("limits.connections", limits.connections as u64),
            (
                "limits.connections_per_source",
                limits.connections_per_source.into(),
            ),
            ("limits.body_memory_mib", limits.body_memory_mib.into()),
            ("limits.answer_max_mib", limits.answer_max_mib.into()),
            ("timeouts.handshake_ms", timeouts.handshake_ms),
            ("timeouts.body_read_ms", timeouts.body_read_ms),
            ("timeouts.write_stall_ms", timeouts.write_stall_ms),
            ("timeouts.request_ms", timeouts.request_ms),
            ("timeouts.node_connect_ms", timeouts.node_connect_ms),
            ("timeouts.lookup_ms", timeouts.lookup_ms),
            ("timeouts.node_look_ms", timeouts.node_look_ms),
            (
                "timeouts.certificates_look_ms",
                timeouts.certificates_look_ms,
            ),
            ("cache.live_mib", cache.live_mib.into()),
            ("cache.keep_max_s", cache.keep_max_s.into()),
            ("redis.budget_ms", redis.budget_ms),
            ("redis.connections", redis.connections as u64),
            ("redis.breaker_after", redis.breaker_after.into()),
            ("redis.breaker_ms", redis.breaker_ms),
            ("redis.lookups_per_s", redis.lookups_per_s.into()),
        ]
    }
}

impl RedisSettings {
    /// The server's URL, if one is set. Whether it is one is found out by whoever uses it.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] when there are two, or its file cannot be read.
    pub fn read_url(&self) -> Result<Option<Secret>, ConfigError> {
        match (&self.url, &self.url_file) {
            (None, None) => Ok(None),
            (Some(url), None) => Ok(Some(url.clone())),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    let problem = format!("{} cannot be read: {error}", path.display());
                    ConfigError::invalid("redis.url_file", problem)
                })?;
                Ok(Some(Secret::new(&text)))
            }
            (Some(_), Some(_)) => Err(ConfigError::invalid(
                "redis.url",
                "is set beside url_file: keep one of the two",
            )),
        }
    }
}

impl RegionSettings {
    /// The link key of a region that is served.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] when there is none, when there are two, when its file cannot be
    /// read, when it is too short, or when it looks like a placeholder in production.
    pub fn read_link_key(
        &self,
        region: &RegionId,
        production: bool,
    ) -> Result<Secret, ConfigError> {
        let setting = format!("regions.{region}.link_key");
        let key = match (&self.link_key, &self.link_key_file) {
            (Some(key), None) => key.clone(),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    ConfigError::invalid(
                        format!("{setting}_file"),
                        format!("{} cannot be read: {error}", path.display()),
                    )
                })?;
                Secret::new(&text)
            }
            (None, None) => {
                let problem = "missing: set it, or link_key_file, to the region's link key";
                return Err(ConfigError::invalid(setting, problem));
            }
            (Some(_), Some(_)) => {
                let problem = "is set beside link_key_file: keep one of the two";
                return Err(ConfigError::invalid(setting, problem));
            }
        };
        match key.check_key(production) {
            Ok(()) => Ok(key),
            Err(weak) => Err(ConfigError::invalid(setting, weak.to_string())),
        }
    }

    /// The nodes of a region that is served; to be connected to by TLS where there is some.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] when there is none, or one is no `http://host:port`, or with TLS no
    /// `https://host:port`.
    pub fn nodes(
        &self,
        region: &RegionId,
        tls: Option<&LinkTls>,
    ) -> Result<Vec<Node>, ConfigError> {
        let setting = format!("regions.{region}.nodes");
        if self.nodes.is_empty() {
            return Err(ConfigError::invalid(setting, "lists no node"));
        }
        let nodes = self.nodes.iter().map(|text| {
            let url = Url::parse(text).ok();
            let scheme = url.as_ref().map(Url::scheme);
            let (right, mix_up) = match tls {
                None => (
                    "http",
                    (scheme == Some("https")).then_some(
                        "an entry begins with https://, and there is no [link_tls]: add it, or \
                         write http://",
                    ),
                ),
                Some(_) => (
                    "https",
                    (scheme == Some("http")).then_some(
                        "an entry begins with http://, and there is a [link_tls]: write https://, \
                         or leave [link_tls] out",
                    ),
                ),
            };
            if let Some(mix_up) = mix_up {
                return Err(ConfigError::invalid(&setting, mix_up));
            }
            // Only an origin: a path, a query or a password here would travel with every call.
            url.filter(|url| {
                url.scheme() == right
                    && url.has_host()
                    && url.path() == "/"
                    && url.query().is_none()
                    && url.fragment().is_none()
                    && url.username().is_empty()
                    && url.password().is_none()
            })
            .and_then(|url| match tls {
                Some(tls) => {
                    let tls = tls.towards(&url)?;
                    Some(Node::new(url)?.with_tls(tls))
                }
                None => Node::new(url),
            })
            .ok_or_else(|| {
                ConfigError::invalid(&setting, format!("an entry is no {right}://host:port"))
            })
        });
        nodes.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_toml(text: &str) -> Result<Settings, ConfigError> {
        Ok(Layers::of(DEFAULTS)?.with_text(text)?.extract()?)
    }

    const US: &str = "[regions.us]\nnodes = [\"http://127.0.0.1:9001\"]\nlink_key = \"0123456789abcdef0123456789abcdef\"\n";

    #[test]
    fn the_compiled_in_defaults_can_be_read() {
        let defaults = Settings::defaults().unwrap();
        assert_eq!(defaults.listen.port(), 8080);
        assert_eq!(defaults.domain, "localhost");
        assert!(defaults.regions.is_empty());
    }

    #[test]
    fn every_setting_of_the_struct_stands_in_the_defaults() {
        // What is optional stands there as a comment.
        for name in [
            "public_port",
            "workers",
            "serves",
            "[regions.us]",
            "[[hostname]]",
            "url =",
            "url_file",
            "[tls]",
            "certificates = ",
            "[link_tls]",
            "[regions.us.link_tls]",
            "ca_file",
            "certificate_file",
            "key_file",
        ] {
            assert!(DEFAULTS.contains(&format!("# {name}")), "{name}");
        }
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        for (text, name) in [
            ("lissten = \"127.0.0.1:1\"", "lissten"),
            ("[limits]\nlookups = 1", "lookups"),
            ("[regions.us]\nnode = \"x\"", "node"),
            ("[regions.US]\nnodes = []", "region"),
            ("[redis]\nurls = \"redis://a\"", "urls"),
            ("trusted_proxies = [\"10.0.0.1/8\"]", "10.0.0.0/8"),
        ] {
            let message = from_toml(text).unwrap_err().to_string();
            assert!(message.contains(name), "{message}");
        }
    }

    #[test]
    fn a_region_needs_nodes_and_a_long_key() {
        let us = RegionId::parse("us").unwrap();
        let settings = from_toml(US).unwrap();
        settings.check().unwrap();
        let region = settings.regions.get(&us).unwrap();
        assert_eq!(region.nodes(&us, None).unwrap().len(), 1);
        assert_eq!(region.read_link_key(&us, true).unwrap().reveal().len(), 32);

        for (problem, region) in [
            ("missing", RegionSettings::default()),
            (
                "too short",
                RegionSettings {
                    link_key: Some(Secret::new("short")),
                    ..RegionSettings::default()
                },
            ),
            (
                "placeholder",
                RegionSettings {
                    link_key: Some(Secret::new(&"changeme".repeat(4))),
                    ..RegionSettings::default()
                },
            ),
            (
                "cannot be read",
                RegionSettings {
                    link_key_file: Some("/nonexistent".into()),
                    ..RegionSettings::default()
                },
            ),
        ] {
            let message = region.read_link_key(&us, true).unwrap_err().to_string();
            assert!(message.contains("regions.us.link_key"), "{message}");
            assert!(message.contains(problem), "{message}");
        }
        for node in [
            "",
            "127.0.0.1:9001",
            "https://a",
            "http://a/path",
            "http://u:p@a",
            "http://a?q",
        ] {
            let region = RegionSettings {
                nodes: vec![node.to_owned()],
                ..RegionSettings::default()
            };
            assert!(region.nodes(&us, None).is_err(), "{node}");
        }
    }

    #[test]
    fn settings_are_checked_against_each_other() {
        for (text, name) in [
            (String::new(), "regions"),
            (format!("serves = [\"de\"]\n{US}"), "serves"),
            (format!("serves = []\n{US}"), "serves"),
            (
                format!("{US}\n[timeouts]\nnode_connect_ms = 0"),
                "timeouts.node_connect_ms",
            ),
            (
                format!("{US}\n[timeouts]\nwrite_stall_ms = 0"),
                "timeouts.write_stall_ms",
            ),
            (
                format!("{US}\n[limits]\nconnections = 0"),
                "limits.connections",
            ),
            (format!("production = true\n{US}"), "public_scheme"),
            (
                format!("trusted_proxies = [\"::/0\"]\n{US}"),
                "trusted_proxies",
            ),
            (
                format!("{US}\n[[hostname]]\nname = \"a.example\"\nregion = \"jp\""),
                "hostname.a.example",
            ),
            (
                format!("{US}\n[limits]\nlookups_burst = 0"),
                "limits.lookups_burst",
            ),
            (
                format!("{US}\n[redis]\nconnections = 0"),
                "redis.connections",
            ),
        ] {
            let message = from_toml(&text).unwrap().check().unwrap_err().to_string();
            assert!(message.contains(&format!("`{name}`")), "{message}");
        }
    }

    #[test]
    fn the_url_of_redis_is_set_in_one_place() {
        let redis = |text: &str| from_toml(&format!("[redis]\n{text}")).unwrap().redis;
        assert!(redis("").read_url().unwrap().is_none());
        let url = redis("url = \"redis://a\"").read_url().unwrap();
        assert_eq!(url.unwrap().reveal(), "redis://a");

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("url");
        std::fs::write(&path, "redis://b\n").unwrap();
        let url = redis(&format!("url_file = {path:?}")).read_url().unwrap();
        assert_eq!(url.unwrap().reveal(), "redis://b");

        for (text, setting) in [
            ("url_file = \"/nonexistent\"", "redis.url_file"),
            ("url = \"redis://a\"\nurl_file = \"b\"", "redis.url"),
        ] {
            let message = redis(text).read_url().unwrap_err().to_string();
            assert!(message.contains(&format!("`{setting}`")), "{message}");
        }
    }

    #[test]
    fn no_error_shows_a_key_or_a_password() {
        let canary = "canary0123456789abcdef0123456789abcdef";
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gateway.toml");
        for (text, said) in [
            (format!("[regions.us]\nlink_key = \"{canary}"), "line 2"),
            (format!("[regions.us]\nlink_key = \"{canary}"), "`link_key`"),
            (format!("[redis]\nurl = redis://:{canary}@r"), "`url`"),
            (format!("[regions.us]\n{canary}="), "line 2"),
            (
                format!("[redis]\nconnections = \"{canary}\""),
                "redis.connections",
            ),
            (format!("public_scheme = \"{canary}\""), "public_scheme"),
            ("[redis]\nurl = 9876543210".to_owned(), "redis.url"),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = Settings::load(Some(&file)).unwrap_err();
            for shown in [error.to_string(), format!("{error:?}")] {
                assert!(!shown.contains(canary), "{shown}");
                assert!(!shown.contains("9876543210"), "{shown}");
            }
            assert!(error.to_string().contains(said), "{error}");
        }
    }

    #[test]
    fn a_hostname_of_a_region_that_is_not_here_is_noticed() {
        let hostname = "[[hostname]]\nname = \"a.example\"\nregion = \"us\"";
        let mut settings = from_toml(&format!("{US}\n{hostname}")).unwrap();
        settings.check_hostnames().unwrap();
        assert_eq!(settings.hostnames_not_served().count(), 0);
        settings.serves = Some(vec![RegionId::parse("de").unwrap()]);
        assert_eq!(settings.hostnames_not_served().count(), 1);
        settings.regions.clear();
        let message = settings.check_hostnames().unwrap_err().to_string();
        assert!(message.contains("hostname.a.example"), "{message}");
    }

    #[test]
    fn no_debug_output_shows_a_key() {
        let text = format!("{US}[redis]\nurl = \"redis://:a-password@b\"");
        let shown = format!("{:?}", from_toml(&text).unwrap());
        assert!(!shown.contains("0123456789abcdef"), "{shown}");
        assert!(!shown.contains("a-password"), "{shown}");
    }
}
