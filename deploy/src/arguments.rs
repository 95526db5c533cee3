//! The command surface, as clap reads it. Scripts depend on it: names here do not change.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use shared::{Dialect, LogLevel, Network, RegionId, Scope, TenantId, TokenId};

use crate::commands::config::Program;
use crate::duration;
use crate::operator_api::LinkTlsFiles;

/// Regions that `meridian up` starts unless it is told otherwise.
const REGIONS: [&str; 4] = ["us", "de", "jp", "au"];

/// Runs and administers Meridian, a multi-region SCIM provisioning service.
///
/// Without a command it does what `meridian up` does.
#[derive(Debug, Parser)]
#[command(name = "meridian", version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Answer in JSON: one value on standard output and nothing else.
    #[arg(long, global = true)]
    pub json: bool,

    /// Where `meridian up` keeps its data, and where the other commands find it. Given here, it goes
    /// before an endpoint in the environment.
    #[arg(
        long,
        global = true,
        value_name = "DIRECTORY",
        default_value = "./data",
        env = "MERIDIAN_DATA_DIR"
    )]
    pub data_dir: PathBuf,
}

impl Arguments {
    /// Reads the arguments (the program's name first), and what the environment adds to them. Of the
    /// two that say where to work, `remote.endpoint` is there only if it is to be used, and the
    /// operator key with it: a `--data-dir` on the command line goes before an endpoint that the
    /// environment happens to hold.
    ///
    /// # Errors
    /// clap's complaint, help or version; also when both were given on the command line.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut command = Self::command();
        let matches = command.try_get_matches_from_mut(arguments)?;
        let mut read =
            Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
        let Some((_, of_command)) = matches.subcommand() else {
            return Ok(read);
        };
        let remote = read.command.as_mut().and_then(Command::remote_mut);
        if let Some(remote) = remote.filter(|remote| remote.endpoint.is_some()) {
            let endpoint_is_said = is_said(of_command, "endpoint");
            match is_said(&matches, "data_dir") {
                true if endpoint_is_said => {
                    return Err(command.error(
                        ErrorKind::ArgumentConflict,
                        "--data-dir and --endpoint name two places: give one of them",
                    ));
                }
                true => *remote = RemoteArguments::default(),
                false if remote.operator_key.is_none() => {
                    return Err(command.error(
                        ErrorKind::MissingRequiredArgument,
                        "--endpoint needs the region's operator key: --operator-key FILE",
                    ));
                }
                false => {}
            }
        }
        Ok(read)
    }
}

/// Whether an argument stands on the command line, and not in the environment.
fn is_said(matches: &ArgMatches, argument: &str) -> bool {
    matches.value_source(argument) == Some(ValueSource::CommandLine)
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a gateway and region-nodes in this process; stop them with Ctrl-C.
    Up(UpArguments),
    /// Create, list, show, suspend, resume and delete tenants.
    Tenant(TenantArguments),
    /// Create, list, rotate and revoke API tokens.
    Token(TokenArguments),
    /// Look whether audit records were altered.
    Audit(AuditArguments),
    /// Write everything that a region holds to a file, while it serves.
    Backup(BackupArguments),
    /// Put a backup into a region, all of it or nothing.
    Restore(RestoreArguments),
    /// Check settings files of the programs before they are used.
    Config(ConfigArguments),
    /// Say in sentences what is wrong, and what is well.
    Doctor(DoctorArguments),
}

impl Command {
    fn remote_mut(&mut self) -> Option<&mut RemoteArguments> {
        match self {
            Self::Up(_) | Self::Config(_) => None,
            Self::Tenant(arguments) => Some(&mut arguments.remote),
            Self::Token(arguments) => Some(&mut arguments.remote),
            Self::Audit(arguments) => Some(&mut arguments.remote),
            Self::Backup(arguments) => Some(&mut arguments.remote),
            Self::Restore(arguments) => Some(&mut arguments.remote),
            Self::Doctor(arguments) => Some(&mut arguments.remote),
        }
    }
}

impl Default for Command {
    fn default() -> Self {
        Self::Up(UpArguments::default())
    }
}

