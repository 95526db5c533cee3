//! Reads of memberships.

use super::connection::Connections;
use super::resources::{Holder, read, resource_columns};
use super::tenants::{held, with_head};
use super::writer::resource_id;
use crate::store::position::kind_of;
use crate::store::{Position, Related, StoreError, Stored};

/// The direct members of each of the groups; of each the first `most`.
pub(super) async fn of_groups(
    connections: &Connections,
    access: Holder<'_>,
    groups: &[Position],
    most: Option<u32>,
) -> Result<Vec<Vec<Related>>, StoreError> {
    let sql = concat!(
        "SELECT y.n, y.position, y.id FROM tenant t LEFT JOIN LATERAL (
             SELECT u.n, x.position, x.id
               FROM unnest($4::bigint[]) WITH ORDINALITY AS u(position, n)
              CROSS JOIN LATERAL (
                    SELECT r.position, r.id
                      FROM member m JOIN resource r
                        ON r.position = m.member_position AND r.tenant = $1
                     WHERE m.group_position = u.position
                     ORDER BY m.member_position LIMIT $5) x) y ON true
          WHERE ",
        held!(),
        " ORDER BY y.n, y.position"
    );
    let most = most.map(i64::from);
    let rows = access
        .query(connections, sql, &[&numbers(groups), &most])
        .await?;
    let mut found = vec![Vec::new(); groups.len()];
    for row in &rows {
        let Some(position) = row.try_get("position")? else {
            continue;
        };
        let members = list_of(&mut found, row)?;
        members.push(Related {
            id: resource_id(row.try_get("id")?),
            position: Position(position),
            kind: kind_of(position),
        });
    }
    Ok(found)
}

/// The groups of which each of the resources is a direct member.
pub(super) async fn groups_of(
    connections: &Connections,
    access: Holder<'_>,
    members: &[Position],
) -> Result<Vec<Vec<Stored>>, StoreError> {
    let sql = concat!(
        "SELECT y.* FROM tenant t ",
        with_head!(),
        "LEFT JOIN LATERAL (
             SELECT u.n, ",
        resource_columns!(),
        ", true AS may_be_member FROM unnest($4::bigint[]) WITH ORDINALITY AS u(position, n)
               JOIN member m ON m.member_position = u.position
               JOIN resource r ON r.position = m.group_position AND r.tenant = $1
              WHERE h.groups > 0) y ON true
          WHERE ",
        held!(),
        " ORDER BY y.n, y.position"
    );
    let rows = access.query(connections, sql, &[&numbers(members)]).await?;
    let mut found = vec![Vec::new(); members.len()];
    for row in &rows {
        if let Some(group) = read(row)? {
            list_of(&mut found, row)?.push(group);
        }
    }
    Ok(found)
}

fn numbers(positions: &[Position]) -> Vec<i64> {
    positions.iter().map(|position| position.0).collect()
}

/// The list of a row's resource, which counts from one in the column `n`.
fn list_of<'l, T>(
    lists: &'l mut [Vec<T>],
    row: &tokio_postgres::Row,
) -> Result<&'l mut Vec<T>, StoreError> {
    let number: i64 = row.try_get("n")?;
    let at = usize::try_from(number - 1).ok();
    at.and_then(|at| lists.get_mut(at))
        .ok_or(StoreError::Corrupt("a row of nobody's"))
}
