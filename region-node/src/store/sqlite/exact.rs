//! The look-up that clients make most, by one exact text: one statement, and so one snapshot, checks
//! the access, asks the index and reads the resources. Everything else is planned in `candidates`.

use rusqlite::Connection;

use super::connection::all;
use super::resources::{read, resource_columns};
use crate::scim::ResourceKind;
use crate::store::position::kind_number;
use crate::store::{Access, Candidates, Narrowing, Position, StoreError, TextIndex, TextTest};

/// A look-up of this kind.
pub(super) struct Exact<'n> {
    index: &'n TextIndex,
    key: &'n str,
}

/// The columns of what is joined to the tenant, if the access holds, in an order; one row of nulls
/// if there is none.
macro_rules! held {
    ($join:expr, $order:expr) => {
        concat!(
            "SELECT ",
            resource_columns!("t.groups > 0"),
            " FROM tenant t ",
            $join,
            " WHERE t.id = ?1 AND t.state = 'active' AND t.credential_version = ?2 ORDER BY ",
            $order,
            " LIMIT ?6"
        )
    };
}

impl<'n> Exact<'n> {
    /// The look-up, if the narrowing is one. Users are not indexed by displayName.
    pub(super) fn of(kind: ResourceKind, narrowing: &'n Narrowing) -> Option<Self> {
        match narrowing {
            Narrowing::Text(TextIndex::DisplayName, _) if kind == ResourceKind::User => None,
            Narrowing::Text(index, TextTest::Is(key)) => Some(Self { index, key }),
            _ => None,
        }
    }

    /// Up to `limit` candidates behind `after`.
    pub(super) fn run(
        &self,
        connection: &Connection,
        access: &Access,
        kind: ResourceKind,
        after: Option<Position>,
        limit: u32,
    ) -> Result<Candidates, StoreError> {
        let (tenant, version) = (access.tenant.as_str(), access.credential_version);
        let (kind, after) = (kind_number(kind), after.map_or(-1, |after| after.0));
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        // One more than wanted tells whether there is anything behind the last one.
        let limit = i64::from(limit) + 1;
        let read = |row: &rusqlite::Row<'_>| match row.get_ref(0)? {
            rusqlite::types::ValueRef::Null => Ok(None),
            _ => read(row, 0).map(Some),
        };
        let found = match self.index {
            TextIndex::UserName => all(
                connection,
                held!(
                    "LEFT JOIN resource r ON r.tenant = t.tenant AND r.user_name = ?3
                        AND r.kind = ?4 AND r.position > ?5",
                    "r.position"
                ),
                (tenant, version, self.key, kind, after, limit),
                read,
            ),
            TextIndex::ExternalId => all(
                connection,
                held!(
                    "LEFT JOIN resource r ON r.tenant = t.tenant AND r.external_id = ?3
                        AND r.kind = ?4 AND r.position > ?5",
                    "r.position"
                ),
                (tenant, version, self.key, kind, after, limit),
                read,
            ),
            TextIndex::DisplayName => all(
                connection,
                held!(
                    "LEFT JOIN resource r ON r.tenant = t.tenant AND r.display_name = ?3
                        AND r.kind = 1 AND r.kind = ?4 AND r.position > ?5",
                    "r.position"
                ),
                (tenant, version, self.key, kind, after, limit),
                read,
            ),
            // The kind is a part of the position, 39 bits from its end.
            TextIndex::Attribute(attribute) => all(
                connection,
                held!(
                    "LEFT JOIN attribute_index a ON a.tenant = t.tenant AND a.attribute = ?7
                        AND a.value = ?3 AND a.position > ?5 AND (a.position >> 39) & 3 = ?4
                     LEFT JOIN resource r ON r.position = a.position",
                    "a.position"
                ),
                (tenant, version, self.key, kind, after, limit, attribute),
                read,
            ),
        }?;
        if found.is_empty() {
            return Err(StoreError::Refused);
        }
        let mut resources: Vec<_> = found.into_iter().flatten().collect();
        let complete = resources.len() <= wanted;
        resources.truncate(wanted);
        Ok(Candidates {
            resources,
            complete,
        })
    }
}
