//! Statements on the receivers of events.

use rusqlite::{Connection, Row};
use shared::{TenantId, Timestamp};

use super::connection::{all, execute, first};
use super::{audit, tenants};
use crate::store::backup::EndpointRow;
use crate::store::events::{
    ACTIVE, DeadLetter, Endpoint, EndpointChange, KeptChange, MOST_DEAD_LETTERS, PAUSED, Progress,
    Report, json, read_json,
};
use crate::store::staging::STAGED_ID;
use crate::store::{AuditNote, StoreError};

macro_rules! select_endpoint {
    ($rest:literal) => {
        concat!(
            "SELECT e.id, t.id, e.settings, e.secrets, e.state, e.reason, e.cursor, e.done,
                    e.attempts, e.next_attempt, e.failing_since, e.last_error, e.last_success,
                    t.seq, e.lease, e.lease_until, e.created, e.created_by,
                    (SELECT count(*) FROM event_dead_letter d WHERE d.endpoint = e.endpoint),
                    EXISTS (SELECT 1 FROM event_dead_letter d
                            WHERE d.endpoint = e.endpoint AND d.replay = 1)
             FROM event_endpoint e JOIN tenant t ON t.tenant = e.tenant ",
            $rest
        )
    };
}

const INSERT_LETTER: &str =
    "INSERT INTO event_dead_letter (tenant, endpoint, event, at, reason, attempts, replay)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

fn read(row: &Row<'_>) -> Result<Endpoint, StoreError> {
    let is_paused = row.get_ref(4)?.as_str().unwrap_or_default() == PAUSED;
    let reason: Option<String> = row.get(5)?;
    Ok(Endpoint {
        id: row.get(0)?,
        tenant: tenants::read_id(row, 1)?,
        settings: read_json(&row.get::<_, String>(2)?)?,
        secrets: read_json(&row.get::<_, String>(3)?)?,
        paused: is_paused.then(|| reason.unwrap_or_default()),
        progress: Progress {
            cursor: row.get(6)?,
            done: row.get(7)?,
            attempts: row.get(8)?,
            next_attempt: Timestamp(row.get(9)?),
            failing_since: row.get::<_, Option<i64>>(10)?.map(Timestamp),
            last_error: row.get(11)?,
            last_success: row.get::<_, Option<i64>>(12)?.map(Timestamp),
        },
        head: row.get(13)?,
        lease: (row.get(14)?, Timestamp(row.get(15)?)),
        created: Timestamp(row.get(16)?),
        created_by: row.get(17)?,
        dead_letters: row.get(18)?,
        has_replays: row.get(19)?,
    })
}

pub(super) fn create(
    connection: &Connection,
    endpoint: &Endpoint,
    note: &AuditNote,
) -> Result<Endpoint, StoreError> {
    let key = tenants::key(connection, &endpoint.tenant)?.ok_or(StoreError::NotFound)?;
    execute(
        connection,
        "INSERT INTO event_endpoint
            (tenant, id, settings, secrets, state, cursor, done, attempts, next_attempt, lease,
             lease_until, created, created_by)
         SELECT tenant, ?2, ?3, ?4, ?5, seq, 0, 0, 0, '', 0, ?6, ?7 FROM tenant WHERE tenant = ?1",
        (
            key,
            &endpoint.id,
            json(&endpoint.settings)?,
            json(&endpoint.secrets)?,
            ACTIVE,
            endpoint.created.as_millis(),
            &endpoint.created_by,
        ),
    )?;
    audit::note(connection, key, endpoint.created, note)?;
    get(connection, &endpoint.tenant, &endpoint.id)?.ok_or(StoreError::NotFound)
}

/// Writes an endpoint that a backup holds.
pub(super) fn stage(
    connection: &Connection,
    key: i64,
    endpoint: &EndpointRow,
) -> Result<(), StoreError> {
    let state = if endpoint.paused.is_some() {
        PAUSED
    } else {
        ACTIVE
    };
    execute(
        connection,
        "INSERT INTO event_endpoint
            (tenant, id, settings, secrets, state, reason, cursor, done, attempts, next_attempt,
             lease, lease_until, created, created_by)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, 0, 0, '', 0, ?8, ?9)",
        (
            key,
            format!("{STAGED_ID}{}", endpoint.id),
            json(&endpoint.settings)?,
            json(&endpoint.secrets)?,
            state,
            &endpoint.paused,
            endpoint.cursor,
            endpoint.created.as_millis(),
            &endpoint.created_by,
        ),
    )?;
    let staged = connection.last_insert_rowid();
    for letter in &endpoint.dead_letters {
        let row = (
            key,
            staged,
            json(&letter.change)?,
            letter.at.as_millis(),
            &letter.reason,
            letter.attempts,
            letter.replay,
        );
        execute(connection, INSERT_LETTER, row)?;
    }
    Ok(())
}