/// How to start.
#[derive(Debug, Args)]
pub struct UpArguments {
    /// Address and port of the gateway; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// Domain of the regional hosts: `global-us.<domain>`.
    #[arg(long, default_value = "localhost")]
    pub domain: String,

    /// Regions to start, with commas between them.
    #[arg(long, value_name = "REGION,…", value_delimiter = ',', default_values = REGIONS)]
    pub regions: Vec<RegionId>,

    /// PostgreSQL server for the regions' data, in place of files in the data directory:
    /// `postgres://user:password@host:5432`. Each region has a database of its own there,
    /// `meridian_us` and so on, which is made if it is missing; a name in the URL takes the place
    /// of `meridian`.
    #[arg(
        long,
        value_name = "URL",
        env = "MERIDIAN_POSTGRES_URL",
        hide_env_values = true
    )]
    pub postgres: Option<String>,

    /// Redis that the gateway shares with others: `redis://user:password@host:6379`, `rediss://`
    /// for TLS, `unix:///path` for a socket. It saves look-ups of tokens and is never needed.
    #[arg(
        long,
        value_name = "URL",
        env = "MERIDIAN_REDIS_URL",
        hide_env_values = true
    )]
    pub redis: Option<String>,

    /// A collector of OpenTelemetry, which gets every request's trace and all metrics by OTLP over
    /// HTTP: `http://127.0.0.1:4318`.
    #[arg(long, value_name = "URL", env = "MERIDIAN_OTLP_ENDPOINT")]
    pub otlp: Option<String>,

    /// Networks of this machine, or private ones, to which webhooks may be sent, over plain HTTP too:
    /// `127.0.0.0/8` to try them out.
    #[arg(
        long,
        value_name = "NETWORK,…",
        value_delimiter = ',',
        env = "MERIDIAN_WEBHOOK_NETWORKS"
    )]
    pub webhook_networks: Vec<Network>,

    /// How much to log, as JSON lines on standard error.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: LogLevel,
}

impl Default for UpArguments {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            domain: "localhost".to_owned(),
            regions: REGIONS
                .iter()
                .filter_map(|region| RegionId::parse(region).ok())
                .collect(),
            postgres: std::env::var("MERIDIAN_POSTGRES_URL").ok(),
            redis: std::env::var("MERIDIAN_REDIS_URL").ok(),
            otlp: std::env::var("MERIDIAN_OTLP_ENDPOINT").ok(),
            webhook_networks: std::env::var("MERIDIAN_WEBHOOK_NETWORKS")
                .iter()
                .flat_map(|networks| networks.split(','))
                .filter_map(|network| Network::parse(network).ok())
                .collect(),
            log_level: LogLevel::Info,
        }
    }
}

/// Which region-node to speak to, when it is not one that `meridian up` started here.
#[derive(Clone, Default, Debug, Args)]
pub struct RemoteArguments {
    /// A region-node's link address, such as `http://10.0.0.5:9001`, in place of the local one;
    /// `https://` where the link is encrypted, and then the three files below are needed.
    #[arg(long, global = true, value_name = "URL", env = "MERIDIAN_ENDPOINT")]
    pub endpoint: Option<String>,

    /// File with the region's operator key, for `--endpoint`.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "MERIDIAN_OPERATOR_KEY_FILE"
    )]
    pub operator_key: Option<PathBuf>,

    /// File with the authorities that sign the nodes' certificates, for an encrypted link.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "MERIDIAN_CA_FILE",
        requires_all = ["certificate_file", "key_file"]
    )]
    pub ca_file: Option<PathBuf>,

    /// File with the certificate that proves us to be allowed on an encrypted link.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "MERIDIAN_CERTIFICATE_FILE",
        requires_all = ["ca_file", "key_file"]
    )]
    pub certificate_file: Option<PathBuf>,

    /// File with that certificate's key.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "MERIDIAN_KEY_FILE",
        requires_all = ["ca_file", "certificate_file"]
    )]
    pub key_file: Option<PathBuf>,
}

