//! Gateways and region-nodes that run as programs of their own: each is looked at, and all are held
//! against each other. Which there are is in a file; `deploy/example/deployment.toml` is one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::Value;
use shared::settings::Layers;
use shared::{Clock as _, RegionId, SystemClock, Timestamp};

use super::{free_space, operator_key, ready, redis};
use crate::commands::read_key;
use crate::error::CommandError;
use crate::findings::{Findings, Status};
use crate::operator_api::{LinkTlsFiles, OperatorApi, OperatorApiError, http_client};
use crate::output::chain;

/// What the settings of the file are called: an error names no other words of it.
const NAMES: &str = "# gateways regions operator_key_file ca_file certificate_file key_file nodes \
                     link management backups backups_max_age_h";
/// A backup a day, and some time to write it.
const BACKUPS_MAX_AGE_H: u64 = 26;
/// By which metrics programs say when their certificates end, and what those are for.
const CERTIFICATES: [(&str, &str); 3] = [
    (
        "meridian_gateway_tls_certificate_ends_seconds",
        "the certificate of its edge that ends first",
    ),
    (
        "meridian_gateway_link_certificate_ends_seconds",
        "its certificate for nodes",
    ),
    (
        "meridian_region_node_link_certificate_ends_seconds",
        "its certificate for gateways",
    ),
];
const PURPOSES: [&str; 3] = ["link", "operator", "grant"];

/// What there is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Deployment {
    /// Management listeners of the gateways, `http://host:port`.
    #[serde(default)]
    gateways: Vec<String>,
    #[serde(default)]
    regions: BTreeMap<RegionId, DeployedRegion>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeployedRegion {
    operator_key_file: PathBuf,
    /// The three for an encrypted link, as for the operator's other commands.
    ca_file: Option<PathBuf>,
    certificate_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    nodes: Vec<DeployedNode>,
    /// The folder of the region's backups, if it can be seen from here.
    backups: Option<PathBuf>,
    /// How old the newest of them may be, in hours.
    #[serde(default = "backups_max_age_h")]
    backups_max_age_h: u64,
}

fn backups_max_age_h() -> u64 {
    BACKUPS_MAX_AGE_H
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeployedNode {
    /// Its link listener, `http://host:port` or `https://`.
    link: String,
    /// Its management listener, if it can be reached from here.
    management: Option<String>,
}

/// What one program said of itself.
#[derive(Debug, Default)]
struct Seen {
    name: String,
    version: Option<String>,
    /// A gateway's `/readyz`, or a node's answer to the operator.
    said: Value,
    findings: Findings,
}

/// Looks at all that the file lists.
///
/// # Errors
/// When the file cannot be used.
pub(super) async fn look(file: &Path, findings: &mut Findings) -> Result<(), CommandError> {
    let layers = Layers::of(NAMES).and_then(|layers| layers.with_file(file));
    let deployment: Deployment = layers
        .and_then(|layers| layers.extract())
        .map_err(CommandError::Deployment)?;
    if deployment.gateways.is_empty() && deployment.regions.is_empty() {
        let detail = "lists neither gateways nor regions";
        findings.note(Status::Failed, file.display().to_string(), detail);
    }
    let mut versions = BTreeMap::<String, Vec<String>>::new();
    let mut note_version = |seen: &mut Seen| {
        if let Some(version) = seen.version.take() {
            versions.entry(version).or_default().push(seen.name.clone());
        }
    };
    let mut gateways = join_all(deployment.gateways.iter().map(|one| gateway(one))).await;
    for seen in &mut gateways {
        note_version(seen);
        findings.append(std::mem::take(&mut seen.findings));
    }
    for (id, region) in &deployment.regions {
        let check = format!("region {id}");
        served(id, &check, &gateways, findings);
        let nodes = region.nodes.iter().map(|one| node(id, region, one));
        let mut nodes = join_all(nodes).await;
        for seen in &mut nodes {
            note_version(seen);
            findings.append(std::mem::take(&mut seen.findings));
        }
        if nodes.is_empty() {
            let detail = format!("lists no node: name them in nodes of [regions.{id}]");
            findings.note(Status::Failed, &check, detail);
        }
        same_keys(&check, &nodes, findings);
        // All nodes of a region have one store.
        for one in &region.nodes {
            if let Ok(api) = api(id, region, one)
                && api.node_status().await.is_ok()
            {
                operator_key(&api, &check, findings).await;
                break;
            }
        }
        backups(&check, region, findings);
    }
    same_version(&versions, findings);
    Ok(())
}

async fn gateway(management: &str) -> Seen {
    let name = format!("gateway {}", address(management));
    let mut findings = Findings::default();
    let said = ready(&name, management, &mut findings).await;
    redis(&said, &mut findings);
    for (node, trouble) in said
        .get("trouble")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let trouble = trouble.as_str().unwrap_or_default();
        let detail = format!("node {node} {trouble}{}", way_out(trouble));
        findings.note(Status::Failed, &name, detail);
    }
    certificates(&name, management, &mut findings).await;
    Seen {
        version: version(management).await,
        name,
        said,
        findings,
    }
}

