//! Statements on the receivers of events.

use shared::{TenantId, Timestamp};
use tokio_postgres::{Row, Transaction};

use super::audit;
use super::backup::scope;
use super::connection::{Connections, Parameters};
use super::tenants::unsigned;
use crate::store::backup::EndpointRow;
use crate::store::events::{
    ACTIVE, DeadLetter, Endpoint, EndpointChange, KeptChange, MOST_DEAD_LETTERS, PAUSED, Progress,
    Report, json, read_json,
};
use crate::store::staging::STAGED_ID;
use crate::store::{AuditNote, StoreError};

/// The scope of what looks across all tenants: the delivery of events.
const EVERY_TENANT: i64 = -1;

macro_rules! select_endpoint {
    ($rest:literal) => {
        concat!(
            "SELECT e.id, t.id AS tenant_id, e.settings, e.secrets, e.state, e.reason, e.cursor,
                    e.done, e.attempts, e.next_attempt, e.failing_since, e.last_error,
                    e.last_success, h.seq, e.lease, e.lease_until, e.created, e.created_by,
                    (SELECT count(*) FROM event_dead_letter d
                      WHERE d.endpoint = e.endpoint) AS dead_letters,
                    EXISTS (SELECT FROM event_dead_letter d
                             WHERE d.endpoint = e.endpoint AND d.replay) AS has_replays
               FROM event_endpoint e JOIN tenant t ON t.tenant = e.tenant
               JOIN LATERAL (SELECT h.seq FROM head h WHERE h.tenant = t.tenant
                              ORDER BY h.seq DESC LIMIT 1) h ON true ",
            $rest
        )
    };
}

/// Reads `select_endpoint`.
fn read(row: &Row) -> Result<Endpoint, StoreError> {
    let is_paused = row.try_get::<_, &str>("state")? == PAUSED;
    let reason: Option<String> = row.try_get("reason")?;
    let time = |name: &str| -> Result<Option<Timestamp>, StoreError> {
        Ok(row.try_get::<_, Option<i64>>(name)?.map(Timestamp))
    };
    Ok(Endpoint {
        id: row.try_get("id")?,
        tenant: TenantId::parse(row.try_get("tenant_id")?)
            .map_err(|_| StoreError::Corrupt("a tenant with an odd id"))?,
        settings: read_json(row.try_get("settings")?)?,
        secrets: read_json(row.try_get("secrets")?)?,
        paused: is_paused.then(|| reason.unwrap_or_default()),
        progress: Progress {
            cursor: row.try_get("cursor")?,
            done: row.try_get("done")?,
            attempts: row.try_get("attempts")?,
            next_attempt: Timestamp(row.try_get("next_attempt")?),
            failing_since: time("failing_since")?,
            last_error: row.try_get("last_error")?,
            last_success: time("last_success")?,
        },
        head: row.try_get("seq")?,
        dead_letters: row.try_get("dead_letters")?,
        has_replays: row.try_get("has_replays")?,
        lease: (
            row.try_get("lease")?,
            Timestamp(row.try_get("lease_until")?),
        ),
        created: Timestamp(row.try_get("created")?),
        created_by: row.try_get("created_by")?,
    })
}

fn only(rows: &[Row]) -> Result<Endpoint, StoreError> {
    rows.first().map_or(Err(StoreError::NotFound), read)
}

pub(super) async fn create(
    connections: &Connections,
    tenant: i64,
    endpoint: &Endpoint,
    note: &AuditNote,
) -> Result<Endpoint, StoreError> {
    let mut lease = connections.take().await?;
    let transaction = lease.client()?.transaction().await?;
    scope(&transaction, tenant).await?;
    audit::note(&transaction, tenant, endpoint.created, note).await?;
    transaction
        .execute(
            "INSERT INTO event_endpoint
                (tenant, id, settings, secrets, state, cursor, done, attempts, next_attempt,
                 lease, lease_until, created, created_by)
             SELECT $1, $2, $3, $4, $5, max(h.seq), 0, 0, 0, '', 0, $6, $7
               FROM head h WHERE h.tenant = $1",
            &[
                &tenant,
                &endpoint.id,
                &json(&endpoint.settings)?,
                &json(&endpoint.secrets)?,
                &ACTIVE,
                &endpoint.created.as_millis(),
                &endpoint.created_by,
            ],
        )
        .await?;
    let rows = transaction
        .query(select_endpoint!("WHERE e.id = $1"), &[&endpoint.id])
        .await?;
    let created = only(&rows)?;
    transaction.commit().await?;
    lease.give_back();
    Ok(created)
}

