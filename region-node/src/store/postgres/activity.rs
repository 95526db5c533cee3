//! Statements on activity: requests, cycles, hours, gaps, findings.

use std::borrow::Cow;
use std::collections::BTreeSet;

use deadpool_postgres::Transaction;
use shared::{Timestamp, TokenId};
use tokio_postgres::Row;

use super::connection::{Connections, Parameters};
use super::resources::Holder;
use super::tenants::held;
use super::writer::{kind_column, resource_id, uuid};
use crate::scim::client::{Client, Clues};
use crate::scim::{Notes, ResourceKind};
use crate::store::StoreError;
use crate::store::activity::{
    ActivityBatch, ActivityPage, ActivityQuery, ActivityRetention, Clients, Cycle, Effects, Entry,
    EntryNumber, Finding, Fold, Gap, GapReason, Hour, LONGEST_SILENCE, Latencies, MOST_FINDINGS,
    MOST_LOOKED_AT, Operation, TenantActivity, hour_of,
};

/// Of all advisory locks, the one under which nodes write activity in turn: each reads what it adds
/// to.
const LOCK: i64 = 0x6163_7469_7669_7479;
/// Requests that one step of a pruning removes.
const PRUNED_AT_ONCE: i64 = 500;
/// The tenant of a gap that is of all.
const EVERYBODY: i64 = 0;
/// Says whose rows the transaction is after.
const SET_SCOPE: &str = "SELECT set_config('meridian.tenant', $1::bigint::text, true)";

