//! Statements on single resources and on pages of them.

use rusqlite::{Connection, Row};
use shared::Timestamp;

use super::changes::{self, Deed};
use super::connection::{all, execute, first};
use super::members;
use super::tenants::{Effect, HeldHead, move_head};
use crate::scim::{ResourceId, ResourceKind, Version};
use crate::store::position::{kind_number, of_create, of_kind};
use crate::store::{
    Access, ChangeKind, Content, Keys, Page, PageStart, Position, StoreError, Stored, WriteContext,
};

/// Columns of a resource, in the order in which [`read`] takes them.
/// The argument is SQL for whether the tenant has groups at all; without it nobody asks about
/// memberships.
macro_rules! resource_columns {
    () => {
        "r.position, r.id, r.version, r.created, r.modified, r.document, 1"
    };
    ($groups:literal) => {
        concat!(
            "r.position, r.id, r.version, r.created, r.modified, r.document, ",
            $groups,
            " AND EXISTS (SELECT 1 FROM member m WHERE m.member_position = r.position)"
        )
    };
}

pub(super) use resource_columns;

/// Reads the columns of `resource_columns`, the first of which is number `at`.
pub(super) fn read(row: &Row<'_>, at: usize) -> Result<Stored, StoreError> {
    Ok(Stored {
        position: Position(row.get(at)?),
        id: ResourceId::from_stored(row.get(at + 1)?),
        version: Version(row.get(at + 2)?),
        created: Timestamp(row.get(at + 3)?),
        modified: Timestamp(row.get(at + 4)?),
        document: row.get(at + 5)?,
        may_be_member: row.get(at + 6)?,
    })
}

pub(super) fn create(
    connection: &Connection,
    access: &Access,
    kind: ResourceKind,
    id: ResourceId,
    content: Content,
    write: WriteContext,
) -> Result<Stored, StoreError> {
    let now = write.now;
    let head = move_head(connection, access, kind, Effect::Creates)?;
    let position = of_create(head.key, kind, head.seq)?;
    let deed = Deed {
        what: ChangeKind::Created,
        position,
        id,
        attributes: &[],
        active: (kind == ResourceKind::User).then_some(content.keys.active),
    };
    changes::record(connection, &head, &write, &deed)?;
    let row = NewRow {
        position,
        kind,
        id,
        version: head.seq,
        created: now,
        modified: now,
        keys: &content.keys,
        document: &content.document,
    };
    refuse_look_alike(connection, head.key, row.keys, position)?;
    insert(connection, head.key, &row)?;
    members::apply(connection, head.key, position, &content.members)?;
    Ok(Stored {
        id,
        position: Position(position),
        version: Version(head.seq),
        created: now,
        modified: now,
        document: content.document,
        may_be_member: false,
    })
}

/// A resource that is not there yet.
pub(super) struct NewRow<'r> {
    pub(super) position: i64,
    pub(super) kind: ResourceKind,
    pub(super) id: ResourceId,
    pub(super) version: i64,
    pub(super) created: Timestamp,
    pub(super) modified: Timestamp,
    pub(super) keys: &'r Keys,
    pub(super) document: &'r str,
}

/// Writes a resource and what it is found by, but for its members.
pub(super) fn insert(
    connection: &Connection,
    tenant: i64,
    row: &NewRow<'_>,
) -> Result<(), StoreError> {
    let keys = row.keys;
    execute(
        connection,
        "INSERT INTO resource
            (position, tenant, kind, id, version, created, modified, active,
             user_name, external_id, display_name, attributes, document)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        (
            row.position,
            tenant,
            kind_number(row.kind),
            row.id.as_bytes(),
            row.version,
            row.created.as_millis(),
            row.modified.as_millis(),
            keys.active,
            &keys.user_name,
            &keys.external_id,
            &keys.display_name,
            attributes_json(keys)?,
            row.document,
        ),
    )?;
    for (attribute, value) in keys.index_rows() {
        insert_index_row(connection, tenant, attribute, value, row.position)?;
    }
    Ok(())
}

