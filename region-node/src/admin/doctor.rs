//! `/doctor`: what an administrator should put right, and how.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::Data;
use serde_json::{Value, json};

use super::activity::write_what_waits;
use super::answer;
use crate::error::Error;
use crate::provider::doctor::Problem;
use crate::scim::datetime;
use crate::startup::Parts;
use crate::store::activity::Finding;
use crate::tenant_scope::AdminScope;

/// `GET /doctor`: findings, newest first.
///
/// # Errors
/// As the store.
pub async fn list(
    AdminScope { scope, .. }: AdminScope,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    write_what_waits(&parts).await;
    let findings = parts.activities.findings(&scope.access).await?;
    let shown = |finding: &Finding| show(finding, scope.base_url.as_str());
    // One that only a newer release knows has no sentence here.
    let findings: Vec<Value> = findings.iter().filter_map(shown).collect();
    Ok(answer(StatusCode::OK, &json!({"findings": findings})))
}

fn show(finding: &Finding, base_url: &str) -> Option<Value> {
    let problem = Problem::from_code(&finding.kind)?;
    Some(json!({
        "kind": problem.code(),
        "sentence": problem.sentence(&finding.subject, base_url),
        "subject": finding.subject,
        "tokenId": finding.token,
        "times": finding.times,
        "first": datetime::format(finding.first),
        "last": datetime::format(finding.last),
        "requestId": finding.request_id,
        "route": finding.route,
    }))
}
