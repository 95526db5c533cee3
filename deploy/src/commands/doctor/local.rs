//! The `meridian up` of a data directory on this machine.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::Path;

use reqwest::StatusCode;
use reqwest::header::HOST;
use shared::RegionId;

use super::{free_space, operator_key, ready, redis};
use crate::arguments::RemoteArguments;
use crate::commands::Regions;
use crate::error::CommandError;
use crate::findings::{Findings, Status};
use crate::local_state::{LocalRegion, LocalState};
use crate::operator_api::{ClientError, http_client};

/// Looks at the `meridian up` of a data directory.
pub(super) async fn look(state: &LocalState, data_dir: &Path, findings: &mut Findings) {
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
    match rustix::fs::statvfs(data_dir) {
        Ok(space) => {
            let free = space.f_bavail.saturating_mul(space.f_frsize);
            free_space("disk", free, &data_dir.display().to_string(), findings);
        }
        Err(error) => findings.note(
            Status::Warning,
            "disk",
            format!(
                "cannot tell how much is free at {}: {error}",
                data_dir.display()
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
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
}
