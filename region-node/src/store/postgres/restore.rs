//! Takes a backup in, as SQLite does: rows in small steps to tenants that nobody sees, and one
//! last transaction that gives these their names.
//!
//! A restore holds a lock of the database as long as its connection lives, so that no other node
//! begins one, and none takes what is coming in for something that a dead one left.

use tokio::sync::mpsc::Receiver;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Transaction};

use super::backup::{Aside, scope};
use super::resources::{self, index_json, index_rows, origin_column};
use super::writer::{kind_column, resource_id, uuid};
use super::{audit, events, key, tenants, tokens};
use crate::store::backup::{Back, ChangeRow, MOST_NAMED, OutcomeRow, ResourceRow};
use crate::store::position::{kind_of, of_tenant};
use crate::store::staging::{Checked, RESTORING, Staged, Staging, blame, next_rows};
use crate::store::{
    AuditHead, AuditKind, AuditNote, AuditRecord, Author, BackupRow, Counts, RestoreError,
    RestoreHow, RestoreStep, Restored, StoreError, Tenant,
};

/// The lock that a restore holds.
const LOCK: i64 = 0x6d65_7269_6469_616e;

/// What came of a restore, and the tenants that gave way and are to be erased.
pub(super) struct Done {
    pub(super) restored: Restored,
    pub(super) retired: Vec<i64>,
}

/// A turn to restore, or to clear away what a restore has left.
pub(super) struct Turn(Client);

impl Turn {
    /// Takes the lock; nothing if another restore of the region has it.
    pub(super) async fn take(aside: &Aside) -> Result<Option<Self>, StoreError> {
        let client = aside.connect().await?;
        let row = client
            .query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK])
            .await?;
        Ok(row.try_get::<_, bool>(0)?.then_some(Self(client)))
    }

    /// Gives the turn up. PostgreSQL takes it by itself when the connection ends, a moment later.
    pub(super) async fn end(self) {
        drop(
            self.0
                .query("SELECT pg_advisory_unlock($1)", &[&LOCK])
                .await,
        );
    }

    /// Hands what an unfinished restore left to the erasure; answers which tenants these are.
    pub(super) async fn abandon(&mut self) -> Result<Vec<i64>, StoreError> {
        let transaction = self.0.transaction().await?;
        let rows = transaction
            .query(
                "SELECT t.tenant FROM tenant t WHERE t.state = $1",
                &[&RESTORING],
            )
            .await?;
        let mut keys = Vec::with_capacity(rows.len());
        for row in &rows {
            let key: i64 = row.try_get(0)?;
            tenants::retire(&transaction, key).await?;
            keys.push(key);
        }
        transaction.commit().await?;
        Ok(keys)
    }

    /// Carries a restore out up to the moment at which everybody sees it.
    pub(super) async fn run(
        &mut self,
        mut steps: Receiver<RestoreStep>,
        how: RestoreHow,
    ) -> Checked<Done> {
        if !how.replace {
            let transaction = self.begin().await?;
            refuse_tenants(&transaction).await?;
        }
        let mut staging = Staging::default();
        loop {
            let (rows, end) = next_rows(&mut steps).await?;
            let transaction = self.begin().await?;
            take(&mut staging, &transaction, rows)
                .await
                .map_err(blame)?;
            transaction.commit().await.map_err(StoreError::from)?;
            if let Some(counts) = end {
                let transaction = self.begin().await?;
                let done = finish(&staging, &transaction, counts, how)
                    .await
                    .map_err(blame)?;
                transaction.commit().await.map_err(StoreError::from)?;
                return Ok(done);
            }
        }
    }

    async fn begin(&mut self) -> Result<Transaction<'_>, StoreError> {
        Ok(self.0.transaction().await?)
    }
}

async fn refuse_tenants(transaction: &Transaction<'_>) -> Checked<()> {
    if tenants::list_with_numbers(transaction).await?.is_empty() {
        Ok(())
    } else {
        Err(RestoreError::NotEmpty)
    }
}

