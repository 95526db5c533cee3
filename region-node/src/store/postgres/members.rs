//! Reads of memberships.

use super::connection::Connections;
use super::resources::{Holder, read, resource_columns};
use super::tenants::{held, with_head};
use super::writer::resource_id;
use crate::store::position::kind_of;
use crate::store::{Memberships, Position, Related, StoreError};

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

/// The groups of which the resources are direct members. A group is read once, however many of
/// them it has.
pub(super) async fn groups_of(
    connections: &Connections,
    access: Holder<'_>,
    members: &[Position],
) -> Result<Memberships, StoreError> {
    let sql = concat!(
        "SELECT y.* FROM tenant t ",
        with_head!(),
        "LEFT JOIN LATERAL (
             SELECT g.numbers, ",
        resource_columns!(),
        ", true AS may_be_member
               FROM (SELECT m.group_position, array_agg(u.n ORDER BY u.n) AS numbers
                       FROM unnest($4::bigint[]) WITH ORDINALITY AS u(position, n)
                       JOIN member m ON m.member_position = u.position
                      WHERE h.groups > 0
                      GROUP BY m.group_position) g
               JOIN resource r ON r.position = g.group_position AND r.tenant = $1) y ON true
          WHERE ",
        held!(),
        " ORDER BY y.position"
    );
    let rows = access.query(connections, sql, &[&numbers(members)]).await?;
    let mut found = Memberships::none(members.len());
    for row in &rows {
        if let Some(group) = read(row)? {
            let numbers: Vec<i64> = row.try_get("numbers")?;
            let numbers = numbers.into_iter().filter_map(place);
            found.push(group, numbers);
        }
    }
    Ok(found)
}

fn numbers(positions: &[Position]) -> Vec<i64> {
    positions.iter().map(|position| position.0).collect()
}

/// Where something stands whose number counts from one.
fn place(number: i64) -> Option<usize> {
    usize::try_from(number).ok()?.checked_sub(1)
}

/// The list of a row's resource, which counts from one in the column `n`.
fn list_of<'l, T>(
    lists: &'l mut [Vec<T>],
    row: &tokio_postgres::Row,
) -> Result<&'l mut Vec<T>, StoreError> {
    let number: i64 = row.try_get("n")?;
    place(number)
        .and_then(|at| lists.get_mut(at))
        .ok_or(StoreError::Corrupt("a row of nobody's"))
}
