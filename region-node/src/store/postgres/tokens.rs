//! Statements on API tokens.

use std::time::Duration;

use shared::{TenantId, Timestamp, TokenDigest, TokenId};
use tokio_postgres::{Row, Transaction};

use super::connection::{Connections, Parameters};
use super::tenants::{self, tenant_columns, unsigned, with_head};
use crate::store::backup::TokenRow;
use crate::store::staging::{STAGED_DIGEST, STAGED_ID};
use crate::store::{
    Access, AuditKind, AuditNote, Author, FoundToken, MOST_ACCESS_TOKENS, MeantLife,
    NewAccessToken, NewToken, StoreError, StoredToken, networks_column, read_networks,
};

/// Access tokens that one step of housekeeping forgets.
const PRUNED_AT_ONCE: i64 = 500;

/// Columns of a token, as [`read`] takes them; `t` is its tenant's row.
macro_rules! token_columns {
    () => {
        "k.id, t.id AS tenant_id, k.name, k.scope, k.dialect, k.created, k.created_by, k.expires,
         k.last_used, k.revoked, k.networks, k.meant_life"
    };
}

pub(super) use token_columns;

/// Reads `token_columns`.
pub(super) fn read(row: &Row) -> Result<StoredToken, StoreError> {
    const ODD: StoreError = StoreError::Corrupt("a token with an odd id, tenant or scope");
    let time = |name: &str| -> Result<Option<Timestamp>, StoreError> {
        Ok(row.try_get::<_, Option<i64>>(name)?.map(Timestamp))
    };
    Ok(StoredToken {
        id: TokenId::parse(row.try_get("id")?).map_err(|_| ODD)?,
        tenant: TenantId::parse(row.try_get("tenant_id")?).map_err(|_| ODD)?,
        name: row.try_get("name")?,
        scope: row.try_get::<_, &str>("scope")?.parse().map_err(|_| ODD)?,
        dialect: row
            .try_get::<_, &str>("dialect")?
            .parse()
            .map_err(|_| ODD)?,
        created: Timestamp(row.try_get("created")?),
        created_by: row.try_get("created_by")?,
        expires: time("expires")?,
        last_used: time("last_used")?,
        revoked: time("revoked")?,
        networks: read_networks(row.try_get("networks")?)?,
        meant_life: row.try_get::<_, Option<i64>>("meant_life")?.map(MeantLife),
    })
}

fn only(rows: &[Row]) -> Result<StoredToken, StoreError> {
    rows.first().map_or(Err(StoreError::NotFound), read)
}

/// Whether an access, as tenant and credential version, holds for the tenant's row `h`; where there
/// is none, nobody has to hold one. In the condition of an `UPDATE` of that row, and so looked at
/// again when its lock was waited for.
macro_rules! is_held {
    ($tenant:literal, $version:literal) => {
        concat!(
            "(",
            $tenant,
            "::text IS NULL OR (h.id = ",
            $tenant,
            " AND h.state = 'active' AND h.credential_version = ",
            $version,
            "::bigint))"
        )
    };
}

pub(super) async fn create(
    connections: &Connections,
    tenant: &TenantId,
    token: &NewToken,
    under: Option<&Access>,
    now: Timestamp,
) -> Result<StoredToken, StoreError> {
    let sql = concat!(
        "WITH k AS (
            INSERT INTO api_token
                (id, digest, tenant, name, scope, dialect, created, created_by, expires, networks,
                 meant_life)
            SELECT $2, $3, t.tenant, $4, $5, $6, $7, $8, $9, $10, $11 FROM tenant t
             WHERE t.id = $1 AND t.state IN ('active', 'suspended')
               AND ($14::bigint IS NULL OR (t.state = 'active' AND t.credential_version = $14))
               FOR NO KEY UPDATE
            RETURNING *)
         SELECT ",
        token_columns!(),
        ", note_audit(k.tenant, $7, $12, $8, '', $2, $13)
           FROM k JOIN tenant t ON t.tenant = k.tenant"
    );
    let note = AuditNote::created(token);
    let rows = connections
        .query(
            sql,
            &[
                &tenant.as_str(),
                &token.id.as_str(),
                &token.digest.as_bytes().as_slice(),
                &token.name,
                &token.scope.as_str(),
                &token.dialect.as_str(),
                &now.as_millis(),
                &token.created_by,
                &token.expires.map(Timestamp::as_millis),
                &networks_column(&token.networks)?,
                &MeantLife::of(now, token.expires).0,
                &note.kind.as_str(),
                &note.names_json()?,
                &under.map(|access| access.credential_version),
            ],
        )
        .await?;
    match (rows.first(), under) {
        (None, Some(_)) => Err(StoreError::Refused),
        _ => only(&rows),
    }
}

