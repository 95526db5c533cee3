//! From a narrowing to the positions that its indexes name, merged in list order.
//!
//! Each look-up reads positions from its index alone, in order where the index gives them so;
//! the resources themselves are read once, after the merge. A test that no single key answers
//! reads a range of its index, or all of the tenant's rows in it, and keeps the first positions:
//! the rows are short and side by side (0.1 us each), and no document is touched. How many rows
//! one call may read is bounded, and it ends early when nobody waits for it any longer.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Weak;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ToSql};

use super::connection::{all, first};
use super::readers::given_up;
use super::resources;
use super::tenants::HeldHead;
use crate::scim::ResourceKind;
use crate::store::narrowing::prefix_end;
use crate::store::position::of_kind;
use crate::store::{Candidates, Narrowing, Position, StoreError, TextIndex, TextTest};

/// After how many rows it is asked whether anybody still waits.
const ROWS_BETWEEN_CHECKS: u32 = 10_000;

/// Whoever asked; gone where the request was given up, because its time was over.
pub(super) type Asker = Weak<()>;

/// A narrowing as the look-ups that this engine makes for it.
pub(super) enum Plan {
    /// Walk the list.
    Walk,
    /// Ask indexes: none, one or several.
    LookUp(Vec<Narrowing>),
}

/// Plans a narrowing.
pub(super) fn plan(kind: ResourceKind, narrowing: &Narrowing) -> Plan {
    narrowing.look_ups(kind).map_or(Plan::Walk, |look_ups| {
        Plan::LookUp(look_ups.into_iter().cloned().collect())
    })
}

impl Plan {
    /// Whether the cost is that of a few index look-ups, whatever the tenant's size.
    pub(super) fn is_quick(&self) -> bool {
        match self {
            Self::Walk => false,
            Self::LookUp(look_ups) => {
                let reads_a_range = |one: &Narrowing| matches!(one, Narrowing::Text(_, test) if !matches!(test, TextTest::Is(_)));
                look_ups.len() <= 8 && !look_ups.iter().any(reads_a_range)
            }
        }
    }