/// Columns of what a resource is found by, in the order in which [`read_keys`] takes them.
macro_rules! key_columns {
    () => {
        "r.active, r.user_name, r.external_id, r.display_name, r.attributes"
    };
}
pub(super) use key_columns;

/// Reads the columns of `key_columns`, the first of which is number `at`.
pub(super) fn read_keys(row: &Row<'_>, at: usize) -> Result<Keys, StoreError> {
    let mut keys = Keys {
        active: row.get(at)?,
        user_name: row.get(at + 1)?,
        user_name_look_alike: None,
        external_id: row.get(at + 2)?,
        display_name: row.get(at + 3)?,
        attributes: Vec::new(),
    };
    if let Some(attributes) = row.get::<_, Option<String>>(at + 4)? {
        let attributes: Vec<(String, String)> = read_attributes(&attributes)?;
        keys.take_index_rows(attributes);
    }
    Ok(keys)
}

fn read_attributes(json: &str) -> Result<Vec<(String, String)>, StoreError> {
    serde_json::from_str(json).map_err(|_| StoreError::Corrupt("a resource with unreadable keys"))
}

/// A name that looks like somebody else's is as taken as the name itself (failure class 72).
fn refuse_look_alike(
    connection: &Connection,
    tenant: i64,
    keys: &Keys,
    own: i64,
) -> Result<(), StoreError> {
    let Some(user_name) = &keys.user_name else {
        return Ok(());
    };
    let shared = keys.user_name_look_alike.as_ref().unwrap_or(user_name);
    let twin = first(
        connection,
        "SELECT position FROM attribute_index
         WHERE tenant = ?1 AND attribute = ?2 AND value = ?3 AND position <> ?4
         UNION ALL
         SELECT position FROM resource WHERE tenant = ?1 AND user_name = ?3 AND position <> ?4
         LIMIT 1",
        (tenant, Keys::LOOK_ALIKE, shared, own),
        |_row| Ok(()),
    )?;
    match twin {
        Some(()) => Err(StoreError::Taken {
            attribute: "userName",
        }),
        None => Ok(()),
    }
}

/// What is indexed of a resource, beside it in its row: so a change knows which index rows to
/// take away without an index on the index.
fn attributes_json(keys: &Keys) -> Result<Option<String>, StoreError> {
    let rows: Vec<(&str, &str)> = keys.index_rows().collect();
    if rows.is_empty() {
        return Ok(None);
    }
    serde_json::to_string(&rows)
        .map(Some)
        .map_err(|_| StoreError::Corrupt("keys that cannot be written as JSON"))
}

fn insert_index_row(
    connection: &Connection,
    tenant: i64,
    attribute: &str,
    value: &str,
    position: i64,
) -> Result<(), StoreError> {
    execute(
        connection,
        "INSERT OR IGNORE INTO attribute_index (tenant, attribute, value, position)
         VALUES (?1, ?2, ?3, ?4)",
        (tenant, attribute, value, position),
    )?;
    Ok(())
}

fn delete_index_rows(
    connection: &Connection,
    tenant: i64,
    attributes: Option<&str>,
    position: i64,
) -> Result<(), StoreError> {
    let Some(attributes) = attributes else {
        return Ok(());
    };
    for (attribute, value) in read_attributes(attributes)? {
        execute(
            connection,
            "DELETE FROM attribute_index
             WHERE tenant = ?1 AND attribute = ?2 AND value = ?3 AND position = ?4",
            (tenant, attribute, value, position),
        )?;
    }
    Ok(())
}