pub(super) async fn list(
    connections: &Connections,
    tenant: &TenantId,
) -> Result<Vec<StoredToken>, StoreError> {
    let sql = concat!(
        "SELECT ",
        token_columns!(),
        " FROM tenant t LEFT JOIN api_token k ON k.tenant = t.tenant
          WHERE t.id = $1 AND t.state IN ('active', 'suspended') ORDER BY k.token"
    );
    let rows = connections.query(sql, &[&tenant.as_str()]).await?;
    if rows.is_empty() {
        return Err(StoreError::NotFound);
    }
    let mut tokens = Vec::with_capacity(rows.len());
    for row in &rows {
        // A tenant without tokens is one row without a token.
        if row.try_get::<_, Option<&str>>("id")?.is_some() {
            tokens.push(read(row)?);
        }
    }
    Ok(tokens)
}

pub(super) async fn get(
    connections: &Connections,
    id: &TokenId,
) -> Result<Option<StoredToken>, StoreError> {
    let sql = concat!(
        "SELECT ",
        token_columns!(),
        " FROM api_token k JOIN tenant t ON t.tenant = k.tenant WHERE k.id = $1"
    );
    let rows = connections.query(sql, &[&id.as_str()]).await?;
    rows.first().map(read).transpose()
}

/// Stores a token that nobody sees yet.
pub(super) async fn stage(
    transaction: &Transaction<'_>,
    tenant: i64,
    row: &TokenRow,
) -> Result<(), StoreError> {
    let token = &row.token;
    let mut digest = vec![STAGED_DIGEST];
    digest.extend(row.digest.as_bytes());
    transaction
        .execute(
            "INSERT INTO api_token
                (id, digest, tenant, name, scope, dialect, created, created_by, expires,
                 last_used, revoked, networks, meant_life)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
            &[
                &format!("{STAGED_ID}{}", token.id),
                &digest,
                &tenant,
                &token.name,
                &token.scope.as_str(),
                &token.dialect.as_str(),
                &token.created.as_millis(),
                &token.created_by,
                &token.expires.map(Timestamp::as_millis),
                &token.last_used.map(Timestamp::as_millis),
                &token.revoked.map(Timestamp::as_millis),
                &networks_column(&token.networks)?,
                &token.meant_life.map(|meant| meant.0),
            ],
        )
        .await?;
    Ok(())
}

/// The region's own tokens of a tenant outlive a restore: credentials never go back in time. They
/// take the places of what the backup says of them. Answers how many have ended that the backup
/// has live.
pub(super) async fn outlive_restore(
    transaction: &Transaction<'_>,
    present: i64,
    staged: i64,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let kept_ended = transaction
        .query_one(
            "SELECT count(*) FROM api_token s JOIN api_token p ON s.id = $3 || p.id
              WHERE s.tenant = $2 AND p.tenant = $1
                AND s.revoked IS NULL AND (s.expires IS NULL OR s.expires > $4)
                AND (p.revoked IS NOT NULL OR p.expires <= $4)",
            &[&present, &staged, &STAGED_ID, &now.as_millis()],
        )
        .await?;
    transaction
        .execute(
            "DELETE FROM api_token s USING api_token p
              WHERE s.tenant = $2 AND p.tenant = $1 AND s.id = $3 || p.id",
            &[&present, &staged, &STAGED_ID],
        )
        .await?;
    for sql in [
        "UPDATE api_token k SET tenant = $2 WHERE k.tenant = $1",
        "UPDATE access_token a SET tenant = $2 WHERE a.tenant = $1",
    ] {
        transaction.execute(sql, &[&present, &staged]).await?;
    }
    unsigned(&kept_ended, 0)
}

/// Gives the tokens that a restore brought in their ids and digests.
pub(super) async fn appear(transaction: &Transaction<'_>, tenant: i64) -> Result<(), StoreError> {
    transaction
        .execute(
            "UPDATE api_token k
                SET id = substr(k.id, length($2) + 1), digest = substr(k.digest, 2)
              WHERE k.tenant = $1 AND starts_with(k.id, $2)",
            &[&tenant, &STAGED_ID],
        )
        .await?;
    Ok(())
}