/// What can be done about what a gateway says of a node.
fn way_out(trouble: &str) -> &'static str {
    match trouble {
        "refuses the link key" => {
            ": give the gateway the key that the node has in keys.link, as link_key_file"
        }
        "refuses this gateway's certificate" => {
            ": it has ended, or the node's link_tls.client_ca_file lacks its authority"
        }
        "has a certificate that this gateway refuses" => {
            ": it has ended, is for another host, or the gateway's ca_file lacks its authority"
        }
        _ => ": look whether it runs, and at the network between them",
    }
}

async fn node(id: &RegionId, region: &DeployedRegion, node: &DeployedNode) -> Seen {
    let name = format!("node {id} {}", address(&node.link));
    let mut seen = Seen {
        name: name.clone(),
        ..Seen::default()
    };
    let findings = &mut seen.findings;
    if let Some(management) = &node.management {
        drop(ready(&name, management, findings).await);
        certificates(&name, management, findings).await;
        seen.version = version(management).await;
    }
    let said = match api(id, region, node) {
        Ok(api) => api.node_status().await.map_err(CommandError::from),
        Err(error) => Err(error),
    };
    match said {
        Ok(said) => {
            of_region(&name, id, &said, findings);
            store(&name, &said, findings);
            let version = said.get("version").and_then(Value::as_str);
            seen.version = version.map(str::to_owned).or(seen.version);
            seen.said = said;
        }
        Err(CommandError::OperatorApi(OperatorApiError::NotFound { .. })) => {
            let detail = "is of an older release, which says nothing of its keys and its store";
            findings.note(Status::Note, name, detail);
        }
        Err(error) => findings.note(Status::Failed, name, chain(&error)),
    }
    seen
}

fn api(
    id: &RegionId,
    region: &DeployedRegion,
    node: &DeployedNode,
) -> Result<OperatorApi, CommandError> {
    let key = read_key(&region.operator_key_file)?;
    let tls = LinkTlsFiles::of([&region.ca_file, &region.certificate_file, &region.key_file]);
    Ok(OperatorApi::new(
        Some(id.clone()),
        &node.link,
        &key,
        tls.as_ref(),
    )?)
}

/// `host:port` of a URL.
fn address(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, address)| address)
}

/// The body of an answer of 200.
async fn get(url: String) -> Option<String> {
    let answer = http_client().ok()?.get(url).send().await.ok()?;
    answer.error_for_status().ok()?.text().await.ok()
}

async fn version(management: &str) -> Option<String> {
    let live = get(format!("{management}/livez")).await?;
    let live: Value = serde_json::from_str(&live).ok()?;
    live.get("version")?.as_str().map(str::to_owned)
}

async fn certificates(name: &str, management: &str, findings: &mut Findings) {
    let metrics = get(format!("{management}/metrics")).await;
    for line in metrics.unwrap_or_default().lines() {
        if let Some((what, ends)) = certificate_end(line) {
            findings.note_certificate(name, &what, ends, SystemClock.now());
        }
    }
}

