//! `/settings`: what a tenant's administrator may see and change of its settings.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Data};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{answer, read};
use crate::error::Error;
use crate::provider::tenants::OwnSettings;
use crate::startup::Parts;
use crate::store::{GroupsRule, Tenant, UserNameRule};
use crate::tenant_scope::AdminScope;

const MEMBERS: &str = "userName (any or email), groups (on or off), activityDays (0 for as long as \
                       the operator keeps activity)";

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Change {
    user_name: Option<UserNameRule>,
    groups: Option<GroupsRule>,
    activity_days: Option<u16>,
}

/// `GET /settings`
///
/// # Errors
/// As the store.
pub async fn get(AdminScope { tenant, .. }: AdminScope) -> Result<HttpResponse, Error> {
    Ok(answer(StatusCode::OK, &show(&tenant)))
}

/// `PATCH /settings`: changes those that are named; effective when it returns.
///
/// # Errors
/// 400 for a body that is not right, and as the store.
pub async fn change(
    AdminScope { scope, .. }: AdminScope,
    body: Bytes,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let change: Change = read(&body, MEMBERS)?;
    let change = OwnSettings {
        user_name: change.user_name,
        groups: change.groups,
        activity_days: change.activity_days.map(u32::from),
    };
    let tenant = parts
        .tenants
        .change_own(&scope.access, scope.author(), change)
        .await?;
    Ok(answer(StatusCode::OK, &show(&tenant)))
}

fn show(tenant: &Tenant) -> Value {
    let settings = &tenant.settings;
    json!({
        "userName": settings.user_name,
        "groups": settings.groups,
        "activityDays": settings.activity_days,
        "limits": {
            "requestsPerS": settings.limits.requests_per_s,
            "burst": settings.limits.burst,
            "inFlight": settings.limits.in_flight,
        },
    })
}