/// Revokes all of a tenant's tokens; answers how many were not revoked before.
pub(super) async fn revoke_all(
    transaction: &Transaction<'_>,
    tenant: i64,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let revoked = transaction
        .execute(
            "UPDATE api_token k SET revoked = $2 WHERE k.tenant = $1 AND k.revoked IS NULL",
            &[&tenant, &now.as_millis()],
        )
        .await?;
    Ok(revoked)
}

/// How many of a tenant's tokens open something.
pub(super) async fn count_live(
    transaction: &Transaction<'_>,
    tenant: i64,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let live = transaction
        .query_one(
            "SELECT count(*) FROM api_token k
              WHERE k.tenant = $1 AND k.revoked IS NULL
                AND (k.expires IS NULL OR k.expires > $2)",
            &[&tenant, &now.as_millis()],
        )
        .await?;
    unsigned(&live, 0)
}

pub(super) async fn rotate(
    connections: &Connections,
    id: &TokenId,
    successor: &NewToken,
    overlap: Duration,
    under: Option<&Access>,
    now: Timestamp,
) -> Result<StoredToken, StoreError> {
    // Only a live token can be succeeded, and its end only ever moves nearer. One statement: what
    // its parts change, none of them sees, so the answer is put together from what they return.
    let sql = concat!(
        "WITH old AS (
            UPDATE api_token SET expires = least(coalesce(expires, $2), $2)
             WHERE id = $1 AND revoked IS NULL AND (expires IS NULL OR expires > $3)
            RETURNING tenant),
         k AS (
            INSERT INTO api_token
                (id, digest, tenant, name, scope, dialect, created, created_by, expires, networks,
                 meant_life)
            SELECT $4, $5, old.tenant, $6, $7, $8, $3, $9, $10, $11, $12 FROM old
            RETURNING *),
         t AS (
            UPDATE tenant h SET credential_version = h.credential_version + 1
              FROM old WHERE h.tenant = old.tenant AND ",
        is_held!("$15", "$16"),
        " RETURNING h.tenant, h.id)
         SELECT t.tenant IS NOT NULL AS is_held, ",
        token_columns!(),
        ", CASE WHEN t.tenant IS NOT NULL
                THEN note_audit(k.tenant, $3, $13, $9, '', $1, $14) END
           FROM k LEFT JOIN t ON t.tenant = k.tenant"
    );
    let note = AuditNote::rotated(id, successor);
    let (held_tenant, held_version) = columns_of(under);
    let mut lease = connections.take().await?;
    let transaction = lease.client()?.transaction().await?;
    let statement = transaction.prepare_cached(sql).await?;
    let rows = transaction
        .query(
            &statement,
            &[
                &id.as_str(),
                &now.after(overlap).as_millis(),
                &now.as_millis(),
                &successor.id.as_str(),
                &successor.digest.as_bytes().as_slice(),
                &successor.name,
                &successor.scope.as_str(),
                &successor.dialect.as_str(),
                &successor.created_by,
                &successor.expires.map(Timestamp::as_millis),
                &networks_column(&successor.networks)?,
                &MeantLife::of(now, successor.expires).0,
                &note.kind.as_str(),
                &note.names_json()?,
                &held_tenant,
                &held_version,
            ],
        )
        .await?;
    let is_held = end(transaction, &rows).await?;
    lease.give_back();
    match is_held {
        true => only(&rows),
        false => Err(StoreError::Refused),
    }
}

