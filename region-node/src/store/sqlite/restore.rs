//! Takes a backup in.
//!
//! Rows are written in small steps, between which other writes get their turn, to tenants that
//! nobody sees: their head rows have a state and an id that no look-up asks for, their tokens a
//! digest that no token has. One last transaction gives them their names, and the region's own
//! tenants theirs to the erasure. A restore that does not come so far is erased itself, now or
//! when the file is opened the next time.

use rusqlite::Connection;
use tokio::sync::mpsc::Receiver;

use super::connection::{all, count, execute, first};
use super::tenants;
use super::writer::Writer;
use super::{audit, changes, events, members, resources, tokens};
use crate::scim::ResourceId;
use crate::store::backup::{Back, MOST_NAMED};
use crate::store::position::{kind_of, of_tenant};
use crate::store::staging::{Checked, RESTORING, Staged, Staging, blame, next_rows};
use crate::store::{
    AuditKind, AuditNote, Author, BackupRow, Counts, RestoreError, RestoreHow, RestoreStep,
    Restored, StoreError, Tenant,
};

/// What came of a restore, and the tenants that gave way and are to be erased.
pub(super) struct Done {
    pub(super) restored: Restored,
    pub(super) retired: Vec<i64>,
}

/// Carries a restore out up to the moment at which everybody sees it.
pub(super) async fn run(
    writer: &Writer,
    mut steps: Receiver<RestoreStep>,
    how: RestoreHow,
) -> Checked<Done> {
    if !how.replace {
        writer.write_or_refuse(refuse_tenants).await?;
    }
    let mut staging = Staging::default();
    loop {
        let (rows, end) = next_rows(&mut steps).await?;
        staging = writer
            .write_or_refuse(move |connection| take(staging, connection, rows).map_err(blame))
            .await?;
        if let Some(counts) = end {
            return writer
                .write_or_refuse(move |connection| {
                    finish(&staging, connection, counts, how).map_err(blame)
                })
                .await;
        }
    }
}

fn refuse_tenants(connection: &Connection) -> Checked<()> {
    if tenants::list(connection)?.is_empty() {
        Ok(())
    } else {
        Err(RestoreError::NotEmpty)
    }
}

/// Writes some rows.
fn take(mut staging: Staging, connection: &Connection, rows: Vec<BackupRow>) -> Checked<Staging> {
    for row in rows {
        let tenant = staging.note(&row)?;
        match (row, tenant) {
            (BackupRow::Tenant(tenant), _) => {
                let key = tenants::stage(connection, &tenant)?;
                staging.begin(key, *tenant);
            }
            (row, Some(tenant)) => take_row(tenant, connection, &row)?,
            (_, None) => {}
        }
    }
    Ok(staging)
}

fn take_row(tenant: &Staged, connection: &Connection, row: &BackupRow) -> Checked<()> {
    match row {
        BackupRow::Tenant(_) => {}
        BackupRow::Token(token) => {
            tenant.check_token(token)?;
            tokens::stage(connection, tenant.key, token)?;
        }
        BackupRow::Resource(row) => {
            let row = resources::NewRow {
                position: tenant.position_of(row)?,
                kind: row.kind,
                id: row.id,
                version: row.version,
                created: row.created,
                modified: row.modified,
                keys: &row.keys,
                document: row.document.get(),
            };
            resources::insert(connection, tenant.key, &row)?;
        }
        BackupRow::Members(row) => {
            let (group, positions) = tenant.positions_of(row)?;
            for member in positions {
                if members::insert(connection, group, member)? == 0 {
                    return Err(RestoreError::Inconsistent("a member is there twice"));
                }
            }
        }
        BackupRow::Change(row) => {
            let position = tenant.position(row.kind, row.place)?;
            changes::insert(connection, tenant.key, position, row)?;
        }
        BackupRow::Outcome(row) => {
            let position = tenant.position(row.kind, row.place)?;
            changes::insert_outcome(connection, tenant.key, position, row)?;
        }
        BackupRow::AuditHead(head) => audit::set_head(connection, tenant.key, head)?,
        BackupRow::Audit(record) => audit::insert(connection, tenant.key, record)?,
        BackupRow::Endpoint(endpoint) => events::stage(connection, tenant.key, endpoint)?,
    }
    Ok(())
}

