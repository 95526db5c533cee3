//! How a place in a tenant's list becomes a number, so that the table itself is the list's index.
//! Both engines number alike.

use crate::scim::ResourceKind;
use crate::store::StoreError;

const KIND_BITS: u32 = 2;
const SEQ_BITS: u32 = 39;

/// How many tenants a store can number over its life; keys are below it.
pub(in crate::store) const TENANT_KEYS: i64 = 1 << 22;

/// The number of a kind, in positions and in the column `kind`.
pub(in crate::store) fn kind_number(kind: ResourceKind) -> i64 {
    match kind {
        ResourceKind::User => 0,
        ResourceKind::Group => 1,
    }
}

/// What stands at a position.
pub(in crate::store) fn kind_of(position: i64) -> ResourceKind {
    let kind = (position >> SEQ_BITS) & ((1 << KIND_BITS) - 1);
    if kind == kind_number(ResourceKind::Group) {
        ResourceKind::Group
    } else {
        ResourceKind::User
    }
}

/// The number of the write that created what stands at a position.
pub(in crate::store) fn place(position: i64) -> i64 {
    position & ((1 << SEQ_BITS) - 1)
}

/// Whether a position is a tenant's.
pub(in crate::store) fn is_of(position: i64, tenant: i64) -> bool {
    position >> (KIND_BITS + SEQ_BITS) == tenant
}

/// The place of the resource that the tenant's write number `seq` creates.
pub(in crate::store) fn of_create(
    tenant: i64,
    kind: ResourceKind,
    seq: i64,
) -> Result<i64, StoreError> {
    let (begin, end) = of_kind(tenant, kind);
    match begin.checked_add(seq) {
        Some(position) if seq > 0 && position <= end => Ok(position),
        _ => Err(StoreError::Corrupt(
            "a tenant's writes have run out of numbers",
        )),
    }
}

/// The places of a tenant's resources of one kind: behind the first number, up to the second.
pub(in crate::store) fn of_kind(tenant: i64, kind: ResourceKind) -> (i64, i64) {
    let begin = (tenant << (KIND_BITS + SEQ_BITS)) | (kind_number(kind) << SEQ_BITS);
    (begin, begin | ((1 << SEQ_BITS) - 1))
}

/// The places of all of a tenant's resources, likewise.
pub(in crate::store) fn of_tenant(tenant: i64) -> (i64, i64) {
    let begin = tenant << (KIND_BITS + SEQ_BITS);
    (begin, begin | ((1 << (KIND_BITS + SEQ_BITS)) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ranges_of_tenants_and_kinds_do_not_touch() {
        let last = TENANT_KEYS - 1;
        let mut previous_end = -1;
        for tenant in [0, 1, 2, last - 1, last] {
            for kind in [ResourceKind::User, ResourceKind::Group] {
                let (begin, end) = of_kind(tenant, kind);
                assert!(begin > previous_end && end > begin);
                assert_eq!(of_create(tenant, kind, 1).unwrap(), begin + 1);
                assert_eq!((place(begin + 1), place(end)), (1, (1 << SEQ_BITS) - 1));
                assert!(of_create(tenant, kind, 1 << SEQ_BITS).is_err());
                assert!(of_create(tenant, kind, 0).is_err());
                assert_eq!(kind_of(end), kind);
                assert!(is_of(end, tenant) && !is_of(end, tenant + 1));
                let (tenant_begin, tenant_end) = of_tenant(tenant);
                assert!(tenant_begin <= begin && end <= tenant_end);
                previous_end = end;
            }
        }
    }

    /// Statements of both engines say 39 and 41 where they mean these places.
    #[test]
    fn kind_and_tenant_stand_where_statements_look_for_them() {
        for tenant in [1, TENANT_KEYS - 1] {
            for kind in [ResourceKind::User, ResourceKind::Group] {
                let position = of_create(tenant, kind, 7).unwrap();
                assert_eq!((position >> 39) & 3, kind_number(kind));
                assert_eq!(position >> 41, tenant);
            }
        }
    }
}
