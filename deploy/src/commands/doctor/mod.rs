//! `meridian doctor`: what is wrong, in sentences, and what is well.
//!
//! Here is what it looks at in any case; `local` is for a `meridian up` of this machine, `deployment`
//! for gateways and nodes of their own.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use reqwest::StatusCode;
use reqwest::header::DATE;
use serde_json::Value;
use shared::{Clock as _, SystemClock, TenantId, Timestamp};

use crate::arguments::DoctorArguments;
use crate::commands::Regions;
use crate::error::CommandError;
use crate::findings::{Findings, Status};
use crate::local_state;
use crate::operator_api::{ClientError, OperatorApi, OperatorApiError, http_client};
use crate::output::{Output, cell};

mod deployment;
mod local;

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
    arguments: &DoctorArguments,
    data_dir: &Path,
    output: Output,
) -> Result<(), CommandError> {
    let mut findings = Findings::default();
    if let Some(file) = &arguments.deployment {
        deployment::look(file, &mut findings).await?;
    } else if arguments.remote.endpoint.is_some() {
        let regions = Regions::find(&arguments.remote, data_dir, None).await?;
        for region in regions.all() {
            operator_key(region, "region at --endpoint", &mut findings).await;
        }
    } else {
        match local_state::find(data_dir) {
            Ok(state) => local::look(&state, data_dir, &mut findings).await,
            Err(error) => findings.note(Status::Failed, "process", error.to_string()),
        }
    }
    findings.tell(output)
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

/// Room for what a store or this machine will write.
fn free_space(check: &str, free_bytes: u64, place: &str, findings: &mut Findings) {
    let detail = format!("{} MiB free at {place}", free_bytes / 1024 / 1024);
    if free_bytes >= DISK_LIMIT_BYTES {
        findings.note(Status::Ok, check, detail);
    } else {
        let detail = format!("only {detail}: make room, or writes will be refused");
        findings.note(Status::Warning, check, detail);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
