//! [`Endpoints`]: who receives a tenant's events, as its administrator says.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use shared::api_token::{RandomnessError, random_base62};
use shared::{Clock, TenantId, Timestamp};

use super::Bell;
use super::delivery::{Deliverer, Polled};
use super::egress::{Egress, SendError, UrlError};
use super::event::{EventType, GAP};
use super::signature;
use crate::provider::ProviderError;
use crate::store::events::{EndpointKind, EndpointSettings, Progress, SigningSecret};
use crate::store::{
    AuditKind, AuditNote, Author, DeadLetter, Endpoint, EndpointChange, Store, StoreError,
};

/// Most endpoints of a tenant.
pub const MOST_ENDPOINTS: usize = 20;
/// Longest description, in characters.
const LONGEST_DESCRIPTION: usize = 200;
/// How long an old secret signs besides the new one.
const SECRET_OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);

/// Why an endpoint could not be made or changed. The messages are for the administrator.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The store did not do it.
    #[error("the store did not do it")]
    Store(#[from] StoreError),
    /// No secret could be made.
    #[error("no secret could be made")]
    Randomness(#[from] RandomnessError),
    /// The URL is none that may be called.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// There are as many as there can be.
    #[error("A tenant can have {MOST_ENDPOINTS} webhooks.")]
    TooMany,
    /// The description is too long, or has control characters.
    #[error("'description' must have at most 200 characters, and no control characters")]
    Description,
    /// A receiver that comes for its events is not called.
    #[error("'url' is for webhooks and set-push only")]
    NoUrl,
    /// Tokens are for somebody; webhooks are for whoever has the secret.
    #[error("'audience' says in up to 200 characters who tokens are for; webhooks have none")]
    Audience,
    /// There is no such type of events.
    #[error("'events' must name types of events: user.created and so on; none means all")]
    Events,
}

/// An endpoint at the one moment at which its secret can be shown.
#[derive(Debug)]
pub struct IssuedEndpoint {
    /// What is kept.
    pub endpoint: Endpoint,
    /// The secret.
    pub secret: String,
}

/// What is to be changed; what is absent stays.
#[derive(Clone, Debug, Default)]
pub struct EndpointUpdate {
    /// Where to.
    pub url: Option<String>,
    /// What it is called.
    pub description: Option<String>,
    /// Which types of events; none is all of them.
    pub events: Option<Vec<String>>,
    /// Who tokens are for.
    pub audience: Option<String>,
}

/// The receivers of the region's events.
pub struct Endpoints {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    bell: Bell,
    egress: Egress,
    deliverer: Arc<Deliverer>,
}

impl Endpoints {
    /// The endpoints of a store.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        bell: Bell,
        egress: Egress,
        deliverer: Arc<Deliverer>,
    ) -> Self {
        Self {
            store,
            clock,
            bell,
            egress,
            deliverer,
        }
    }

    /// Makes an endpoint: it is told of all that is written from now on.
    ///
    /// # Errors
    /// [`EndpointError`]
    pub async fn create(
        &self,
        tenant: &TenantId,
        by: Author,
        kind: EndpointKind,
        update: EndpointUpdate,
    ) -> Result<IssuedEndpoint, EndpointError> {
        let settings = EndpointSettings {
            kind,
            ..EndpointSettings::default()
        };
        let settings = self.checked(settings, update)?;
        // Two at once can make one more: the bound is there so that there are not thousands.
        if self.store.list_endpoints(Some(tenant)).await?.len() >= MOST_ENDPOINTS {
            return Err(EndpointError::TooMany);
        }
        let secret = signature::new_secret()?;
        let now = self.clock.now();
        let endpoint = Endpoint {
            id: format!("whk_{}", random_base62(22)?),
            tenant: tenant.clone(),
            settings,
            secrets: vec![SigningSecret {
                secret: secret.clone(),
                until: None,
            }],
            paused: None,
            progress: Progress {
                cursor: 0,
                done: 0,
                attempts: 0,
                next_attempt: Timestamp(0),
                failing_since: None,
                last_error: None,
                last_success: None,
            },
            head: 0,
            dead_letters: 0,
            has_replays: false,
            lease: (String::new(), Timestamp(0)),
            created: now,
            created_by: by.actor.clone(),
        };
        let note = AuditNote::new(AuditKind::EndpointCreated, by, &endpoint.id);
        let endpoint = self.store.create_endpoint(&endpoint, &note).await?;
        Ok(IssuedEndpoint { endpoint, secret })
    }

    /// What an endpoint is to be, if it can be that.
    fn checked(
        &self,
        mut settings: EndpointSettings,
        update: EndpointUpdate,
    ) -> Result<EndpointSettings, EndpointError> {
        settings.url = update.url.unwrap_or(settings.url);
        settings.description = update.description.unwrap_or(settings.description);
        settings.events = update.events.unwrap_or(settings.events);
        settings.audience = update.audience.unwrap_or(settings.audience);
        match settings.kind {
            EndpointKind::SetPoll if settings.url.is_empty() => {}
            EndpointKind::SetPoll => return Err(EndpointError::NoUrl),
            EndpointKind::Webhook | EndpointKind::SetPush => {
                self.egress.check(&settings.url)?;
            }
        }
        let is_webhook = settings.kind == EndpointKind::Webhook;
        if is_webhook != settings.audience.is_empty()
            || settings.audience.chars().count() > LONGEST_DESCRIPTION
            || settings.audience.chars().any(char::is_control)
        {
            return Err(EndpointError::Audience);
        }
        let description = settings.description.trim();
        if description.chars().count() > LONGEST_DESCRIPTION
            || description.chars().any(char::is_control)
        {
            return Err(EndpointError::Description);
        }
        let known = |name: &String| {
            name == GAP || EventType::ALL.iter().any(|known| known.as_str() == name)
        };
        if !settings.events.iter().all(known) || settings.events.len() > EventType::ALL.len() + 1 {
            return Err(EndpointError::Events);
        }
        Ok(settings)
    }

    /// A tenant's endpoints.
    ///
    /// # Errors
    /// As the store.
    pub async fn list(&self, tenant: &TenantId) -> Result<Vec<Endpoint>, EndpointError> {
        Ok(self.store.list_endpoints(Some(tenant)).await?)
    }

    /// One of them.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is none, and as the store.
    pub async fn get(&self, tenant: &TenantId, id: &str) -> Result<Endpoint, EndpointError> {
        let endpoint = self.store.get_endpoint(tenant, id).await?;
        Ok(endpoint.ok_or(StoreError::NotFound)?)
    }

    /// Changes one.
    ///
    /// # Errors
    /// [`EndpointError`]
    pub async fn update(
        &self,
        tenant: &TenantId,
        id: &str,
        by: Author,
        update: EndpointUpdate,
    ) -> Result<Endpoint, EndpointError> {
        let endpoint = self.get(tenant, id).await?;
        let named = [
            ("url", update.url.is_some()),
            ("description", update.description.is_some()),
            ("events", update.events.is_some()),
            ("audience", update.audience.is_some()),
        ];
        let names = named.iter().filter(|(_, is_there)| *is_there);
        let names = names.map(|(name, _)| (*name).to_owned()).collect();
        let change = EndpointChange {
            settings: self.checked(endpoint.settings.clone(), update)?,
            ..EndpointChange::of(&endpoint)
        };
        let mut note = AuditNote::new(AuditKind::EndpointChanged, by, id);
        note.names = names;
        self.change(tenant, id, &change, &note).await
    }

    async fn change(
        &self,
        tenant: &TenantId,
        id: &str,
        change: &EndpointChange,
        note: &AuditNote,
    ) -> Result<Endpoint, EndpointError> {
        let now = self.clock.now();
        let changed = self
            .store
            .change_endpoint(tenant, id, change, note, now)
            .await?;
        self.bell.ring();
        Ok(changed)
    }

    /// Gives an endpoint a new secret; the old one signs besides it for a day.
    ///
    /// # Errors
    /// [`EndpointError`]
    pub async fn rotate(
        &self,
        tenant: &TenantId,
        id: &str,
        by: Author,
    ) -> Result<IssuedEndpoint, EndpointError> {
        let endpoint = self.get(tenant, id).await?;
        let secret = signature::new_secret()?;
        let mut secrets = vec![SigningSecret {
            secret: secret.clone(),
            until: None,
        }];
        let until = Some(self.clock.now().after(SECRET_OVERLAP));
        // Of several rotations in a day the last two sign.
        secrets.extend(endpoint.secrets.first().map(|old| SigningSecret {
            until,
            ..old.clone()
        }));
        let change = EndpointChange {
            secrets,
            ..EndpointChange::of(&endpoint)
        };
        let mut note = AuditNote::new(AuditKind::EndpointChanged, by, id);
        note.names = vec!["secret".to_owned()];
        let endpoint = self.change(tenant, id, &change, &note).await?;
        Ok(IssuedEndpoint { endpoint, secret })
    }

    /// Holds events back, or sends them again from where they were held back.
    ///
    /// # Errors
    /// [`EndpointError`]
    pub async fn set_paused(
        &self,
        tenant: &TenantId,
        id: &str,
        by: Author,
        is_paused: bool,
    ) -> Result<Endpoint, EndpointError> {
        let endpoint = self.get(tenant, id).await?;
        let change = EndpointChange {
            paused: is_paused.then(|| "the administrator has paused it".to_owned()),
            ..EndpointChange::of(&endpoint)
        };
        let kind = if is_paused {
            AuditKind::EndpointPaused
        } else {
            AuditKind::EndpointResumed
        };
        let note = AuditNote::new(kind, by, id);
        self.change(tenant, id, &change, &note).await
    }

    /// Deletes an endpoint with its dead letters.
    ///
    /// # Errors
    /// [`EndpointError`]
    pub async fn delete(
        &self,
        tenant: &TenantId,
        id: &str,
        by: Author,
    ) -> Result<(), EndpointError> {
        let note = AuditNote::new(AuditKind::EndpointDeleted, by, id);
        let now = self.clock.now();
        Ok(self.store.delete_endpoint(tenant, id, &note, now).await?)
    }

    /// Sends a test event at once and answers what came of it.
    ///
    /// # Errors
    /// [`EndpointError`]: then nothing was sent.
    pub async fn test(
        &self,
        tenant: &TenantId,
        id: &str,
    ) -> Result<Result<(), SendError>, EndpointError> {
        let endpoint = self.get(tenant, id).await?;
        Ok(self.deliverer.test(&endpoint).await)
    }

    /// What a receiver says of tokens that it came for, and what there is for it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the tenant has no such endpoint that comes for its tokens; as
    /// the provider.
    pub async fn poll(
        &self,
        tenant: &TenantId,
        id: &str,
        acked: &HashSet<String>,
        refused: &HashMap<String, String>,
        most: usize,
    ) -> Result<Polled, ProviderError> {
        let endpoint = self.store.get_endpoint(tenant, id).await?;
        let endpoint = endpoint.filter(|it| it.settings.kind == EndpointKind::SetPoll);
        let mut endpoint = endpoint.ok_or(StoreError::NotFound)?;
        if endpoint.paused.is_some() {
            return Ok(Polled::default());
        }
        self.deliverer
            .poll(&mut endpoint, acked, refused, most)
            .await
    }

    /// What an endpoint did not take: up to `limit` events behind a number.
    ///
    /// # Errors
    /// [`EndpointError`]
    pub async fn dead_letters(
        &self,
        tenant: &TenantId,
        id: &str,
        after: i64,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, EndpointError> {
        self.get(tenant, id).await?;
        Ok(self
            .store
            .dead_letters(tenant, id, false, after, limit)
            .await?)
    }

    /// Has everything sent once more that an endpoint did not take; answers how many events.
    ///
    /// # Errors
    /// [`EndpointError`]
    pub async fn replay(&self, tenant: &TenantId, id: &str) -> Result<u64, EndpointError> {
        let replayed = self.store.replay_dead_letters(tenant, id).await?;
        self.bell.ring();
        Ok(replayed)
    }
}