/// Which certificate ends when, where a line of metrics says so.
fn certificate_end(line: &str) -> Option<(String, Timestamp)> {
    let (series, seconds) = line.rsplit_once(' ')?;
    let (metric, labels) = series.split_once('{').unwrap_or((series, ""));
    let (_, what) = CERTIFICATES.iter().find(|(known, _)| *known == metric)?;
    let region = labels.split('"').nth(1);
    let what = region.map_or_else(
        || (*what).to_owned(),
        |region| format!("{what} of {region}"),
    );
    let seconds: i64 = seconds.parse().ok()?;
    Some((what, Timestamp(seconds.checked_mul(1000)?)))
}

/// Whether each gateway that knows the region is let in there.
fn served(id: &RegionId, check: &str, gateways: &[Seen], findings: &mut Findings) {
    if gateways.is_empty() {
        return;
    }
    let says = |seen: &&Seen| {
        let regions = seen.said.get("regions")?;
        regions.get(id.as_str()).and_then(Value::as_bool)
    };
    let (mut well, mut unwell) = (0, Vec::new());
    for seen in gateways {
        match says(&seen) {
            Some(true) => well += 1,
            Some(false) => unwell.push(seen.name.as_str()),
            None => {}
        }
    }
    if !unwell.is_empty() {
        let detail = format!("away for {}", unwell.join(", "));
        findings.note(Status::Failed, check, detail);
    } else if well == 0 {
        let detail = format!("no gateway serves it: add [regions.{id}] to a gateway's settings");
        findings.note(Status::Failed, check, detail);
    } else {
        let detail = format!("served by {well} of {} gateways", gateways.len());
        findings.note(Status::Ok, check, detail);
    }
}

/// Data must not go to a region because of a wrong address.
fn of_region(name: &str, id: &RegionId, said: &Value, findings: &mut Findings) {
    match said.get("region").and_then(Value::as_str) {
        Some(found) if found == id.as_str() => {}
        found => {
            let found = found.unwrap_or("none");
            let detail = format!("is of region {found}: take it out of [regions.{id}]");
            findings.note(Status::Failed, name, detail);
        }
    }
}

/// The schema, and room on the disk.
fn store(name: &str, said: &Value, findings: &mut Findings) {
    let number = |member: &str| {
        said.pointer(&format!("/store/{member}"))
            .and_then(Value::as_i64)
    };
    match (number("schema"), number("newest_schema")) {
        (Some(schema), Some(newest)) if schema == newest => {
            let engine = said.pointer("/store/engine").and_then(Value::as_str);
            let engine = engine.unwrap_or("store");
            let detail = format!("{engine}, schema version {schema}, up to date");
            findings.note(Status::Ok, name, detail);
        }
        (Some(schema), Some(newest)) if schema > newest => {
            let detail = format!(
                "knows the schema up to version {newest}, and the store is at {schema}: upgrade it, \
                 as another node of the region was"
            );
            findings.note(Status::Warning, name, detail);
        }
        (Some(schema), Some(newest)) => {
            let detail = format!("the schema is at version {schema} of {newest}: restart the node");
            findings.note(Status::Failed, name, detail);
        }
        _ => {}
    }
    let free = number("free_bytes").and_then(|bytes| u64::try_from(bytes).ok());
    if let Some(free) = free {
        free_space(name, free, "its store", findings);
    }
}