/// One statement, and so one snapshot, checks the access and finds the resource.
pub(super) fn get(
    connection: &Connection,
    access: &Access,
    kind: ResourceKind,
    id: ResourceId,
) -> Result<Option<Stored>, StoreError> {
    first(
        connection,
        concat!(
            "SELECT t.tenant, ",
            resource_columns!("t.groups > 0"),
            " FROM tenant t
              LEFT JOIN resource r ON r.tenant = t.tenant AND r.id = ?3 AND r.kind = ?4
              WHERE t.id = ?1 AND t.state = 'active' AND t.credential_version = ?2"
        ),
        (
            access.tenant.as_str(),
            access.credential_version,
            id.as_bytes(),
            kind_number(kind),
        ),
        |row| {
            if row.get::<_, Option<i64>>(1)?.is_none() {
                return Ok(None);
            }
            read(row, 1).map(Some)
        },
    )?
    .ok_or(StoreError::Refused)
}

/// What a write has to know of the resource as it is.
pub(super) struct Present {
    pub(super) position: i64,
    pub(super) version: i64,
    created: i64,
    user_name: Option<String>,
    external_id: Option<String>,
    display_name: Option<String>,
    attributes: Option<String>,
    may_be_member: bool,
}

/// The resource as it is, if it is there and at the version that the write expects.
pub(super) fn present(
    connection: &Connection,
    tenant: i64,
    kind: ResourceKind,
    id: ResourceId,
    expected: Option<Version>,
) -> Result<Present, StoreError> {
    let present = first(
        connection,
        "SELECT position, version, created, user_name, external_id, display_name, attributes,
                EXISTS (SELECT 1 FROM member m WHERE m.member_position = position)
         FROM resource WHERE tenant = ?1 AND id = ?2 AND kind = ?3",
        (tenant, id.as_bytes(), kind_number(kind)),
        |row| {
            Ok(Present {
                position: row.get(0)?,
                version: row.get(1)?,
                created: row.get(2)?,
                user_name: row.get(3)?,
                external_id: row.get(4)?,
                display_name: row.get(5)?,
                attributes: row.get(6)?,
                may_be_member: row.get(7)?,
            })
        },
    )?
    .ok_or(StoreError::NotFound)?;
    match expected {
        Some(expected) if expected.0 != present.version => Err(StoreError::Stale {
            current: Version(present.version),
        }),
        _ => Ok(present),
    }
}

pub(super) fn replace(
    connection: &Connection,
    access: &Access,
    kind: ResourceKind,
    id: ResourceId,
    expected: Version,
    content: Content,
    write: WriteContext,
) -> Result<Stored, StoreError> {
    let now = write.now;
    let head = move_head(connection, access, kind, Effect::Keeps)?;
    let present = present(connection, head.key, kind, id, Some(expected))?;
    let keys = &content.keys;
    let attributes = attributes_json(keys)?;
    // SQLite writes an index anew whenever one of its columns is set, even to what it was: most
    // changes leave the keys alone, and then no index is touched.
    if keys.user_name == present.user_name
        && keys.external_id == present.external_id
        && keys.display_name == present.display_name
    {
        execute(
            connection,
            "UPDATE resource SET version = ?2, modified = ?3, active = ?4, attributes = ?5,
                    document = ?6
             WHERE position = ?1",
            (
                present.position,
                head.seq,
                now.as_millis(),
                keys.active,
                &attributes,
                &content.document,
            ),
        )?;
    } else {
        if keys.user_name != present.user_name {
            refuse_look_alike(connection, head.key, keys, present.position)?;
        }
        execute(
            connection,
            "UPDATE resource SET version = ?2, modified = ?3, active = ?4, attributes = ?5,
                    document = ?6, user_name = ?7, external_id = ?8, display_name = ?9
             WHERE position = ?1",
            (
                present.position,
                head.seq,
                now.as_millis(),
                keys.active,
                &attributes,
                &content.document,
                &keys.user_name,
                &keys.external_id,
                &keys.display_name,
            ),
        )?;
    }
    if attributes != present.attributes {
        delete_index_rows(
            connection,
            head.key,
            present.attributes.as_deref(),
            present.position,
        )?;
        for (attribute, value) in keys.index_rows() {
            insert_index_row(connection, head.key, attribute, value, present.position)?;
        }
    }
    let members = members::apply(connection, head.key, present.position, &content.members)?;
    let mut attributes: Vec<&str> = content.changed.iter().map(String::as_str).collect();
    if members {
        attributes.push("members");
    }
    let deed = Deed {
        what: ChangeKind::Changed,
        position: present.position,
        id,
        attributes: &attributes,
        active: (kind == ResourceKind::User).then_some(keys.active),
    };
    changes::record(connection, &head, &write, &deed)?;
    Ok(Stored {
        id,
        position: Position(present.position),
        version: Version(head.seq),
        created: Timestamp(present.created),
        modified: now,
        document: content.document,
        may_be_member: present.may_be_member,
    })
}

