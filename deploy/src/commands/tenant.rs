//! `meridian tenant …`

use std::path::Path;

use serde_json::{Value, json};
use shared::TenantId;

use crate::arguments::{TenantArguments, TenantCommand};
use crate::commands::Regions;
use crate::error::CommandError;
use crate::files::{Outgoing, Progress};
use crate::output::{Output, cell, table};

const COLUMNS: [(&str, &str); 6] = [
    ("ID", "id"),
    ("REGION", "region"),
    ("STATE", "state"),
    ("USERS", "users"),
    ("CREATED", "created"),
    ("NAME", "name"),
];

/// Runs one of the tenant commands.
///
/// # Errors
/// [`CommandError`] when the region-node cannot be found, reached, or refuses.
pub async fn run(
    arguments: TenantArguments,
    data_dir: &Path,
    output: Output,
) -> Result<(), CommandError> {
    let regions = Regions::find(&arguments.remote, data_dir, arguments.region.as_ref()).await?;
    match &arguments.command {
        TenantCommand::Create { name } => {
            let tenant = regions.only()?.create_tenant(name).await?;
            let id = cell(&tenant, "id");
            let next = format!(
                "{}\nNext: meridian token create --region {} --tenant {id}\n",
                show(&tenant),
                cell(&tenant, "region")
            );
            output.result(&tenant, &next)
        }
        TenantCommand::List => {
            let mut tenants = Vec::new();
            for region in regions.all() {
                tenants.extend(region.list_tenants().await?);
            }
            let text = list(&tenants);
            output.result(&json!({ "tenants": tenants }), &text)
        }
        TenantCommand::Show { id } => {
            let tenant = regions
                .that_knows("tenant", |region| region.get_tenant(id))
                .await?;
            output.result(&tenant, &show(&tenant))
        }
        TenantCommand::Suspend { id } => {
            let tenant = regions
                .that_knows("tenant", |region| region.suspend_tenant(id))
                .await?;
            output.result(&tenant, &show(&tenant))
        }
        TenantCommand::Resume { id } => {
            let tenant = regions
                .that_knows("tenant", |region| region.resume_tenant(id))
                .await?;
            output.result(&tenant, &show(&tenant))
        }
        TenantCommand::Delete { id } => {
            let gone = regions
                .that_knows("tenant", |region| region.delete_tenant(id))
                .await?;
            output.result(&gone, &erased(id, &gone))
        }
        TenantCommand::Export { id, to } => export(&regions, id, to, output).await,
    }
}

/// What an erasure says.
fn erased(id: &TenantId, gone: &Value) -> String {
    let rows = gone.get("erased").and_then(Value::as_object);
    let kinds: Vec<String> = rows
        .into_iter()
        .flatten()
        .map(|(kind, rows)| format!("{rows} {}", kind.replace('_', " ")))
        .collect();
    format!(
        "Tenant {id} is erased: {}. A count afterwards found {} rows.",
        kinds.join(", "),
        cell(gone, "left")
    )
}

/// Writes a tenant's users and groups to a file.
async fn export(
    regions: &Regions,
    id: &TenantId,
    to: &Path,
    output: Output,
) -> Result<(), CommandError> {
    let mut download = regions
        .that_knows("tenant", |region| region.export_tenant(id))
        .await?;
    let mut file = Outgoing::create(to)?;
    let mut progress = Progress::begin("exported");
    let mut lines = 0;
    while let Some(bytes) = download.next().await? {
        file.write(&bytes)?;
        lines += bytes.iter().filter(|byte| **byte == b'\n').count();
        progress.tell(file.bytes(), &format!("{lines} lines"));
    }
    let bytes = file.complete()?;
    // The first line is the tenant itself.
    let resources = lines.saturating_sub(1);
    output.result(
        &json!({ "id": id, "file": to, "resources": resources, "bytes": bytes }),
        &format!(
            "{resources} users and groups of {id} are in {}. They are personal data: keep the file in the region.",
            to.display()
        ),
    )
}

fn list(tenants: &[Value]) -> String {
    let rows: Vec<Vec<String>> = tenants
        .iter()
        .map(|tenant| {
            COLUMNS
                .iter()
                .map(|(_, member)| cell(tenant, member))
                .collect()
        })
        .collect();
    table(&COLUMNS.map(|(heading, _)| heading), &rows)
}

fn show(tenant: &Value) -> String {
    let rows = COLUMNS.iter().map(|(heading, member)| {
        let name = heading.to_lowercase();
        format!("{name:<9}{}\n", cell(tenant, member))
    });
    rows.collect()
}
