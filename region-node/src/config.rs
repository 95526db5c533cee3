//! [`Settings`]: what an operator can set, read once at start.
//!
//! Layers: the compiled-in `config.default.toml`, a file, the environment (`MERIDIAN_NODE__…`).
//! Here live the settings and the checks that need no I/O but reading a key file. What never
//! lives here: the parts that are built from them (`startup`).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use shared::settings::{Layers, SettingsError};
use shared::tls::PemError;
use shared::{LogFormat, LogLevel, Network, RegionId, Secret};
use telemetry::ExportSettings;

/// The commented defaults.
pub const DEFAULTS: &str = include_str!("../config.default.toml");
/// What the names of environment variables begin with.
pub const ENVIRONMENT_PREFIX: &str = "MERIDIAN_NODE__";
/// How many keys of a kind can be live: the present one, and the last or the next.
const MAX_LIVE_KEYS: usize = 2;

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
        setting: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A key file cannot be read.
    #[error("setting `{setting}`: {path} cannot be read")]
    KeyFile {
        /// The setting's full name.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A file with a certificate or a key cannot be used.
    #[error("setting `{setting}` cannot be used")]
    Tls {
        /// The setting's full name.
        setting: &'static str,
        /// Which file, and why.
        #[source]
        source: PemError,
    },
}

/// Everything that can be set. `config.default.toml` says what each means.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The region whose data this node owns.
    pub region: RegionId,
    /// Where gateways and the operator connect.
    pub link_listen: SocketAddr,
    /// Where health checks connect.
    pub management_listen: SocketAddr,
    /// Whether the stricter checks of production apply.
    pub production: bool,
    /// Where the data is.
    pub store: StoreSettings,
    /// Who may call, and what grants are signed with.
    pub keys: KeySettings,
    /// How the link is encrypted; absent is not at all.
    pub link_tls: Option<LinkTlsSettings>,
    /// How much is too much.
    pub limits: LimitSettings,
    /// How API tokens are handled.
    pub tokens: TokenSettings,
    /// How long is remembered what happened.
    pub retention: RetentionSettings,
    /// What is kept of provisioning requests.
    pub activity: ActivitySettings,
    /// How events are sent.
    pub events: EventSettings,
    /// What is written to the log.
    pub telemetry: TelemetrySettings,
}

/// A storage engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// One embedded file, which belongs to one node.
    Sqlite,
    /// A database that several nodes share.
    Postgres,
}

/// `[store]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSettings {
    /// Which engine.
    pub engine: Engine,
    /// SQLite: the file; `{region}` stands for the region.
    pub path: PathBuf,
    /// PostgreSQL: where the database is; `{region}` stands for the region.
    pub url: Option<Secret>,
    /// PostgreSQL: a file that holds the URL.
    pub url_file: Option<PathBuf>,
    /// PostgreSQL: a PEM file with the authorities that sign its certificate.
    pub ca_file: Option<PathBuf>,
    /// PostgreSQL: most connections for reads.
    pub connections: usize,
    /// PostgreSQL: lanes in which writes share commits, each with a connection.
    pub writers: usize,
    /// SQLite: most connections that read at the same time.
    pub readers: usize,
    /// SQLite: page cache of the writing connection, in MiB.
    pub writer_cache_mib: u32,
    /// SQLite: page cache of each reading connection, in MiB.
    pub reader_cache_mib: u32,
    /// Most writes that wait.
    pub write_queue: usize,
}

/// `[keys]`. A list may be written as a single text.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeySettings {
    /// Link keys.
    #[serde(deserialize_with = "one_or_more")]
    pub link: Vec<Secret>,
    /// Files that hold a link key each.
    #[serde(deserialize_with = "one_or_more")]
    pub link_files: Vec<PathBuf>,
    /// Operator keys.
    #[serde(deserialize_with = "one_or_more")]
    pub operator: Vec<Secret>,
    /// Files that hold an operator key each.
    #[serde(deserialize_with = "one_or_more")]
    pub operator_files: Vec<PathBuf>,
    /// Grant keys, the one that signs first.
    #[serde(deserialize_with = "one_or_more")]
    pub grant: Vec<Secret>,
    /// Files that hold a grant key each.
    #[serde(deserialize_with = "one_or_more")]
    pub grant_files: Vec<PathBuf>,
}

/// `[link_tls]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkTlsSettings {
    /// What this node proves itself with.
    pub certificate_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
    /// The authorities that sign the certificates of gateways and of the operator.
    pub client_ca_file: PathBuf,
}

