//! Statements on activity: requests, cycles, hours, gaps, findings.

use std::borrow::Cow;

use rusqlite::{Connection, Row};
use shared::{TenantId, Timestamp, TokenId};

use super::connection::{all, execute, first};
use super::tenants;
use crate::scim::client::{Client, Clues};
use crate::scim::{Notes, ResourceId, ResourceKind};
use crate::store::activity::{
    ActivityBatch, ActivityPage, ActivityQuery, ActivityRetention, Clients, Cycle, Effects, Entry,
    EntryNumber, Finding, Fold, Gap, GapReason, Hour, Latencies, MOST_FINDINGS, MOST_LOOKED_AT,
    Operation, hour_of,
};
use crate::store::{Access, StoreError};

/// Requests that one step of a pruning removes.
const PRUNED_AT_ONCE: i64 = 500;
/// The tenant of a gap that is of all.
const EVERYBODY: i64 = 0;

/// Writes a batch.
pub(super) fn record(
    connection: &Connection,
    batch: &ActivityBatch,
    is_repeated: bool,
) -> Result<(), StoreError> {
    let sql = "SELECT batch FROM activity_writer WHERE writer = ?1";
    let last: Option<i64> = first(connection, sql, [&*batch.writer], |row| Ok(row.get(0)?))?;
    if is_repeated && last == Some(batch.number) {
        return Ok(());
    }
    for (tenant, news) in &batch.tenants {
        let Some(key) = tenants::key(connection, tenant)? else {
            continue;
        };
        let mut fold = Fold::default();
        for entry in &news.entries {
            if insert(connection, key, entry)? == 0 {
                put_gap(connection, key, &Gap::of_twin(entry))?;
                continue;
            }
            let hour = hour_of(entry.number.at());
            if !fold.hours.contains_key(&hour)
                && let Some(found) = find_hour(connection, key, hour)?
            {
                fold.hours.insert(hour, found);
            }
            if !fold.cycles.iter().any(|cycle| cycle.token == entry.token) {
                fold.cycles
                    .extend(newest_cycle(connection, key, &entry.token)?);
            }
            fold.add(entry);
        }
        for cycle in &fold.cycles {
            put_cycle(connection, key, cycle)?;
        }
        for hour in fold.hours.values() {
            put_hour(connection, key, hour)?;
        }
        for finding in &news.findings {
            find(connection, key, finding)?;
        }
        for gap in &news.gaps {
            put_gap(connection, key, gap)?;
        }
    }
    mark(connection, &batch.writer, batch.at, batch.number)
}

fn insert(connection: &Connection, tenant: i64, entry: &Entry) -> Result<usize, StoreError> {
    let mut statement = connection.prepare_cached(
        "INSERT OR IGNORE INTO activity
            (tenant, number, token, clues, operation, kind, resource, display, filter, filter_shape,
             status, scim_type, detail, duration_us, request_id, dialect, tolerated,
             created, updated, unchanged, deleted)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18,
                 ?19, ?20, ?21)",
    )?;
    Ok(statement.execute(rusqlite::params![
        tenant,
        entry.number.0,
        entry.token.as_str(),
        entry.clues.to_stored(),
        entry.operation.code(),
        entry.kind.map(kind_column),
        entry.resource.as_ref().map(ResourceId::as_bytes),
        entry.display.as_deref(),
        entry.filter.as_deref(),
        entry.filter_shape.as_deref(),
        entry.status,
        entry.scim_type.as_deref(),
        entry.detail.as_deref(),
        entry.duration_us,
        &*entry.request_id,
        entry.dialect.as_str(),
        entry.tolerated.to_text(),
        entry.effects.created,
        entry.effects.updated,
        entry.effects.unchanged,
        entry.effects.deleted,
    ])?)
}

fn kind_column(kind: ResourceKind) -> i64 {
    match kind {
        ResourceKind::User => 0,
        ResourceKind::Group => 1,
    }
}

macro_rules! cycle_columns {
    () => {
        "token, started, ended, clues, requests, failed, created, updated, unchanged, deleted"
    };
}

fn read_cycle(row: &Row<'_>) -> Result<Cycle, StoreError> {
    Ok(Cycle {
        token: token(row, 0)?,
        started: Timestamp(row.get(1)?),
        ended: Timestamp(row.get(2)?),
        clues: Clues::from_stored(row.get(3)?),
        requests: unsigned(row, 4)?,
        failed: unsigned(row, 5)?,
        effects: Effects {
            created: row.get(6)?,
            updated: row.get(7)?,
            unchanged: row.get(8)?,
            deleted: row.get(9)?,
        },
    })
}