/// Writes an endpoint that a backup holds.
pub(super) async fn stage(
    transaction: &Transaction<'_>,
    tenant: i64,
    endpoint: &EndpointRow,
) -> Result<(), StoreError> {
    let state = if endpoint.paused.is_some() {
        PAUSED
    } else {
        ACTIVE
    };
    scope(transaction, tenant).await?;
    let staged = transaction
        .query_one(
            "INSERT INTO event_endpoint
                (tenant, id, settings, secrets, state, reason, cursor, done, attempts,
                 next_attempt, lease, lease_until, created, created_by)
             VALUES ($1, $2, $3, $4, $5, $6, $7, 0, 0, 0, '', 0, $8, $9) RETURNING endpoint",
            &[
                &tenant,
                &format!("{STAGED_ID}{}", endpoint.id),
                &json(&endpoint.settings)?,
                &json(&endpoint.secrets)?,
                &state,
                &endpoint.paused,
                &endpoint.cursor,
                &endpoint.created.as_millis(),
                &endpoint.created_by,
            ],
        )
        .await?;
    let staged: i64 = staged.try_get(0)?;
    for letter in &endpoint.dead_letters {
        transaction
            .execute(
                INSERT_LETTER,
                &[
                    &tenant,
                    &staged,
                    &json(&letter.change)?,
                    &letter.at.as_millis(),
                    &letter.reason,
                    &letter.attempts,
                    &letter.replay,
                ],
            )
            .await?;
    }
    Ok(())
}

/// A tenant's endpoints with their dead letters, as a backup holds them.
pub(super) async fn rows_of(
    transaction: &Transaction<'_>,
    tenant: i64,
) -> Result<Vec<EndpointRow>, StoreError> {
    let sql = select_endpoint!("WHERE e.tenant = $1 ORDER BY e.endpoint");
    let mut all = Vec::new();
    for row in &transaction.query(sql, &[&tenant]).await? {
        let endpoint = read(row)?;
        let letters: Parameters<'_> = &[&tenant, &endpoint.id, &0_i64, &MOST_DEAD_LETTERS, &false];
        let letters = transaction.query(SELECT_LETTERS, letters).await?;
        let letters: Result<_, _> = letters.iter().map(read_letter).collect();
        all.push(EndpointRow::new(endpoint, letters?));
    }
    Ok(all)
}

pub(super) async fn get(
    connections: &Connections,
    tenant: i64,
    id: &str,
) -> Result<Option<Endpoint>, StoreError> {
    let sql = select_endpoint!("WHERE e.tenant = $1 AND e.id = $2");
    let rows = connections
        .query_scoped(tenant, sql, &[&tenant, &id])
        .await?;
    rows.first().map(read).transpose()
}

pub(super) async fn list(
    connections: &Connections,
    tenant: Option<i64>,
) -> Result<Vec<Endpoint>, StoreError> {
    let sql = select_endpoint!(
        "WHERE t.state IN ('active', 'suspended') AND ($1::bigint IS NULL OR t.tenant = $1)
         ORDER BY e.endpoint"
    );
    let of = tenant.unwrap_or(EVERY_TENANT);
    let rows = connections.query_scoped(of, sql, &[&tenant]).await?;
    rows.iter().map(read).collect()
}

pub(super) async fn update(
    connections: &Connections,
    tenant: i64,
    id: &str,
    change: &EndpointChange,
    note: &AuditNote,
    now: Timestamp,
) -> Result<Endpoint, StoreError> {
    let (settings, secrets, state) = change.columns()?;
    let mut lease = connections.take().await?;
    let transaction = lease.client()?.transaction().await?;
    scope(&transaction, tenant).await?;
    let rows = transaction
        .execute(
            "UPDATE event_endpoint e SET settings = $3, secrets = $4, state = $5, reason = $6,
                attempts = CASE WHEN e.state <> $5 THEN 0 ELSE e.attempts END,
                next_attempt = CASE WHEN e.state <> $5 THEN 0 ELSE e.next_attempt END,
                failing_since = CASE WHEN e.state <> $5 THEN NULL ELSE e.failing_since END
             WHERE e.tenant = $1 AND e.id = $2",
            &[&tenant, &id, &settings, &secrets, &state, &change.paused],
        )
        .await?;
    if rows == 0 {
        return Err(StoreError::NotFound);
    }
    audit::note(&transaction, tenant, now, note).await?;
    let rows = transaction
        .query(select_endpoint!("WHERE e.id = $1"), &[&id])
        .await?;
    let updated = only(&rows)?;
    transaction.commit().await?;
    lease.give_back();
    Ok(updated)
}