/// `[limits]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitSettings {
    /// Threads that serve requests; absent is one a processor.
    pub workers: Option<usize>,
    /// Connections, for each worker.
    pub connections: usize,
    /// Between two requests of one connection.
    pub keep_alive_ms: u64,
    /// For a whole request.
    pub request_ms: u64,
    /// From one look at the certificate's files to the next.
    pub certificates_look_ms: u64,
    /// Between the wish to stop and the end of listening.
    pub drain_ms: u64,
    /// For requests under way at stop, in seconds.
    pub shutdown_s: u64,
}

/// `[tokens]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSettings {
    /// Life of a token after its rotation, in seconds.
    pub rotation_overlap_s: u32,
    /// Between two writes of times of last use.
    pub last_used_flush_ms: u64,
}

/// `[retention]`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionSettings {
    /// Of the change feed, in days.
    pub changes_days: u32,
    /// Of outcomes of requests that clients named, in hours.
    pub idempotency_h: u32,
    /// Of audit records, in days.
    pub audit_days: u32,
}

/// `[events]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventSettings {
    /// The beginning of links in resources that are sent.
    pub base_url: String,
    /// Whether webhooks may have `http://` URLs.
    pub allow_http: bool,
    /// Networks that are called though they are not public.
    pub allowed_networks: Vec<Network>,
    /// A PEM file with authorities that sign receivers' certificates, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// For an attempt.
    pub timeout_ms: u64,
    /// How often an event is tried.
    pub attempts: u32,
    /// Between the first two attempts.
    pub first_retry_ms: u64,
    /// How long an endpoint may take nothing, in hours.
    pub pause_after_h: u32,
    /// For how long changes are kept that an endpoint has not had, in days.
    pub keep_days: u32,
}

/// `[activity]`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActivitySettings {
    /// Whether requests are kept at all.
    pub enabled: bool,
    /// Between two writes.
    pub flush_ms: u64,
    /// Most requests that wait to be written.
    pub queue: usize,
    /// For how many days they are kept.
    pub keep_days: u32,
    /// How many requests of a tenant are kept.
    pub keep_requests: u64,
}

/// `[telemetry]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetrySettings {
    /// How lines look.
    pub format: LogFormat,
    /// Which lines of ours are written.
    pub level: LogLevel,
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

/// The live keys, read and checked.
#[derive(Clone, Debug)]
pub struct LiveKeys {
    /// What gateways present.
    pub link: Vec<Secret>,
    /// What the operator presents.
    pub operator: Vec<Secret>,
    /// What grants are signed with, the one that signs first. Empty outside production: make one.
    pub grant: Vec<Secret>,
}

impl Settings {
    /// The defaults, for a program that sets the rest itself: the region, which is `us` here, and
    /// the keys, of which there are none.
    ///
    /// # Errors
    /// When the compiled-in defaults are broken; a test keeps them whole.
    pub fn defaults() -> Result<Self, ConfigError> {
        let layers = Layers::of(DEFAULTS)?.with_text("region = \"us\"")?;
        Ok(layers.extract()?)
    }

