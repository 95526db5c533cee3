//! From a narrowing to the positions that its indexes name, merged in list order.
//!
//! Each look-up reads positions from its index alone, in order where the index gives them so;
//! the resources themselves are read once, after the merge.

use rusqlite::Connection;

use super::connection::{all, first};
use super::resources;
use super::tenants::HeldHead;
use crate::scim::ResourceKind;
use crate::store::narrowing::prefix_end;
use crate::store::position::of_kind;
use crate::store::{Candidates, Narrowing, Position, StoreError, TextIndex, TextTest};

/// A narrowing as the look-ups that this engine makes for it.
pub(super) enum Plan {
    /// Walk the list.
    Walk,
    /// Ask indexes: none, one or several.
    LookUp(Vec<Narrowing>),
}

/// Plans a narrowing. What no index of this engine answers is answered by the whole list: a
/// superset is always right.
pub(super) fn plan(kind: ResourceKind, narrowing: &Narrowing) -> Plan {
    let mut look_ups = Vec::new();
    let mut waiting = vec![narrowing];
    while let Some(narrowing) = waiting.pop() {
        match narrowing {
            Narrowing::AnyOf(parts) => waiting.extend(parts),
            Narrowing::Nothing => {}
            Narrowing::Everything => return Plan::Walk,
            Narrowing::Text(index, test) if !serves(kind, index, test) => return Plan::Walk,
            one => look_ups.push(one.clone()),
        }
    }
    Plan::LookUp(look_ups)
}

/// Whether this engine has a look-up for it.
fn serves(kind: ResourceKind, index: &TextIndex, test: &TextTest) -> bool {
    match (index, test) {
        // Users are not indexed by displayName: every create would pay for it.
        (TextIndex::DisplayName, _) => {
            kind == ResourceKind::Group && matches!(test, TextTest::Is(_))
        }
        (TextIndex::UserName, TextTest::StartsWith(prefix)) => !prefix.is_empty(),
        (_, test) => matches!(test, TextTest::Is(_)),
    }
}

impl Plan {
    /// Whether the cost is that of a few index look-ups, whatever the tenant's size.
    pub(super) fn is_quick(&self) -> bool {
        match self {
            Self::Walk => false,
            Self::LookUp(look_ups) => {
                look_ups.len() <= 8
                    && !look_ups
                        .iter()
                        .any(|one| matches!(one, Narrowing::Text(_, test) if !matches!(test, TextTest::Is(_))))
            }
        }
    }

    /// Up to `limit` candidates behind `after`.
    pub(super) fn run(
        &self,
        connection: &Connection,
        head: &HeldHead,
        kind: ResourceKind,
        after: Option<Position>,
        limit: u32,
    ) -> Result<Candidates, StoreError> {
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        // One more than wanted tells whether there is anything behind the last one.
        let limit = i64::from(limit) + 1;
        let mut resources = match self {
            Self::Walk => resources::behind(connection, head, kind, after, 0, limit)?,
            Self::LookUp(look_ups) => {
                let mut positions = Vec::new();
                for one in look_ups {
                    positions.extend(look_up(connection, head, kind, one, after, limit)?);
                }
                positions.sort_unstable();
                positions.dedup();
                let complete = positions.len() <= wanted;
                positions.truncate(wanted);
                let resources = positions
                    .into_iter()
                    .map(|position| resources::at(connection, position))
                    .collect::<Result<_, _>>()?;
                return Ok(Candidates {
                    resources,
                    complete,
                });
            }
        };
        let complete = resources.len() <= wanted;
        resources.truncate(wanted);
        Ok(Candidates {
            resources,
            complete,
        })
    }
}

