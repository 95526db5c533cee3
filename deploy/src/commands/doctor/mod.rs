//! `meridian doctor`: what is wrong, in sentences, and what is well.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use reqwest::StatusCode;
use reqwest::header::{DATE, HOST};
use serde_json::Value;
use shared::{Clock as _, RegionId, SystemClock, TenantId, Timestamp};

use crate::arguments::RemoteArguments;
use crate::commands::Regions;
use crate::error::CommandError;
use crate::findings::{Findings, Status};
use crate::local_state::{self, LocalRegion, LocalState};
use crate::operator_api::{ClientError, OperatorApi, OperatorApiError, http_client};
use crate::output::{Output, cell};

/// Grants live five minutes with five seconds of leeway: more skew than that refuses them.
const SKEW_LIMIT: Duration = Duration::from_secs(5);
/// With less than this a region soon answers 503 to writes.
const DISK_LIMIT_BYTES: u64 = 1024 * 1024 * 1024;

/// An API token in use that ends within so many days is a warning; later it is a note.
const SOON_DAYS: u64 = 30;

/// Looks at everything and says how it is.
///
/// # Errors
/// When something is wrong, after it was said; or when nothing can be said.
pub async fn run(
    remote: &RemoteArguments,
    data_dir: &Path,
    output: Output,
) -> Result<(), CommandError> {
    let mut findings = Findings::default();
    if remote.endpoint.is_some() {
        let regions = Regions::find(remote, data_dir, None).await?;
        for region in regions.all() {
            operator_key(region, "region at --endpoint", &mut findings).await;
        }
    } else {
        match local_state::find(data_dir) {
            Ok(state) => local(&state, data_dir, &mut findings).await,
            Err(error) => findings.note(Status::Failed, "process", error.to_string()),
        }
    }
    findings.tell(output)
}

async fn local(state: &LocalState, data_dir: &Path, findings: &mut Findings) {
    findings.note(
        Status::Ok,
        "process",
        format!(
            "Meridian runs on {} as process {}",
            data_dir.display(),
            state.pid
        ),
    );
    let gateway = ready("gateway", &state.management, findings).await;
    redis(&gateway, findings);
    let address = state
        .gateway
        .trim_start_matches("http://")
        .parse::<SocketAddr>()
        .ok();
    for (region, local) in &state.regions {
        ready(&format!("region {region}"), &local.management, findings).await;
        if let Ok(regions) = regions_of(data_dir, region).await {
            for api in regions.all() {
                operator_key(api, &format!("region {region}"), findings).await;
            }
        } else {
            findings.note(
                Status::Failed,
                format!("operator key of {region}"),
                format!("{} cannot be read", local.operator_key_file.display()),
            );
        }
        key_file(region, local, findings);
        base_url(region, local, &state.gateway, findings).await;
        hostname(region, local, address, findings);
    }
    disk(data_dir, findings);
}

async fn regions_of(data_dir: &Path, region: &RegionId) -> Result<Regions, CommandError> {
    Regions::find(&RemoteArguments::default(), data_dir, Some(region)).await
}

/// The program behind a management listener is ready, and its clock is ours. What it says of
/// itself, if it says anything.
async fn ready(what: &str, management: &str, findings: &mut Findings) -> Value {
    let response = match http_client() {
        Ok(http) => {
            let answer = http.get(format!("{management}/readyz")).send().await;
            answer.map_err(ClientError::Http)
        }
        Err(error) => Err(error),
    };
    match response {
        Ok(response) => {
            let status = response.status();
            if status == StatusCode::OK {
                findings.note(Status::Ok, what, "ready");
            } else {
                let detail = format!("{management}/readyz answers {status}: see its log");
                findings.note(Status::Failed, what, detail);
            }
            let date = response
                .headers()
                .get(DATE)
                .and_then(|date| date.to_str().ok());
            clock(what, date, findings);
            response.json().await.unwrap_or_default()
        }
        Err(_) => {
            let detail = format!("{management} does not answer: see its log, or start it again");
            findings.note(Status::Failed, what, detail);
            Value::Null
        }
    }
}

