//! From a narrowing to the candidates that its indexes name, in list order. One statement does
//! the look-ups, checks the access and reads the resources.

use std::fmt::Write as _;
use std::ops::Bound;

use tokio_postgres::types::ToSql;

use super::connection::Connections;
use super::key;
use super::resources::{Holder, may_be_member, resource_columns, stored};
use super::tenants::{held, with_head};
use super::writer::uuid;
use crate::scim::ResourceKind;
use crate::store::narrowing::{MOST_INDEX_ROWS, prefix_end};
use crate::store::position::of_kind;
use crate::store::{Candidates, Narrowing, Position, StoreError, TextIndex, TextTest};

/// Look-ups that one statement makes at the most: with more, a walk is as good.
const MOST_LOOK_UPS: usize = 200;

/// Up to `limit` candidates behind `after`.
pub(super) async fn find(
    connections: &Connections,
    access: Holder<'_>,
    kind: ResourceKind,
    narrowing: &Narrowing,
    after: Option<Position>,
    limit: u32,
) -> Result<Candidates, StoreError> {
    let (begin, end) = of_kind(access.tenant, kind);
    let begin = after.map_or(begin, |after| after.0.max(begin));
    // One more than wanted tells whether there is anything behind the last one.
    let one_more = i64::from(limit) + 1;
    let mut statement = Statement::new();
    for parameter in [&begin, &end, &one_more] {
        statement.bind(*parameter);
    }
    // One look-up has one of a few forms; several can be combined in very many ways.
    let mut is_usual = true;
    let look_ups = narrowing
        .look_ups(kind)
        .filter(|look_ups| look_ups.len() <= MOST_LOOK_UPS);
    let is_bounded = !look_ups.iter().flatten().any(|one| reads_an_index(one));
    // A tenant with more is refused, before its index is read.
    statement.bind(if is_bounded {
        i64::MAX
    } else {
        i64::from(MOST_INDEX_ROWS)
    });
    let positions = match look_ups {
        None => "SELECT r.position FROM resource r
              WHERE r.tenant = $1 AND r.position > $4 AND r.position <= $5
              ORDER BY r.position LIMIT $6"
            .to_owned(),
        Some(look_ups) => {
            let parts: Vec<String> = look_ups
                .into_iter()
                .filter_map(|one| statement.look_up(one))
                .collect();
            match parts.len() {
                // The access is checked all the same; every parameter has to be of some type.
                0 => "SELECT r.position FROM resource r
                       WHERE false AND r.position > $4 AND r.position <= $5 LIMIT $6"
                    .to_owned(),
                1 => parts.concat(),
                // A resource that several find is found once.
                _ => {
                    is_usual = false;
                    format!(
                        "SELECT u.position FROM (({})) u ORDER BY u.position LIMIT $6",
                        parts.join(") UNION (")
                    )
                }
            }
        }
    };
    let sql = format!(
        concat!(
            "SELECT h.users + h.groups <= $7 AS within_budget, ",
            resource_columns!(),
            may_be_member!(),
            " FROM tenant t ",
            with_head!(),
            "LEFT JOIN LATERAL (
                  SELECT ",
            resource_columns!(),
            " FROM ({}) p JOIN resource r ON r.position = p.position AND r.tenant = $1
                   WHERE h.users + h.groups <= $7) r ON true
              WHERE ",
            held!(),
            " ORDER BY r.position"
        ),
        positions
    );
    let parameters: Vec<&(dyn ToSql + Sync)> = statement
        .parameters
        .iter()
        .map(|p| &**p as &(dyn ToSql + Sync))
        .collect();
    let rows = if is_usual {
        access.query(connections, &sql, &parameters).await?
    } else {
        access.query_once(connections, &sql, &parameters).await?
    };
    let is_within_budget = rows.first().map(|row| row.try_get("within_budget"));
    if !is_within_budget.transpose()?.unwrap_or(true) {
        return Err(StoreError::OverBudget);
    }
    let mut resources = stored(&rows)?;
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let complete = resources.len() <= wanted;
    resources.truncate(wanted);
    Ok(Candidates {
        resources,
        complete,
    })
}

/// A statement in the making: its parameters from the fourth on. The first three are the access,
/// the next ones where to begin, where to end, how many, and the most rows a tenant may have.
struct Statement {
    parameters: Vec<Box<dyn ToSql + Sync + Send>>,
}

impl Statement {
    fn new() -> Self {
        Self {
            parameters: Vec::new(),
        }
    }

    /// Takes a parameter in; answers its name in the statement.
    fn bind(&mut self, value: impl ToSql + Sync + Send + 'static) -> String {
        self.parameters.push(Box::new(value));
        format!("${}", self.parameters.len() + 3)
    }