impl RemoteArguments {
    /// The files for an encrypted link: all three, or none.
    #[must_use]
    pub fn link_tls(&self) -> Option<LinkTlsFiles> {
        LinkTlsFiles::of([&self.ca_file, &self.certificate_file, &self.key_file])
    }
}

/// `meridian tenant …`
#[derive(Debug, Args)]
pub struct TenantArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: TenantCommand,

    /// Where.
    #[command(flatten)]
    pub remote: RemoteArguments,

    /// The tenant's region. Needed to create a tenant; elsewhere it saves looking in each one.
    #[arg(long, global = true)]
    pub region: Option<RegionId>,
}

/// What can be done to tenants.
#[derive(Debug, Subcommand)]
pub enum TenantCommand {
    /// Create a tenant in a region, where it stays.
    Create {
        /// What you call the customer.
        #[arg(long)]
        name: String,
    },
    /// List the tenants of every region, or of one.
    List,
    /// Show a tenant.
    Show {
        /// The tenant's id.
        id: TenantId,
    },
    /// Stop serving a tenant; its data stays.
    Suspend {
        /// The tenant's id.
        id: TenantId,
    },
    /// Serve a suspended tenant again.
    Resume {
        /// The tenant's id.
        id: TenantId,
    },
    /// Erase a tenant with its users and tokens, at once and for good.
    Delete {
        /// The tenant's id.
        id: TenantId,
    },
    /// Write a tenant's users and groups to a file, as a client reads them.
    Export {
        /// The tenant's id.
        id: TenantId,
        /// The file (JSON Lines), for its owner's eyes only.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
}

/// `meridian audit …`
#[derive(Debug, Args)]
pub struct AuditArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: AuditCommand,

    /// Where.
    #[command(flatten)]
    pub remote: RemoteArguments,

    /// The region; without it, every one.
    #[arg(long, global = true)]
    pub region: Option<RegionId>,
}

/// What can be done with the audit.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Walk along the chain of each tenant's audit records and say where one was altered, removed,
    /// inserted or moved. Ends with an error if any was.
    Verify {
        /// The tenant; without it, every one.
        #[arg(long)]
        tenant: Option<TenantId>,
    },
}

/// `meridian doctor`
#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// Where.
    #[command(flatten)]
    pub remote: RemoteArguments,

    /// File that lists gateways and region-nodes: all of them are looked at, and held against each
    /// other. deploy/example/deployment.toml is one.
    #[arg(long, value_name = "FILE")]
    pub deployment: Option<PathBuf>,
}

/// `meridian config …`
#[derive(Debug, Args)]
pub struct ConfigArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What can be done with settings files.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Read files of either program as the program would, with the environment and with the keys and
    /// certificates that they name, and say all that is wrong. Starts nothing, connects to nothing.
    Check {
        /// Settings files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Whose settings they are, where the files do not make it clear.
        #[arg(long)]
        program: Option<Program>,
    },
}

/// `meridian backup`
#[derive(Debug, Args)]
pub struct BackupArguments {
    /// Where.
    #[command(flatten)]
    pub remote: RemoteArguments,

    /// The region, where several run here.
    #[arg(long)]
    pub region: Option<RegionId>,

    /// The file, for its owner's eyes only. It takes its name when it is whole and on the disk.
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
}

/// `meridian restore`
#[derive(Debug, Args)]
pub struct RestoreArguments {
    /// Where.
    #[command(flatten)]
    pub remote: RemoteArguments,

    /// The region, where several run here. It must be the one that the backup is of.
    #[arg(long)]
    pub region: Option<RegionId>,

    /// The file that `meridian backup` wrote.
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,

    /// Put the backup in the place of everything that the region holds. Tokens that the region
    /// knows keep their state: what was revoked stays revoked.
    #[arg(long)]
    pub replace: bool,

    /// Revoke every token of the restored tenants.
    #[arg(long)]
    pub revoke_tokens: bool,
}

/// `meridian token …`
#[derive(Debug, Args)]
pub struct TokenArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: TokenCommand,

    /// Where.
    #[command(flatten)]
    pub remote: RemoteArguments,

    /// The tenant's region; it saves looking in each one.
    #[arg(long, global = true)]
    pub region: Option<RegionId>,
}