/// Writes some rows: those of one tenant and one kind together.
async fn take(
    staging: &mut Staging,
    transaction: &Transaction<'_>,
    rows: Vec<BackupRow>,
) -> Checked<()> {
    let mut batch = Batch::default();
    if let Some(last) = staging.tenants.last() {
        batch.tenant = last.key;
    }
    for row in rows {
        let tenant = staging.note(&row)?;
        match (row, tenant) {
            (BackupRow::Tenant(tenant), _) => {
                std::mem::take(&mut batch).write(transaction).await?;
                let key = tenants::stage(transaction, &tenant).await?;
                staging.begin(key, *tenant);
                batch.tenant = key;
            }
            (BackupRow::Token(token), Some(tenant)) => {
                tenant.check_token(&token)?;
                tokens::stage(transaction, tenant.key, &token).await?;
            }
            (BackupRow::Endpoint(endpoint), Some(tenant)) => {
                events::stage(transaction, tenant.key, &endpoint).await?;
            }
            (row, Some(tenant)) => batch.add(tenant, row)?,
            (_, None) => {}
        }
    }
    batch.write(transaction).await
}

/// Rows of one tenant, by kind.
#[derive(Default)]
struct Batch {
    tenant: i64,
    resources: Vec<(i64, Box<ResourceRow>)>,
    members: Vec<(i64, i64)>,
    changes: Vec<(i64, Box<ChangeRow>)>,
    outcomes: Vec<(i64, Box<OutcomeRow>)>,
    audit_head: Option<Box<AuditHead>>,
    audit: Vec<AuditRecord>,
}