pub(super) async fn delete(
    connections: &Connections,
    tenant: i64,
    id: &str,
    note: &AuditNote,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut lease = connections.take().await?;
    let transaction = lease.client()?.transaction().await?;
    scope(&transaction, tenant).await?;
    transaction
        .execute(
            "DELETE FROM event_dead_letter d USING event_endpoint e
              WHERE d.endpoint = e.endpoint AND e.tenant = $1 AND e.id = $2",
            &[&tenant, &id],
        )
        .await?;
    let sql = "DELETE FROM event_endpoint e WHERE e.tenant = $1 AND e.id = $2";
    if transaction.execute(sql, &[&tenant, &id]).await? == 0 {
        return Err(StoreError::NotFound);
    }
    audit::note(&transaction, tenant, now, note).await?;
    transaction.commit().await?;
    lease.give_back();
    Ok(())
}

/// Takes or keeps the right to deliver; answers whether the node has it.
pub(super) async fn lease(
    connections: &Connections,
    id: &str,
    node: &str,
    now: Timestamp,
    until: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "UPDATE event_endpoint e SET lease = $2, lease_until = $4
                WHERE e.id = $1 AND (e.lease = $2 OR e.lease_until <= $3) RETURNING 1";
    let parameters: Parameters<'_> = &[&id, &node, &now.as_millis(), &until.as_millis()];
    let leased = connections.query_scoped(EVERY_TENANT, sql, parameters);
    Ok(!leased.await?.is_empty())
}

/// Notes how far an endpoint has come, if the node still has the right to deliver; answers whether
/// it has.
pub(super) async fn report(
    connections: &Connections,
    id: &str,
    node: &str,
    report: &Report,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let mut lease = connections.take().await?;
    let transaction = lease.client()?.transaction().await?;
    let progress = &report.progress;
    scope(&transaction, EVERY_TENANT).await?;
    let update = transaction
        .prepare_cached(
            "UPDATE event_endpoint e SET cursor = $3, done = $4, attempts = $5, next_attempt = $6,
                failing_since = $7, last_error = $8, last_success = $9,
                state = CASE WHEN $10::text IS NULL THEN e.state ELSE $11 END,
                reason = coalesce($10, e.reason)
             WHERE e.id = $1 AND e.lease = $2 RETURNING e.endpoint, e.tenant",
        )
        .await?;
    let found = transaction
        .query_opt(
            &update,
            &[
                &id,
                &node,
                &progress.cursor,
                &progress.done,
                &progress.attempts,
                &progress.next_attempt.as_millis(),
                &progress.failing_since.map(Timestamp::as_millis),
                &progress.last_error,
                &progress.last_success.map(Timestamp::as_millis),
                &report.pause,
                &PAUSED,
            ],
        )
        .await?;
    let Some(found) = found else {
        transaction.rollback().await?;
        lease.give_back();
        return Ok(false);
    };
    let (endpoint, tenant): (i64, i64) = (found.try_get(0)?, found.try_get(1)?);
    scope(&transaction, tenant).await?;
    let now_ms = now.as_millis();
    for (change, reason, attempts) in &report.dead {
        let event = json(&KeptChange::from(change))?;
        transaction
            .execute(
                INSERT_LETTER,
                &[
                    &tenant, &endpoint, &event, &now_ms, reason, attempts, &false,
                ],
            )
            .await?;
    }
    if !report.dead.is_empty() {
        transaction
            .execute(
                "DELETE FROM event_dead_letter d WHERE d.endpoint = $1 AND d.letter <=
                    (SELECT l.letter FROM event_dead_letter l WHERE l.endpoint = $1
                      ORDER BY l.letter DESC LIMIT 1 OFFSET $2)",
                &[&endpoint, &MOST_DEAD_LETTERS],
            )
            .await?;
    }
    for (letter, failed) in &report.replayed {
        match failed {
            None => {
                let sql = "DELETE FROM event_dead_letter d WHERE d.endpoint = $1 AND d.letter = $2";
                transaction.execute(sql, &[&endpoint, letter]).await?;
            }
            Some(reason) => {
                let sql = "UPDATE event_dead_letter d
                              SET replay = false, reason = $3, at = $4, attempts = d.attempts + 1
                            WHERE d.endpoint = $1 AND d.letter = $2";
                let parameters: Parameters<'_> = &[&endpoint, letter, reason, &now_ms];
                transaction.execute(sql, parameters).await?;
            }
        }
    }
    for note in &report.notes {
        audit::note(&transaction, tenant, now, note).await?;
    }
    transaction.commit().await?;
    lease.give_back();
    Ok(true)
}

pub(super) async fn dead_letters(
    connections: &Connections,
    tenant: i64,
    id: &str,
    only_replays: bool,
    after: i64,
    limit: u32,
) -> Result<Vec<DeadLetter>, StoreError> {
    let parameters: Parameters<'_> = &[&tenant, &id, &after, &i64::from(limit), &only_replays];
    let rows = connections
        .query_scoped(tenant, SELECT_LETTERS, parameters)
        .await?;
    rows.iter().map(read_letter).collect()
}