/// A tenant's endpoints with their dead letters, as a backup holds them.
pub(super) fn rows_of(connection: &Connection, key: i64) -> Result<Vec<EndpointRow>, StoreError> {
    let row = |endpoint: Endpoint| {
        let (tenant, id) = (&endpoint.tenant, &endpoint.id);
        let letters = dead_letters(connection, tenant, id, false, 0, u32::MAX)?;
        Ok(EndpointRow::new(endpoint, letters))
    };
    let endpoints = list_of(connection, key)?;
    endpoints.into_iter().map(row).collect()
}

pub(super) fn get(
    connection: &Connection,
    tenant: &TenantId,
    id: &str,
) -> Result<Option<Endpoint>, StoreError> {
    first(
        connection,
        select_endpoint!("WHERE e.id = ?2 AND t.id = ?1 AND t.state IN ('active', 'suspended')"),
        (tenant.as_str(), id),
        read,
    )
}

pub(super) fn list(
    connection: &Connection,
    tenant: Option<&TenantId>,
) -> Result<Vec<Endpoint>, StoreError> {
    all(
        connection,
        select_endpoint!(
            "WHERE t.state IN ('active', 'suspended') AND (?1 IS NULL OR t.id = ?1)
             ORDER BY e.endpoint"
        ),
        [tenant.map(TenantId::as_str)],
        read,
    )
}

fn list_of(connection: &Connection, key: i64) -> Result<Vec<Endpoint>, StoreError> {
    let sql = select_endpoint!("WHERE e.tenant = ?1 ORDER BY e.endpoint");
    all(connection, sql, [key], read)
}

pub(super) fn update(
    connection: &Connection,
    tenant: &TenantId,
    id: &str,
    change: &EndpointChange,
    note: &AuditNote,
    now: Timestamp,
) -> Result<Endpoint, StoreError> {
    let key = tenants::key(connection, tenant)?.ok_or(StoreError::NotFound)?;
    let (settings, secrets, state) = change.columns()?;
    let rows = execute(
        connection,
        "UPDATE event_endpoint SET settings = ?3, secrets = ?4, state = ?5, reason = ?6,
            attempts = CASE WHEN state <> ?5 THEN 0 ELSE attempts END,
            next_attempt = CASE WHEN state <> ?5 THEN 0 ELSE next_attempt END,
            failing_since = CASE WHEN state <> ?5 THEN NULL ELSE failing_since END
         WHERE tenant = ?1 AND id = ?2",
        (key, id, settings, secrets, state, &change.paused),
    )?;
    if rows == 0 {
        return Err(StoreError::NotFound);
    }
    audit::note(connection, key, now, note)?;
    get(connection, tenant, id)?.ok_or(StoreError::NotFound)
}

pub(super) fn delete(
    connection: &Connection,
    tenant: &TenantId,
    id: &str,
    note: &AuditNote,
    now: Timestamp,
) -> Result<(), StoreError> {
    let key = tenants::key(connection, tenant)?.ok_or(StoreError::NotFound)?;
    execute(
        connection,
        "DELETE FROM event_dead_letter WHERE endpoint IN
            (SELECT endpoint FROM event_endpoint WHERE tenant = ?1 AND id = ?2)",
        (key, id),
    )?;
    let sql = "DELETE FROM event_endpoint WHERE tenant = ?1 AND id = ?2";
    if execute(connection, sql, (key, id))? == 0 {
        return Err(StoreError::NotFound);
    }
    audit::note(connection, key, now, note)
}

/// Takes or keeps the right to deliver; answers whether the node has it.
pub(super) fn lease(
    connection: &Connection,
    id: &str,
    node: &str,
    now: Timestamp,
    until: Timestamp,
) -> Result<bool, StoreError> {
    let rows = execute(
        connection,
        "UPDATE event_endpoint SET lease = ?2, lease_until = ?4
         WHERE id = ?1 AND (lease = ?2 OR lease_until <= ?3)",
        (id, node, now.as_millis(), until.as_millis()),
    )?;
    Ok(rows > 0)
}

/// Notes how far an endpoint has come, if the node still has the right to deliver; answers whether
/// it has.
pub(super) fn report(
    connection: &Connection,
    id: &str,
    node: &str,
    report: &Report,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let progress = &report.progress;
    let found = first(
        connection,
        "UPDATE event_endpoint SET cursor = ?3, done = ?4, attempts = ?5, next_attempt = ?6,
            failing_since = ?7, last_error = ?8, last_success = ?9,
            state = CASE WHEN ?10 IS NULL THEN state ELSE ?11 END, reason = coalesce(?10, reason)
         WHERE id = ?1 AND lease = ?2 RETURNING endpoint, tenant",
        (
            id,
            node,
            progress.cursor,
            progress.done,
            progress.attempts,
            progress.next_attempt.as_millis(),
            progress.failing_since.map(Timestamp::as_millis),
            &progress.last_error,
            progress.last_success.map(Timestamp::as_millis),
            &report.pause,
            PAUSED,
        ),
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)),
    )?;
    let Some((endpoint, tenant)) = found else {
        return Ok(false);
    };
    for (change, reason, attempts) in &report.dead {
        let event = json(&KeptChange::from(change))?;
        let row = (
            tenant,
            endpoint,
            event,
            now.as_millis(),
            reason,
            attempts,
            false,
        );
        execute(connection, INSERT_LETTER, row)?;
    }
    if !report.dead.is_empty() {
        execute(
            connection,
            "DELETE FROM event_dead_letter WHERE endpoint = ?1 AND letter <=
                (SELECT letter FROM event_dead_letter WHERE endpoint = ?1
                 ORDER BY letter DESC LIMIT 1 OFFSET ?2)",
            (endpoint, MOST_DEAD_LETTERS),
        )?;
    }
    for (letter, failed) in &report.replayed {
        match failed {
            None => execute(
                connection,
                "DELETE FROM event_dead_letter WHERE endpoint = ?1 AND letter = ?2",
                (endpoint, letter),
            )?,
            Some(reason) => execute(
                connection,
                "UPDATE event_dead_letter SET replay = 0, reason = ?3, at = ?4,
                        attempts = attempts + 1
                 WHERE endpoint = ?1 AND letter = ?2",
                (endpoint, letter, reason, now.as_millis()),
            )?,
        };
    }
    for note in &report.notes {
        audit::note(connection, tenant, now, note)?;
    }
    Ok(true)
}

