//! `meridian config check`: whether the programs would start with their settings files, and all that
//! is in the way, before somebody restarts one.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;
use shared::settings::top_level_names;
use shared::tls::{Identity, IdentityFiles};
use shared::{Clock, SystemClock};

use crate::arguments::{ConfigArguments, ConfigCommand};
use crate::error::CommandError;
use crate::findings::{Findings, Status};
use crate::output::{Output, chain};

/// Whose settings a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Program {
    /// `meridian-gateway`
    Gateway,
    /// `meridian-region-node`
    RegionNode,
}

impl Program {
    /// By the names at the top of the file: most of them are one program's alone.
    fn of_file(file: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
        let names = top_level_names(&text);
        let known = |defaults| names.intersection(&top_level_names(defaults)).count();
        let (gateway, node) = (
            known(gateway::config::DEFAULTS) + usize::from(names.contains("regions")),
            known(region_node::config::DEFAULTS) + usize::from(names.contains("region")),
        );
        match gateway.cmp(&node) {
            std::cmp::Ordering::Greater => Ok(Self::Gateway),
            std::cmp::Ordering::Less => Ok(Self::RegionNode),
            std::cmp::Ordering::Equal => Err(
                "it cannot be told whose settings these are: say --program gateway or --program \
                 region-node"
                    .to_owned(),
            ),
        }
    }
}

/// Checks each file and says what is wrong with it.
///
/// # Errors
/// When something is wrong, after it was said.
pub fn run(arguments: &ConfigArguments, output: Output) -> Result<(), CommandError> {
    let ConfigCommand::Check { files, program } = &arguments.command;
    let mut findings = Findings::default();
    for file in files {
        let mut of_file = OfFile {
            file,
            name: file.display().to_string(),
            findings: &mut findings,
            clock: Arc::new(SystemClock),
            troubles: BTreeSet::new(),
        };
        match program.map_or_else(|| Program::of_file(file), Ok) {
            Ok(Program::Gateway) => of_file.gateway(),
            Ok(Program::RegionNode) => of_file.node(),
            Err(trouble) => of_file.note(Status::Failed, trouble),
        }
    }
    findings.tell(output)
}

/// The look at one file.
struct OfFile<'a> {
    file: &'a Path,
    name: String,
    findings: &'a mut Findings,
    clock: Arc<dyn Clock>,
    /// What was said already: two settings can be in the same trouble.
    troubles: BTreeSet<String>,
}