    /// Reads all layers.
    ///
    /// # Errors
    /// [`ConfigError::Read`], which names the setting.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut layers = Layers::of(DEFAULTS)?;
        if let Some(file) = file {
            layers = layers.with_file(file)?;
        }
        Ok(layers.with_environment(ENVIRONMENT_PREFIX).extract()?)
    }

    /// The file of the store, with the region in its place.
    #[must_use]
    pub fn store_path(&self) -> PathBuf {
        match self.store.path.to_str() {
            Some(path) => PathBuf::from(path.replace("{region}", self.region.as_str())),
            None => self.store.path.clone(),
        }
    }

    /// Where PostgreSQL is, with the region in its place.
    ///
    /// # Errors
    /// [`ConfigError`], which names the setting and never shows the URL.
    pub fn store_url(&self) -> Result<Secret, ConfigError> {
        const SETTING: &str = "store.url";
        let url = match (&self.store.url, &self.store.url_file) {
            (Some(url), None) => url.clone(),
            (None, Some(path)) => {
                let text =
                    std::fs::read_to_string(path).map_err(|source| ConfigError::KeyFile {
                        setting: "store.url_file",
                        path: path.clone(),
                        source,
                    })?;
                Secret::new(&text)
            }
            (Some(_), Some(_)) => {
                return Err(ConfigError::Invalid {
                    setting: SETTING,
                    problem: "is given, and `store.url_file` as well; one of them is enough"
                        .to_owned(),
                });
            }
            (None, None) => {
                return Err(ConfigError::Invalid {
                    setting: SETTING,
                    problem: "PostgreSQL needs one, such as \
                              postgres://user:password@host:5432/meridian_{region}; or name a \
                              file that holds it in `store.url_file`"
                        .to_owned(),
                });
            }
        };
        let region = self.region.as_str();
        Ok(Secret::new(&url.reveal().replace("{region}", region)))
    }

    /// Checks what types cannot.
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
        let positive = [
            ("store.readers", self.store.readers as u64),
            ("store.connections", self.store.connections as u64),
            ("store.writers", self.store.writers as u64),
            ("store.write_queue", self.store.write_queue as u64),
            ("limits.connections", self.limits.connections as u64),
            ("limits.keep_alive_ms", self.limits.keep_alive_ms),
            ("limits.request_ms", self.limits.request_ms),
            (
                "limits.certificates_look_ms",
                self.limits.certificates_look_ms,
            ),
            ("limits.workers", self.limits.workers.unwrap_or(1) as u64),
            ("tokens.last_used_flush_ms", self.tokens.last_used_flush_ms),
            ("activity.flush_ms", self.activity.flush_ms),
            ("activity.queue", self.activity.queue as u64),
            ("activity.keep_days", self.activity.keep_days.into()),
            ("activity.keep_requests", self.activity.keep_requests),
            ("retention.changes_days", self.retention.changes_days.into()),
            (
                "retention.idempotency_h",
                self.retention.idempotency_h.into(),
            ),
            ("retention.audit_days", self.retention.audit_days.into()),
            ("events.timeout_ms", self.events.timeout_ms),
            ("events.attempts", self.events.attempts.into()),
            ("events.first_retry_ms", self.events.first_retry_ms),
            ("events.pause_after_h", self.events.pause_after_h.into()),
            ("events.keep_days", self.events.keep_days.into()),
        ];
        let zeros = positive.into_iter().filter(|(_, value)| *value == 0);
        let problems = zeros.map(|(setting, _)| ConfigError::Invalid {
            setting,
            problem: "must not be 0".to_owned(),
        });
        problems.collect()
    }

    /// Reads the key files and checks all keys.
    ///
    /// # Errors
    /// [`ConfigError`], which names the setting and never shows a key.
    pub fn live_keys(&self) -> Result<LiveKeys, ConfigError> {
        let (live, problems) = self.read_keys();
        problems.into_iter().next().map_or(Ok(live), Err)
    }

    /// The keys that can be read, and all that is wrong with the keys.
    #[must_use]
    pub fn read_keys(&self) -> (LiveKeys, Vec<ConfigError>) {
        let keys = &self.keys;
        let mut problems = Vec::new();
        let mut read = |setting, texts, files, required| {
            let read = self.keys_of(setting, texts, files, required);
            read.unwrap_or_else(|error| {
                problems.push(error);
                Vec::new()
            })
        };
        let link = read("keys.link", &keys.link, &keys.link_files, true);
        let operator = read("keys.operator", &keys.operator, &keys.operator_files, true);
        let grant = read(
            "keys.grant",
            &keys.grant,
            &keys.grant_files,
            self.production,
        );
        let mut shared_by = |setting, ours: &[Secret], others: &[&[Secret]]| {
            let shared = ours
                .iter()
                .any(|key| others.iter().any(|other| other.contains(key)));
            if shared {
                problems.push(ConfigError::Invalid {
                    setting,
                    problem: "a key has one purpose; this one is used for another as well"
                        .to_owned(),
                });
            }
        };
        shared_by("keys.operator", &operator, &[&link]);
        shared_by("keys.grant", &grant, &[&link, &operator]);
        let live = LiveKeys {
            link,
            operator,
            grant,
        };
        (live, problems)
    }

    fn keys_of(
        &self,
        setting: &'static str,
        texts: &[Secret],
        files: &[PathBuf],
        required: bool,
    ) -> Result<Vec<Secret>, ConfigError> {
        let invalid = |problem: String| ConfigError::Invalid { setting, problem };
        let mut keys: Vec<Secret> = texts.iter().map(|key| Secret::new(key.reveal())).collect();
        for path in files {
            let text = std::fs::read_to_string(path).map_err(|source| ConfigError::KeyFile {
                setting,
                path: path.clone(),
                source,
            })?;
            keys.push(Secret::new(&text));
        }
        if keys.is_empty() && required {
            return Err(invalid(format!(
                "no key is given; give one of at least 32 random bytes (`openssl rand -hex 32`), or name a file in `{setting}_files`"
            )));
        }
        if keys.len() > MAX_LIVE_KEYS {
            return Err(invalid(format!(
                "at most {MAX_LIVE_KEYS} keys can be live at the same time"
            )));
        }
        for key in &keys {
            key.check_key(self.production)
                .map_err(|weak| invalid(format!("a key {weak}")))?;
        }
        Ok(keys)
    }
}

