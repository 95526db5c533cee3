//! [`Event`]: one change of one resource, as the application behind hears of it.

use serde_json::value::RawValue;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use shared::{TenantId, Timestamp, TokenId};

use crate::provider::noted::{Facts, Noted};
use crate::provider::resources::{Got, Resources};
use crate::provider::{Caller, ProviderError, View};
use crate::scim::{ResourceKind, datetime};
use crate::store::{Access, Change, ChangeKind, StoreError};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// A user was created.
    UserCreated,
    /// A user was changed, and is as active as before.
    UserUpdated,
    /// A user is not active any more.
    UserDisabled,
    /// A user is active again.
    UserEnabled,
    /// A user was deleted.
    UserDeleted,
    /// A group was created.
    GroupCreated,
    /// A group was changed, perhaps its members too.
    GroupUpdated,
    /// A group was deleted.
    GroupDeleted,
    /// The members of a group changed, and nothing else of it.
    GroupMembersChanged,
}

impl EventType {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::UserCreated,
        Self::UserUpdated,
        Self::UserDisabled,
        Self::UserEnabled,
        Self::UserDeleted,
        Self::GroupCreated,
        Self::GroupUpdated,
        Self::GroupDeleted,
        Self::GroupMembersChanged,
    ];

    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UserCreated => "user.created",
            Self::UserUpdated => "user.updated",
            Self::UserDisabled => "user.disabled",
            Self::UserEnabled => "user.enabled",
            Self::UserDeleted => "user.deleted",
            Self::GroupCreated => "group.created",
            Self::GroupUpdated => "group.updated",
            Self::GroupDeleted => "group.deleted",
            Self::GroupMembersChanged => "group.members_changed",
        }
    }

    /// What a change is to whoever hears of it.
    #[must_use]
    pub fn of(change: &Change) -> Self {
        let names = |name: &str| change.attributes.iter().any(|it| it == name);
        match (change.kind, change.what) {
            (ResourceKind::User, ChangeKind::Created) => Self::UserCreated,
            (ResourceKind::User, ChangeKind::Deleted) => Self::UserDeleted,
            (ResourceKind::User, ChangeKind::Changed) => match change.active {
                Some(true) if names("active") => Self::UserEnabled,
                Some(false) if names("active") => Self::UserDisabled,
                _ => Self::UserUpdated,
            },
            (ResourceKind::Group, ChangeKind::Created) => Self::GroupCreated,
            (ResourceKind::Group, ChangeKind::Deleted) => Self::GroupDeleted,
            (ResourceKind::Group, ChangeKind::Changed) => match change.attributes.as_slice() {
                [only] if only == "members" => Self::GroupMembersChanged,
                _ => Self::GroupUpdated,
            },
        }
    }
}

/// The type of the event that says that changes were forgotten before an endpoint had them.
pub const GAP: &str = "events.gap";
/// The type of the event that an administrator sends to see whether it arrives.
pub const TEST: &str = "endpoint.test";

/// An event as it is sent: the same id and the same text however often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its id, unique in all regions.
    pub id: String,
    /// Its type.
    pub name: &'static str,
    /// JSON: `type`, `timestamp`, `data`.
    pub body: String,
}

impl Event {
    /// Of a change, with the resource as it is now, where it still is.
    #[must_use]
    pub fn of(tenant: &TenantId, change: &Change, resource: Option<&RawValue>) -> Self {
        let name = EventType::of(change).as_str();
        let data = json!({
            "resourceType": change.kind.name(),
            "id": change.id.to_string(),
            "sequence": change.seq,
            "version": format!("W/\"{}\"", change.seq),
            "changed": change.attributes,
        });
        // The resource goes in as it is: it is JSON already.
        let resource = resource.map_or("null", RawValue::get);
        let data = data.to_string();
        let data = data.strip_suffix('}').unwrap_or_default();
        Self {
            id: id_of(&[
                tenant.as_str(),
                &change.seq.to_string(),
                &change.id.to_string(),
            ]),
            name,
            body: format!(
                r#"{{"type":"{name}","timestamp":"{}","data":{data},"resource":{resource}}}}}"#,
                datetime::format(change.at)
            ),
        }
    }

    /// That the events of some writes are lost: they were forgotten, or the numbers went on further
    /// because of a restore. Whoever hears it reads everything again.
    #[must_use]
    pub fn gap(endpoint: &str, from: i64, to: i64, now: Timestamp) -> Self {
        let data = json!({ "from": from, "to": to });
        let id = id_of(&[endpoint, "gap", &from.to_string(), &to.to_string()]);
        Self::plain(id, GAP, &data, now)
    }

    /// That somebody wants to see whether events arrive.
    #[must_use]
    pub fn test(endpoint: &str, now: Timestamp) -> Self {
        let id = id_of(&[endpoint, "test", &now.as_millis().to_string()]);
        Self::plain(id, TEST, &json!({ "endpoint": endpoint }), now)
    }