pub(super) fn delete(
    connection: &Connection,
    access: &Access,
    kind: ResourceKind,
    id: ResourceId,
    expected: Option<Version>,
    write: WriteContext,
) -> Result<(), StoreError> {
    let head = move_head(connection, access, kind, Effect::Deletes)?;
    let present = present(connection, head.key, kind, id, expected)?;
    let deed = Deed {
        what: ChangeKind::Deleted,
        position: present.position,
        id,
        attributes: &[],
        active: None,
    };
    changes::record(connection, &head, &write, &deed)?;
    changes::record_lost_member(connection, &head, write.now, present.position)?;
    delete_index_rows(
        connection,
        head.key,
        present.attributes.as_deref(),
        present.position,
    )?;
    members::forget(connection, present.position, head.seq, write.now)?;
    execute(
        connection,
        "DELETE FROM resource WHERE position = ?1",
        [present.position],
    )?;
    Ok(())
}

/// Up to `limit` resources of a kind behind a position, in list order.
pub(super) fn behind(
    connection: &Connection,
    head: &HeldHead,
    kind: ResourceKind,
    after: Option<Position>,
    offset: i64,
    limit: i64,
) -> Result<Vec<Stored>, StoreError> {
    let of_tenant = (head.key, head.groups > 0);
    behind_position(connection, of_tenant, kind, after, offset, limit)
}

/// The same, whoever asks: of a tenant, which has groups or none.
pub(super) fn behind_position(
    connection: &Connection,
    (tenant, has_groups): (i64, bool),
    kind: ResourceKind,
    after: Option<Position>,
    offset: i64,
    limit: i64,
) -> Result<Vec<Stored>, StoreError> {
    let (begin, end) = of_kind(tenant, kind);
    all(
        connection,
        concat!(
            "SELECT ",
            resource_columns!("?5"),
            " FROM resource r WHERE r.position > ?1 AND r.position <= ?2
              ORDER BY r.position LIMIT ?3 OFFSET ?4"
        ),
        (
            after.map_or(begin, |after| after.0.max(begin)),
            end,
            limit,
            offset,
            has_groups,
        ),
        |row| read(row, 0),
    )
}

/// One page of a list, from one snapshot.
pub(super) fn page(
    connection: &Connection,
    head: &HeldHead,
    kind: ResourceKind,
    start: PageStart,
    limit: u32,
) -> Result<Page, StoreError> {
    let total = head.count(kind);
    let (after, offset) = match start {
        PageStart::Behind(position) => (Some(position), 0),
        PageStart::Offset(offset) => (None, i64::try_from(offset).unwrap_or(i64::MAX)),
    };
    if limit == 0 || offset >= total {
        return Ok(Page {
            total,
            resources: Vec::new(),
        });
    }
    let resources = behind(connection, head, kind, after, offset, limit.into())?;
    Ok(Page { total, resources })
}

/// The resource at a position that an index named.
pub(super) fn at(connection: &Connection, position: i64) -> Result<Stored, StoreError> {
    first(
        connection,
        concat!(
            "SELECT ",
            resource_columns!(),
            " FROM resource r WHERE r.position = ?1"
        ),
        [position],
        |row| read(row, 0),
    )?
    .ok_or(StoreError::Corrupt(
        "an index names a resource that is not there",
    ))
}