fn token(row: &Row<'_>, at: usize) -> Result<TokenId, StoreError> {
    let text = row.get_ref(at)?.as_str().unwrap_or_default();
    TokenId::parse(text).map_err(|_| StoreError::Corrupt("activity of an odd token"))
}

fn unsigned(row: &Row<'_>, at: usize) -> Result<u64, StoreError> {
    super::connection::count(row, at)
}

fn newest_cycle(
    connection: &Connection,
    tenant: i64,
    token: &TokenId,
) -> Result<Option<Cycle>, StoreError> {
    first(
        connection,
        concat!(
            "SELECT ",
            cycle_columns!(),
            " FROM sync_cycle WHERE tenant = ?1 AND token = ?2 ORDER BY started DESC LIMIT 1"
        ),
        (tenant, token.as_str()),
        read_cycle,
    )
}

fn put_cycle(connection: &Connection, tenant: i64, cycle: &Cycle) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(concat!(
        "INSERT OR REPLACE INTO sync_cycle (tenant, ",
        cycle_columns!(),
        ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
    ))?;
    statement.execute(rusqlite::params![
        tenant,
        cycle.token.as_str(),
        cycle.started.as_millis(),
        cycle.ended.as_millis(),
        cycle.clues.to_stored(),
        signed(cycle.requests),
        signed(cycle.failed),
        cycle.effects.created,
        cycle.effects.updated,
        cycle.effects.unchanged,
        cycle.effects.deleted,
    ])?;
    Ok(())
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn read_hour(row: &Row<'_>) -> Result<Hour, StoreError> {
    Ok(Hour {
        hour: row.get(0)?,
        requests: unsigned(row, 1)?,
        failed: unsigned(row, 2)?,
        latencies: Latencies::from_text(row.get_ref(3)?.as_str().unwrap_or_default()),
    })
}

fn find_hour(connection: &Connection, tenant: i64, hour: i64) -> Result<Option<Hour>, StoreError> {
    first(
        connection,
        "SELECT hour, requests, failed, latencies FROM activity_hour
         WHERE tenant = ?1 AND hour = ?2",
        (tenant, hour),
        read_hour,
    )
}

fn put_hour(connection: &Connection, tenant: i64, hour: &Hour) -> Result<(), StoreError> {
    execute(
        connection,
        "INSERT OR REPLACE INTO activity_hour (tenant, hour, requests, failed, latencies)
         VALUES (?1, ?2, ?3, ?4, ?5)",
        (
            tenant,
            hour.hour,
            signed(hour.requests),
            signed(hour.failed),
            hour.latencies.to_text(),
        ),
    )?;
    Ok(())
}

/// Counts a finding with the same one, or adds it where there is room.
fn find(connection: &Connection, tenant: i64, finding: &Finding) -> Result<(), StoreError> {
    execute(
        connection,
        "INSERT INTO finding (tenant, kind, token, subject, first, last, times, request_id, route)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9
          WHERE (SELECT count(*) FROM finding WHERE tenant = ?1) < ?10
             OR EXISTS (SELECT 1 FROM finding WHERE tenant = ?1 AND kind = ?2 AND token = ?3
                                                AND subject = ?4)
         ON CONFLICT DO UPDATE SET
            times = times + excluded.times,
            first = min(first, excluded.first),
            request_id = iif(excluded.last >= last, excluded.request_id, request_id),
            route = iif(excluded.last >= last, excluded.route, route),
            last = max(last, excluded.last)",
        (
            tenant,
            &*finding.kind,
            finding.token.as_str(),
            &*finding.subject,
            finding.first.as_millis(),
            finding.last.as_millis(),
            signed(finding.times),
            &*finding.request_id,
            &*finding.route,
            signed(MOST_FINDINGS as u64),
        ),
    )?;
    Ok(())
}

fn put_gap(connection: &Connection, tenant: i64, gap: &Gap) -> Result<(), StoreError> {
    execute(
        connection,
        "INSERT OR IGNORE INTO activity_gap (tenant, began, ended, lost, reason)
         VALUES (?1, ?2, ?3, ?4, ?5)",
        (
            tenant,
            gap.from.as_millis(),
            gap.to.as_millis(),
            gap.lost.map(signed),
            gap.reason.code(),
        ),
    )?;
    Ok(())
}

