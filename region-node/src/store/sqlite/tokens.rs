//! Statements on API tokens.

use std::time::Duration;

use rusqlite::{Connection, Row};
use shared::{TenantId, Timestamp, TokenDigest, TokenId};

use super::audit;
use super::connection::{all, count, execute, first};
use super::tenants::{self, tenant_columns};
use crate::store::backup::TokenRow;
use crate::store::staging::{STAGED_DIGEST, STAGED_ID};
use crate::store::{
    Access, AuditKind, AuditNote, Author, FoundToken, MOST_ACCESS_TOKENS, MeantLife,
    NewAccessToken, NewToken, StoreError, StoredToken, networks_column, read_networks,
};

/// Access tokens that one step of housekeeping forgets.
const PRUNED_AT_ONCE: i64 = 500;

/// Columns of a token, in the order in which [`read`] takes them; `t` is its tenant's row.
macro_rules! token_columns {
    () => {
        "k.id, t.id, k.name, k.scope, k.created, k.created_by, k.expires, k.last_used, k.revoked,
         k.dialect, k.networks, k.meant_life"
    };
}
/// How many columns that are.
const TOKEN_COLUMNS: usize = 12;

macro_rules! select_token {
    ($rest:literal) => {
        concat!(
            "SELECT ",
            token_columns!(),
            " FROM api_token k JOIN tenant t ON t.tenant = k.tenant ",
            $rest
        )
    };
}

fn read(row: &Row<'_>) -> Result<StoredToken, StoreError> {
    const ODD: StoreError = StoreError::Corrupt("a token with an odd id, tenant or scope");
    let text = |at: usize| row.get_ref(at)?.as_str().map_err(|_| ODD);
    Ok(StoredToken {
        id: TokenId::parse(text(0)?).map_err(|_| ODD)?,
        tenant: TenantId::parse(text(1)?).map_err(|_| ODD)?,
        name: row.get(2)?,
        scope: text(3)?.parse().map_err(|_| ODD)?,
        created: Timestamp(row.get(4)?),
        created_by: row.get(5)?,
        expires: row.get::<_, Option<i64>>(6)?.map(Timestamp),
        last_used: row.get::<_, Option<i64>>(7)?.map(Timestamp),
        revoked: row.get::<_, Option<i64>>(8)?.map(Timestamp),
        dialect: text(9)?.parse().map_err(|_| ODD)?,
        networks: read_networks(row.get::<_, Option<String>>(10)?.as_deref())?,
        meant_life: row.get::<_, Option<i64>>(11)?.map(MeantLife),
    })
}

pub(super) fn create(
    connection: &Connection,
    tenant: &TenantId,
    token: &NewToken,
    under: Option<&Access>,
    now: Timestamp,
) -> Result<StoredToken, StoreError> {
    let key = tenants::key(connection, tenant)?.ok_or(StoreError::NotFound)?;
    tenants::check_held(connection, under, key)?;
    insert(connection, key, token, now)?;
    audit::note(connection, key, now, &AuditNote::created(token))?;
    get(connection, &token.id)?.ok_or(StoreError::Corrupt("a token vanished as it was created"))
}

fn insert(
    connection: &Connection,
    tenant_key: i64,
    token: &NewToken,
    now: Timestamp,
) -> Result<(), StoreError> {
    execute(
        connection,
        "INSERT INTO api_token (id, digest, tenant, name, scope, created, created_by, expires,
                                dialect, networks, meant_life)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        (
            token.id.as_str(),
            token.digest.as_bytes(),
            tenant_key,
            &token.name,
            token.scope.as_str(),
            now.as_millis(),
            &token.created_by,
            token.expires.map(Timestamp::as_millis),
            token.dialect.as_str(),
            networks_column(&token.networks)?,
            MeantLife::of(now, token.expires).0,
        ),
    )?;
    Ok(())
}

pub(super) fn list(
    connection: &Connection,
    tenant: &TenantId,
) -> Result<Vec<StoredToken>, StoreError> {
    let key = tenants::key(connection, tenant)?.ok_or(StoreError::NotFound)?;
    all(
        connection,
        select_token!("WHERE k.tenant = ?1 ORDER BY k.token"),
        [key],
        read,
    )
}

pub(super) fn get(
    connection: &Connection,
    id: &TokenId,
) -> Result<Option<StoredToken>, StoreError> {
    first(
        connection,
        select_token!("WHERE k.id = ?1"),
        [id.as_str()],
        read,
    )
}

/// A tenant's tokens with their digests, in the order of their creation.
pub(super) fn list_with_digests(
    connection: &Connection,
    tenant_key: i64,
) -> Result<Vec<TokenRow>, StoreError> {
    const ODD: StoreError = StoreError::Corrupt("a token with an odd digest");
    all(
        connection,
        concat!(
            "SELECT ",
            token_columns!(),
            ", k.digest FROM api_token k JOIN tenant t ON t.tenant = k.tenant
              WHERE k.tenant = ?1 ORDER BY k.token"
        ),
        [tenant_key],
        |row| {
            let digest: [u8; 32] = row.get(TOKEN_COLUMNS)?;
            Ok(TokenRow {
                digest: TokenDigest::try_from(hex::encode(digest)).map_err(|_| ODD)?,
                token: read(row)?,
            })
        },
    )
}

