//! Reads of single resources and of pages of them, and the calls that write them. Every read is
//! one statement, and so one snapshot, that checks the access as well.

use shared::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::connection::{Connections, Parameters};
use super::key;
use super::tenants::{held, with_head};
use super::writer::{Call, Function, LARGE, kind_column, resource_id, uuid};
use crate::scim::{ResourceId, ResourceKind, Version};
use crate::store::position::of_kind;
use crate::store::{
    Access, Content, KeyOrigin, Keys, MemberChange, Page, PageStart, Position, StoreError, Stored,
    WriteContext,
};

/// Columns of a resource, as [`read`] takes them.
macro_rules! resource_columns {
    () => {
        "r.position, r.id, r.version, r.created, r.modified, r.document"
    };
}
pub(super) use resource_columns;

/// Column that tells whether `r` is a member of a group. A sub-select of one row and no `EXISTS`,
/// which the planner may answer from a hash of all memberships.
macro_rules! may_be_member {
    () => {
        ", (SELECT true FROM member m WHERE m.member_position = r.position LIMIT 1) IS NOT NULL
            AS may_be_member"
    };
}
pub(super) use may_be_member;

/// Reads `resource_columns` and `may_be_member`; nothing where an outer join found no resource.
pub(super) fn read(row: &Row) -> Result<Option<Stored>, StoreError> {
    let Some(position) = row.try_get("position")? else {
        return Ok(None);
    };
    Ok(Some(Stored {
        position: Position(position),
        id: resource_id(row.try_get("id")?),
        version: Version(row.try_get("version")?),
        created: Timestamp(row.try_get("created")?),
        modified: Timestamp(row.try_get("modified")?),
        document: row.try_get("document")?,
        may_be_member: row.try_get("may_be_member")?,
    }))
}

/// The first three parameters of every statement on an access.
pub(super) struct Holder<'a> {
    pub(super) tenant: i64,
    pub(super) id: &'a str,
    pub(super) credential_version: i64,
}

impl<'a> Holder<'a> {
    pub(super) fn of(access: &'a Access, tenant: i64) -> Self {
        Self {
            tenant,
            id: access.tenant.as_str(),
            credential_version: access.credential_version,
        }
    }

    /// Rows of a statement that checks the access itself and whose first three parameters are the
    /// access; the others are given. A statement gives at least one row, unless the access is
    /// over.
    pub(super) async fn query(
        &self,
        connections: &Connections,
        sql: &str,
        others: Parameters<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        let parameters = self.before(others);
        let rows = connections.query_scoped(self.tenant, sql, &parameters);
        held_rows(rows.await?)
    }

    /// The same for a statement that is made for this one time.
    pub(super) async fn query_once(
        &self,
        connections: &Connections,
        sql: &str,
        others: Parameters<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        let parameters = self.before(others);
        let rows = connections.query_scoped_once(self.tenant, sql, &parameters);
        held_rows(rows.await?)
    }

    fn before<'p>(&'p self, others: &[&'p (dyn ToSql + Sync)]) -> Vec<&'p (dyn ToSql + Sync)> {
        let mut parameters: Vec<&(dyn ToSql + Sync)> = Vec::with_capacity(3 + others.len());
        parameters.extend([&self.tenant as &(dyn ToSql + Sync), &self.id]);
        parameters.push(&self.credential_version);
        parameters.extend(others);
        parameters
    }
}

fn held_rows(rows: Vec<Row>) -> Result<Vec<Row>, StoreError> {
    if rows.is_empty() {
        Err(StoreError::Refused)
    } else {
        Ok(rows)
    }
}

pub(super) async fn get(
    connections: &Connections,
    access: Holder<'_>,
    kind: ResourceKind,
    id: ResourceId,
) -> Result<Option<Stored>, StoreError> {
    let sql = concat!(
        "SELECT ",
        resource_columns!(),
        may_be_member!(),
        " FROM tenant t LEFT JOIN resource r ON r.tenant = $1 AND r.id = $4 AND r.kind = $5
          WHERE ",
        held!()
    );
    let rows = access
        .query(connections, sql, &[&uuid(id), &kind_column(kind)])
        .await?;
    read(rows.first().ok_or(StoreError::Refused)?)
}

/// One page of a list.
pub(super) async fn page(
    connections: &Connections,
    access: Holder<'_>,
    kind: ResourceKind,
    start: PageStart,
    limit: u32,
) -> Result<Page, StoreError> {
    // Counting past the end would read the whole list to find nothing.
    let sql = concat!(
        "SELECT CASE WHEN $8::smallint = 0 THEN h.users ELSE h.groups END AS total, ",
        resource_columns!(),
        may_be_member!(),
        " FROM tenant t ",
        with_head!(),
        "LEFT JOIN LATERAL (
              SELECT ",
        resource_columns!(),
        " FROM resource r
               WHERE r.tenant = $1 AND r.position > $4 AND r.position <= $5
                 AND $7 < CASE WHEN $8::smallint = 0 THEN h.users ELSE h.groups END
               ORDER BY r.position LIMIT $6 OFFSET $7) r ON true
          WHERE ",
        held!(),
        " ORDER BY r.position"
    );
    let (begin, end) = of_kind(access.tenant, kind);
    let (begin, offset) = match start {
        PageStart::Behind(position) => (begin.max(position.0), 0),
        PageStart::Offset(offset) => (begin, i64::try_from(offset).unwrap_or(i64::MAX)),
    };
    let (limit, kind) = (i64::from(limit), kind_column(kind));
    let rows = access
        .query(connections, sql, &[&begin, &end, &limit, &offset, &kind])
        .await?;
    let first = rows.first().ok_or(StoreError::Refused)?;
    Ok(Page {
        total: first.try_get("total")?,
        resources: stored(&rows)?,
    })
}