    /// The statement of one look-up, which gives positions in order.
    fn look_up(&mut self, narrowing: &Narrowing) -> Option<String> {
        match narrowing {
            Narrowing::Id(id) => {
                let id = self.bind(uuid(*id));
                Some(format!(
                    "SELECT r.position FROM resource r WHERE r.tenant = $1 AND r.id = {id}
                        AND r.position > $4 AND r.position <= $5 LIMIT $6"
                ))
            }
            Narrowing::Text(index, test) => Some(self.text(index, test)),
            Narrowing::MemberOf(group) => {
                let group = self.bind(uuid(*group));
                Some(format!(
                    "SELECT m.member_position AS position FROM member m
                      WHERE m.group_position = (SELECT g.position FROM resource g
                                                 WHERE g.tenant = $1 AND g.id = {group})
                        AND m.member_position > $4 AND m.member_position <= $5
                      ORDER BY m.member_position LIMIT $6"
                ))
            }
            Narrowing::HasMember(member) => {
                let member = self.bind(uuid(*member));
                Some(format!(
                    "SELECT m.group_position AS position FROM member m
                      WHERE m.member_position = (SELECT g.position FROM resource g
                                                  WHERE g.tenant = $1 AND g.id = {member})
                        AND m.group_position > $4 AND m.group_position <= $5
                      ORDER BY m.group_position LIMIT $6"
                ))
            }
            Narrowing::Everything | Narrowing::Nothing | Narrowing::AnyOf(_) => None,
        }
    }

    fn text(&mut self, index: &TextIndex, test: &TextTest) -> String {
        let (table, column) = match index {
            TextIndex::UserName => ("resource r WHERE true", "r.user_name"),
            TextIndex::ExternalId => ("resource r WHERE true", "r.external_id"),
            TextIndex::DisplayName => ("resource r WHERE r.kind = 1", "r.display_name"),
            TextIndex::Attribute(_) => ("attribute_index r WHERE true", "r.value"),
        };
        // An attribute can have several values that pass.
        let distinct = match index {
            TextIndex::Attribute(_) => "DISTINCT ",
            TextIndex::UserName | TextIndex::ExternalId | TextIndex::DisplayName => "",
        };
        // Where many keys are looked at, the list must not seem to be a way to them: without
        // knowing the values the planner takes a part of the list to be short, and reads all of
        // it (27 ms instead of 0.2 ms for a beginning that two of 100,000 users have).
        let position = match test {
            TextTest::Is(_) => "r.position",
            _ => "r.position + 0",
        };
        let mut sql = format!("SELECT {distinct}{position} AS position FROM {table}");
        if let TextIndex::Attribute(name) = index {
            let name = self.bind(name.clone());
            // Writing to a text does not fail.
            let _ = write!(sql, " AND r.attribute = {name}");
        }
        let condition = self.condition(column, test);
        let _ = write!(
            sql,
            " AND r.tenant = $1 AND {condition} AND {position} > $4 AND {position} <= $5
              ORDER BY 1 LIMIT $6"
        );
        sql
    }

    /// What a key must be like; of keys that were cut, more pass than need to.
    fn condition(&mut self, column: &str, test: &TextTest) -> String {
        let cut = format!("octet_length({column}) > {}", key::LONGEST);
        match test {
            TextTest::Is(text) => {
                let text = self.bind(key::stored(text).into_owned());
                format!("{column} = {text}")
            }
            TextTest::StartsWith(text) => {
                let beginning = key::beginning(text);
                let from = self.bind(beginning.to_owned());
                let mut condition = format!("{column} >= {from}");
                if let Some(end) = prefix_end(beginning) {
                    let to = self.bind(end);
                    let _ = write!(condition, " AND {column} < {to}");
                }
                condition
            }
            TextTest::Range { from, to } => self.range(column, from, to),
            TextTest::Present => format!("{column} IS NOT NULL"),
            TextTest::Contains(text) => {
                let text = self.bind(text.clone());
                format!("{column} IS NOT NULL AND (position({text} IN {column}) > 0 OR {cut})")
            }
            TextTest::EndsWith(text) => {
                let text = self.bind(text.clone());
                format!(
                    "{column} IS NOT NULL AND (right({column}, length({text})) = {text} OR {cut})"
                )
            }
        }
    }

    fn range(&mut self, column: &str, from: &Bound<String>, to: &Bound<String>) -> String {
        let mut condition = format!("{column} IS NOT NULL");
        if let Bound::Included(text) | Bound::Excluded(text) = from {
            // What was cut begins like the whole, so everything from its beginning on can fit.
            let beginning = key::beginning(text);
            let is_whole = beginning.len() == text.len();
            let operator = if is_whole && matches!(from, Bound::Excluded(_)) {
                ">"
            } else {
                ">="
            };
            let from = self.bind(beginning.to_owned());
            let _ = write!(condition, " AND {column} {operator} {from}");
        }
        if let Bound::Included(text) | Bound::Excluded(text) = to {
            let beginning = key::beginning(text);
            if beginning.len() == text.len() {
                let operator = if matches!(to, Bound::Excluded(_)) {
                    "<"
                } else {
                    "<="
                };
                let to = self.bind(text.clone());
                let _ = write!(condition, " AND {column} {operator} {to}");
            } else if let Some(end) = prefix_end(beginning) {
                let to = self.bind(end);
                let _ = write!(condition, " AND {column} < {to}");
            }
        }
        condition
    }
}

/// Whether a look-up reads a tenant's whole index.
fn reads_an_index(narrowing: &Narrowing) -> bool {
    matches!(
        narrowing,
        Narrowing::Text(_, TextTest::Contains(_) | TextTest::EndsWith(_))
    )
}

/// The statement of one look-up, and how many parameters it has with those of the access.
#[cfg(test)]
pub(super) fn one_look_up(narrowing: &Narrowing) -> (String, usize) {
    let mut statement = Statement::new();
    for number in [0_i64, 0, 0] {
        statement.bind(number);
    }
    let sql = statement.look_up(narrowing).unwrap_or_default();
    (sql, statement.parameters.len() + 3)
}