/// Nodes of a region have the same keys, or have at least one in common while keys are changed.
fn same_keys(check: &str, nodes: &[Seen], findings: &mut Findings) {
    let nodes: Vec<_> = nodes
        .iter()
        .filter(|seen| seen.said.get("keys").is_some())
        .collect();
    if nodes.len() < 2 {
        return;
    }
    let mut all_same = true;
    for purpose in PURPOSES {
        let sets: Vec<BTreeSet<&str>> = nodes
            .iter()
            .map(|seen| {
                let keys = seen.said.pointer(&format!("/keys/{purpose}"));
                let keys = keys.and_then(Value::as_array).into_iter().flatten();
                keys.filter_map(Value::as_str).collect()
            })
            .collect();
        let common = sets
            .iter()
            .cloned()
            .reduce(|a, b| &a & &b)
            .unwrap_or_default();
        if sets.windows(2).all(|pair| matches!(pair, [a, b] if a == b)) {
            continue;
        }
        all_same = false;
        let (status, detail) = if common.is_empty() {
            let detail = format!(
                "its nodes have no {purpose} key in common, so what one of them takes another \
                 refuses: give all of them the same keys.{purpose}_files"
            );
            (Status::Failed, detail)
        } else {
            let detail = format!("its nodes differ in their {purpose} keys: finish the change");
            (Status::Note, detail)
        };
        findings.note(status, check, detail);
    }
    if all_same {
        findings.note(Status::Ok, check, "its nodes have the same keys");
    }
}

fn same_version(versions: &BTreeMap<String, Vec<String>>, findings: &mut Findings) {
    let check = "releases";
    let mut all = versions.iter();
    match (all.next(), all.next()) {
        (None, _) => {}
        (Some((version, _)), None) => {
            let detail = format!("all programs that answer are of release {version}");
            findings.note(Status::Ok, check, detail);
        }
        _ => {
            let each = versions.iter();
            let each = each.map(|(version, names)| format!("{version}: {}", names.join(", ")));
            let detail = format!(
                "they differ, so finish the upgrade: {}",
                each.collect::<Vec<_>>().join("; ")
            );
            findings.note(Status::Warning, check, detail);
        }
    }
}

/// The age of the newest backup. One that is being written has another name.
fn backups(check: &str, region: &DeployedRegion, findings: &mut Findings) {
    let Some(folder) = &region.backups else {
        return;
    };
    let newest = match newest_backup(folder) {
        Ok(newest) => newest,
        Err(error) => {
            let detail = format!("{} cannot be read: {error}", folder.display());
            return findings.note(Status::Failed, check, detail);
        }
    };
    let limit_h = region.backups_max_age_h;
    let (status, detail) = match newest {
        None => (
            Status::Failed,
            format!("there is no *.backup in {}", folder.display()),
        ),
        Some(age) => {
            let hours = age.as_secs() / 3600;
            let detail = format!("the newest backup is {hours} hours old");
            match hours < limit_h {
                true => (Status::Ok, detail),
                false => (
                    Status::Failed,
                    format!("{detail}, and at most {limit_h} are right: look at what makes them"),
                ),
            }
        }
    };
    findings.note(status, check, detail);
}