fn mark(
    connection: &Connection,
    writer: &str,
    at: Timestamp,
    batch: i64,
) -> Result<(), StoreError> {
    execute(
        connection,
        "INSERT INTO activity_writer (writer, seen, batch) VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET seen = excluded.seen, batch = max(batch, excluded.batch)",
        (writer, at.as_millis(), batch),
    )?;
    Ok(())
}

/// A process begins to write. Whatever other marks there are in the file are of processes that did
/// not stop in good order.
pub(super) fn begin(
    connection: &Connection,
    writer: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let marks = all(
        connection,
        "SELECT seen FROM activity_writer WHERE writer <> ?1",
        [writer],
        |row| Ok(Timestamp(row.get(0)?)),
    )?;
    for seen in marks {
        let gap = Gap {
            from: seen,
            to: now,
            lost: None,
            reason: GapReason::Ended,
        };
        put_gap(connection, EVERYBODY, &gap)?;
    }
    let sql = "DELETE FROM activity_writer WHERE writer <> ?1";
    execute(connection, sql, [writer])?;
    mark(connection, writer, now, 0)
}

/// A process has written all that it had.
pub(super) fn end(connection: &Connection, writer: &str) -> Result<(), StoreError> {
    let sql = "DELETE FROM activity_writer WHERE writer = ?1";
    execute(connection, sql, [writer])?;
    Ok(())
}

macro_rules! entry_columns {
    () => {
        "number, token, clues, operation, kind, resource, display, filter, filter_shape, status,
         scim_type, detail, duration_us, request_id, dialect, tolerated, created, updated,
         unchanged, deleted"
    };
}

fn read_entry(row: &Row<'_>) -> Result<Entry, StoreError> {
    let text = |at: usize| -> Result<Option<Box<str>>, StoreError> {
        Ok(row
            .get_ref(at)?
            .as_str_or_null()
            .map_err(|_| StoreError::Corrupt("activity that is no text"))?
            .map(Box::from))
    };
    let needed = |at: usize| Ok::<_, StoreError>(text(at)?.unwrap_or_default());
    Ok(Entry {
        number: EntryNumber(row.get(0)?),
        token: token(row, 1)?,
        clues: Clues::from_stored(row.get(2)?),
        operation: Operation::from_code(&needed(3)?).unwrap_or(Operation::Other),
        kind: row.get::<_, Option<i64>>(4)?.map(|kind| match kind {
            0 => ResourceKind::User,
            _ => ResourceKind::Group,
        }),
        resource: row
            .get::<_, Option<[u8; 16]>>(5)?
            .map(ResourceId::from_stored),
        display: text(6)?,
        filter: text(7)?,
        filter_shape: text(8)?,
        status: row.get(9)?,
        scim_type: text(10)?.map(|keyword| Cow::Owned(keyword.into())),
        detail: text(11)?,
        duration_us: row.get(12)?,
        request_id: needed(13)?,
        dialect: needed(14)?.parse().unwrap_or_default(),
        tolerated: text(15)?.map_or_else(Notes::default, |text| Notes::from_text(&text)),
        effects: Effects {
            created: row.get(16)?,
            updated: row.get(17)?,
            unchanged: row.get(18)?,
            deleted: row.get(19)?,
        },
    })
}

/// Who uses which token.
fn clients(connection: &Connection, tenant: i64) -> Result<Clients, StoreError> {
    // Of a group with max() the other columns are those of the row that has it.
    let tokens = all(
        connection,
        "SELECT token, clues, max(started) FROM sync_cycle WHERE tenant = ?1 GROUP BY token",
        [tenant],
        |row| Ok((token(row, 0)?, Clues::from_stored(row.get(1)?))),
    )?;
    Ok(Clients::new(tokens))
}