/// Stores a token that nobody sees yet.
pub(super) fn stage(
    connection: &Connection,
    tenant_key: i64,
    row: &TokenRow,
) -> Result<(), StoreError> {
    let token = &row.token;
    let mut digest = vec![STAGED_DIGEST];
    digest.extend(row.digest.as_bytes());
    execute(
        connection,
        "INSERT INTO api_token (id, digest, tenant, name, scope, created, created_by, expires,
                                dialect, last_used, revoked, networks, meant_life)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        (
            format!("{STAGED_ID}{}", token.id),
            digest,
            tenant_key,
            &token.name,
            token.scope.as_str(),
            token.created.as_millis(),
            &token.created_by,
            token.expires.map(Timestamp::as_millis),
            token.dialect.as_str(),
            token.last_used.map(Timestamp::as_millis),
            token.revoked.map(Timestamp::as_millis),
            networks_column(&token.networks)?,
            token.meant_life.map(|meant| meant.0),
        ),
    )?;
    Ok(())
}

/// The region's own tokens of a tenant outlive a restore: credentials never go back in time. They
/// take the places of what the backup says of them. Answers how many have ended that the backup
/// has live.
pub(super) fn outlive_restore(
    connection: &Connection,
    present: i64,
    staged: i64,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let kept_ended = first(
        connection,
        "SELECT count(*) FROM api_token s JOIN api_token p ON s.id = ?3 || p.id
         WHERE s.tenant = ?2 AND p.tenant = ?1
            AND s.revoked IS NULL AND (s.expires IS NULL OR s.expires > ?4)
            AND (p.revoked IS NOT NULL OR p.expires <= ?4)",
        (present, staged, STAGED_ID, now.as_millis()),
        |row| count(row, 0),
    )?;
    execute(
        connection,
        "DELETE FROM api_token WHERE tenant = ?2
            AND id IN (SELECT ?3 || id FROM api_token WHERE tenant = ?1)",
        (present, staged, STAGED_ID),
    )?;
    for sql in [
        "UPDATE api_token SET tenant = ?2 WHERE tenant = ?1",
        "UPDATE access_token SET tenant = ?2 WHERE tenant = ?1",
    ] {
        execute(connection, sql, (present, staged))?;
    }
    Ok(kept_ended.unwrap_or(0))
}

/// Gives the tokens that a restore brought in their ids and digests.
pub(super) fn appear(connection: &Connection, tenant_key: i64) -> Result<(), StoreError> {
    execute(
        connection,
        "UPDATE api_token SET id = substr(id, length(?2) + 1), digest = substr(digest, 2)
         WHERE tenant = ?1 AND substr(id, 1, length(?2)) = ?2",
        (tenant_key, STAGED_ID),
    )?;
    Ok(())
}

/// Revokes all of a tenant's tokens; answers how many were not revoked before.
pub(super) fn revoke_all(
    connection: &Connection,
    tenant_key: i64,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let rows = execute(
        connection,
        "UPDATE api_token SET revoked = ?2 WHERE tenant = ?1 AND revoked IS NULL",
        (tenant_key, now.as_millis()),
    )?;
    Ok(rows as u64)
}

/// How many of a tenant's tokens open something.
pub(super) fn count_live(
    connection: &Connection,
    tenant_key: i64,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let live = first(
        connection,
        "SELECT count(*) FROM api_token
         WHERE tenant = ?1 AND revoked IS NULL AND (expires IS NULL OR expires > ?2)",
        (tenant_key, now.as_millis()),
        |row| count(row, 0),
    )?;
    Ok(live.unwrap_or(0))
}

pub(super) fn rotate(
    connection: &Connection,
    id: &TokenId,
    successor: &NewToken,
    overlap: Duration,
    under: Option<&Access>,
    now: Timestamp,
) -> Result<StoredToken, StoreError> {
    // Only a live token can be succeeded, and its end only ever moves nearer.
    let key = first(
        connection,
        "UPDATE api_token SET expires = min(coalesce(expires, ?2), ?2)
         WHERE id = ?1 AND revoked IS NULL AND (expires IS NULL OR expires > ?3)
         RETURNING tenant",
        (id.as_str(), now.after(overlap).as_millis(), now.as_millis()),
        |row| Ok(row.get(0)?),
    )?
    .ok_or(StoreError::NotFound)?;
    tenants::check_held(connection, under, key)?;
    insert(connection, key, successor, now)?;
    tenants::move_credential_version(connection, key)?;
    audit::note(connection, key, now, &AuditNote::rotated(id, successor))?;
    get(connection, &successor.id)?.ok_or(StoreError::Corrupt("a token vanished in its rotation"))
}