fn newest_backup(folder: &Path) -> std::io::Result<Option<Duration>> {
    let mut newest: Option<SystemTime> = None;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if Path::new(&entry.file_name())
            .extension()
            .is_some_and(|end| end == "backup")
        {
            newest = newest.max(Some(entry.metadata()?.modified()?));
        }
    }
    let now = SystemTime::UNIX_EPOCH
        + Duration::from_millis(u64::try_from(SystemClock.now().as_millis()).unwrap_or_default());
    Ok(newest.map(|newest| now.duration_since(newest).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seen(said: Value) -> Seen {
        Seen {
            name: "n".to_owned(),
            said,
            ..Seen::default()
        }
    }

    fn found(look: impl FnOnce(&mut Findings)) -> Vec<(Status, String)> {
        let mut findings = Findings::default();
        look(&mut findings);
        findings.details()
    }

    #[test]
    fn nodes_of_a_region_are_held_against_each_other() {
        let keys = |all: [&[&str]; 2]| {
            let nodes = all.map(|grant| {
                seen(json!({"keys": {"link": ["a"], "operator": ["b"], "grant": grant}}))
            });
            found(|findings| same_keys("region de", &nodes, findings))
        };
        assert!(matches!(keys([&["x"], &["x"]])[..], [(Status::Ok, _)]));
        assert!(matches!(
            keys([&["x", "y"], &["y"]])[..],
            [(Status::Note, _)]
        ));
        let differ = keys([&["x"], &["y"]]);
        assert!(
            matches!(&differ[..], [(Status::Failed, text)] if text.contains("keys.grant_files")),
            "{differ:?}"
        );
    }

    #[test]
    fn a_region_that_no_gateway_reaches_is_a_failure() {
        let id = RegionId::parse("de").unwrap();
        let status = |gateways: &[Value]| {
            let gateways: Vec<Seen> = gateways.iter().cloned().map(seen).collect();
            found(|findings| served(&id, "region de", &gateways, findings))
                .first()
                .map(|(status, _)| *status)
        };
        let (well, unwell) = (
            json!({"regions": {"de": true}}),
            json!({"regions": {"de": false}}),
        );
        let other = json!({"regions": {"us": true}});
        assert_eq!(status(&[well.clone(), other.clone()]), Some(Status::Ok));
        assert_eq!(status(&[well, unwell]), Some(Status::Failed));
        assert_eq!(status(&[other, Value::Null]), Some(Status::Failed));
        assert_eq!(status(&[]), None);
    }

    #[test]
    fn certificates_are_found_in_the_metrics() {
        let line = "meridian_gateway_link_certificate_ends_seconds{region=\"us\"} 1800000000";
        let (what, ends) = certificate_end(line).unwrap();
        assert_eq!(what, "its certificate for nodes of us");
        assert_eq!(ends, Timestamp(1_800_000_000_000));
        assert!(certificate_end("meridian_gateway_tls_certificate_ends_seconds 5").is_some());
        assert!(
            certificate_end("# HELP meridian_gateway_tls_certificate_ends_seconds X").is_none()
        );
        assert!(certificate_end("meridian_store_commits_total 5").is_none());
    }

    #[test]
    fn the_newest_backup_counts_and_half_ones_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let region = DeployedRegion {
            operator_key_file: PathBuf::new(),
            ca_file: None,
            certificate_file: None,
            key_file: None,
            nodes: Vec::new(),
            backups: Some(folder.path().to_owned()),
            backups_max_age_h: 26,
        };
        let status = || found(|findings| backups("region de", &region, findings))[0].0;
        std::fs::write(folder.path().join("a.backup.partial"), "").unwrap();
        assert_eq!(status(), Status::Failed);
        let old = folder.path().join("old.backup");
        let file = std::fs::File::create(&old).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(status(), Status::Failed);
        std::fs::write(folder.path().join("new.backup"), "").unwrap();
        assert_eq!(status(), Status::Ok);
    }

    #[test]
    fn releases_and_schemas_that_differ_are_told() {
        let versions = |all: &[(&str, &str)]| {
            let mut by_version = BTreeMap::<String, Vec<String>>::new();
            for (version, name) in all {
                let names = by_version.entry((*version).to_owned()).or_default();
                names.push((*name).to_owned());
            }
            found(|findings| same_version(&by_version, findings))
        };
        assert!(matches!(
            versions(&[("1", "a"), ("1", "b")])[..],
            [(Status::Ok, _)]
        ));
        assert!(matches!(
            versions(&[("1", "a"), ("2", "b")])[..],
            [(Status::Warning, _)]
        ));

        let schema = |schema: i64, free: i64| {
            let said = json!({"store": {"engine": "sqlite", "schema": schema, "newest_schema": 7,
                "free_bytes": free}});
            found(|findings| store("n", &said, findings))
        };
        let plenty = 1 << 40;
        assert!(matches!(
            schema(7, plenty)[..],
            [(Status::Ok, _), (Status::Ok, _)]
        ));
        assert!(matches!(schema(8, plenty)[0], (Status::Warning, _)));
        assert!(matches!(schema(6, plenty)[0], (Status::Failed, _)));
        assert!(matches!(schema(7, 1024)[1], (Status::Warning, _)));
    }
}