/// Requests, newest first.
pub(super) fn page(
    connection: &Connection,
    access: &Access,
    query: &ActivityQuery,
) -> Result<ActivityPage, StoreError> {
    let tenant = tenants::held(connection, access)?.key;
    let clients = clients(connection, tenant)?;
    // Behind so many, another page begins.
    let last = match query.is_filtered() {
        true => first(
            connection,
            "SELECT number FROM activity WHERE tenant = ?1 AND number < ?2 AND number >= ?3
             ORDER BY number DESC LIMIT 1 OFFSET ?4",
            (tenant, query.before.0, query.from.0, MOST_LOOKED_AT),
            |row| Ok(row.get::<_, i64>(0)?),
        )?,
        false => None,
    };
    let from = last.map_or(query.from.0, |last| last + 1);
    let tokens = query.client.map(|client| {
        let ids = clients.tokens_of(client);
        serde_json::to_string(&ids).unwrap_or_default()
    });
    let is_tool = query.client.map(|client| client == Client::Tool);
    let mut statement = connection.prepare_cached(concat!(
        "SELECT ",
        entry_columns!(),
        " FROM activity
          WHERE tenant = ?1 AND number < ?2 AND number >= ?3
            AND (?4 IS NULL OR operation = ?4)
            AND (?5 IS NULL OR resource = ?5)
            AND (?6 IS NULL OR request_id = ?6)
            AND (?7 IS NULL OR (status < 200 OR status >= 400) = ?7)
            AND (?8 IS NULL OR (clues & ?9 <> 0) = ?8)
            AND (?8 IS NULL OR ?8 OR token IN (SELECT value FROM json_each(?10)))
          ORDER BY number DESC LIMIT ?11"
    ))?;
    let mut rows = statement.query(rusqlite::params![
        tenant,
        query.before.0,
        from,
        query.operation.map(Operation::code),
        query.resource.as_ref().map(ResourceId::as_bytes),
        query.request_id,
        query.has_failed,
        is_tool,
        Clues::TOOL.to_stored(),
        tokens,
        query.count + 1,
    ])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let entry = read_entry(row)?;
        let client = clients.of(&entry);
        entries.push((entry, client));
    }
    let mut page = ActivityPage {
        next: last.map(|last| EntryNumber(last + 1)),
        entries,
        gaps: Vec::new(),
    };
    page.cut_to(query.count);
    let (from, to) = page.time(query);
    page.gaps = gaps(connection, tenant, from, to)?;
    Ok(page)
}