pub(super) fn revoke(
    connection: &Connection,
    id: &TokenId,
    by: &Author,
    under: Option<&Access>,
    now: Timestamp,
) -> Result<StoredToken, StoreError> {
    let key = first(
        connection,
        "UPDATE api_token SET revoked = ?2 WHERE id = ?1 AND revoked IS NULL RETURNING tenant",
        (id.as_str(), now.as_millis()),
        |row| Ok(row.get(0)?),
    )?;
    if let Some(key) = key {
        tenants::check_held(connection, under, key)?;
        tenants::move_credential_version(connection, key)?;
        let note = AuditNote::new(AuditKind::TokenRevoked, by.clone(), id.as_str());
        audit::note(connection, key, now, &note)?;
    }
    get(connection, id)?.ok_or(StoreError::NotFound)
}

pub(super) fn find(
    connection: &Connection,
    digest: &TokenDigest,
) -> Result<Option<FoundToken>, StoreError> {
    first(
        connection,
        concat!(
            "SELECT ",
            token_columns!(),
            ", NULL, ",
            tenant_columns!(),
            " FROM api_token k JOIN tenant t ON t.tenant = k.tenant WHERE k.digest = ?1
             UNION ALL SELECT ",
            token_columns!(),
            ", a.expires, ",
            tenant_columns!(),
            " FROM access_token a JOIN api_token k ON k.token = a.token
              JOIN tenant t ON t.tenant = k.tenant WHERE a.digest = ?1"
        ),
        [digest.as_bytes()],
        |row| {
            let ends = row.get::<_, Option<i64>>(TOKEN_COLUMNS)?.map(Timestamp);
            Ok(FoundToken::new(
                read(row)?,
                tenants::read(row, TOKEN_COLUMNS + 1)?,
                ends,
            ))
        },
    )
}

pub(super) fn create_access_token(
    connection: &Connection,
    id: &TokenId,
    access: &NewAccessToken,
    now: Timestamp,
) -> Result<Timestamp, StoreError> {
    let (token, tenant, end): (i64, i64, Option<i64>) = first(
        connection,
        "SELECT k.token, k.tenant, k.expires FROM api_token k JOIN tenant t ON t.tenant = k.tenant
         WHERE k.id = ?1 AND k.revoked IS NULL AND (k.expires IS NULL OR k.expires > ?2)
            AND t.state = 'active'",
        (id.as_str(), now.as_millis()),
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?
    .ok_or(StoreError::NotFound)?;
    let digest = access.digest.as_bytes();
    let stored = first(
        connection,
        "SELECT expires FROM access_token WHERE digest = ?1 AND token = ?2",
        (digest, token),
        |row| Ok(row.get(0)?),
    )?;
    if let Some(expires) = stored {
        return Ok(Timestamp(expires));
    }
    execute(
        connection,
        "DELETE FROM access_token WHERE token = ?1 AND (expires <= ?2 OR number <=
            (SELECT number FROM access_token WHERE token = ?1
             ORDER BY number DESC LIMIT 1 OFFSET ?3))",
        (token, now.as_millis(), MOST_ACCESS_TOKENS - 1),
    )?;
    let expires = end.map_or(access.expires, |end| access.expires.min(Timestamp(end)));
    let inserted = execute(
        connection,
        "INSERT INTO access_token (digest, token, tenant, created, expires)
         SELECT ?1, ?2, ?3, ?4, ?5 WHERE NOT EXISTS (SELECT 1 FROM api_token WHERE digest = ?1)
         ON CONFLICT (digest) DO NOTHING",
        (digest, token, tenant, now.as_millis(), expires.as_millis()),
    )?;
    match inserted {
        0 => Err(StoreError::KeyReused),
        _ => Ok(expires),
    }
}

pub(super) fn end_access_token(
    connection: &Connection,
    tenant: &TenantId,
    digest: &TokenDigest,
) -> Result<(), StoreError> {
    let ended = first(
        connection,
        "DELETE FROM access_token WHERE digest = ?2
            AND tenant = (SELECT tenant FROM tenant WHERE id = ?1)
         RETURNING tenant",
        (tenant.as_str(), digest.as_bytes()),
        |row| Ok(row.get(0)?),
    )?;
    match ended {
        Some(key) => tenants::move_credential_version(connection, key),
        None => Ok(()),
    }
}

pub(super) fn prune_access_tokens(
    connection: &Connection,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let pruned = execute(
        connection,
        "DELETE FROM access_token WHERE number IN
            (SELECT number FROM access_token WHERE expires <= ?1 ORDER BY expires LIMIT ?2)",
        (now.as_millis(), PRUNED_AT_ONCE),
    )?;
    Ok(pruned == 0)
}

pub(super) fn touch(
    connection: &Connection,
    used: &[(TokenId, Timestamp)],
) -> Result<(), StoreError> {
    for (id, at) in used {
        let first_used = first(
            connection,
            "UPDATE api_token SET last_used = ?2 WHERE id = ?1 AND last_used IS NULL
             RETURNING tenant",
            (id.as_str(), at.as_millis()),
            |row| Ok(row.get(0)?),
        )?;
        if let Some(key) = first_used {
            audit::note(connection, key, *at, &AuditNote::first_used(id))?;
            continue;
        }
        execute(
            connection,
            "UPDATE api_token SET last_used = ?2
             WHERE id = ?1 AND last_used < ?2",
            (id.as_str(), at.as_millis()),
        )?;
    }
    Ok(())
}