/// The gateway's Redis, if it has one, as the gateway sees it. Trouble with it stops nobody.
fn redis(gateway: &Value, findings: &mut Findings) {
    let Some(redis) = gateway.get("redis") else {
        return;
    };
    let text = |name: &str| redis.get(name).and_then(Value::as_str);
    if redis.get("reachable") == Some(&Value::Bool(true)) {
        findings.note(Status::Ok, "redis", "the gateway reaches it");
    } else {
        let detail = format!(
            "of no use to the gateway, which asks the regions instead: {}",
            text("trouble").unwrap_or("see the gateway's log")
        );
        findings.note(Status::Warning, "redis", detail);
    }
    let rejected = redis.get("rejected").and_then(Value::as_u64).unwrap_or(0);
    if rejected > 0 {
        let detail = format!(
            "{rejected} entries that were found there did not open and were ignored: somebody \
             else writes to keys that begin with meridian:"
        );
        findings.note(Status::Warning, "redis", detail);
    }
}

fn clock(what: &str, date: Option<&str>, findings: &mut Findings) {
    let Some(theirs) = date.and_then(|date| httpdate::parse_http_date(date).ok()) else {
        return;
    };
    let Ok(theirs) = theirs.duration_since(UNIX_EPOCH) else {
        return;
    };
    let (ours, theirs) = (SystemClock.now(), Timestamp(0).after(theirs));
    let skew = ours.since(theirs).max(theirs.since(ours));
    let check = format!("clock of {what}");
    // The header is rounded down to a second.
    if skew <= SKEW_LIMIT {
        findings.note(Status::Ok, check, "within a second or two of ours");
    } else {
        let detail = format!(
            "{} s away from ours: set both by NTP, or grants are refused",
            skew.as_secs()
        );
        findings.note(Status::Failed, check, detail);
    }
}

async fn operator_key(api: &OperatorApi, what: &str, findings: &mut Findings) {
    let check = format!("operator key of {}", what.trim_start_matches("region "));
    match api.list_tenants().await {
        Ok(tenants) => {
            let detail = format!("accepted; tenants in the region: {}", tenants.len());
            findings.note(Status::Ok, check, detail);
            expiring_tokens(api, &tenants, findings).await;
        }
        Err(error) => findings.note(Status::Failed, check, error.to_string()),
    }
}

/// API tokens that are in use and end soon, as their region sees it.
async fn expiring_tokens(api: &OperatorApi, tenants: &[Value], findings: &mut Findings) {
    for tenant in tenants {
        let (id, name) = (cell(tenant, "id"), cell(tenant, "name"));
        let check = format!("API tokens of {name} ({id})");
        let Ok(tenant) = TenantId::parse(&id) else {
            continue;
        };
        match api.list_tokens(&tenant).await {
            Ok(tokens) => {
                for token in &tokens {
                    let Some(warning) = token.get("warning").and_then(Value::as_str) else {
                        continue;
                    };
                    let days = token.get("expires_in_days").and_then(Value::as_u64);
                    let status = match days {
                        Some(days) if days > SOON_DAYS => Status::Note,
                        _ => Status::Warning,
                    };
                    let detail = format!("{} {warning}", cell(token, "name"));
                    findings.note(status, &check, detail);
                }
            }
            // Deleted a moment ago.
            Err(OperatorApiError::NotFound { .. }) => {}
            Err(error) => findings.note(Status::Failed, check, error.to_string()),
        }
    }
}

fn key_file(region: &RegionId, local: &LocalRegion, findings: &mut Findings) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let path = &local.operator_key_file;
        let Ok(metadata) = std::fs::metadata(path) else {
            return;
        };
        if metadata.permissions().mode() & 0o077 != 0 {
            findings.note(
                Status::Warning,
                format!("key files of {region}"),
                format!("others can read {0}: chmod 600 {0}", path.display()),
            );
        }
    }
    #[cfg(not(unix))]
    let _ = (region, local, findings);
}

/// The gateway knows the base URL's host: asked without a token it says 401, not 421.
async fn base_url(region: &RegionId, local: &LocalRegion, gateway: &str, findings: &mut Findings) {
    let check = format!("base URL of {region}");
    let Some((host, path)) = host_and_path(&local.base_url) else {
        findings.note(
            Status::Failed,
            check,
            format!("{} is no URL", local.base_url),
        );
        return;
    };
    let response = match http_client() {
        Ok(http) => {
            let call = http
                .get(format!("{gateway}{path}/Users"))
                .header(HOST, host);
            call.send().await.map_err(ClientError::Http)
        }
        Err(error) => Err(error),
    };
    match response.map(|response| response.status()) {
        Ok(StatusCode::UNAUTHORIZED) => findings.note(
            Status::Ok,
            check,
            format!("{} is served, and asks for a token", local.base_url),
        ),
        Ok(status) => findings.note(
            Status::Failed,
            check,
            format!(
                "{} answers {status} to a call without a token, not 401",
                local.base_url
            ),
        ),
        Err(_) => findings.note(Status::Failed, check, format!("{gateway} does not answer")),
    }
}