/// A list, or one value in its place: what an environment variable can hold.
fn one_or_more<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMore<T> {
        One(T),
        More(Vec<T>),
    }
    Ok(match OneOrMore::deserialize(deserializer)? {
        OneOrMore::One(one) => vec![one],
        OneOrMore::More(more) => more,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Vec<Secret> {
        vec![Secret::new(text)]
    }

    fn settings() -> Settings {
        let mut settings = Settings::defaults().unwrap();
        settings.production = true;
        settings.keys.link = key("link-0123456789abcdefghijklmnopqrstuv");
        settings.keys.operator = key("oper-0123456789abcdefghijklmnopqrstuv");
        settings.keys.grant = key("gran-0123456789abcdefghijklmnopqrstuv");
        settings
    }

    #[test]
    fn the_defaults_are_whole() {
        let settings = settings();
        settings.check().unwrap();
        settings.live_keys().unwrap();
        assert_eq!(settings.store_path(), Path::new("data/us/meridian.db"));
    }

    #[test]
    fn the_url_of_postgres_is_named_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("url");
        std::fs::write(&file, "postgres://m@db/m_{region}\n").unwrap();
        let mut settings = settings();
        let missing = settings.store_url().unwrap_err().to_string();
        assert!(missing.contains("store.url"), "{missing}");
        settings.store.url_file = Some(file);
        assert_eq!(
            settings.store_url().unwrap().reveal(),
            "postgres://m@db/m_us"
        );
        settings.store.url = Some(Secret::new("postgres://secret@db/x"));
        let twice = settings.store_url().unwrap_err().to_string();
        assert!(twice.contains("store.url_file") && !twice.contains("secret"));
    }

    #[test]
    fn a_file_overrides_and_unknown_settings_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.toml");
        std::fs::write(&file, "region = \"de\"\n[keys]\nlink = \"x\"\n").unwrap();
        let settings = Settings::load(Some(&file)).unwrap();
        assert_eq!(settings.region.as_str(), "de");
        assert_eq!(settings.keys.link.len(), 1);

        std::fs::write(&file, "region = \"de\"\n[limits]\nworker = 2\n").unwrap();
        let error = Settings::load(Some(&file)).unwrap_err().to_string();
        assert!(error.contains("worker"), "{error}");
        assert!(Settings::load(Some(&folder.path().join("absent"))).is_err());
    }

    #[test]
    fn no_error_shows_a_key_or_a_password() {
        let canary = "canary0123456789abcdef0123456789abcdef";
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.toml");
        for (text, said) in [
            (format!("[keys]\nlink = \"{canary}"), "line 3"),
            (format!("[keys]\nlink = \"{canary}"), "`link`"),
            (format!("[store]\nurl = postgres://m:{canary}@db"), "`url`"),
            (
                format!("[store]\nengine = \"postgres://m:{canary}@db\""),
                "store.engine",
            ),
            (
                format!("[limits]\nworkers = \"{canary}\""),
                "limits.workers",
            ),
            ("[store]\nurl = 9876543210".to_owned(), "store.url"),
        ] {
            std::fs::write(&file, format!("region = \"us\"\n{text}\n")).unwrap();
            let error = Settings::load(Some(&file)).unwrap_err();
            for shown in [error.to_string(), format!("{error:?}")] {
                assert!(!shown.contains(canary), "{shown}");
                assert!(!shown.contains("9876543210"), "{shown}");
            }
            assert!(error.to_string().contains(said), "{error}");
        }
    }

    #[test]
    fn missing_short_placeholder_and_shared_keys_stop_the_start() {
        type Change = fn(&mut Settings);
        let complaint = |change: Change| {
            let mut settings = settings();
            change(&mut settings);
            settings.live_keys().unwrap_err().to_string()
        };
        let cases: [(Change, &str); 7] = [
            (|s| s.keys.link.clear(), "keys.link"),
            (|s| s.keys.operator.clear(), "keys.operator"),
            (|s| s.keys.grant.clear(), "keys.grant"),
            (|s| s.keys.link = key("short"), "keys.link"),
            (|s| s.keys.operator = key(&"a".repeat(64)), "keys.operator"),
            (|s| s.keys.grant = s.keys.link.clone(), "keys.grant"),
            (
                |s| s.keys.link_files = vec!["/nonexistent".into()],
                "keys.link",
            ),
        ];
        for (change, setting) in cases {
            let complaint = complaint(change);
            assert!(complaint.contains(setting), "{complaint}");
        }
    }

    #[test]
    fn keys_come_from_files_too() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("link");
        std::fs::write(&file, "file-0123456789abcdefghijklmnopqrstuv\n").unwrap();
        let mut settings = settings();
        settings.keys.link_files = vec![file];
        let keys = settings.live_keys().unwrap();
        assert_eq!(keys.link.len(), 2);
        assert_eq!(
            keys.link[1].reveal(),
            "file-0123456789abcdefghijklmnopqrstuv"
        );
    }
}