    fn plain(id: String, name: &'static str, data: &Value, now: Timestamp) -> Self {
        let body = json!({ "type": name, "timestamp": datetime::format(now), "data": data });
        Self {
            id,
            name,
            body: body.to_string(),
        }
    }
}

fn id_of(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let hash: [u8; 32] = hash.finalize().into();
    let (id, _) = hash.split_at(16);
    format!("evt_{}", hex::encode(id))
}

/// Shows resources as they are when an event is sent.
#[derive(Clone)]
pub struct Showing {
    resources: Resources,
    /// Nobody's: lists are what it would matter for.
    token: TokenId,
    base_url: String,
}

impl Showing {
    /// Resources of the region, with links that begin with a base URL.
    #[must_use]
    pub fn new(resources: Resources, token: TokenId, base_url: String) -> Self {
        Self {
            resources,
            token,
            base_url,
        }
    }

    /// The resource of a change as it is now; a group without its members. Nothing where it is
    /// gone.
    ///
    /// # Errors
    /// As the provider: nothing is known about it now.
    pub async fn resource(
        &self,
        access: &Access,
        change: &Change,
    ) -> Result<Option<Box<RawValue>>, ProviderError> {
        if change.what == ChangeKind::Deleted {
            return Ok(None);
        }
        // Nobody sees what is noted of it: it is no request.
        let noted = Noted::begin(access.tenant.clone(), self.token.clone(), Facts::default());
        let caller = Caller {
            access,
            noted: &noted,
            request: None,
            request_id: "",
        };
        let view = View {
            base_url: &self.base_url,
            only: None,
            without: (change.kind == ResourceKind::Group).then_some("members"),
        };
        let got = self
            .resources
            .get(caller, change.kind, change.id, None, view);
        match got.await {
            Ok(Got::Shown(shown)) => RawValue::from_string(shown.body)
                .map(Some)
                .map_err(|_| StoreError::Corrupt("a resource that is no JSON").into()),
            Ok(Got::NotModified(_)) | Err(ProviderError::Store(StoreError::NotFound)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The event of a change.
    ///
    /// # Errors
    /// As [`Self::resource`].
    pub async fn event(&self, access: &Access, change: &Change) -> Result<Event, ProviderError> {
        let resource = self.resource(access, change).await?;
        Ok(Event::of(&access.tenant, change, resource.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scim::ResourceId;

    fn change(
        kind: ResourceKind,
        what: ChangeKind,
        names: &[&str],
        active: Option<bool>,
    ) -> Change {
        Change {
            seq: 7,
            at: Timestamp(1_700_000_000_000),
            what,
            kind,
            id: ResourceId::from_random([7; 16]),
            attributes: names.iter().map(|&name| name.to_owned()).collect(),
            active,
        }
    }

    #[test]
    fn a_change_is_what_its_names_and_its_state_say() {
        use ChangeKind::{Changed, Created, Deleted};
        use ResourceKind::{Group, User};
        for (kind, what, names, active, expected) in [
            (User, Created, vec![], Some(false), "user.created"),
            (User, Changed, vec!["title"], Some(false), "user.updated"),
            (
                User,
                Changed,
                vec!["title", "active"],
                Some(false),
                "user.disabled",
            ),
            (User, Changed, vec!["active"], Some(true), "user.enabled"),
            (User, Changed, vec!["active"], None, "user.updated"),
            (User, Deleted, vec![], None, "user.deleted"),
            (Group, Created, vec![], None, "group.created"),
            (
                Group,
                Changed,
                vec!["members"],
                None,
                "group.members_changed",
            ),
            (
                Group,
                Changed,
                vec!["displayName", "members"],
                None,
                "group.updated",
            ),
            (Group, Deleted, vec![], None, "group.deleted"),
        ] {
            let change = change(kind, what, &names, active);
            assert_eq!(EventType::of(&change).as_str(), expected);
        }
    }

    #[test]
    fn an_event_is_the_same_however_often_it_is_made() {
        let tenant = TenantId::generate().unwrap();
        let change = change(ResourceKind::User, ChangeKind::Created, &[], Some(true));
        let resource = RawValue::from_string(r#"{"userName":"ä"}"#.to_owned()).unwrap();
        let event = Event::of(&tenant, &change, Some(&resource));
        assert_eq!(event, Event::of(&tenant, &change, Some(&resource)));
        let body: Value = serde_json::from_str(&event.body).unwrap();
        assert_eq!(body["type"], "user.created");
        assert_eq!(body["timestamp"], "2023-11-14T22:13:20.000Z");
        assert_eq!(body["data"]["sequence"], 7);
        assert_eq!(body["data"]["resource"]["userName"], "ä");
        let gone = Event::of(&tenant, &change, None);
        let body: Value = serde_json::from_str(&gone.body).unwrap();
        assert_eq!(body["data"]["resource"], Value::Null);
        assert_eq!(gone.id, event.id);
        let other = Event::of(&TenantId::generate().unwrap(), &change, None);
        assert_ne!(other.id, event.id);
    }
}