/// A column of rows.
fn column<'r, R, T>(rows: &'r [R], value: impl Fn(&'r R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

impl Batch {
    fn add(&mut self, tenant: &Staged, row: BackupRow) -> Checked<()> {
        match row {
            BackupRow::Tenant(_) | BackupRow::Token(_) | BackupRow::Endpoint(_) => {}
            BackupRow::Resource(row) => self.resources.push((tenant.position_of(&row)?, row)),
            BackupRow::Members(row) => {
                let (group, members) = tenant.positions_of(&row)?;
                self.members
                    .extend(members.into_iter().map(|member| (group, member)));
            }
            BackupRow::Change(row) => {
                let position = tenant.position(row.kind, row.place)?;
                self.changes.push((position, row));
            }
            BackupRow::Outcome(row) => {
                let position = tenant.position(row.kind, row.place)?;
                self.outcomes.push((position, row));
            }
            BackupRow::AuditHead(head) => self.audit_head = Some(head),
            BackupRow::Audit(record) => self.audit.push(*record),
        }
        Ok(())
    }

    async fn write(self, transaction: &Transaction<'_>) -> Checked<()> {
        scope(transaction, self.tenant).await?;
        self.write_resources(transaction).await?;
        self.write_members(transaction).await?;
        self.write_changes(transaction).await?;
        self.write_outcomes(transaction).await?;
        if let Some(head) = &self.audit_head {
            audit::set_head(transaction, self.tenant, head).await?;
        }
        Ok(audit::insert(transaction, self.tenant, &self.audit).await?)
    }

    async fn write_resources(&self, transaction: &Transaction<'_>) -> Checked<()> {
        let rows = &self.resources;
        if rows.is_empty() {
            return Ok(());
        }
        let stored = |key: &Option<String>| key.as_deref().map(|key| key::stored(key).into_owned());
        let mut attributes = Vec::with_capacity(rows.len());
        let (mut names, mut values, mut positions) = (Vec::new(), Vec::new(), Vec::new());
        for (position, row) in rows {
            let of_index = index_rows(&row.keys);
            attributes.push(index_json(&of_index)?);
            for (name, value) in of_index {
                names.push(name);
                values.push(value);
                positions.push(*position);
            }
        }
        execute(
            transaction,
            "INSERT INTO resource
                (position, tenant, kind, id, version, created, modified, active,
                 user_name, external_id, display_name, attributes, document)
             SELECT u.position, $1, u.kind, u.id, u.version, u.created, u.modified, u.active,
                    u.user_name, u.external_id, u.display_name, u.attributes, u.document
               FROM unnest($2::bigint[], $3::smallint[], $4::uuid[], $5::bigint[], $6::bigint[],
                           $7::bigint[], $8::boolean[], $9::text[], $10::text[], $11::text[],
                           $12::text[], $13::text[])
                 AS u(position, kind, id, version, created, modified, active, user_name,
                      external_id, display_name, attributes, document)",
            &[
                &self.tenant,
                &column(rows, |(position, _)| *position),
                &column(rows, |(_, row)| kind_column(row.kind)),
                &column(rows, |(_, row)| uuid(row.id)),
                &column(rows, |(_, row)| row.version),
                &column(rows, |(_, row)| row.created.as_millis()),
                &column(rows, |(_, row)| row.modified.as_millis()),
                &column(rows, |(_, row)| row.keys.active),
                &column(rows, |(_, row)| stored(&row.keys.user_name)),
                &column(rows, |(_, row)| stored(&row.keys.external_id)),
                &column(rows, |(_, row)| stored(&row.keys.display_name)),
                &attributes,
                &column(rows, |(_, row)| row.document.get()),
            ],
        )
        .await?;
        execute(
            transaction,
            "INSERT INTO attribute_index (tenant, attribute, value, position)
             SELECT $1, u.name, u.value, u.position
               FROM unnest($2::text[], $3::text[], $4::bigint[]) AS u(name, value, position)
             ON CONFLICT DO NOTHING",
            &[&self.tenant, &names, &values, &positions],
        )
        .await
    }

    async fn write_members(&self, transaction: &Transaction<'_>) -> Checked<()> {
        let rows = &self.members;
        if rows.is_empty() {
            return Ok(());
        }
        execute(
            transaction,
            "INSERT INTO member (group_position, member_position)
             SELECT * FROM unnest($1::bigint[], $2::bigint[])",
            &[
                &column(rows, |(group, _)| *group),
                &column(rows, |(_, member)| *member),
            ],
        )
        .await
    }

    async fn write_changes(&self, transaction: &Transaction<'_>) -> Checked<()> {
        let rows = &self.changes;
        if rows.is_empty() {
            return Ok(());
        }
        let attributes: Result<Vec<String>, StoreError> = rows
            .iter()
            .map(|(_, row)| resources::json(&row.attributes))
            .collect();
        execute(
            transaction,
            "INSERT INTO change (tenant, seq, position, id, what, at, attributes, active)
             SELECT $1, u.* FROM unnest($2::bigint[], $3::bigint[], $4::uuid[], $5::text[],
                                        $6::bigint[], $7::text[], $8::boolean[]) AS u",
            &[
                &self.tenant,
                &column(rows, |(_, row)| row.seq),
                &column(rows, |(position, _)| *position),
                &column(rows, |(_, row)| uuid(row.id)),
                &column(rows, |(_, row)| row.what.as_str()),
                &column(rows, |(_, row)| row.at.as_millis()),
                &attributes?,
                &column(rows, |(_, row)| row.active),
            ],
        )
        .await
    }

    async fn write_outcomes(&self, transaction: &Transaction<'_>) -> Checked<()> {
        let rows = &self.outcomes;
        if rows.is_empty() {
            return Ok(());
        }
        execute(
            transaction,
            "INSERT INTO idempotency
                (tenant, origin, key, fingerprint, what, position, id, version, at)
             SELECT $1, u.* FROM unnest($2::smallint[], $3::bytea[], $4::bytea[], $5::text[],
                                        $6::bigint[], $7::uuid[], $8::bigint[], $9::bigint[]) AS u",
            &[
                &self.tenant,
                &column(rows, |(_, row)| origin_column(row.origin)),
                &column(rows, |(_, row)| row.key.as_slice()),
                &column(rows, |(_, row)| {
                    row.fingerprint.as_ref().map(<[u8; 8]>::as_slice)
                }),
                &column(rows, |(_, row)| row.what.as_str()),
                &column(rows, |(position, _)| *position),
                &column(rows, |(_, row)| uuid(row.id)),
                &column(rows, |(_, row)| row.version),
                &column(rows, |(_, row)| row.at.as_millis()),
            ],
        )
        .await
    }
}

async fn execute(
    transaction: &Transaction<'_>,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Checked<()> {
    transaction
        .execute(sql, parameters)
        .await
        .map_err(StoreError::from)?;
    Ok(())
}

/// The last transaction: what came is there for everybody.
async fn finish(
    staging: &Staging,
    transaction: &Transaction<'_>,
    told: Counts,
    how: RestoreHow,
) -> Checked<Done> {
    let counts = staging.check_end(told)?;
    // From here to the end nothing is written, on no node: what is compared stays as it is.
    transaction
        .batch_execute("LOCK TABLE tenant IN EXCLUSIVE MODE")
        .await
        .map_err(StoreError::from)?;
    if !how.replace {
        refuse_tenants(transaction).await?;
    }
    let mut restored = Restored {
        counts,
        ..Restored::default()
    };
    let mut present = tenants::list_with_numbers(transaction).await?;
    let had_tenants = !present.is_empty();
    let mut retired = Vec::with_capacity(present.len());
    for staged in &staging.tenants {
        let at = present
            .iter()
            .position(|(_, tenant)| tenant.id == staged.id);
        let predecessor = at.map(|at| present.swap_remove(at));
        if let Some((key, _)) = &predecessor {
            compare(transaction, *key, staged, &mut restored).await?;
            restored.tokens_kept_ended +=
                tokens::outlive_restore(transaction, *key, staged.key, how.now).await?;
            audit::outlive_restore(transaction, *key, staged.key).await?;
            events::outlive_restore(transaction, *key, staged.key, staged.seq).await?;
            tenants::retire(transaction, *key).await?;
            retired.push(*key);
        } else if had_tenants {
            restored.tenants_back.push(staged.id.clone());
        }
        let predecessor = predecessor.as_ref().map(|(_, tenant)| tenant);
        appear(staged, transaction, predecessor, how).await?;
        let note = AuditNote::new(AuditKind::TenantRestored, Author::operator(), "");
        audit::note(transaction, staged.key, how.now, &note).await?;
        if how.revoke_tokens {
            restored.tokens_revoked += tokens::revoke_all(transaction, staged.key, how.now).await?;
        }
        restored.live_tokens += tokens::count_live(transaction, staged.key, how.now).await?;
    }
    for (key, tenant) in present {
        tenants::retire(transaction, key).await?;
        retired.push(key);
        restored.tenants_gone.push(tenant.id);
    }
    Ok(Done { restored, retired })
}

/// Gives a tenant its name.
async fn appear(
    staged: &Staged,
    transaction: &Transaction<'_>,
    predecessor: Option<&Tenant>,
    how: RestoreHow,
) -> Checked<()> {
    let head = staged.head(predecessor, how)?;
    execute(
        transaction,
        "WITH h AS (UPDATE head h SET seq = $5 WHERE h.tenant = $1)
         UPDATE tenant t SET id = $2, state = $3, credential_version = $4 WHERE t.tenant = $1",
        &[
            &staged.key,
            &staged.id.as_str(),
            &head.state.as_str(),
            &head.credential_version,
            &head.seq,
        ],
    )
    .await?;
    events::appear(transaction, staged.key).await?;
    Ok(tokens::appear(transaction, staged.key).await?)
}

/// Notes which resources of a tenant were deleted and how many were created since the backup. A
/// transaction sees one tenant at a time, so ids go from one look to the next.
async fn compare(
    transaction: &Transaction<'_>,
    present: i64,
    staged: &Staged,
    restored: &mut Restored,
) -> Checked<()> {
    /// Ids that are compared at once.
    const AT_ONCE: i64 = 5000;
    let sql = "SELECT r.position, r.id FROM resource r
                WHERE r.tenant = $1 AND r.position > $2 AND r.position <= $3
                ORDER BY r.position LIMIT $4";
    let absent = "SELECT u.n FROM unnest($2::uuid[]) WITH ORDINALITY AS u(id, n)
                   WHERE NOT EXISTS (SELECT 1 FROM resource r WHERE r.tenant = $1 AND r.id = u.id)
                   ORDER BY u.n";
    for (one, other) in [(staged.key, present), (present, staged.key)] {
        let (mut after, end) = of_tenant(one);
        loop {
            scope(transaction, one).await?;
            let rows = transaction
                .query(sql, &[&one, &after, &end, &AT_ONCE])
                .await
                .map_err(StoreError::from)?;
            let Some(last) = rows.last() else {
                break;
            };
            after = last.try_get(0).map_err(StoreError::from)?;
            let ids: Result<Vec<uuid::Uuid>, _> = rows.iter().map(|row| row.try_get(1)).collect();
            let ids = ids.map_err(StoreError::from)?;
            scope(transaction, other).await?;
            let missing = transaction
                .query(absent, &[&other, &ids])
                .await
                .map_err(StoreError::from)?;
            if one == present {
                restored.resources_gone += missing.len() as u64;
                continue;
            }
            restored.resources_back += missing.len() as u64;
            let room = MOST_NAMED.saturating_sub(restored.back.len());
            for row in missing.iter().take(room) {
                let number: i64 = row.try_get(0).map_err(StoreError::from)?;
                let row = usize::try_from(number - 1).ok().and_then(|at| rows.get(at));
                let row = row.ok_or(StoreError::Corrupt("a row of nobody's"))?;
                let position = row.try_get(0).map_err(StoreError::from)?;
                restored.back.push(Back {
                    tenant: staged.id.clone(),
                    kind: kind_of(position),
                    id: resource_id(row.try_get(1).map_err(StoreError::from)?),
                });
            }
        }
    }
    Ok(())
}