/// What can be done to API tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Create a token and show it, this once.
    Create {
        /// The tenant's id.
        #[arg(long)]
        tenant: TenantId,
        /// What you call the token.
        #[arg(long)]
        name: Option<String>,
        /// What it may be used for: `scim` or `admin`.
        #[arg(long, default_value = "scim")]
        scope: Scope,
        /// What its client speaks where neither path nor body says: `2.0` or `1.1`.
        #[arg(long, value_name = "VERSION", default_value = "2.0")]
        scim_version: Dialect,
        /// After how long it ends, such as `365d`, `72h` or `30m`. Never, if not given.
        #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
        expires: Option<Duration>,
        /// From where it may be used, such as `203.0.113.0/24`; several times for several
        /// networks. From anywhere, if not given.
        #[arg(long = "network", value_name = "NETWORK")]
        networks: Vec<Network>,
    },
    /// List a tenant's tokens, without their secrets.
    List {
        /// The tenant's id.
        #[arg(long)]
        tenant: TenantId,
    },
    /// Create a successor of a token and show it, this once; the old one lives on for a while.
    Rotate {
        /// The token's id (`tok_…`), not the token.
        id: TokenId,
        /// How long the old token lives on.
        #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "72h")]
        overlap: Duration,
        /// After how long the successor ends. As long as the old one was to live, if not given.
        #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
        expires: Option<Duration>,
        /// From where the successor may be used, in place of the old one's networks.
        #[arg(long = "network", value_name = "NETWORK")]
        networks: Vec<Network>,
    },
    /// End a token at once, everywhere.
    Revoke {
        /// The token's id (`tok_…`), not the token.
        id: TokenId,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_surface_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn no_command_means_up_with_its_defaults() {
        let explicit = Arguments::try_parse_from(["meridian", "up"]).unwrap();
        let Some(Command::Up(explicit)) = explicit.command else {
            panic!("`up` was not understood");
        };
        let implied = UpArguments::default();
        assert_eq!(explicit.listen, implied.listen);
        assert_eq!(explicit.domain, implied.domain);
        assert_eq!(explicit.regions, implied.regions);
        assert_eq!(explicit.log_level, implied.log_level);
        assert_eq!(implied.regions.len(), REGIONS.len());
    }

    fn read(arguments: &[&str]) -> Result<RemoteArguments, clap::Error> {
        let arguments = ["meridian"].iter().chain(arguments).map(OsString::from);
        let mut command = Arguments::read(arguments)?.command.unwrap();
        Ok(command.remote_mut().unwrap().clone())
    }

    #[test]
    fn there_is_one_place_to_work_at() {
        let endpoint = ["--endpoint", "http://a", "--operator-key", "k"];
        for command in [
            &["tenant", "list"][..],
            &["backup", "--to", "f"],
            &["doctor"],
        ] {
            let with = |more: &[&str]| read(&[command, more].concat());
            assert!(with(&endpoint).unwrap().endpoint.is_some());
            assert!(with(&["--data-dir", "d"]).unwrap().endpoint.is_none());
            let both = with(&[&endpoint[..], &["--data-dir", "d"]].concat()).unwrap_err();
            assert!(both.to_string().contains("give one of them"), "{both}");
            let keyless = with(&["--endpoint", "http://a"]).unwrap_err();
            assert!(keyless.to_string().contains("--operator-key"), "{keyless}");
        }
        let both = [
            "--data-dir",
            "d",
            "tenant",
            "--endpoint",
            "http://a",
            "list",
        ];
        let both = read(&both).unwrap_err();
        assert!(both.to_string().contains("give one of them"), "{both}");
    }

    #[test]
    fn common_arguments_may_stand_behind_the_command() {
        let parsed = Arguments::try_parse_from([
            "meridian",
            "token",
            "create",
            "--region",
            "us",
            "--tenant",
            "ten_0123456789012345678901",
            "--expires",
            "365d",
            "--json",
            "--data-dir",
            "/tmp/x",
        ])
        .unwrap();
        assert!(parsed.json);
        assert_eq!(parsed.data_dir, PathBuf::from("/tmp/x"));
    }
}