pub(super) async fn revoke(
    connections: &Connections,
    id: &TokenId,
    by: &Author,
    under: Option<&Access>,
    now: Timestamp,
) -> Result<StoredToken, StoreError> {
    let sql = concat!(
        "WITH k AS (
            UPDATE api_token SET revoked = $2 WHERE id = $1 AND revoked IS NULL
            RETURNING tenant),
         t AS (
            UPDATE tenant h SET credential_version = h.credential_version + 1
              FROM k WHERE h.tenant = k.tenant AND ",
        is_held!("$6", "$7"),
        " RETURNING h.tenant)
         SELECT t.tenant IS NOT NULL AS is_held,
                CASE WHEN t.tenant IS NOT NULL
                     THEN note_audit(t.tenant, $2, $3, $4, $5, $1, '[]') END
           FROM k LEFT JOIN t ON t.tenant = k.tenant"
    );
    let (held_tenant, held_version) = columns_of(under);
    let mut lease = connections.take().await?;
    let transaction = lease.client()?.transaction().await?;
    let statement = transaction.prepare_cached(sql).await?;
    let rows = transaction
        .query(
            &statement,
            &[
                &id.as_str(),
                &now.as_millis(),
                &AuditKind::TokenRevoked.as_str(),
                &by.actor,
                &by.request,
                &held_tenant,
                &held_version,
            ],
        )
        .await?;
    let is_held = end(transaction, &rows).await?;
    lease.give_back();
    match is_held {
        true => get(connections, id).await?.ok_or(StoreError::NotFound),
        false => Err(StoreError::Refused),
    }
}

/// An access as [`is_held`] takes it.
fn columns_of(under: Option<&Access>) -> (Option<&str>, Option<i64>) {
    (
        under.map(|access| access.tenant.as_str()),
        under.map(|access| access.credential_version),
    )
}

/// Commits what was done, unless the access under which it was done turned out not to hold; answers
/// whether it does.
async fn end(
    transaction: deadpool_postgres::Transaction<'_>,
    rows: &[Row],
) -> Result<bool, StoreError> {
    let is_held = rows.first().map(|row| row.try_get("is_held")).transpose()?;
    match is_held {
        Some(false) => transaction.rollback().await?,
        Some(true) | None => transaction.commit().await?,
    }
    Ok(is_held.unwrap_or(true))
}

pub(super) async fn find(
    connections: &Connections,
    digest: &TokenDigest,
) -> Result<Option<FoundToken>, StoreError> {
    let sql = concat!(
        "SELECT ",
        token_columns!(),
        ", NULL::bigint AS access_expires, ",
        tenant_columns!(),
        " FROM api_token k JOIN tenant t ON t.tenant = k.tenant ",
        with_head!(),
        "WHERE k.digest = $1
         UNION ALL SELECT ",
        token_columns!(),
        ", a.expires AS access_expires, ",
        tenant_columns!(),
        " FROM access_token a JOIN api_token k ON k.token = a.token
          JOIN tenant t ON t.tenant = k.tenant ",
        with_head!(),
        "WHERE a.digest = $1"
    );
    let rows = connections
        .query(sql, &[&digest.as_bytes().as_slice()])
        .await?;
    let found = rows.first();
    found
        .map(|row| {
            let ends = row.try_get::<_, Option<i64>>("access_expires")?;
            let (token, tenant) = (read(row)?, tenants::read(row)?);
            Ok(FoundToken::new(token, tenant, ends.map(Timestamp)))
        })
        .transpose()
}

pub(super) async fn create_access_token(
    connections: &Connections,
    id: &TokenId,
    access: &NewAccessToken,
    now: Timestamp,
) -> Result<Timestamp, StoreError> {
    let mut lease = connections.take().await?;
    let transaction = lease.client()?.transaction().await?;
    // The lock makes those who ask under the same API token take turns, so that each sees how many
    // there are.
    let parent = transaction
        .prepare_cached(
            "SELECT k.token, k.tenant, k.expires
               FROM api_token k JOIN tenant t ON t.tenant = k.tenant
              WHERE k.id = $1 AND k.revoked IS NULL AND (k.expires IS NULL OR k.expires > $2)
                AND t.state = 'active' FOR NO KEY UPDATE OF k",
        )
        .await?;
    let parents = transaction
        .query(&parent, &[&id.as_str(), &now.as_millis()])
        .await?;
    let Some(parent) = parents.first() else {
        transaction.rollback().await?;
        lease.give_back();
        return Err(StoreError::NotFound);
    };
    let (token, tenant): (i64, i64) = (parent.try_get(0)?, parent.try_get(1)?);
    let end = parent.try_get::<_, Option<i64>>(2)?.map(Timestamp);
    let expires = end.map_or(access.expires, |end| access.expires.min(end));
    let digest = access.digest.as_bytes().as_slice();
    let store = transaction
        .prepare_cached(
            "WITH present AS (
                SELECT a.expires FROM access_token a WHERE a.digest = $1 AND a.token = $2),
             gone AS (
                DELETE FROM access_token a WHERE a.token = $2
                   AND NOT EXISTS (SELECT 1 FROM present)
                   AND (a.expires <= $4 OR a.number <=
                        (SELECT b.number FROM access_token b WHERE b.token = $2
                          ORDER BY b.number DESC LIMIT 1 OFFSET $6))),
             added AS (
                INSERT INTO access_token (digest, token, tenant, created, expires)
                SELECT $1, $2, $3, $4, $5
                 WHERE NOT EXISTS (SELECT 1 FROM present)
                   AND NOT EXISTS (SELECT 1 FROM api_token k WHERE k.digest = $1)
                ON CONFLICT (digest) DO NOTHING RETURNING expires)
             SELECT expires FROM present UNION ALL SELECT expires FROM added",
        )
        .await?;
    let stored = transaction
        .query(
            &store,
            &[
                &digest,
                &token,
                &tenant,
                &now.as_millis(),
                &expires.as_millis(),
                &i64::from(MOST_ACCESS_TOKENS - 1),
            ],
        )
        .await?;
    let stored = stored.first().ok_or(StoreError::KeyReused)?;
    let expires = Timestamp(stored.try_get(0)?);
    transaction.commit().await?;
    lease.give_back();
    Ok(expires)
}