/// The resources of rows, less those in which there is none.
pub(super) fn stored(rows: &[Row]) -> Result<Vec<Stored>, StoreError> {
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        found.extend(read(row)?);
    }
    Ok(found)
}

/// Stands for a number of rows that may be large.
const UNKNOWN: usize = LARGE + 1;

type Owned = Box<dyn ToSql + Sync + Send>;

/// The parameters with which every write begins: whose, under what, when, by which request.
fn beginning(access: &Access, tenant: i64, write: &WriteContext) -> Vec<Owned> {
    let request = write.request;
    vec![
        Box::new(tenant),
        Box::new(access.tenant.as_str().to_owned()),
        Box::new(access.credential_version),
        Box::new(write.now.as_millis()),
        Box::new(request.map(|key| origin_column(key.origin))),
        Box::new(request.map(|key| key.key.to_vec())),
        Box::new(request.and_then(|key| key.fingerprint).map(|f| f.to_vec())),
    ]
}

/// Those with which it ends: who asks, and in which request.
fn push_author(parameters: &mut Vec<Owned>, write: &WriteContext) {
    parameters.push(Box::new(write.by.actor.clone()));
    parameters.push(Box::new(write.by.request.clone()));
}

/// The number of an origin as PostgreSQL keeps it.
pub(super) fn origin_column(origin: KeyOrigin) -> i16 {
    match origin {
        KeyOrigin::Gateway => 0,
        KeyOrigin::Client => 1,
    }
}

pub(super) fn create(
    access: &Access,
    tenant: i64,
    kind: ResourceKind,
    id: ResourceId,
    content: &Content,
    write: &WriteContext,
) -> Result<Call, StoreError> {
    let mut parameters = beginning(access, tenant, write);
    parameters.push(Box::new(kind_column(kind)));
    parameters.push(Box::new(uuid(id)));
    push_keys(&mut parameters, &content.keys)?;
    parameters.push(Box::new(content.document.clone()));
    push_members(&mut parameters, &content.members);
    push_author(&mut parameters, write);
    Ok(Call {
        tenant,
        function: Function::Create,
        parameters,
        rows: members(&content.members),
    })
}

pub(super) fn replace(
    access: &Access,
    tenant: i64,
    kind: ResourceKind,
    id: ResourceId,
    expected: Version,
    content: &Content,
    write: &WriteContext,
) -> Result<Call, StoreError> {
    let mut parameters = beginning(access, tenant, write);
    parameters.push(Box::new(kind_column(kind)));
    parameters.push(Box::new(uuid(id)));
    parameters.push(Box::new(expected.0));
    push_keys(&mut parameters, &content.keys)?;
    parameters.push(Box::new(content.document.clone()));
    parameters.push(Box::new(json(&content.changed)?));
    push_members(&mut parameters, &content.members);
    push_author(&mut parameters, write);
    Ok(Call {
        tenant,
        function: Function::Replace,
        parameters,
        rows: members(&content.members),
    })
}

pub(super) fn delete(
    access: &Access,
    tenant: i64,
    kind: ResourceKind,
    id: ResourceId,
    expected: Option<Version>,
    write: &WriteContext,
) -> Call {
    let mut parameters = beginning(access, tenant, write);
    parameters.push(Box::new(kind_column(kind)));
    parameters.push(Box::new(uuid(id)));
    parameters.push(Box::new(expected.map(|version| version.0)));
    push_author(&mut parameters, write);
    Call {
        tenant,
        function: Function::Delete,
        parameters,
        rows: match kind {
            ResourceKind::User => 0,
            // Nobody knows how many members it has.
            ResourceKind::Group => UNKNOWN,
        },
    }
}

