//! Statements on memberships: `member` holds a row for each, and an index the other way round,
//! so that both "who is in this group" and "which groups is this in" are read off one range.

use std::collections::{BTreeMap, HashSet};

use rusqlite::Connection;
use shared::Timestamp;

use super::changes::{self, Deed};
use super::connection::{all, execute, first};
use super::resources::{self, present, resource_columns};
use super::tenants::{Effect, held, move_head};
use crate::scim::{ResourceId, ResourceKind, Version};
use crate::store::position::{is_of, kind_of};
use crate::store::{
    Access, ChangeKind, MemberChange, Memberships, Position, Related, StoreError, WriteContext,
};

/// Applies changes to the members of the group at a position; answers whether any row changed.
pub(super) fn apply(
    connection: &Connection,
    tenant: i64,
    group: i64,
    changes: &[MemberChange],
) -> Result<bool, StoreError> {
    let mut rows = 0;
    for change in changes {
        match change {
            MemberChange::Add(ids) => {
                for id in ids {
                    if let Some(member) = position_of(connection, tenant, *id)? {
                        rows += insert(connection, group, member)?;
                    }
                }
            }
            MemberChange::Remove(ids) => {
                for id in ids {
                    if let Some(member) = position_of(connection, tenant, *id)? {
                        rows += delete(connection, group, member)?;
                    }
                }
            }
            MemberChange::Replace(ids) => rows += replace(connection, tenant, group, ids)?,
        }
    }
    Ok(rows > 0)
}

fn replace(
    connection: &Connection,
    tenant: i64,
    group: i64,
    ids: &[ResourceId],
) -> Result<usize, StoreError> {
    let mut wanted = HashSet::with_capacity(ids.len());
    for id in ids {
        wanted.extend(position_of(connection, tenant, *id)?);
    }
    let held: Vec<i64> = all(
        connection,
        "SELECT member_position FROM member WHERE group_position = ?1",
        [group],
        |row| Ok(row.get(0)?),
    )?;
    let mut rows = 0;
    for member in held {
        if !wanted.remove(&member) {
            rows += delete(connection, group, member)?;
        }
    }
    for member in wanted {
        rows += insert(connection, group, member)?;
    }
    Ok(rows)
}

fn position_of(
    connection: &Connection,
    tenant: i64,
    id: ResourceId,
) -> Result<Option<i64>, StoreError> {
    first(
        connection,
        "SELECT position FROM resource WHERE tenant = ?1 AND id = ?2",
        (tenant, id.as_bytes()),
        |row| Ok(row.get(0)?),
    )
}

/// Makes a resource a member of a group; answers how many rows that gave.
pub(super) fn insert(
    connection: &Connection,
    group: i64,
    member: i64,
) -> Result<usize, StoreError> {
    execute(
        connection,
        "INSERT OR IGNORE INTO member (group_position, member_position) VALUES (?1, ?2)",
        (group, member),
    )
}

fn delete(connection: &Connection, group: i64, member: i64) -> Result<usize, StoreError> {
    execute(
        connection,
        "DELETE FROM member WHERE group_position = ?1 AND member_position = ?2",
        (group, member),
    )
}

pub(super) fn change(
    connection: &Connection,
    access: &Access,
    group: ResourceId,
    expected: Option<Version>,
    members: &[MemberChange],
    write: WriteContext,
) -> Result<Version, StoreError> {
    let tenant = held(connection, access)?.key;
    let before = present(connection, tenant, ResourceKind::Group, group, expected)?;
    if !apply(connection, tenant, before.position, members)? {
        return Ok(Version(before.version));
    }
    let head = move_head(connection, access, ResourceKind::Group, Effect::Keeps)?;
    execute(
        connection,
        "UPDATE resource SET version = ?2, modified = ?3 WHERE position = ?1",
        (before.position, head.seq, write.now.as_millis()),
    )?;
    let deed = Deed {
        what: ChangeKind::Changed,
        position: before.position,
        id: group,
        attributes: &["members"],
        active: None,
    };
    changes::record(connection, &head, &write, &deed)?;
    Ok(Version(head.seq))
}

/// Takes every membership of a resource that is deleted: those in it and those of it. Groups
/// that lose it as a member move to the version of this write.
pub(super) fn forget(
    connection: &Connection,
    position: i64,
    seq: i64,
    now: Timestamp,
) -> Result<(), StoreError> {
    let groups = execute(
        connection,
        "UPDATE resource SET version = ?2, modified = ?3 WHERE position IN
            (SELECT group_position FROM member WHERE member_position = ?1)",
        (position, seq, now.as_millis()),
    )?;
    if groups > 0 {
        execute(
            connection,
            "DELETE FROM member WHERE member_position = ?1",
            [position],
        )?;
    }
    if kind_of(position) == ResourceKind::Group {
        execute(
            connection,
            "DELETE FROM member WHERE group_position = ?1",
            [position],
        )?;
    }
    Ok(())
}

/// The direct members of a group, the first `most` of them.
pub(super) fn of_group(
    connection: &Connection,
    tenant: i64,
    group: Position,
    most: Option<u32>,
) -> Result<Vec<Related>, StoreError> {
    all(
        connection,
        "SELECT r.id, r.position FROM member m JOIN resource r ON r.position = m.member_position
         WHERE m.group_position = ?1 AND r.tenant = ?2 ORDER BY m.member_position LIMIT ?3",
        (group.0, tenant, most.map_or(-1, i64::from)),
        |row| {
            let position: i64 = row.get(1)?;
            Ok(Related {
                id: ResourceId::from_stored(row.get(0)?),
                position: Position(position),
                kind: kind_of(position),
            })
        },
    )
}

/// The groups of which one resource is a direct member, if the access holds: one statement, and
/// so one snapshot.
pub(super) fn held_groups_of(
    connection: &Connection,
    access: &Access,
    member: Position,
) -> Result<Memberships, StoreError> {
    let rows = all(
        connection,
        concat!(
            "SELECT t.tenant, ",
            resource_columns!(),
            " FROM tenant t
              LEFT JOIN member m ON t.groups > 0 AND m.member_position = ?3
              LEFT JOIN resource r ON r.position = m.group_position
              WHERE t.id = ?1 AND t.state = 'active' AND t.credential_version = ?2
              ORDER BY m.group_position"
        ),
        (access.tenant.as_str(), access.credential_version, member.0),
        |row| match row.get::<_, Option<i64>>(1)? {
            Some(group) if is_of(group, row.get(0)?) => resources::read(row, 1).map(Some),
            _ => Ok(None),
        },
    )?;
    if rows.is_empty() {
        return Err(StoreError::Refused);
    }
    let mut found = Memberships::none(1);
    for group in rows.into_iter().flatten() {
        found.push(group, [0]);
    }
    Ok(found)
}

/// The groups of which resources are direct members. A group is read once, however many of them
/// it has.
pub(super) fn groups_of(
    connection: &Connection,
    tenant: i64,
    members: &[Position],
) -> Result<Memberships, StoreError> {
    let mut groups: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for (number, member) in members.iter().enumerate() {
        let of_one: Vec<i64> = all(
            connection,
            "SELECT group_position FROM member WHERE member_position = ?1",
            [member.0],
            |row| Ok(row.get(0)?),
        )?;
        for group in of_one.into_iter().filter(|group| is_of(*group, tenant)) {
            groups.entry(group).or_default().push(number);
        }
    }
    let mut found = Memberships::none(members.len());
    for (group, members) in groups {
        found.push(resources::at(connection, group)?, members);
    }
    Ok(found)
}