const SELECT_LETTERS: &str = "SELECT d.letter, d.event, d.at, d.reason, d.attempts, d.replay
      FROM event_dead_letter d JOIN event_endpoint e ON e.endpoint = d.endpoint
     WHERE e.tenant = $1 AND e.id = $2 AND d.letter > $3 AND (d.replay OR NOT $5)
     ORDER BY d.letter LIMIT $4";

const INSERT_LETTER: &str = "INSERT INTO event_dead_letter
        (tenant, endpoint, event, at, reason, attempts, replay)
     VALUES ($1, $2, $3, $4, $5, $6, $7)";

fn read_letter(row: &Row) -> Result<DeadLetter, StoreError> {
    Ok(DeadLetter {
        number: row.try_get("letter")?,
        change: read_json::<KeptChange>(row.try_get("event")?)?.change()?,
        at: Timestamp(row.try_get("at")?),
        reason: row.try_get("reason")?,
        attempts: row.try_get("attempts")?,
        replay: row.try_get("replay")?,
    })
}

/// Says that all dead letters of an endpoint are to be sent once more; answers how many.
pub(super) async fn replay(
    connections: &Connections,
    tenant: i64,
    id: &str,
) -> Result<u64, StoreError> {
    let sql = "WITH e AS (SELECT e.endpoint FROM event_endpoint e
                           WHERE e.tenant = $1 AND e.id = $2),
                    d AS (UPDATE event_dead_letter d SET replay = true FROM e
                           WHERE d.endpoint = e.endpoint RETURNING 1)
               SELECT (SELECT count(*) FROM d) FROM e";
    let rows = connections
        .query_scoped(tenant, sql, &[&tenant, &id])
        .await?;
    unsigned(rows.first().ok_or(StoreError::NotFound)?, 0)
}

/// The region's key, or the one that is given, if there is none yet.
pub(super) async fn key(
    connections: &Connections,
    candidate: &(String, Vec<u8>),
    now: Timestamp,
) -> Result<(String, Vec<u8>), StoreError> {
    let first = "SELECT k.id, k.secret FROM event_key k ORDER BY k.created, k.id LIMIT 1";
    let mut rows = connections.query(first, &[]).await?;
    if rows.is_empty() {
        // Two nodes may both add one: all use the older.
        let sql = "INSERT INTO event_key (id, secret, created) VALUES ($1, $2, $3)
                   ON CONFLICT DO NOTHING";
        let parameters: Parameters<'_> = &[&candidate.0, &candidate.1, &now.as_millis()];
        connections.query(sql, parameters).await?;
        rows = connections.query(first, &[]).await?;
    }
    let row = rows
        .first()
        .ok_or(StoreError::Corrupt("the key for events vanished"))?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// The region's own receivers of a tenant outlive a restore, as its tokens do: theirs are the
/// secrets that are known outside. Their events begin again where the backup ends.
pub(super) async fn outlive_restore(
    transaction: &Transaction<'_>,
    present: i64,
    staged: i64,
    seq: i64,
) -> Result<(), StoreError> {
    // The rows of both tenants are there at once.
    scope(transaction, EVERY_TENANT).await?;
    transaction
        .execute(
            "DELETE FROM event_dead_letter d USING event_endpoint s, event_endpoint p
              WHERE d.endpoint = s.endpoint
                AND s.tenant = $2 AND p.tenant = $1 AND s.id = $3 || p.id",
            &[&present, &staged, &STAGED_ID],
        )
        .await?;
    transaction
        .execute(
            "DELETE FROM event_endpoint s USING event_endpoint p
              WHERE s.tenant = $2 AND p.tenant = $1 AND s.id = $3 || p.id",
            &[&present, &staged, &STAGED_ID],
        )
        .await?;
    transaction
        .execute(
            "UPDATE event_endpoint e SET tenant = $2, cursor = least(e.cursor, $3), done = 0
              WHERE e.tenant = $1",
            &[&present, &staged, &seq],
        )
        .await?;
    let sql = "UPDATE event_dead_letter d SET tenant = $2 WHERE d.tenant = $1";
    transaction.execute(sql, &[&present, &staged]).await?;
    Ok(())
}

/// Gives the receivers that a restore brought in their ids.
pub(super) async fn appear(transaction: &Transaction<'_>, tenant: i64) -> Result<(), StoreError> {
    scope(transaction, tenant).await?;
    transaction
        .execute(
            "UPDATE event_endpoint e SET id = substr(e.id, length($2) + 1)
              WHERE e.tenant = $1 AND starts_with(e.id, $2)",
            &[&tenant, &STAGED_ID],
        )
        .await?;
    Ok(())
}
