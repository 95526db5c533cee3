//! [`Noted`]: what is noted of a provisioning request while it is carried out, for the tenant's
//! activity.
//!
//! It is the request's own, so nobody waits for its lock. It is personal, and goes nowhere but into
//! the region's own store.

use std::sync::{Mutex, PoisonError};

use shared::{Dialect, TenantId, TokenId};

use crate::scim::client::Clues;
use crate::scim::text::cut;
use crate::scim::{Notes, ResourceId, ResourceKind};
use crate::store::activity::{Effects, Operation};

/// Longest name of a resource that is noted, in bytes.
const LONGEST_DISPLAY: usize = 200;

/// Notes of one request. Those who carry it out add to them.
#[derive(Debug)]
pub struct Noted {
    /// Whose request it is.
    pub tenant: TenantId,
    /// The API token that it was made with.
    pub token: TokenId,
    facts: Mutex<Facts>,
}

/// What is noted.
#[derive(Debug, Default)]
pub struct Facts {
    /// What the request shows of who sent it.
    pub clues: Clues,
    /// What a POST stands for, where it says that it stands for something else.
    pub meant: Option<Operation>,
    /// The resource that it is about.
    pub resource: Option<ResourceId>,
    /// The resource's `userName` or `displayName`.
    pub display: Option<Box<str>>,
    /// The filter.
    pub filter: Option<Box<str>>,
    /// What it did.
    pub effects: Effects,
    /// What was tolerated.
    pub tolerated: Notes,
    /// The protocol that is spoken.
    pub dialect: Dialect,
}

impl Noted {
    /// A request begins.
    #[must_use]
    pub fn begin(tenant: TenantId, token: TokenId, facts: Facts) -> Self {
        Self {
            tenant,
            token,
            facts: Mutex::new(facts),
        }
    }

    /// Notes something.
    pub fn with(&self, note: impl FnOnce(&mut Facts)) {
        note(&mut self.facts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Notes what was tolerated.
    pub fn tolerate(&self, notes: Notes) {
        if !notes.is_empty() {
            self.with(|facts| facts.tolerated.extend(notes));
        }
    }

    /// Notes a write to a resource that was there, and whether it is as it was before.
    pub fn written(&self, is_same: bool) {
        self.with(|facts| match is_same {
            true => facts.effects.unchanged += 1,
            false => facts.effects.updated += 1,
        });
    }

    /// Notes which resource it is about, by its document.
    pub fn resource(&self, kind: ResourceKind, id: ResourceId, document: &str) {
        let display = display_of(kind, document);
        self.with(|facts| {
            facts.resource = Some(id);
            facts.display = display;
        });
    }

    /// Takes all that was noted: the request has ended.
    #[must_use]
    pub fn take(&self) -> Facts {
        std::mem::take(&mut self.facts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// `userName` or `displayName` in a stored document, without reading all of it. A quote inside a
/// text is escaped there, so the name with its quotes and colon is found nowhere else, and the
/// resource's own comes before those of its parts.
fn display_of(kind: ResourceKind, document: &str) -> Option<Box<str>> {
    let member = match kind {
        ResourceKind::User => "\"userName\":\"",
        ResourceKind::Group => "\"displayName\":\"",
    };
    let (_, rest) = document.split_once(member)?;
    let mut escaped = false;
    let end = rest.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    let text = rest.get(..end)?;
    let text = if text.contains('\\') {
        serde_json::from_str::<String>(&format!("\"{text}\""))
            .ok()?
            .into()
    } else {
        std::borrow::Cow::Borrowed(text)
    };
    Some(Box::from(cut(&text, LONGEST_DISPLAY)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resources_name_is_read_from_its_document() {
        let of = |kind, document| display_of(kind, document);
        let user = r#"{"schemas":[],"id":"x","externalId":"\"userName\":\"no\"","userName":"b\"o\\b","displayName":"B"}"#;
        assert_eq!(of(ResourceKind::User, user).as_deref(), Some("b\"o\\b"));
        assert_eq!(of(ResourceKind::Group, user).as_deref(), Some("B"));
        assert_eq!(of(ResourceKind::Group, "{}"), None);
        let long = format!(r#"{{"userName":"{}"}}"#, "ä".repeat(300));
        let name = of(ResourceKind::User, &long).unwrap();
        assert_eq!(&*name, "ä".repeat(LONGEST_DISPLAY / 2));
    }
}
