//! One tenant, for its owner: JSON Lines of everything that Meridian keeps of its users and
//! groups, as a client reads them. No token, nothing of another tenant.

use std::sync::Arc;

use futures_util::stream::{self, Stream};
use serde_json::{Value, json};
use shared::{RegionId, TenantId, Timestamp};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::backup::ended;
use super::resources::{derived_attribute, membership, show};
use super::settings::Profile;
use super::{Lens, ProviderError, groups};
use crate::scim::document::Derived;
use crate::scim::{Projection, ResourceKind, datetime};
use crate::store::{ExportRow, Store, StoreError, Tenant};

/// Bytes that are sent on at once.
const CHUNK: usize = 64 * 1024;
/// Rows that wait between the store and the file.
const ROWS_WAITING: usize = 16;

/// What an export says of itself and of its links.
#[derive(Clone, Debug)]
pub struct ExportOf {
    /// Where the tenant lives.
    pub region: RegionId,
    /// The tenant.
    pub tenant: TenantId,
    /// The base URL of links; empty for links that are relative to it.
    pub base_url: String,
    /// The time of the export.
    pub now: Timestamp,
}

/// A tenant's export, as the bytes of its file: the tenant, then its users, then its groups.
///
/// # Errors
/// [`StoreError::NotFound`] if there is no such tenant, and as the store; an error later on ends
/// the bytes.
pub async fn export(
    store: Arc<dyn Store>,
    of: ExportOf,
) -> Result<impl Stream<Item = Result<Vec<u8>, ProviderError>>, ProviderError> {
    let (sender, mut rows) = mpsc::channel(ROWS_WAITING);
    let id = of.tenant.clone();
    let task = tokio::spawn(async move { store.export(&id, sender).await });
    let Some(ExportRow::Tenant(tenant)) = rows.recv().await else {
        ended(task).await?;
        return Err(StoreError::Corrupt("an export without its tenant").into());
    };
    let mut first = tenant_line(&of, &tenant).to_string().into_bytes();
    first.push(b'\n');
    let profile = Profile::of(tenant.settings)?;
    let making = Making {
        profile,
        of,
        rows,
        task: Some(task),
        lines: first,
    };
    Ok(stream::unfold(making, make_some))
}

fn tenant_line(of: &ExportOf, tenant: &Tenant) -> Value {
    json!({
        "tenant": {
            "id": tenant.id,
            "region": of.region,
            "name": tenant.name,
            "state": tenant.state,
            "users": tenant.users,
            "groups": tenant.groups,
            "settings": tenant.settings,
            "created": datetime::format(tenant.created),
        },
        "exported": datetime::format(of.now),
    })
}

/// How far an export is.
struct Making {
    of: ExportOf,
    profile: Profile,
    rows: mpsc::Receiver<ExportRow>,
    /// The store's part, until it has ended.
    task: Option<JoinHandle<Result<(), StoreError>>>,
    lines: Vec<u8>,
}

async fn make_some(mut making: Making) -> Option<(Result<Vec<u8>, ProviderError>, Making)> {
    let task = making.task.take()?;
    while making.lines.len() < CHUNK {
        let Some(row) = making.rows.recv().await else {
            let made = ended(task).await.map_err(ProviderError::from);
            let lines = made.map(|()| std::mem::take(&mut making.lines));
            return Some((lines, making));
        };
        match making.line(row) {
            Ok(line) => {
                making.lines.extend(line.into_bytes());
                making.lines.push(b'\n');
            }
            Err(error) => return Some((Err(error), making)),
        }
    }
    making.task = Some(task);
    Some((Ok(std::mem::take(&mut making.lines)), making))
}

impl Making {
    fn line(&self, row: ExportRow) -> Result<String, ProviderError> {
        let (kind, stored, derived) = match row {
            ExportRow::Tenant(_) => {
                return Err(StoreError::Corrupt("an export with two tenants").into());
            }
            ExportRow::User(stored, direct) => {
                let kind = ResourceKind::User;
                let shown: Result<Vec<Value>, ProviderError> = direct
                    .iter()
                    .map(|group| membership(group, "direct", &self.of.base_url))
                    .collect();
                let shown = shown?;
                let derived = (!shown.is_empty()).then(|| Derived {
                    attribute: derived_attribute(kind),
                    elements: shown.into(),
                });
                (kind, stored, derived)
            }
            ExportRow::Group(stored, members) => {
                let derived = groups::members(&members, &self.of.base_url);
                (ResourceKind::Group, stored, Some(derived))
            }
        };
        let projection = Projection::parse(self.profile.schema(kind), None, None);
        let lens = Lens {
            base_url: &self.of.base_url,
            projection: &projection,
            profile: &self.profile,
        };
        show(kind, &stored, derived.as_ref(), lens)
    }
}