impl OfFile<'_> {
    fn gateway(&mut self) {
        let settings = match gateway::config::Settings::load(Some(self.file)) {
            Ok(settings) => settings,
            Err(error) => return self.trouble(&error),
        };
        for problem in gateway::startup::Application::problems(&settings, &self.clock) {
            self.trouble(&problem);
        }
        let served = settings.regions.iter();
        let served: Vec<_> = served.filter(|(id, _)| settings.is_served(id)).collect();
        let of_regions = served.iter().filter_map(|(_, of)| of.link_tls.as_ref());
        let on_links = of_regions.chain(&settings.link_tls);
        let on_links = on_links.map(|tls| IdentityFiles {
            certificate_file: tls.certificate_file.clone(),
            key_file: tls.key_file.clone(),
        });
        let at_edge = settings.tls.iter().flat_map(|tls| tls.certificates.clone());
        self.identities(at_edge.chain(on_links));
        let keys = served.iter().filter_map(|(_, of)| of.link_key_file.clone());
        self.secrets(keys.chain(settings.redis.url_file.clone()));
        let names = served.iter().map(|(id, _)| id.as_str());
        let regions = names.collect::<Vec<_>>().join(", ");
        self.conclude(settings.production, &format!("a gateway of {regions}"));
    }

    fn node(&mut self) {
        let settings = match region_node::config::Settings::load(Some(self.file)) {
            Ok(settings) => settings,
            Err(error) => return self.trouble(&error),
        };
        for problem in region_node::startup::Application::problems(&settings, &self.clock) {
            self.trouble(&problem);
        }
        let link = settings.link_tls.iter().map(|tls| IdentityFiles {
            certificate_file: tls.certificate_file.clone(),
            key_file: tls.key_file.clone(),
        });
        self.identities(link);
        let keys = &settings.keys;
        let files = [&keys.link_files, &keys.operator_files, &keys.grant_files];
        let files = files.into_iter().flatten().cloned();
        self.secrets(files.chain(settings.store.url_file.clone()));
        let program = format!("a region-node of {}", settings.region);
        self.conclude(settings.production, &program);
    }

    fn note(&mut self, status: Status, detail: String) {
        self.findings.note(status, &self.name, detail);
    }

    fn trouble(&mut self, error: &dyn Error) {
        let trouble = chain(error);
        if self.troubles.insert(trouble.clone()) {
            self.note(Status::Failed, trouble);
        }
    }

    /// Whether the certificates are good now. Those that cannot be read are among the problems.
    fn identities(&mut self, all: impl Iterator<Item = IdentityFiles>) {
        let now = self.clock.now();
        for files in all {
            let what = files.certificate_file.display().to_string();
            if let Ok(identity) = Identity::read(&files) {
                if identity.is_valid_at(now) || identity.not_after() < now {
                    let ends = identity.not_after();
                    self.findings.note_certificate(&self.name, &what, ends, now);
                } else {
                    self.note(Status::Failed, format!("{what} is not valid yet"));
                }
            }
            self.secrets(std::iter::once(files.key_file));
        }
    }

    fn secrets(&mut self, files: impl Iterator<Item = PathBuf>) {
        for file in files {
            self.findings.note_secret_file(&self.name, &file);
        }
    }

    fn conclude(&mut self, is_production: bool, program: &str) {
        if !is_production {
            let text = "production = false: keys that look like placeholders are taken, and at the \
                        edge plain HTTP";
            self.note(Status::Note, text.to_owned());
        }
        if self.troubles.is_empty() {
            self.note(Status::Ok, format!("{program} starts with it"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    /// What a look at a file of this content has found.
    fn found(text: &str) -> Vec<(Status, String)> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("settings.toml");
        std::fs::write(
            &file,
            text.replace("FOLDER", &folder.path().display().to_string()),
        )
        .unwrap();
        std::fs::write(folder.path().join("a.key"), KEY).unwrap();
        let mut findings = Findings::default();
        let mut of_file = OfFile {
            file: &file,
            name: "file".to_owned(),
            findings: &mut findings,
            clock: Arc::new(SystemClock),
            troubles: BTreeSet::new(),
        };
        match Program::of_file(&file) {
            Ok(Program::Gateway) => of_file.gateway(),
            Ok(Program::RegionNode) => of_file.node(),
            Err(trouble) => of_file.note(Status::Failed, trouble),
        }
        findings.details()
    }

    fn failed(text: &str) -> Vec<String> {
        let found = found(text).into_iter();
        let failed = found.filter(|(status, _)| *status == Status::Failed);
        failed.map(|(_, detail)| detail).collect()
    }

    #[test]
    fn every_trouble_of_a_file_is_said_at_once() {
        let troubles = failed(
            "domain = \"example.com\"\nproduction = true\n\
             [regions.de]\nnodes = [\"https://a:1\"]\nlink_key_file = \"FOLDER/absent.key\"\n\
             [regions.us]\nnodes = []\nlink_key = \"short\"\n\
             [telemetry]\notlp_queue = 0\n\
             [limits]\nconnections = 0\n[tls]\ncertificates = [{ certificate_file = \
             \"FOLDER/absent.pem\", key_file = \"FOLDER/a.key\" }]\n\
             [redis]\nurl = \"http://a\"\n",
        );
        for said in [
            "public_scheme",
            "limits.connections",
            "absent.key",
            "regions.de.nodes",
            "regions.us.nodes",
            "regions.us.link_key",
            "absent.pem",
            "redis.url",
            "telemetry.otlp_queue",
        ] {
            let is_said = troubles.iter().any(|trouble| trouble.contains(said));
            assert!(is_said, "{said}: {troubles:?}");
        }

        let troubles = failed(
            "region = \"de\"\nproduction = true\n[limits]\nrequest_ms = 0\n\
             [telemetry]\nsample_ratio = 2.0\n\
             [store]\nengine = \"postgres\"\nurl = \"nonsense\"\n\
             [keys]\nlink_files = \"FOLDER/absent.key\"\ngrant_files = \"FOLDER/a.key\"\n\
             [link_tls]\ncertificate_file = \"FOLDER/a.pem\"\nkey_file = \"FOLDER/a.key\"\n\
             client_ca_file = \"FOLDER/ca.pem\"\n",
        );
        for said in [
            "limits.request_ms",
            "store.url",
            "absent.key",
            "keys.operator",
            "ca.pem",
            "telemetry.sample_ratio",
        ] {
            let is_said = troubles.iter().any(|trouble| trouble.contains(said));
            assert!(is_said, "{said}: {troubles:?}");
        }
        assert!(troubles.iter().all(|trouble| !trouble.contains("nonsense")));
    }

    #[test]
    fn a_file_of_either_program_is_recognised_and_can_be_good() {
        let node = format!(
            "region = \"de\"\n[keys]\nlink_files = \"FOLDER/a.key\"\noperator = \"{}\"\n",
            KEY.to_uppercase()
        );
        let good = found(&node);
        assert!(failed(&node).is_empty(), "{good:?}");
        let says_node = |(_, detail): &(Status, String)| detail.contains("a region-node of de");
        assert!(good.iter().any(says_node), "{good:?}");
        let gateway = format!("[regions.de]\nnodes = [\"http://a:1\"]\nlink_key = \"{KEY}\"\n");
        let good = found(&gateway);
        let says_gateway = |(_, detail): &(Status, String)| detail.contains("a gateway of de");
        assert!(good.iter().any(says_gateway), "{good:?}");
        assert!(failed(&gateway).is_empty(), "{good:?}");

        assert!(failed("")[0].contains("--program"));
        assert!(failed("region = \"de\"\nregionn = 1\n")[0].contains("regionn"));
        let two_hosts = format!(
            "{gateway}[[hostname]]\nname = \"a.example\"\nregion = \"de\"\n\
             [[hostname]]\nname = \"a.example\"\nregion = \"de\"\n"
        );
        assert!(failed(&two_hosts)[0].contains("a.example"));
    }
}