pub(super) fn dead_letters(
    connection: &Connection,
    tenant: &TenantId,
    id: &str,
    only_replays: bool,
    after: i64,
    limit: u32,
) -> Result<Vec<DeadLetter>, StoreError> {
    all(
        connection,
        "SELECT d.letter, d.event, d.at, d.reason, d.attempts, d.replay
         FROM event_dead_letter d JOIN event_endpoint e ON e.endpoint = d.endpoint
         JOIN tenant t ON t.tenant = e.tenant
         WHERE t.id = ?1 AND e.id = ?2 AND d.letter > ?3 AND (d.replay = 1 OR NOT ?5)
         ORDER BY d.letter LIMIT ?4",
        (tenant.as_str(), id, after, limit, only_replays),
        |row| {
            Ok(DeadLetter {
                number: row.get(0)?,
                change: read_json::<KeptChange>(&row.get::<_, String>(1)?)?.change()?,
                at: Timestamp(row.get(2)?),
                reason: row.get(3)?,
                attempts: row.get(4)?,
                replay: row.get(5)?,
            })
        },
    )
}

/// Says that all dead letters of an endpoint are to be sent once more; answers how many.
pub(super) fn replay(
    connection: &Connection,
    tenant: &TenantId,
    id: &str,
) -> Result<u64, StoreError> {
    get(connection, tenant, id)?.ok_or(StoreError::NotFound)?;
    let rows = execute(
        connection,
        "UPDATE event_dead_letter SET replay = 1 WHERE endpoint =
            (SELECT endpoint FROM event_endpoint WHERE id = ?1)",
        [id],
    )?;
    Ok(rows as u64)
}

/// The region's key, or the one that is given, if there is none yet.
pub(super) fn key(
    connection: &Connection,
    candidate: &(String, Vec<u8>),
    now: Timestamp,
) -> Result<(String, Vec<u8>), StoreError> {
    execute(
        connection,
        "INSERT INTO event_key (id, secret, created)
         SELECT ?1, ?2, ?3 WHERE NOT EXISTS (SELECT 1 FROM event_key)",
        (&candidate.0, &candidate.1, now.as_millis()),
    )?;
    let key = first(
        connection,
        "SELECT id, secret FROM event_key ORDER BY created, id LIMIT 1",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    key.ok_or(StoreError::Corrupt("the key for events vanished"))
}

/// The region's own receivers of a tenant outlive a restore, as its tokens do: theirs are the
/// secrets that are known outside. Their events begin again where the backup ends.
pub(super) fn outlive_restore(
    connection: &Connection,
    present: i64,
    staged: i64,
    seq: i64,
) -> Result<(), StoreError> {
    execute(
        connection,
        "DELETE FROM event_dead_letter WHERE endpoint IN (
            SELECT s.endpoint FROM event_endpoint s JOIN event_endpoint p ON s.id = ?3 || p.id
            WHERE s.tenant = ?2 AND p.tenant = ?1)",
        (present, staged, STAGED_ID),
    )?;
    execute(
        connection,
        "DELETE FROM event_endpoint WHERE tenant = ?2
            AND id IN (SELECT ?3 || id FROM event_endpoint WHERE tenant = ?1)",
        (present, staged, STAGED_ID),
    )?;
    execute(
        connection,
        "UPDATE event_endpoint SET tenant = ?2, cursor = min(cursor, ?3), done = 0
         WHERE tenant = ?1",
        (present, staged, seq),
    )?;
    execute(
        connection,
        "UPDATE event_dead_letter SET tenant = ?2 WHERE tenant = ?1",
        (present, staged),
    )?;
    Ok(())
}

/// Gives the receivers that a restore brought in their ids.
pub(super) fn appear(connection: &Connection, tenant: i64) -> Result<(), StoreError> {
    execute(
        connection,
        "UPDATE event_endpoint SET id = substr(id, length(?2) + 1)
         WHERE tenant = ?1 AND substr(id, 1, length(?2)) = ?2",
        (tenant, STAGED_ID),
    )?;
    Ok(())
}