/// The last transaction: what came is there for everybody.
fn finish(
    staging: &Staging,
    connection: &Connection,
    told: Counts,
    how: RestoreHow,
) -> Checked<Done> {
    let counts = staging.check_end(told)?;
    if !how.replace {
        refuse_tenants(connection)?;
    }
    let mut restored = Restored {
        counts,
        ..Restored::default()
    };
    let mut present = tenants::list_with_keys(connection)?;
    let had_tenants = !present.is_empty();
    let mut retired = Vec::with_capacity(present.len());
    for staged in &staging.tenants {
        let at = present
            .iter()
            .position(|(_, tenant)| tenant.id == staged.id);
        let predecessor = at.map(|at| present.swap_remove(at));
        if let Some((key, _)) = &predecessor {
            compare(connection, *key, staged, &mut restored)?;
            restored.tokens_kept_ended +=
                tokens::outlive_restore(connection, *key, staged.key, how.now)?;
            audit::outlive_restore(connection, *key, staged.key)?;
            events::outlive_restore(connection, *key, staged.key, staged.seq)?;
            tenants::retire(connection, *key)?;
            retired.push(*key);
        } else if had_tenants {
            restored.tenants_back.push(staged.id.clone());
        }
        appear(
            staged,
            connection,
            predecessor.as_ref().map(|(_, t)| t),
            how,
        )?;
        let note = AuditNote::new(AuditKind::TenantRestored, Author::operator(), "");
        audit::note(connection, staged.key, how.now, &note)?;
        if how.revoke_tokens {
            restored.tokens_revoked += tokens::revoke_all(connection, staged.key, how.now)?;
        }
        restored.live_tokens += tokens::count_live(connection, staged.key, how.now)?;
    }
    for (key, tenant) in present {
        tenants::retire(connection, key)?;
        retired.push(key);
        restored.tenants_gone.push(tenant.id);
    }
    Ok(Done { restored, retired })
}

/// Gives a tenant its name.
fn appear(
    staged: &Staged,
    connection: &Connection,
    predecessor: Option<&Tenant>,
    how: RestoreHow,
) -> Checked<()> {
    let head = staged.head(predecessor, how)?;
    execute(
        connection,
        "UPDATE tenant SET id = ?2, state = ?3, credential_version = ?4, seq = ?5
         WHERE tenant = ?1",
        (
            staged.key,
            staged.id.as_str(),
            head.state.as_str(),
            head.credential_version,
            head.seq,
        ),
    )?;
    events::appear(connection, staged.key)?;
    Ok(tokens::appear(connection, staged.key)?)
}

/// Notes which resources of a tenant were deleted and how many were created since the backup.
fn compare(
    connection: &Connection,
    present: i64,
    staged: &Staged,
    restored: &mut Restored,
) -> Checked<()> {
    let only_in = |one: i64, other: i64| {
        let (begin, end) = of_tenant(one);
        first(
            connection,
            "SELECT count(*) FROM resource a WHERE a.position > ?1 AND a.position <= ?2
             AND NOT EXISTS (SELECT 1 FROM resource b WHERE b.tenant = ?3 AND b.id = a.id)",
            (begin, end, other),
            |row| count(row, 0),
        )
    };
    let back = only_in(staged.key, present)?.unwrap_or(0);
    restored.resources_back += back;
    restored.resources_gone += only_in(present, staged.key)?.unwrap_or(0);
    let room = MOST_NAMED.saturating_sub(restored.back.len());
    if back == 0 || room == 0 {
        return Ok(());
    }
    let (begin, end) = of_tenant(staged.key);
    let named = all(
        connection,
        "SELECT a.position, a.id FROM resource a WHERE a.position > ?1 AND a.position <= ?2
         AND NOT EXISTS (SELECT 1 FROM resource b WHERE b.tenant = ?3 AND b.id = a.id)
         ORDER BY a.position LIMIT ?4",
        (begin, end, present, i64::try_from(room).unwrap_or(0)),
        |row| {
            Ok(Back {
                tenant: staged.id.clone(),
                kind: kind_of(row.get(0)?),
                id: ResourceId::from_stored(row.get(1)?),
            })
        },
    )?;
    restored.back.extend(named);
    Ok(())
}

/// Hands what an unfinished restore left to the erasure; answers which tenants these are.
pub(super) fn abandon(connection: &Connection) -> Result<Vec<i64>, StoreError> {
    let keys = all(
        connection,
        "SELECT tenant FROM tenant WHERE state = ?1",
        [RESTORING],
        |row| Ok(row.get(0)?),
    )?;
    for key in &keys {
        tenants::retire(connection, *key)?;
    }
    Ok(keys)
}