pub(super) async fn end_access_token(
    connections: &Connections,
    tenant: &TenantId,
    digest: &TokenDigest,
) -> Result<(), StoreError> {
    let sql = "WITH gone AS (
                   DELETE FROM access_token a USING tenant t
                    WHERE a.digest = $2 AND t.id = $1 AND a.tenant = t.tenant
                   RETURNING a.tenant)
               UPDATE tenant t SET credential_version = t.credential_version + 1
                 FROM gone WHERE t.tenant = gone.tenant";
    connections
        .query(sql, &[&tenant.as_str(), &digest.as_bytes().as_slice()])
        .await?;
    Ok(())
}

pub(super) async fn prune_access_tokens(
    connections: &Connections,
    now: Timestamp,
) -> Result<bool, StoreError> {
    // Nodes do this at the same time; each takes what no other is at.
    let sql = "WITH gone AS (
                   DELETE FROM access_token a WHERE a.number = ANY (ARRAY(
                       SELECT b.number FROM access_token b WHERE b.expires <= $1
                        ORDER BY b.expires LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING 1)
               SELECT count(*) FROM gone";
    let rows = connections
        .query(sql, &[&now.as_millis(), &PRUNED_AT_ONCE])
        .await?;
    let row = rows.first().ok_or(StoreError::Corrupt("no count"))?;
    Ok(unsigned(row, 0)? == 0)
}

pub(super) async fn touch(
    connections: &Connections,
    used: &[(TokenId, Timestamp)],
) -> Result<(), StoreError> {
    // Few ever are: each alone, because its record locks the row of its tenant.
    let ids: Vec<&str> = used.iter().map(|(id, _)| id.as_str()).collect();
    let sql = "SELECT k.id FROM api_token k WHERE k.id = ANY ($1) AND k.last_used IS NULL";
    for row in &connections.query(sql, &[&ids]).await? {
        let unused: &str = row.try_get(0)?;
        for (id, at) in used.iter().filter(|(id, _)| id.as_str() == unused) {
            let note = AuditNote::first_used(id);
            let sql = "WITH k AS (
                           UPDATE api_token SET last_used = $2 WHERE id = $1 AND last_used IS NULL
                           RETURNING tenant)
                       SELECT note_audit(k.tenant, $2, $3, $1, '', $1, '[]') FROM k";
            let parameters: Parameters<'_> = &[&unused, &at.as_millis(), &note.kind.as_str()];
            connections.query(sql, parameters).await?;
        }
    }
    let (ids, times): (Vec<&str>, Vec<i64>) = used
        .iter()
        .map(|(id, at)| (id.as_str(), at.as_millis()))
        .unzip();
    // Locked in one order by all nodes, so that two of them never wait for each other.
    let sql = "WITH used AS (
                   SELECT k.token, u.at FROM unnest($1::text[], $2::bigint[]) AS u(id, at)
                     JOIN api_token k ON k.id = u.id
                    WHERE k.last_used IS NULL OR k.last_used < u.at
                    ORDER BY k.token FOR NO KEY UPDATE OF k)
               UPDATE api_token k SET last_used = used.at FROM used WHERE k.token = used.token";
    connections.query(sql, &[&ids, &times]).await?;
    Ok(())
}
