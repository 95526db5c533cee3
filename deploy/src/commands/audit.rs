//! `meridian audit …`

use std::path::Path;

use serde_json::{Value, json};
use shared::TenantId;

use crate::arguments::{AuditArguments, AuditCommand};
use crate::commands::Regions;
use crate::error::CommandError;
use crate::output::{Output, cell, table};

const COLUMNS: [(&str, &str); 5] = [
    ("TENANT", "tenant"),
    ("FIRST", "first"),
    ("LAST", "last"),
    ("RECORDS", "records"),
    ("WHOLE", "whole"),
];

/// Runs one of the audit commands.
///
/// # Errors
/// [`CommandError`] when a region-node cannot be found, reached, or refuses, and when a chain of
/// records is not whole.
pub async fn run(
    arguments: AuditArguments,
    data_dir: &Path,
    output: Output,
) -> Result<(), CommandError> {
    let regions = Regions::find(&arguments.remote, data_dir, arguments.region.as_ref()).await?;
    let AuditCommand::Verify { tenant } = &arguments.command;
    let mut chains = Vec::new();
    match tenant {
        Some(tenant) => {
            let verified = regions.that_knows("tenant", |region| region.verify_audit(tenant));
            chains.push(verified.await?);
        }
        None => {
            for region in regions.all() {
                for tenant in region.list_tenants().await? {
                    let id = TenantId::parse(&cell(&tenant, "id")).map_err(|_| region.foreign())?;
                    chains.push(region.verify_audit(&id).await?);
                }
            }
        }
    }
    let rows: Vec<Vec<String>> = chains
        .iter()
        .map(|chain| {
            COLUMNS
                .iter()
                .map(|(_, member)| cell(chain, member))
                .collect()
        })
        .collect();
    let damages: Vec<String> = chains.iter().filter_map(damage).collect();
    let mut text = table(&COLUMNS.map(|(heading, _)| heading), &rows);
    for damage in &damages {
        text.push_str(damage);
        text.push('\n');
    }
    output.result(&json!({ "chains": chains }), &text)?;
    if damages.is_empty() {
        Ok(())
    } else {
        Err(CommandError::AlreadyTold)
    }
}

/// What is wrong with a chain, as a sentence; nothing if it is whole.
fn damage(chain: &Value) -> Option<String> {
    let damage = chain.get("damage").filter(|damage| !damage.is_null())?;
    let what = match damage.get("what").and_then(Value::as_str)? {
        "altered" => "was altered, inserted or moved",
        "missing" => "was removed",
        "cut_off" => "and all behind it were removed",
        "beyond_the_end" => "is behind the end of the chain",
        "beginning" => "is where the chain begins, which is not where it was pruned to",
        "head" => "is the last, and the tenant's row says otherwise",
        _ => "does not fit",
    };
    let tenant = cell(chain, "tenant");
    Some(format!(
        "tenant {tenant}: record {} {what}",
        cell(damage, "record")
    ))
}