    /// Up to `limit` candidates behind `after`, for which at most `most_rows` rows of indexes are
    /// read one by one.
    #[expect(
        clippy::too_many_arguments,
        reason = "it is the store's call and what bounds it"
    )]
    pub(super) fn run(
        &self,
        connection: &Connection,
        head: &HeldHead,
        kind: ResourceKind,
        after: Option<Position>,
        limit: u32,
        most_rows: u32,
        asker: &Asker,
    ) -> Result<Candidates, StoreError> {
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        // One more than wanted tells whether there is anything behind the last one.
        let limit = wanted.saturating_add(1);
        let mut resources = match self {
            Self::Walk => {
                let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                resources::behind(connection, head, kind, after, 0, limit)?
            }
            Self::LookUp(look_ups) => {
                let (begin, end) = of_kind(head.key, kind);
                let mut asked = Asked {
                    connection,
                    tenant: head.key,
                    begin: after.map_or(begin, |after| after.0.max(begin)),
                    end,
                    limit,
                    rows_left: most_rows,
                    asker,
                };
                let mut positions = Vec::new();
                for one in look_ups {
                    positions.extend(asked.look_up(one)?);
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

/// What is asked of each index: the first positions of a tenant's resources in a part of the list.
struct Asked<'a> {
    connection: &'a Connection,
    tenant: i64,
    /// Positions behind this one,
    begin: i64,
    /// up to this one,
    end: i64,
    /// so many.
    limit: usize,
    /// How many more rows of indexes may be read.
    rows_left: u32,
    asker: &'a Asker,
}

impl Asked<'_> {
    /// The first positions that one index names, in order, each once.
    fn look_up(&mut self, narrowing: &Narrowing) -> Result<Vec<i64>, StoreError> {
        let Self {
            connection,
            tenant,
            begin,
            end,
            ..
        } = *self;
        let limit = i64::try_from(self.limit).unwrap_or(i64::MAX);
        let (sql, key): (&str, &dyn ToSql) = match narrowing {
            Narrowing::Id(id) => {
                let position = first(
                    connection,
                    "SELECT position FROM resource WHERE tenant = ?1 AND id = ?2",
                    (tenant, id.as_bytes()),
                    |row| Ok(row.get::<_, i64>(0)?),
                )?;
                return Ok(position
                    .filter(|position| *position > begin && *position <= end)
                    .into_iter()
                    .collect());
            }
            Narrowing::Text(TextIndex::Attribute(attribute), TextTest::Is(key)) => {
                return all(
                    connection,
                    IS_ATTRIBUTE,
                    (tenant, key, begin, end, limit, attribute),
                    |row| Ok(row.get(0)?),
                );
            }
            Narrowing::Text(TextIndex::UserName, TextTest::Is(key)) => (IS_USER_NAME, key),
            Narrowing::Text(TextIndex::ExternalId, TextTest::Is(key)) => (IS_EXTERNAL_ID, key),
            Narrowing::Text(TextIndex::DisplayName, TextTest::Is(key)) => (IS_DISPLAY_NAME, key),
            Narrowing::Text(index, test) => return self.scan(index, test),
            Narrowing::MemberOf(group) => (MEMBER_OF, group.as_bytes()),
            Narrowing::HasMember(member) => (HAS_MEMBER, member.as_bytes()),
            Narrowing::Everything | Narrowing::Nothing | Narrowing::AnyOf(_) => {
                return Err(StoreError::Corrupt("a narrowing was not planned"));
            }
        };
        all(connection, sql, (tenant, key, begin, end, limit), |row| {
            Ok(row.get(0)?)
        })
    }

    /// The first positions whose keys pass a test that takes looking at many of them.
    fn scan(&mut self, index: &TextIndex, test: &TextTest) -> Result<Vec<i64>, StoreError> {
        let Some((from, to)) = key_range(test) else {
            return Ok(Vec::new());
        };
        // A text is less than every blob, so an empty blob is the end of all texts.
        let to = to
            .as_ref()
            .map_or(ValueRef::Blob(&[]), |to| ValueRef::Text(to.as_bytes()));
        let to = rusqlite::types::ToSqlOutput::Borrowed(to);
        let name = match index {
            TextIndex::Attribute(name) => Some(name),
            TextIndex::UserName | TextIndex::ExternalId | TextIndex::DisplayName => None,
        };
        let parameters: [&dyn ToSql; 4] = [&self.tenant, &from, &to, &name];
        let parameters = parameters.get(..if name.is_some() { 4 } else { 3 });
        let mut statement = self.connection.prepare_cached(range_sql(index))?;
        let mut rows = statement.query(parameters.unwrap_or_default())?;
        let mut first = BTreeSet::new();
        while let Some(row) = rows.next()? {
            self.rows_left = self
                .rows_left
                .checked_sub(1)
                .ok_or(StoreError::OverBudget)?;
            if self.rows_left.is_multiple_of(ROWS_BETWEEN_CHECKS) && self.asker.strong_count() == 0
            {
                return Err(given_up());
            }
            let position: i64 = row.get(1)?;
            if position <= self.begin || position > self.end {
                continue;
            }
            let passes = match test {
                TextTest::Contains(part) => text(row.get_ref(0)?)?.contains(part.as_str()),
                TextTest::EndsWith(end) => text(row.get_ref(0)?)?.ends_with(end.as_str()),
                // The range holds nothing else.
                TextTest::Is(_)
                | TextTest::StartsWith(_)
                | TextTest::Range { .. }
                | TextTest::Present => true,
            };
            if !passes {
                continue;
            }
            if first.len() < self.limit {
                first.insert(position);
            } else if first.last().is_some_and(|last| position < *last) && first.insert(position) {
                first.pop_last();
            }
        }
        Ok(first.into_iter().collect())
    }
}

fn text(value: ValueRef<'_>) -> Result<&str, StoreError> {
    value
        .as_str()
        .map_err(|_| StoreError::Corrupt("an index with a key that is no text"))
}

const IS_USER_NAME: &str = "SELECT position FROM resource INDEXED BY resource_user_name
     WHERE tenant = ?1 AND user_name = ?2
        AND position > ?3 AND position <= ?4 ORDER BY position LIMIT ?5";

const IS_EXTERNAL_ID: &str = "SELECT position FROM resource INDEXED BY resource_external_id
     WHERE tenant = ?1 AND external_id = ?2
        AND position > ?3 AND position <= ?4 ORDER BY position LIMIT ?5";

const IS_DISPLAY_NAME: &str = "SELECT position FROM resource INDEXED BY resource_display_name
     WHERE tenant = ?1 AND display_name = ?2 AND kind = 1
        AND position > ?3 AND position <= ?4 ORDER BY position LIMIT ?5";

const IS_ATTRIBUTE: &str = "SELECT position FROM attribute_index
     WHERE tenant = ?1 AND attribute = ?6 AND value = ?2
        AND position > ?3 AND position <= ?4 ORDER BY position LIMIT ?5";

const MEMBER_OF: &str = "SELECT m.member_position
     FROM resource g JOIN member m ON m.group_position = g.position
     WHERE g.tenant = ?1 AND g.id = ?2
        AND m.member_position > ?3 AND m.member_position <= ?4
     ORDER BY m.member_position LIMIT ?5";

const HAS_MEMBER: &str = "SELECT m.group_position
     FROM resource r JOIN member m ON m.member_position = r.position
     WHERE r.tenant = ?1 AND r.id = ?2
        AND m.group_position > ?3 AND m.group_position <= ?4
     ORDER BY m.group_position LIMIT ?5";

/// Reads an index from a key (2) up to another (3): keys and positions, in the order of keys.
fn range_sql(index: &TextIndex) -> &'static str {
    match index {
        TextIndex::UserName => {
            "SELECT user_name, position FROM resource INDEXED BY resource_user_name
             WHERE tenant = ?1 AND user_name >= ?2 AND user_name < ?3"
        }
        TextIndex::ExternalId => {
            "SELECT external_id, position FROM resource INDEXED BY resource_external_id
             WHERE tenant = ?1 AND external_id >= ?2 AND external_id < ?3"
        }
        TextIndex::DisplayName => {
            "SELECT display_name, position FROM resource INDEXED BY resource_display_name
             WHERE tenant = ?1 AND display_name >= ?2 AND display_name < ?3 AND kind = 1"
        }
        TextIndex::Attribute(_) => {
            "SELECT value, position FROM attribute_index
             WHERE tenant = ?1 AND attribute = ?4 AND value >= ?2 AND value < ?3"
        }
    }
}

/// The keys among which all are that pass a test: from the first, up to and without the second.
/// `None` where there are none.
fn key_range(test: &TextTest) -> Option<(String, Option<String>)> {
    // Nothing lies between a text and the same with a NUL behind it.
    let behind = |key: &String| format!("{key}\0");
    let (from, to) = match test {
        TextTest::Is(key) => (key.clone(), Some(behind(key))),
        TextTest::StartsWith(prefix) => (prefix.clone(), prefix_end(prefix)),
        TextTest::Range { from, to } => {
            let from = match from {
                Bound::Unbounded => String::new(),
                Bound::Included(key) => key.clone(),
                Bound::Excluded(key) => behind(key),
            };
            let to = match to {
                Bound::Unbounded => None,
                Bound::Included(key) => Some(behind(key)),
                Bound::Excluded(key) => Some(key.clone()),
            };
            (from, to)
        }
        TextTest::Present | TextTest::Contains(_) | TextTest::EndsWith(_) => (String::new(), None),
    };
    let is_empty = to.as_ref().is_some_and(|to| *to <= from);
    (!is_empty).then_some((from, to))
}

/// Every statement that asks an index, with what its plan has to say.
#[cfg(test)]
pub(super) fn look_ups() -> Vec<(&'static str, &'static str)> {
    let attribute = TextIndex::Attribute(String::new());
    vec![
        (
            IS_USER_NAME,
            "COVERING INDEX resource_user_name (tenant=? AND user_name=?",
        ),
        (
            IS_EXTERNAL_ID,
            "COVERING INDEX resource_external_id (tenant=? AND external_id=? AND rowid>? AND rowid<?)",
        ),
        (
            IS_DISPLAY_NAME,
            "COVERING INDEX resource_display_name (tenant=? AND display_name=?",
        ),
        (
            IS_ATTRIBUTE,
            "PRIMARY KEY (tenant=? AND attribute=? AND value=? AND position>? AND position<?)",
        ),
        (
            MEMBER_OF,
            "PRIMARY KEY (group_position=? AND member_position>? AND member_position<?)",
        ),
        (
            HAS_MEMBER,
            "COVERING INDEX member_of (member_position=? AND group_position>? AND group_position<?)",
        ),
        (
            range_sql(&TextIndex::UserName),
            "COVERING INDEX resource_user_name (tenant=? AND user_name>? AND user_name<?)",
        ),
        (
            range_sql(&TextIndex::ExternalId),
            "COVERING INDEX resource_external_id (tenant=? AND external_id>? AND external_id<?)",
        ),
        (
            range_sql(&TextIndex::DisplayName),
            "COVERING INDEX resource_display_name (tenant=? AND display_name>? AND display_name<?)",
        ),
        (
            range_sql(&attribute),
            "PRIMARY KEY (tenant=? AND attribute=? AND value>? AND value<?)",
        ),
    ]
}