/// Writes a batch.
pub(super) async fn record(
    connections: &Connections,
    batch: &ActivityBatch,
    is_repeated: bool,
) -> Result<(), StoreError> {
    let mut lease = connections.take().await?;
    let transaction = lease.client()?.transaction().await?;
    run(&transaction, "SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    let sql = "SELECT batch FROM activity_writer WHERE writer = $1";
    let last = run(&transaction, sql, &[&&*batch.writer]).await?;
    let last: Option<i64> = last.first().map(|row| row.try_get(0)).transpose()?;
    if is_repeated && last == Some(batch.number) {
        transaction.rollback().await?;
        lease.give_back();
        return Ok(());
    }
    for (tenant, news) in &batch.tenants {
        let sql =
            "SELECT t.tenant FROM tenant t WHERE t.id = $1 AND t.state IN ('active', 'suspended')";
        let rows = run(&transaction, sql, &[&tenant.as_str()]).await?;
        let Some(row) = rows.first() else {
            continue;
        };
        record_one(&transaction, row.try_get(0)?, news).await?;
    }
    mark(&transaction, &batch.writer, batch.at, batch.number).await?;
    transaction.commit().await?;
    lease.give_back();
    Ok(())
}

async fn run(
    transaction: &Transaction<'_>,
    sql: &str,
    parameters: Parameters<'_>,
) -> Result<Vec<Row>, StoreError> {
    let statement = transaction.prepare_cached(sql).await?;
    Ok(transaction.query(&statement, parameters).await?)
}

async fn record_one(
    transaction: &Transaction<'_>,
    tenant: i64,
    news: &TenantActivity,
) -> Result<(), StoreError> {
    run(transaction, SET_SCOPE, &[&tenant]).await?;
    let new = insert(transaction, tenant, &news.entries).await?;
    let (written, twins): (Vec<&Entry>, Vec<&Entry>) = news
        .entries
        .iter()
        .partition(|entry| new.contains(&entry.number.0));
    for twin in twins {
        put_gap(transaction, tenant, &Gap::of_twin(twin)).await?;
    }
    let mut fold = read_fold(transaction, tenant, &written).await?;
    for entry in &written {
        fold.add(entry);
    }
    put_cycles(transaction, tenant, &fold.cycles).await?;
    for hour in fold.hours.values() {
        put_hour(transaction, tenant, hour).await?;
    }
    for finding in &news.findings {
        find(transaction, tenant, finding).await?;
    }
    for gap in &news.gaps {
        put_gap(transaction, tenant, gap).await?;
    }
    Ok(())
}

/// Writes requests; answers the numbers of those that were not there.
async fn insert(
    transaction: &Transaction<'_>,
    tenant: i64,
    entries: &[Entry],
) -> Result<BTreeSet<i64>, StoreError> {
    if entries.is_empty() {
        return Ok(BTreeSet::new());
    }
    fn column<'e, T>(entries: &'e [Entry], of: impl Fn(&'e Entry) -> T) -> Vec<T> {
        entries.iter().map(of).collect()
    }
    let count = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
    let sql = "INSERT INTO activity
            (tenant, number, token, clues, operation, kind, resource, display, filter, filter_shape,
             status, scim_type, detail, duration_us, request_id, dialect, tolerated,
             created, updated, unchanged, deleted)
         SELECT $1, n.* FROM unnest(
             $2::bigint[], $3::text[], $4::bigint[], $5::text[], $6::smallint[], $7::uuid[],
             $8::text[], $9::text[], $10::text[], $11::integer[], $12::text[], $13::text[],
             $14::bigint[], $15::text[], $16::text[], $17::text[],
             $18::integer[], $19::integer[], $20::integer[], $21::integer[]) n
         ON CONFLICT DO NOTHING RETURNING number";
    let rows = run(
        transaction,
        sql,
        &[
            &tenant,
            &column(entries, |e| e.number.0),
            &column(entries, |e| e.token.as_str()),
            &column(entries, |e| e.clues.to_stored()),
            &column(entries, |e| e.operation.code()),
            &column(entries, |e| e.kind.map(kind_column)),
            &column(entries, |e| e.resource.map(uuid)),
            &column(entries, |e| e.display.as_deref()),
            &column(entries, |e| e.filter.as_deref()),
            &column(entries, |e| e.filter_shape.as_deref()),
            &column(entries, |e| i32::from(e.status)),
            &column(entries, |e| e.scim_type.as_deref()),
            &column(entries, |e| e.detail.as_deref()),
            &column(entries, |e| i64::from(e.duration_us)),
            &column(entries, |e| &*e.request_id),
            &column(entries, |e| e.dialect.as_str()),
            &column(entries, |e| e.tolerated.to_text()),
            &column(entries, |e| count(e.effects.created)),
            &column(entries, |e| count(e.effects.updated)),
            &column(entries, |e| count(e.effects.unchanged)),
            &column(entries, |e| count(e.effects.deleted)),
        ],
    )
    .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

macro_rules! cycle_columns {
    () => {
        "a.token, a.started, a.ended, a.clues, a.requests, a.failed, a.created, a.updated,
         a.unchanged, a.deleted"
    };
}

fn read_cycle(row: &Row) -> Result<Cycle, StoreError> {
    let count = |name: &str| -> Result<u32, StoreError> {
        let count: i64 = row.try_get(name)?;
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    };
    Ok(Cycle {
        token: token(row.try_get("token")?)?,
        started: Timestamp(row.try_get("started")?),
        ended: Timestamp(row.try_get("ended")?),
        clues: Clues::from_stored(row.try_get("clues")?),
        requests: unsigned(row.try_get("requests")?)?,
        failed: unsigned(row.try_get("failed")?)?,
        effects: Effects {
            created: count("created")?,
            updated: count("updated")?,
            unchanged: count("unchanged")?,
            deleted: count("deleted")?,
        },
    })
}

fn token(text: &str) -> Result<TokenId, StoreError> {
    TokenId::parse(text).map_err(|_| StoreError::Corrupt("activity of an odd token"))
}

fn unsigned(count: i64) -> Result<u64, StoreError> {
    u64::try_from(count).map_err(|_| StoreError::Corrupt("a count below zero"))
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn read_hour(row: &Row) -> Result<Hour, StoreError> {
    Ok(Hour {
        hour: row.try_get("hour")?,
        requests: unsigned(row.try_get("requests")?)?,
        failed: unsigned(row.try_get("failed")?)?,
        latencies: Latencies::from_text(row.try_get("latencies")?),
    })
}

/// What requests are added to: the newest cycles of their tokens, and their hours.
async fn read_fold(
    transaction: &Transaction<'_>,
    tenant: i64,
    entries: &[&Entry],
) -> Result<Fold, StoreError> {
    let mut tokens: Vec<&str> = entries.iter().map(|entry| entry.token.as_str()).collect();
    tokens.sort_unstable();
    tokens.dedup();
    let mut hours: Vec<i64> = entries.iter().map(|e| hour_of(e.number.at())).collect();
    hours.sort_unstable();
    hours.dedup();
    if hours.is_empty() {
        return Ok(Fold::default());
    }
    let sql = concat!(
        "SELECT x.* FROM unnest($2::text[]) AS u(token), LATERAL (SELECT ",
        cycle_columns!(),
        " FROM sync_cycle a WHERE a.tenant = $1 AND a.token = u.token
           ORDER BY a.started DESC LIMIT 1) x"
    );
    let cycles = run(transaction, sql, &[&tenant, &tokens]).await?;
    let sql = "SELECT a.hour, a.requests, a.failed, a.latencies FROM activity_hour a
                WHERE a.tenant = $1 AND a.hour = ANY ($2)";
    let hours = run(transaction, sql, &[&tenant, &hours]).await?;
    let with_number = |row: &Row| read_hour(row).map(|hour| (hour.hour, hour));
    Ok(Fold {
        cycles: cycles.iter().map(read_cycle).collect::<Result<_, _>>()?,
        hours: hours.iter().map(with_number).collect::<Result<_, _>>()?,
    })
}

async fn put_cycles(
    transaction: &Transaction<'_>,
    tenant: i64,
    cycles: &[Cycle],
) -> Result<(), StoreError> {
    let sql = "INSERT INTO sync_cycle
            (tenant, token, started, ended, clues, requests, failed, created, updated, unchanged,
             deleted)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
         ON CONFLICT (tenant, token, started) DO UPDATE SET
            ended = excluded.ended, clues = excluded.clues, requests = excluded.requests,
            failed = excluded.failed, created = excluded.created, updated = excluded.updated,
            unchanged = excluded.unchanged, deleted = excluded.deleted";
    for cycle in cycles {
        let effects = cycle.effects;
        run(
            transaction,
            sql,
            &[
                &tenant,
                &cycle.token.as_str(),
                &cycle.started.as_millis(),
                &cycle.ended.as_millis(),
                &cycle.clues.to_stored(),
                &signed(cycle.requests),
                &signed(cycle.failed),
                &i64::from(effects.created),
                &i64::from(effects.updated),
                &i64::from(effects.unchanged),
                &i64::from(effects.deleted),
            ],
        )
        .await?;
    }
    Ok(())
}

async fn put_hour(
    transaction: &Transaction<'_>,
    tenant: i64,
    hour: &Hour,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO activity_hour (tenant, hour, requests, failed, latencies)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (tenant, hour) DO UPDATE SET
            requests = excluded.requests, failed = excluded.failed, latencies = excluded.latencies";
    let (requests, failed) = (signed(hour.requests), signed(hour.failed));
    let latencies = hour.latencies.to_text();
    let parameters: Parameters<'_> = &[&tenant, &hour.hour, &requests, &failed, &latencies];
    run(transaction, sql, parameters).await?;
    Ok(())
}

/// Counts a finding with the same one, or adds it where there is room.
async fn find(
    transaction: &Transaction<'_>,
    tenant: i64,
    finding: &Finding,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO finding AS f
            (tenant, kind, token, subject, first, last, times, request_id, route)
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9
          WHERE (SELECT count(*) FROM finding a WHERE a.tenant = $1) < $10
             OR EXISTS (SELECT 1 FROM finding a WHERE a.tenant = $1 AND a.kind = $2
                                                  AND a.token = $3 AND a.subject = $4)
         ON CONFLICT (tenant, kind, token, subject) DO UPDATE SET
            times = f.times + excluded.times,
            first = least(f.first, excluded.first),
            request_id = CASE WHEN excluded.last >= f.last THEN excluded.request_id
                              ELSE f.request_id END,
            route = CASE WHEN excluded.last >= f.last THEN excluded.route ELSE f.route END,
            last = greatest(f.last, excluded.last)";
    run(
        transaction,
        sql,
        &[
            &tenant,
            &&*finding.kind,
            &finding.token.as_str(),
            &&*finding.subject,
            &finding.first.as_millis(),
            &finding.last.as_millis(),
            &signed(finding.times),
            &&*finding.request_id,
            &&*finding.route,
            &signed(MOST_FINDINGS as u64),
        ],
    )
    .await?;
    Ok(())
}

async fn put_gap(transaction: &Transaction<'_>, tenant: i64, gap: &Gap) -> Result<(), StoreError> {
    let sql = "INSERT INTO activity_gap (tenant, began, ended, lost, reason)
               VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
    run(
        transaction,
        sql,
        &[
            &tenant,
            &gap.from.as_millis(),
            &gap.to.as_millis(),
            &gap.lost.map(signed),
            &gap.reason.code(),
        ],
    )
    .await?;
    Ok(())
}

async fn mark(
    transaction: &Transaction<'_>,
    writer: &str,
    at: Timestamp,
    batch: i64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO activity_writer AS w (writer, seen, batch) VALUES ($1, $2, $3)
               ON CONFLICT (writer) DO UPDATE
                  SET seen = excluded.seen, batch = greatest(w.batch, excluded.batch)";
    run(transaction, sql, &[&writer, &at.as_millis(), &batch]).await?;
    Ok(())
}

/// A process begins to write, or looks for others. Marks that have been silent for long are of
/// processes that did not stop in good order.
pub(super) async fn begin(
    connections: &Connections,
    writer: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut lease = connections.take().await?;
    let transaction = lease.client()?.transaction().await?;
    let sql = "DELETE FROM activity_writer WHERE writer <> $1 AND seen < $2 RETURNING seen";
    let silent = now.before(LONGEST_SILENCE).as_millis();
    for row in run(&transaction, sql, &[&writer, &silent]).await? {
        let gap = Gap {
            from: Timestamp(row.try_get(0)?),
            to: now,
            lost: None,
            reason: GapReason::Ended,
        };
        put_gap(&transaction, EVERYBODY, &gap).await?;
    }
    mark(&transaction, writer, now, 0).await?;
    transaction.commit().await?;
    lease.give_back();
    Ok(())
}

/// A process has written all that it had.
pub(super) async fn end(connections: &Connections, writer: &str) -> Result<(), StoreError> {
    let sql = "DELETE FROM activity_writer WHERE writer = $1";
    connections.query(sql, &[&writer]).await?;
    Ok(())
}

macro_rules! entry_columns {
    () => {
        "a.number, a.token, a.clues, a.operation, a.kind, a.resource, a.display, a.filter,
         a.filter_shape, a.status, a.scim_type, a.detail, a.duration_us, a.request_id, a.dialect,
         a.tolerated, a.created, a.updated, a.unchanged, a.deleted"
    };
}

fn read_entry(row: &Row) -> Result<Entry, StoreError> {
    let text = |name: &str| -> Result<Option<Box<str>>, StoreError> {
        let text: Option<&str> = row.try_get(name)?;
        Ok(text.map(Box::from))
    };
    let needed = |name: &str| -> Result<&str, StoreError> { Ok(row.try_get(name)?) };
    let count = |name: &str| -> Result<u32, StoreError> {
        let count: i32 = row.try_get(name)?;
        Ok(u32::try_from(count).unwrap_or_default())
    };
    let kind: Option<i16> = row.try_get("kind")?;
    let resource: Option<uuid::Uuid> = row.try_get("resource")?;
    let status: i32 = row.try_get("status")?;
    let duration: i64 = row.try_get("duration_us")?;
    Ok(Entry {
        number: EntryNumber(row.try_get("number")?),
        token: token(needed("token")?)?,
        clues: Clues::from_stored(row.try_get("clues")?),
        operation: Operation::from_code(needed("operation")?).unwrap_or(Operation::Other),
        kind: kind.map(|kind| match kind {
            0 => ResourceKind::User,
            _ => ResourceKind::Group,
        }),
        resource: resource.map(resource_id),
        display: text("display")?,
        filter: text("filter")?,
        filter_shape: text("filter_shape")?,
        status: u16::try_from(status).unwrap_or_default(),
        scim_type: text("scim_type")?.map(|keyword| Cow::Owned(keyword.into())),
        detail: text("detail")?,
        duration_us: u32::try_from(duration).unwrap_or(u32::MAX),
        request_id: needed("request_id")?.into(),
        dialect: needed("dialect")?.parse().unwrap_or_default(),
        tolerated: text("tolerated")?.map_or_else(Notes::default, |text| Notes::from_text(&text)),
        effects: Effects {
            created: count("created")?,
            updated: count("updated")?,
            unchanged: count("unchanged")?,
            deleted: count("deleted")?,
        },
    })
}

/// Rows of a statement that finds none or more of what an access may see; `x` is what it finds.
async fn found(
    connections: &Connections,
    access: &Holder<'_>,
    sql: &str,
    others: Parameters<'_>,
) -> Result<Vec<Row>, StoreError> {
    let mut rows = access.query(connections, sql, others).await?;
    // The row that says that the access holds, where there is nothing.
    let mut is_nothing = false;
    if let [row] = rows.as_slice() {
        is_nothing = row.try_get::<_, Option<bool>>("there")?.is_none();
    }
    if is_nothing {
        rows.clear();
    }
    Ok(rows)
}

/// What finds rows of an access: the columns, what they are from, and their order.
macro_rules! of_access {
    ($columns:expr, $from:expr, $order:literal) => {
        concat!(
            "SELECT x.* FROM tenant t LEFT JOIN LATERAL (SELECT true AS there, ",
            $columns,
            $from,
            ") x ON true WHERE ",
            held!(),
            $order
        )
    };
}

/// Who uses which token.
async fn clients(connections: &Connections, access: &Holder<'_>) -> Result<Clients, StoreError> {
    let sql = of_access!(
        "a.token, a.clues",
        " FROM (SELECT DISTINCT ON (a.token) a.token, a.clues FROM sync_cycle a
                 WHERE a.tenant = $1 ORDER BY a.token, a.started DESC) a",
        ""
    );
    let rows = found(connections, access, sql, &[]).await?;
    let read = |row: &Row| {
        let clues = Clues::from_stored(row.try_get("clues")?);
        Ok::<_, StoreError>((token(row.try_get("token")?)?, clues))
    };
    let tokens = rows.iter().map(read).collect::<Result<_, _>>()?;
    Ok(Clients::new(tokens))
}

/// Requests, newest first.
pub(super) async fn page(
    connections: &Connections,
    access: &Holder<'_>,
    query: &ActivityQuery,
) -> Result<ActivityPage, StoreError> {
    let clients = clients(connections, access).await?;
    // Behind so many, another page begins.
    let sql = of_access!(
        "a.number",
        " FROM activity a WHERE a.tenant = $1 AND a.number < $4 AND a.number >= $5
           ORDER BY a.number DESC LIMIT 1 OFFSET $6",
        ""
    );
    let (before, from) = (query.before.0, query.from.0);
    let most = i64::from(MOST_LOOKED_AT);
    let parameters: Parameters<'_> = &[&before, &from, &most];
    let rows = match query.is_filtered() {
        true => found(connections, access, sql, parameters).await?,
        false => Vec::new(),
    };
    let last: Option<i64> = rows.first().map(|row| row.try_get("number")).transpose()?;
    let from = last.map_or(from, |last| last + 1);
    let tokens = query.client.map(|client| clients.tokens_of(client));
    let is_tool = query.client.map(|client| client == Client::Tool);
    let sql = of_access!(
        entry_columns!(),
        " FROM activity a WHERE a.tenant = $1 AND a.number < $4 AND a.number >= $5
             AND ($6::text IS NULL OR a.operation = $6)
             AND ($7::uuid IS NULL OR a.resource = $7)
             AND ($8::text IS NULL OR a.request_id = $8)
             AND ($9::boolean IS NULL OR (a.status < 200 OR a.status >= 400) = $9)
             AND ($10::boolean IS NULL OR (a.clues & $11 <> 0) = $10)
             AND ($10::boolean IS NULL OR $10 OR a.token = ANY ($12::text[]))
           ORDER BY a.number DESC LIMIT $13",
        " ORDER BY x.number DESC"
    );
    let rows = found(
        connections,
        access,
        sql,
        &[
            &before,
            &from,
            &query.operation.map(Operation::code),
            &query.resource.map(uuid),
            &query.request_id,
            &query.has_failed,
            &is_tool,
            &Clues::TOOL.to_stored(),
            &tokens,
            &i64::from(query.count + 1),
        ],
    )
    .await?;
    let with_client = |row: &Row| {
        let entry = read_entry(row)?;
        let client = clients.of(&entry);
        Ok::<_, StoreError>((entry, client))
    };
    let mut page = ActivityPage {
        next: last.map(|last| EntryNumber(last + 1)),
        entries: rows.iter().map(with_client).collect::<Result<_, _>>()?,
        gaps: Vec::new(),
    };
    page.cut_to(query.count);
    let (from, to) = page.time(query);
    page.gaps = gaps(connections, access, from, to).await?;
    Ok(page)
}

/// What is missing in a time, newest first.
async fn gaps(
    connections: &Connections,
    access: &Holder<'_>,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<Gap>, StoreError> {
    let sql = of_access!(
        "a.began, a.ended, a.lost, a.reason",
        " FROM activity_gap a
          WHERE a.tenant IN ($1, 0) AND a.ended >= $4 AND a.began <= $5
          ORDER BY a.ended DESC LIMIT 1000",
        " ORDER BY x.ended DESC"
    );
    let parameters: Parameters<'_> = &[&from.as_millis(), &to.as_millis()];
    let rows = found(connections, access, sql, parameters).await?;
    let read = |row: &Row| {
        let lost: Option<i64> = row.try_get("lost")?;
        Ok(Gap {
            from: Timestamp(row.try_get("began")?),
            to: Timestamp(row.try_get("ended")?),
            lost: lost.and_then(|lost| u64::try_from(lost).ok()),
            reason: GapReason::from_code(row.try_get("reason")?)
                .ok_or(StoreError::Corrupt("a gap without a reason"))?,
        })
    };
    rows.iter().map(read).collect()
}

/// One request.
pub(super) async fn get(
    connections: &Connections,
    access: &Holder<'_>,
    number: EntryNumber,
) -> Result<Option<(Entry, Client)>, StoreError> {
    let sql = of_access!(
        entry_columns!(),
        " FROM activity a WHERE a.tenant = $1 AND a.number = $4",
        ""
    );
    let rows = found(connections, access, sql, &[&number.0]).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let entry = read_entry(row)?;
    let client = clients(connections, access).await?.of(&entry);
    Ok(Some((entry, client)))
}

/// Cycles that began before a time, newest first.
pub(super) async fn cycles(
    connections: &Connections,
    access: &Holder<'_>,
    before: Timestamp,
    count: u32,
) -> Result<Vec<Cycle>, StoreError> {
    let sql = of_access!(
        cycle_columns!(),
        " FROM sync_cycle a WHERE a.tenant = $1 AND a.started < $4
           ORDER BY a.started DESC, a.token LIMIT $5",
        " ORDER BY x.started DESC, x.token"
    );
    let parameters: Parameters<'_> = &[&before.as_millis(), &i64::from(count)];
    let rows = found(connections, access, sql, parameters).await?;
    rows.iter().map(read_cycle).collect()
}

/// Counts of each hour from one on, in order.
pub(super) async fn hours(
    connections: &Connections,
    access: &Holder<'_>,
    from: i64,
) -> Result<Vec<Hour>, StoreError> {
    let sql = of_access!(
        "a.hour, a.requests, a.failed, a.latencies",
        " FROM activity_hour a WHERE a.tenant = $1 AND a.hour >= $4",
        " ORDER BY x.hour"
    );
    let rows = found(connections, access, sql, &[&from]).await?;
    rows.iter().map(read_hour).collect()
}

/// What is wrong, newest first.
pub(super) async fn findings(
    connections: &Connections,
    access: &Holder<'_>,
) -> Result<Vec<Finding>, StoreError> {
    let sql = of_access!(
        "a.kind, a.token, a.subject, a.first, a.last, a.times, a.request_id, a.route",
        " FROM finding a WHERE a.tenant = $1",
        " ORDER BY x.last DESC, x.kind, x.subject"
    );
    let rows = found(connections, access, sql, &[]).await?;
    let read = |row: &Row| {
        Ok(Finding {
            kind: Cow::Owned(row.try_get("kind")?),
            token: token(row.try_get("token")?)?,
            subject: row.try_get::<_, &str>("subject")?.into(),
            first: Timestamp(row.try_get("first")?),
            last: Timestamp(row.try_get("last")?),
            times: unsigned(row.try_get("times")?)?,
            request_id: row.try_get::<_, &str>("request_id")?.into(),
            route: row.try_get::<_, &str>("route")?.into(),
        })
    };
    rows.iter().map(read).collect()
}

/// Forgets what is too old, in steps between which others get their turn.
pub(super) async fn prune(
    connections: &Connections,
    tenant: i64,
    keep: ActivityRetention,
) -> Result<(), StoreError> {
    let most = signed(keep.most.saturating_sub(1));
    let sql = "SELECT (SELECT a.number FROM activity a
                WHERE a.tenant = $1
                  AND (SELECT coalesce(sum(h.requests), 0)::bigint FROM activity_hour h
                        WHERE h.tenant = $1) > $2::bigint + 1
                ORDER BY a.number DESC LIMIT 1 OFFSET $2::bigint) AS oldest";
    let rows = connections
        .query_scoped(tenant, sql, &[&tenant, &most])
        .await?;
    let oldest: Option<i64> = match rows.first() {
        Some(row) => row.try_get("oldest")?,
        None => None,
    };
    let from = EntryNumber::least_at(keep.since).max(EntryNumber(oldest.unwrap_or(0)));
    let sql = "WITH gone AS (
                   DELETE FROM activity x WHERE x.ctid = ANY (ARRAY(
                          SELECT a.ctid FROM activity a WHERE a.tenant = $1 AND a.number < $2
                           ORDER BY a.number LIMIT $3))
                      AND x.tenant = $1
                   RETURNING 1)
               SELECT count(*) FROM gone";
    loop {
        let parameters: Parameters<'_> = &[&tenant, &from.0, &PRUNED_AT_ONCE];
        let rows = connections.query_scoped(tenant, sql, parameters).await?;
        let gone: i64 = match rows.first() {
            Some(row) => row.try_get(0)?,
            None => 0,
        };
        if gone < PRUNED_AT_ONCE {
            break;
        }
        tokio::task::yield_now().await;
    }
    let sql = "WITH cycles AS (DELETE FROM sync_cycle x WHERE x.tenant = $1 AND x.ended < $2),
                    gaps AS (DELETE FROM activity_gap x WHERE x.tenant IN ($1, 0) AND x.ended < $2),
                    findings AS (DELETE FROM finding x WHERE x.tenant = $1 AND x.last < $2)
               DELETE FROM activity_hour x WHERE x.tenant = $1 AND x.hour < $3";
    let (since, hour) = (keep.since.as_millis(), hour_of(from.at()));
    connections
        .query_scoped(tenant, sql, &[&tenant, &since, &hour])
        .await?;
    Ok(())
}
