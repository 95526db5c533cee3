//! Users and groups as an administrator looks for them: by the beginning of a name, page by page,
//! with what happened to each. The same engine as for provisioning clients answers.

use serde_json::Value;
use shared::{ScimError, ScimType};

use super::resources::{Got, Resources};
use super::{Caller, ProviderError, View};
use crate::scim::{ListRequest, ResourceId, ResourceKind};
use crate::store::{Change, StoreError};

/// How many are on a page, where nobody says.
pub const DEFAULT_COUNT: u32 = 50;
/// How many at most.
pub const MOST_COUNT: u32 = 200;
/// Longest text to search for, in characters.
const LONGEST_TEXT: usize = 200;
/// Among so many users they are looked for by `displayName` too, which no index of users serves.
const MOST_LOOKED_THROUGH: i64 = 20_000;

/// What an administrator looks for.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// What a name begins with; nothing is everybody.
    pub text: Option<String>,
    /// Where the page begins, as the page before said.
    pub cursor: Option<String>,
    /// How many on a page.
    pub count: Option<u32>,
}

/// A page of what was found.
#[derive(Debug)]
pub struct Found {
    /// How many there are in all.
    pub total: u64,
    /// Users or groups, as SCIM shows them.
    pub resources: Vec<Value>,
    /// Where the next page begins, if there is one.
    pub next: Option<String>,
    /// By which attributes was searched.
    pub searched: &'static [&'static str],
}

const BY_INDEX: &[&str] = &["userName", "emails.value", "externalId"];
const BY_ALL: &[&str] = &["userName", "displayName", "emails.value", "externalId"];
const OF_GROUP: &[&str] = &["displayName", "externalId"];

impl Resources {
    /// A page of users or groups. Groups come without their members.
    ///
    /// # Errors
    /// [`ProviderError`].
    pub async fn search(
        &self,
        caller: Caller<'_>,
        kind: ResourceKind,
        base_url: &str,
        search: &Search,
    ) -> Result<Found, ProviderError> {
        let text = search.text.as_deref().map(str::trim);
        let text = text.filter(|text| !text.is_empty());
        if text.is_some_and(|text| text.chars().count() > LONGEST_TEXT) {
            let detail = format!("'search' has {LONGEST_TEXT} characters at most.");
            return Err(ScimError::typed(400, ScimType::InvalidValue, detail).into());
        }
        let searched = match kind {
            ResourceKind::Group => OF_GROUP,
            ResourceKind::User if text.is_none() => BY_ALL,
            ResourceKind::User => {
                let users = self.store.head(caller.access).await?.users;
                if users <= MOST_LOOKED_THROUGH {
                    BY_ALL
                } else {
                    BY_INDEX
                }
            }
        };
        let filter = text.map(|text| begins_with(text, searched));
        let without = (kind == ResourceKind::Group).then(|| "members".to_owned());
        let request = ListRequest {
            filter,
            count: search.count.unwrap_or(DEFAULT_COUNT).clamp(1, MOST_COUNT),
            cursor: Some(search.cursor.clone().unwrap_or_default()),
            excluded_attributes: without,
            ..ListRequest::default()
        };
        let list = self.query(caller, &[kind], base_url, &request).await?;
        let (total, resources, next) = taken_apart(&list)?;
        Ok(Found {
            total,
            resources,
            next,
            searched,
        })
    }

    /// One user, or a group without its members.
    ///
    /// # Errors
    /// [`ProviderError`].
    pub async fn look_at(
        &self,
        caller: Caller<'_>,
        kind: ResourceKind,
        base_url: &str,
        id: ResourceId,
    ) -> Result<Value, ProviderError> {
        let view = View {
            base_url,
            only: None,
            without: (kind == ResourceKind::Group).then_some("members"),
        };
        match self.get(caller, kind, id, None, view).await? {
            Got::Shown(shown) => serde_json::from_str(&shown.body)
                .map_err(|_| StoreError::Corrupt("a resource that is no JSON").into()),
            Got::NotModified(_) => Err(StoreError::NotFound.into()),
        }
    }

    /// A page of the users who are direct members of a group.
    ///
    /// # Errors
    /// [`ProviderError`]; not found if there is no such group.
    pub async fn look_at_members(
        &self,
        caller: Caller<'_>,
        base_url: &str,
        group: ResourceId,
        search: &Search,
    ) -> Result<Found, ProviderError> {
        self.look_at(caller, ResourceKind::Group, base_url, group)
            .await?;
        let request = ListRequest {
            filter: Some(format!("groups.value eq \"{group}\"")),
            count: search.count.unwrap_or(DEFAULT_COUNT).clamp(1, MOST_COUNT),
            cursor: Some(search.cursor.clone().unwrap_or_default()),
            ..ListRequest::default()
        };
        let list = self
            .query(caller, &[ResourceKind::User], base_url, &request)
            .await?;
        let (total, resources, next) = taken_apart(&list)?;
        Ok(Found {
            total,
            resources,
            next,
            searched: &[],
        })
    }

    /// What happened to a user or a group, newest first: up to `limit` changes before the write
    /// number `before`. It need not be there any more.
    ///
    /// # Errors
    /// As the store.
    pub async fn history(
        &self,
        caller: Caller<'_>,
        kind: ResourceKind,
        id: ResourceId,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Change>, ProviderError> {
        let limit = limit.clamp(1, MOST_COUNT);
        let mut changes = self.store.history(caller.access, id, before, limit).await?;
        changes.retain(|change| change.kind == kind);
        Ok(changes)
    }
}

/// A filter on the beginning of any of these attributes.
fn begins_with(text: &str, attributes: &[&str]) -> String {
    let text = Value::from(text).to_string();
    let mut terms: Vec<String> = attributes
        .iter()
        .map(|attribute| format!("{attribute} sw {text}"))
        .collect();
    if ResourceId::parse(text.trim_matches('"')).is_ok() {
        terms.push(format!("id eq {text}"));
    }
    terms.join(" or ")
}

/// Total, resources and next cursor of a list response.
fn taken_apart(list: &str) -> Result<(u64, Vec<Value>, Option<String>), ProviderError> {
    const ODD: StoreError = StoreError::Corrupt("a list that is no list response");
    let Ok(Value::Object(mut list)) = serde_json::from_str(list) else {
        return Err(ODD.into());
    };
    let total = list.get("totalResults").and_then(Value::as_u64);
    let resources = match list.remove("Resources") {
        Some(Value::Array(resources)) => resources,
        _ => Vec::new(),
    };
    let next = match list.remove("nextCursor") {
        Some(Value::String(next)) => Some(next),
        _ => None,
    };
    Ok((total.ok_or(ODD)?, resources, next))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scim::Filter;
    use crate::scim::schema::{GROUP, USER};

    #[test]
    fn whatever_is_searched_for_is_a_value_and_never_a_filter() {
        for text in [
            "ann",
            "\" or userName pr or userName sw \"",
            "\\",
            "a\"b\\c",
            "ü 名",
            "x\u{1}",
            "2819c223-7f76-453a-919d-413861904646",
        ] {
            for (schema, attributes) in [(&USER, BY_ALL), (&USER, BY_INDEX), (&GROUP, OF_GROUP)] {
                let filter = begins_with(text, attributes);
                assert!(Filter::parse(schema, &filter).is_ok(), "{filter}");
                let terms = filter.matches(" sw ").count();
                let own = text.matches(" sw ").count() * attributes.len();
                assert_eq!(terms - own, attributes.len(), "{filter}");
            }
        }
    }
}