/// The first positions behind `after` that one index names, in order.
fn look_up(
    connection: &Connection,
    head: &HeldHead,
    kind: ResourceKind,
    narrowing: &Narrowing,
    after: Option<Position>,
    limit: i64,
) -> Result<Vec<i64>, StoreError> {
    let (begin, end) = of_kind(head.key, kind);
    let begin = after.map_or(begin, |after| after.0.max(begin));
    let tenant = head.key;
    match narrowing {
        Narrowing::Id(id) => {
            let position = first(
                connection,
                "SELECT position FROM resource WHERE tenant = ?1 AND id = ?2",
                (tenant, id.as_bytes()),
                |row| Ok(row.get::<_, i64>(0)?),
            )?;
            Ok(position
                .filter(|position| *position > begin && *position <= end)
                .into_iter()
                .collect())
        }
        Narrowing::Text(TextIndex::UserName, TextTest::Is(key)) => all(
            connection,
            "SELECT position FROM resource WHERE tenant = ?1 AND user_name = ?2
                AND position > ?3 AND position <= ?4 ORDER BY position LIMIT ?5",
            (tenant, key, begin, end, limit),
            |row| Ok(row.get(0)?),
        ),
        Narrowing::Text(TextIndex::UserName, TextTest::StartsWith(prefix)) => match prefix_end(prefix) {
            Some(prefix_end) => all(
                connection,
                "SELECT position FROM resource INDEXED BY resource_user_name
                 WHERE tenant = ?1 AND user_name >= ?2 AND user_name < ?3
                    AND position > ?4 AND position <= ?5 ORDER BY position LIMIT ?6",
                (tenant, prefix, prefix_end, begin, end, limit),
                |row| Ok(row.get(0)?),
            ),
            None => all(
                connection,
                "SELECT position FROM resource INDEXED BY resource_user_name
                 WHERE tenant = ?1 AND user_name >= ?2
                    AND position > ?3 AND position <= ?4 ORDER BY position LIMIT ?5",
                (tenant, prefix, begin, end, limit),
                |row| Ok(row.get(0)?),
            ),
        },
        Narrowing::Text(TextIndex::ExternalId, TextTest::Is(key)) => all(
            connection,
            "SELECT position FROM resource INDEXED BY resource_external_id
             WHERE tenant = ?1 AND external_id = ?2
                AND position > ?3 AND position <= ?4 ORDER BY position LIMIT ?5",
            (tenant, key, begin, end, limit),
            |row| Ok(row.get(0)?),
        ),
        Narrowing::Text(TextIndex::DisplayName, TextTest::Is(key)) => all(
            connection,
            "SELECT position FROM resource INDEXED BY resource_display_name
             WHERE tenant = ?1 AND display_name = ?2 AND kind = 1
                AND position > ?3 AND position <= ?4 ORDER BY position LIMIT ?5",
            (tenant, key, begin, end, limit),
            |row| Ok(row.get(0)?),
        ),
        Narrowing::Text(TextIndex::Attribute(attribute), TextTest::Is(key)) => all(
            connection,
            "SELECT position FROM attribute_index
             WHERE tenant = ?1 AND attribute = ?2 AND value = ?3
                AND position > ?4 AND position <= ?5 ORDER BY position LIMIT ?6",
            (tenant, attribute, key, begin, end, limit),
            |row| Ok(row.get(0)?),
        ),
        Narrowing::MemberOf(group) => all(
            connection,
            "SELECT m.member_position FROM resource g JOIN member m ON m.group_position = g.position
             WHERE g.tenant = ?1 AND g.id = ?2
                AND m.member_position > ?3 AND m.member_position <= ?4
             ORDER BY m.member_position LIMIT ?5",
            (tenant, group.as_bytes(), begin, end, limit),
            |row| Ok(row.get(0)?),
        ),
        Narrowing::HasMember(member) => all(
            connection,
            "SELECT m.group_position FROM resource r JOIN member m ON m.member_position = r.position
             WHERE r.tenant = ?1 AND r.id = ?2
                AND m.group_position > ?3 AND m.group_position <= ?4
             ORDER BY m.group_position LIMIT ?5",
            (tenant, member.as_bytes(), begin, end, limit),
            |row| Ok(row.get(0)?),
        ),
        Narrowing::Everything
        | Narrowing::Nothing
        | Narrowing::Text(..)
        | Narrowing::AnyOf(_) => {
            Err(StoreError::Corrupt("a narrowing was not planned"))
        }
    }
}