/// `host:port` and path of an http or https URL.
fn host_and_path(url: &str) -> Option<(&str, &str)> {
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"))?;
    let slash = rest.find('/').unwrap_or(rest.len());
    rest.split_at_checked(slash)
}

/// The hostname leads to the gateway.
fn hostname(
    region: &RegionId,
    local: &LocalRegion,
    gateway: Option<SocketAddr>,
    findings: &mut Findings,
) {
    let Some((host, _)) = host_and_path(&local.base_url) else {
        return;
    };
    let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
    let check = format!("hostname of {region}");
    match (name, 0_u16)
        .to_socket_addrs()
        .map(|found| found.map(|a| a.ip()).collect::<Vec<_>>())
    {
        Ok(found) if found.iter().any(|address| leads_to(*address, gateway)) => {
            findings.note(Status::Ok, check, format!("{name} leads here"));
        }
        Ok(found) => {
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            let detail = format!(
                "{name} leads to {}, and the gateway listens elsewhere: fine behind a proxy, else \
                 correct the DNS record",
                found.join(", ")
            );
            findings.note(Status::Warning, check, detail);
        }
        Err(_) if name.ends_with(".localhost") => findings.note(
            Status::Warning,
            check,
            format!(
                "this machine's resolver does not know {name}; curl and browsers do without it \
                 (RFC 6761), other programs need a line in /etc/hosts: 127.0.0.1 {name}"
            ),
        ),
        Err(_) => findings.note(
            Status::Failed,
            check,
            format!("{name} does not resolve: make a DNS record that leads to the gateway"),
        ),
    }
}

fn leads_to(address: IpAddr, gateway: Option<SocketAddr>) -> bool {
    match gateway.map(|gateway| gateway.ip()) {
        Some(gateway) if gateway.is_unspecified() || gateway.is_loopback() => {
            gateway.is_unspecified() || address.is_loopback()
        }
        Some(gateway) => address == gateway,
        None => false,
    }
}

fn disk(data_dir: &Path, findings: &mut Findings) {
    let check = "disk";
    match rustix::fs::statvfs(data_dir) {
        Ok(space) => {
            let free = space.f_bavail.saturating_mul(space.f_frsize);
            let detail = format!("{} MiB free at {}", free / 1024 / 1024, data_dir.display());
            if free >= DISK_LIMIT_BYTES {
                findings.note(Status::Ok, check, detail);
            } else {
                let detail = format!("only {detail}: make room, or writes will be refused");
                findings.note(Status::Warning, check, detail);
            }
        }
        Err(error) => findings.note(
            Status::Warning,
            check,
            format!(
                "cannot tell how much is free at {}: {error}",
                data_dir.display()
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn urls_fall_into_host_and_path() {
        assert_eq!(
            host_and_path("http://global-us.localhost:8080/api/v1/scim"),
            Some(("global-us.localhost:8080", "/api/v1/scim"))
        );
        assert_eq!(
            host_and_path("https://example.com"),
            Some(("example.com", ""))
        );
        assert_eq!(host_and_path("ftp://example.com"), None);
    }

    #[test]
    fn redis_is_looked_at_where_there_is_one() {
        let found = |gateway: Value| {
            let mut findings = Findings::default();
            redis(&gateway, &mut findings);
            findings.details()
        };
        assert!(found(json!({"ready": true})).is_empty());
        let good = found(json!({"redis": {"reachable": true, "rejected": 0}}));
        assert!(matches!(good.as_slice(), [(Status::Ok, _)]));
        let away = found(json!({"redis": {"reachable": false, "trouble": "it cannot be reached"}}));
        assert!(
            matches!(away.as_slice(), [(Status::Warning, detail)] if detail.contains("cannot be reached"))
        );
        let poisoned = found(json!({"redis": {"reachable": true, "rejected": 3}}));
        assert!(matches!(poisoned.as_slice(), [_, (Status::Warning, _)]));
    }

    #[test]
    fn a_wrong_clock_is_a_failure() {
        let mut findings = Findings::default();
        clock(
            "gateway",
            Some("Thu, 01 Jan 2015 00:00:00 GMT"),
            &mut findings,
        );
        assert!(findings.has(Status::Failed));
        clock("gateway", Some("no date"), &mut findings);
        assert_eq!(findings.details().len(), 1);
    }
}
