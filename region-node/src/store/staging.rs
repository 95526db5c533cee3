//! What every engine checks while it takes a backup in, and what becomes of a tenant's numbers.
//!
//! A restore writes rows in small steps to tenants that nobody sees; one last transaction gives
//! these their names. The engines have the statements, here are the rules.

use shared::TenantId;
use tokio::sync::mpsc::Receiver;

use super::backup::{MembersRow, ResourceRow, TokenRow, restored_credential_version};
use super::position::of_create;
use super::{
    BackupRow, Counts, RestoreError, RestoreHow, RestoreStep, StoreError, Tenant, TenantState,
};
use crate::scim::ResourceKind;

/// State of a tenant that a restore is bringing in and that nobody sees yet.
pub(super) const RESTORING: &str = "restoring";
/// In front of the id of a token that a restore brings in: nobody asks for such an id. Its digest
/// has one byte more than a digest, in front too.
pub(super) const STAGED_ID: &str = "restoring ";
/// That byte.
pub(super) const STAGED_DIGEST: u8 = 0;

/// Rows that are written in one step.
const ROWS_AT_ONCE: usize = 500;
/// Bytes of documents after which a step is full.
const BYTES_AT_ONCE: usize = 1024 * 1024;

/// What a check says of the rows.
pub(super) type Checked<T> = Result<T, RestoreError>;

/// The next rows, and the end if they are the last ones.
pub(super) async fn next_rows(
    steps: &mut Receiver<RestoreStep>,
) -> Checked<(Vec<BackupRow>, Option<Counts>)> {
    let mut rows = Vec::with_capacity(ROWS_AT_ONCE);
    let mut bytes = 0;
    while rows.len() < ROWS_AT_ONCE && bytes < BYTES_AT_ONCE {
        match steps.recv().await {
            None => return Err(RestoreError::Incomplete),
            Some(RestoreStep::End(counts)) => return Ok((rows, Some(counts))),
            Some(RestoreStep::Row(row)) => {
                if let BackupRow::Resource(resource) = &row {
                    bytes += resource.document.get().len();
                }
                rows.push(row);
            }
        }
    }
    Ok((rows, None))
}

/// Where the store finds a unique value taken, the rows are to blame.
pub(super) fn blame(error: RestoreError) -> RestoreError {
    match error {
        RestoreError::Store(StoreError::Taken { .. }) => {
            RestoreError::Inconsistent("something is there twice")
        }
        other => other,
    }
}

/// A tenant whose rows are coming in.
pub(super) struct Staged {
    /// Its number in the store.
    pub(super) key: i64,
    /// Its id.
    pub(super) id: TenantId,
    state: TenantState,
    credential_version: i64,
    /// The number of its last write.
    pub(super) seq: i64,
    /// What the head row says.
    users: i64,
    groups: i64,
    /// What came.
    came: Counts,
}

/// A tenant's head row after a restore.
pub(super) struct Head {
    pub(super) state: TenantState,
    pub(super) credential_version: i64,
    pub(super) seq: i64,
}

/// What has come in so far.
#[derive(Default)]
pub(super) struct Staging {
    pub(super) tenants: Vec<Staged>,
    counts: Counts,
}

impl Staging {
    /// Notes a row. A tenant, once it is stored, is to be added by [`Self::begin`]; all other rows
    /// belong to the tenant that this answers.
    pub(super) fn note(&mut self, row: &BackupRow) -> Checked<Option<&Staged>> {
        self.counts.note(row);
        if matches!(row, BackupRow::Tenant(_)) {
            self.check_last()?;
            return Ok(None);
        }
        let Some(tenant) = self.tenants.last_mut() else {
            return Err(RestoreError::Inconsistent("a row comes before its tenant"));
        };
        tenant.came.note(row);
        Ok(Some(tenant))
    }

    /// A tenant is stored under a number; the rows that come are its own.
    pub(super) fn begin(&mut self, key: i64, tenant: Tenant) {
        self.tenants.push(Staged {
            key,
            id: tenant.id,
            state: tenant.state,
            credential_version: tenant.credential_version,
            seq: tenant.seq,
            users: tenant.users,
            groups: tenant.groups,
            came: Counts::default(),
        });
    }

    /// All rows of the last tenant have come.
    fn check_last(&self) -> Checked<()> {
        let Some(last) = self.tenants.last() else {
            return Ok(());
        };
        let came = |rows: u64| i64::try_from(rows).unwrap_or(i64::MAX);
        if came(last.came.users) == last.users && came(last.came.groups) == last.groups {
            Ok(())
        } else {
            Err(RestoreError::Inconsistent(
                "a tenant has other users or groups than it counts",
            ))
        }
    }

    /// All rows have come, and they are those that the end counts.
    pub(super) fn check_end(&self, told: Counts) -> Checked<Counts> {
        self.check_last()?;
        if told == self.counts {
            Ok(told)
        } else {
            Err(RestoreError::Inconsistent(
                "it has other rows than its end counts",
            ))
        }
    }
}

impl Staged {
    pub(super) fn check_token(&self, token: &TokenRow) -> Checked<()> {
        if token.token.tenant == self.id {
            Ok(())
        } else {
            Err(RestoreError::Inconsistent("a token is of another tenant"))
        }
    }

    /// Where a resource goes.
    pub(super) fn position_of(&self, row: &ResourceRow) -> Checked<i64> {
        if row.version > self.seq || row.place > row.version {
            return Err(RestoreError::Inconsistent(
                "a resource is newer than its tenant's last write",
            ));
        }
        self.position(row.kind, row.place)
    }

    /// Where a group and some of its members are.
    pub(super) fn positions_of(&self, row: &MembersRow) -> Checked<(i64, Vec<i64>)> {
        let group = self.position(ResourceKind::Group, row.group)?;
        let users = row.users.iter().map(|place| (ResourceKind::User, *place));
        let groups = row.groups.iter().map(|place| (ResourceKind::Group, *place));
        let members = users.chain(groups);
        let members: Checked<Vec<i64>> = members
            .map(|(kind, place)| self.position(kind, place))
            .collect();
        Ok((group, members?))
    }

    pub(super) fn position(&self, kind: ResourceKind, place: i64) -> Checked<i64> {
        if place > self.seq {
            return Err(RestoreError::Inconsistent(
                "a place is beyond its tenant's last write",
            ));
        }
        of_create(self.key, kind, place).map_err(|_| RestoreError::Inconsistent("a place is none"))
    }

    /// The head row, once the tenant is there for everybody. Where the region had it, it stays
    /// suspended if it is; its numbers go on beyond every one that a client or a grant can have
    /// seen.
    pub(super) fn head(&self, predecessor: Option<&Tenant>, how: RestoreHow) -> Checked<Head> {
        let state = match predecessor {
            Some(tenant) if tenant.state == TenantState::Suspended => TenantState::Suspended,
            _ => self.state,
        };
        let present = predecessor.map(|tenant| tenant.credential_version);
        let last = predecessor.map_or(self.seq, |tenant| tenant.seq.max(self.seq));
        let seq = last.saturating_add(how.version_jump);
        // The next write must find a number.
        of_create(self.key, ResourceKind::Group, seq.saturating_add(1))?;
        Ok(Head {
            state,
            credential_version: restored_credential_version(
                self.credential_version,
                present,
                how.now,
            ),
            seq,
        })
    }
}