/// What is missing in a time, newest first.
fn gaps(
    connection: &Connection,
    tenant: i64,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<Gap>, StoreError> {
    all(
        connection,
        "SELECT began, ended, lost, reason FROM activity_gap
         WHERE tenant IN (?1, ?2) AND ended >= ?3 AND began <= ?4 ORDER BY ended DESC LIMIT 1000",
        (tenant, EVERYBODY, from.as_millis(), to.as_millis()),
        |row| {
            let lost: Option<i64> = row.get(2)?;
            Ok(Gap {
                from: Timestamp(row.get(0)?),
                to: Timestamp(row.get(1)?),
                lost: lost.and_then(|lost| u64::try_from(lost).ok()),
                reason: GapReason::from_code(row.get_ref(3)?.as_str().unwrap_or_default())
                    .ok_or(StoreError::Corrupt("a gap without a reason"))?,
            })
        },
    )
}

/// One request.
pub(super) fn get(
    connection: &Connection,
    access: &Access,
    number: EntryNumber,
) -> Result<Option<(Entry, Client)>, StoreError> {
    let tenant = tenants::held(connection, access)?.key;
    let entry = first(
        connection,
        concat!(
            "SELECT ",
            entry_columns!(),
            " FROM activity WHERE tenant = ?1 AND number = ?2"
        ),
        (tenant, number.0),
        read_entry,
    )?;
    let Some(entry) = entry else {
        return Ok(None);
    };
    let client = clients(connection, tenant)?.of(&entry);
    Ok(Some((entry, client)))
}

/// Cycles that began before a time, newest first.
pub(super) fn cycles(
    connection: &Connection,
    access: &Access,
    before: Timestamp,
    count: u32,
) -> Result<Vec<Cycle>, StoreError> {
    let tenant = tenants::held(connection, access)?.key;
    all(
        connection,
        concat!(
            "SELECT ",
            cycle_columns!(),
            " FROM sync_cycle WHERE tenant = ?1 AND started < ?2
              ORDER BY started DESC, token LIMIT ?3"
        ),
        (tenant, before.as_millis(), count),
        read_cycle,
    )
}

/// Counts of each hour from one on, in order.
pub(super) fn hours(
    connection: &Connection,
    access: &Access,
    from: i64,
) -> Result<Vec<Hour>, StoreError> {
    let tenant = tenants::held(connection, access)?.key;
    all(
        connection,
        "SELECT hour, requests, failed, latencies FROM activity_hour
         WHERE tenant = ?1 AND hour >= ?2 ORDER BY hour",
        (tenant, from),
        read_hour,
    )
}

/// What is wrong, newest first.
pub(super) fn findings(
    connection: &Connection,
    access: &Access,
) -> Result<Vec<Finding>, StoreError> {
    let tenant = tenants::held(connection, access)?.key;
    all(
        connection,
        "SELECT kind, token, subject, first, last, times, request_id, route FROM finding
         WHERE tenant = ?1 ORDER BY last DESC, kind, subject",
        [tenant],
        |row| {
            Ok(Finding {
                kind: Cow::Owned(row.get(0)?),
                token: token(row, 1)?,
                subject: row.get::<_, String>(2)?.into(),
                first: Timestamp(row.get(3)?),
                last: Timestamp(row.get(4)?),
                times: unsigned(row, 5)?,
                request_id: row.get::<_, String>(6)?.into(),
                route: row.get::<_, String>(7)?.into(),
            })
        },
    )
}

/// The oldest request of a tenant that may stay so that there are at most so many; nothing where
/// there are fewer.
pub(super) fn oldest_to_keep(
    connection: &Connection,
    tenant: &TenantId,
    most: u64,
) -> Result<Option<EntryNumber>, StoreError> {
    let Some(key) = tenants::key(connection, tenant)? else {
        return Ok(None);
    };
    let total = first(
        connection,
        "SELECT coalesce(sum(requests), 0) FROM activity_hour WHERE tenant = ?1",
        [key],
        |row| unsigned(row, 0),
    )?;
    if total.unwrap_or(0) <= most {
        return Ok(None);
    }
    first(
        connection,
        "SELECT number FROM activity WHERE tenant = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2",
        (key, signed(most.saturating_sub(1))),
        |row| Ok(EntryNumber(row.get(0)?)),
    )
}

/// Forgets some of what is too old; answers whether that was the last of it.
pub(super) fn prune(
    connection: &Connection,
    tenant: &TenantId,
    keep: ActivityRetention,
    oldest: Option<EntryNumber>,
) -> Result<bool, StoreError> {
    let Some(key) = tenants::key(connection, tenant)? else {
        return Ok(true);
    };
    let since = keep.since.as_millis();
    let from = EntryNumber::least_at(keep.since).max(oldest.unwrap_or(EntryNumber(0)));
    let entries = execute(
        connection,
        "DELETE FROM activity WHERE tenant = ?1 AND number IN
            (SELECT number FROM activity WHERE tenant = ?1 AND number < ?2
             ORDER BY number LIMIT ?3)",
        (key, from.0, PRUNED_AT_ONCE),
    )?;
    for sql in [
        "DELETE FROM sync_cycle WHERE tenant = ?1 AND ended < ?2",
        "DELETE FROM activity_gap WHERE tenant IN (0, ?1) AND ended < ?2",
        "DELETE FROM finding WHERE tenant = ?1 AND last < ?2",
    ] {
        execute(connection, sql, (key, since))?;
    }
    let hour = hour_of(from.at());
    let sql = "DELETE FROM activity_hour WHERE tenant = ?1 AND hour < ?2";
    execute(connection, sql, (key, hour))?;
    Ok(entries < usize::try_from(PRUNED_AT_ONCE).unwrap_or(usize::MAX))
}

/// Removes some rows of a tenant that is being erased; answers how many.
pub(super) fn erase_some(
    connection: &Connection,
    tenant: i64,
    at_once: i64,
) -> Result<u64, StoreError> {
    let mut rows = execute(
        connection,
        "DELETE FROM activity WHERE tenant = ?1 AND number IN
            (SELECT number FROM activity WHERE tenant = ?1 LIMIT ?2)",
        (tenant, at_once),
    )?;
    for sql in [
        "DELETE FROM sync_cycle WHERE tenant = ?1",
        "DELETE FROM activity_hour WHERE tenant = ?1",
        "DELETE FROM activity_gap WHERE tenant = ?1",
        "DELETE FROM finding WHERE tenant = ?1",
    ] {
        rows += execute(connection, sql, [tenant])?;
    }
    Ok(rows as u64)
}