pub(super) fn change_members(
    access: &Access,
    tenant: i64,
    group: ResourceId,
    expected: Option<Version>,
    changes: &[MemberChange],
    write: &WriteContext,
) -> Call {
    let mut parameters = beginning(access, tenant, write);
    parameters.push(Box::new(uuid(group)));
    parameters.push(Box::new(expected.map(|version| version.0)));
    push_members(&mut parameters, changes);
    push_author(&mut parameters, write);
    Call {
        tenant,
        function: Function::ChangeMembers,
        parameters,
        rows: members(changes),
    }
}

/// What a resource is found by: `active`, the four keys, and the rows of the index.
fn push_keys(parameters: &mut Vec<Owned>, keys: &Keys) -> Result<(), StoreError> {
    let text = |key: &Option<String>| -> Owned {
        Box::new(key.as_deref().map(|key| key::stored(key).into_owned()))
    };
    parameters.push(Box::new(keys.active));
    parameters.push(text(&keys.user_name));
    parameters.push(text(&keys.user_name_look_alike));
    parameters.push(text(&keys.external_id));
    parameters.push(text(&keys.display_name));
    let rows = index_rows(keys);
    let attributes = index_json(&rows)?;
    let (names, values): (Vec<String>, Vec<String>) = rows.into_iter().unzip();
    parameters.push(Box::new(names));
    parameters.push(Box::new(values));
    parameters.push(Box::new(attributes));
    Ok(())
}

/// The rows of the index over multi-valued attributes, as they are stored.
pub(super) fn index_rows(keys: &Keys) -> Vec<(String, String)> {
    keys.index_rows()
        .map(|(name, value)| (name.to_owned(), key::stored(value).into_owned()))
        .collect()
}

/// The same as JSON; none: nothing.
pub(super) fn index_json(rows: &[(String, String)]) -> Result<Option<String>, StoreError> {
    (!rows.is_empty()).then(|| json(&rows)).transpose()
}

/// Columns of what a resource is found by, as [`read_keys`] takes them.
macro_rules! key_columns {
    () => {
        "r.active, r.user_name, r.external_id, r.display_name, r.attributes"
    };
}
pub(super) use key_columns;

/// Reads `key_columns`. Long keys come as they are stored.
pub(super) fn read_keys(row: &Row) -> Result<Keys, StoreError> {
    let mut keys = Keys {
        active: row.try_get("active")?,
        user_name: row.try_get("user_name")?,
        user_name_look_alike: None,
        external_id: row.try_get("external_id")?,
        display_name: row.try_get("display_name")?,
        attributes: Vec::new(),
    };
    if let Some(attributes) = row.try_get::<_, Option<&str>>("attributes")? {
        let attributes: Vec<(String, String)> = serde_json::from_str(attributes)
            .map_err(|_| StoreError::Corrupt("a resource with unreadable keys"))?;
        keys.take_index_rows(attributes);
    }
    Ok(keys)
}

pub(super) fn json<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|_| StoreError::Corrupt("keys that cannot be written as JSON"))
}

/// What happens to a group's members: the changes, how many ids each has, and the ids.
fn push_members(parameters: &mut Vec<Owned>, changes: &[MemberChange]) {
    if changes.is_empty() {
        parameters.push(Box::new(None::<Vec<&str>>));
        parameters.push(Box::new(None::<Vec<i32>>));
        parameters.push(Box::new(None::<Vec<uuid::Uuid>>));
        return;
    }
    let (mut names, mut counts, mut all) = (Vec::new(), Vec::new(), Vec::new());
    for change in changes {
        let (name, ids) = match change {
            MemberChange::Add(ids) => ("add", ids),
            MemberChange::Remove(ids) => ("remove", ids),
            MemberChange::Replace(ids) => ("replace", ids),
        };
        names.push(name);
        counts.push(i32::try_from(ids.len()).unwrap_or(i32::MAX));
        all.extend(ids.iter().copied().map(uuid));
    }
    parameters.push(Box::new(names));
    parameters.push(Box::new(counts));
    parameters.push(Box::new(all));
}

/// About how many rows a change of members touches.
fn members(changes: &[MemberChange]) -> usize {
    let ids = changes.iter().map(|change| match change {
        MemberChange::Add(ids) | MemberChange::Remove(ids) => ids.len(),
        // Nobody knows how many go.
        MemberChange::Replace(_) => UNKNOWN,
    });
    ids.sum()
}
