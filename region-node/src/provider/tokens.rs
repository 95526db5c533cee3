//! [`Tokens`]: API tokens from their making to their end, and whose they are.

use std::sync::Arc;
use std::time::Duration;

use shared::api_token::RandomnessError;
use shared::link::Refusal;
use shared::{
    ApiToken, Clock, Dialect, Networks, RegionId, Scope, TenantId, Timestamp, TokenDigest, TokenId,
};
use telemetry::Counter;

use super::tenants::checked_name;
use crate::store::{
    Access, AuditKind, AuditNote, Author, FoundToken, NewAccessToken, NewToken, Store, StoreError,
    StoredToken, TenantState,
};

/// Longest life that can be given to a token: ten years.
const LONGEST_LIFE: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);
/// Longest overlap of a rotation: 90 days.
const LONGEST_OVERLAP: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// How long an access token lives, where its API token does not end sooner.
const ACCESS_TOKEN_LIFE: Duration = Duration::from_secs(60 * 60);
/// What a token is called whose maker gives it no name.
const DEFAULT_NAME: &str = "API token";

/// Why a token could not be made or changed. The messages are for the operator.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The store did not do it.
    #[error("the store did not do it")]
    Store(#[from] StoreError),
    /// No secret could be made.
    #[error("no secret could be made")]
    Randomness(#[from] RandomnessError),
    /// The name is empty, too long, or has control characters.
    #[error("`name` must have 1 to 200 characters, and no control characters")]
    Name,
    /// The token would end at once, or live too long.
    #[error("`expires_s` must be at least 1 and at most ten years")]
    Expiry,
    /// The overlap is too long.
    #[error("`overlap_s` must be at most 90 days")]
    Overlap,
    /// The token to be rotated has ended.
    #[error("the token has expired or was revoked; create a new one")]
    Ended,
}

/// Whether a token is good at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// It is.
    Live,
    /// Its time is over.
    Expired,
    /// It was revoked.
    Revoked,
}

impl TokenState {
    /// Of a token, at a moment.
    #[must_use]
    pub fn of(token: &StoredToken, now: Timestamp) -> Self {
        if token.revoked.is_some() {
            Self::Revoked
        } else if token.expires.is_some_and(|end| end <= now) {
            Self::Expired
        } else {
            Self::Live
        }
    }

    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// What a token is to be.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// What its maker calls it.
    pub name: Option<String>,
    /// What it may be used for.
    pub scope: Scope,
    /// Which protocol its client speaks on the main path.
    pub dialect: Dialect,
    /// How long it lives, if not for ever.
    pub life: Option<Duration>,
    /// Who makes it.
    pub created_by: String,
    /// From where it may be used.
    pub networks: Networks,
}

/// How a token is succeeded. What is absent is as it was.
#[derive(Clone, Debug, Default)]
pub struct Rotation {
    /// How long the predecessor lives on; absent is the default.
    pub overlap: Option<Duration>,
    /// How long the successor lives; absent is as long as its predecessor was meant to.
    pub life: Option<Duration>,
    /// From where the successor may be used.
    pub networks: Option<Networks>,
}

/// A token at the one moment at which its secret can be shown.
#[derive(Debug)]
pub struct IssuedToken {
    /// What is kept.
    pub stored: StoredToken,
    /// The secret.
    pub secret: ApiToken,
}

/// What a digest stands for.
#[derive(Debug)]
pub enum Resolution {
    /// A live token of an active tenant.
    Live(Box<FoundToken>),
    /// Nothing that opens anything; whose it is, if anybody's.
    Refused(Refusal, Option<TenantId>),
}

/// What came of a request for an access token.
#[derive(Debug)]
pub enum AccessTokenIssue {
    /// It is stored, and lives so many whole seconds.
    Issued {
        /// At least one.
        expires_in_s: u32,
    },
    /// The API token is not good, or not the one that was named.
    Refused(Refusal),
}

/// The region's API tokens.
pub struct Tokens {
    region: RegionId,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    default_overlap: Duration,
    revoked: Counter,
}

impl Tokens {
    /// The tokens of a store. `default_overlap` is how long a rotated token lives on.
    #[must_use]
    pub fn new(
        region: RegionId,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        default_overlap: Duration,
    ) -> Self {
        Self {
            region,
            store,
            clock,
            default_overlap,
            revoked: Counter::default(),
        }
    }

    /// Makes a token.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such tenant; otherwise [`TokenError`].
    pub async fn create(
        &self,
        tenant: &TenantId,
        request: &TokenRequest,
    ) -> Result<IssuedToken, TokenError> {
        self.create_under(None, tenant, request).await
    }

    async fn create_under(
        &self,
        under: Option<&Access>,
        tenant: &TenantId,
        request: &TokenRequest,
    ) -> Result<IssuedToken, TokenError> {
        let now = self.clock.now();
        let (new, secret) = self.new_token(request, now)?;
        let stored = self.store.create_token(tenant, &new, under, now).await?;
        log("token created", &stored);
        Ok(IssuedToken { stored, secret })
    }

    /// A tenant's tokens, ended ones too.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such tenant, and as the store.
    pub async fn list(&self, tenant: &TenantId) -> Result<Vec<StoredToken>, TokenError> {
        Ok(self.store.list_tokens(tenant).await?)
    }

    /// One token.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is none, and as the store.
    pub async fn get(&self, id: &TokenId) -> Result<StoredToken, TokenError> {
        let token = self.store.get_token(id).await?;
        Ok(token.ok_or(StoreError::NotFound)?)
    }

    /// Makes a successor, and lets the token live on for the overlap.
    ///
    /// # Errors
    /// [`TokenError::Ended`] for a token that is not live, [`StoreError::NotFound`] if there is
    /// none; otherwise [`TokenError`].
    pub async fn rotate(
        &self,
        id: &TokenId,
        rotation: Rotation,
        created_by: &str,
    ) -> Result<IssuedToken, TokenError> {
        self.rotate_under(None, id, rotation, created_by).await
    }

    async fn rotate_under(
        &self,
        under: Option<&Access>,
        id: &TokenId,
        rotation: Rotation,
        created_by: &str,
    ) -> Result<IssuedToken, TokenError> {
        let now = self.clock.now();
        let overlap = rotation.overlap.unwrap_or(self.default_overlap);
        if overlap > LONGEST_OVERLAP {
            return Err(TokenError::Overlap);
        }
        let before = self.get(id).await?;
        if TokenState::of(&before, now) != TokenState::Live {
            return Err(TokenError::Ended);
        }
        // An older release did not note what was meant; then the end as it is now has to do.
        let meant_life = match before.meant_life {
            Some(meant) => meant.life(),
            None => before.expires.map(|end| end.since(before.created)),
        };
        let request = TokenRequest {
            name: Some(before.name),
            scope: before.scope,
            dialect: before.dialect,
            life: rotation.life.or(meant_life),
            created_by: created_by.to_owned(),
            networks: rotation.networks.unwrap_or(before.networks),
        };
        let (new, secret) = self.new_token(&request, now)?;
        let rotated = self.store.rotate_token(id, &new, overlap, under, now);
        let stored = match rotated.await {
            // It was live a moment ago, so it ended meanwhile.
            Err(StoreError::NotFound) => return Err(TokenError::Ended),
            stored => stored?,
        };
        log("token rotated", &stored);
        Ok(IssuedToken { stored, secret })
    }

    /// Ends a token. When this has returned, nothing is read or written with it any more.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is none, and as the store.
    pub async fn revoke(&self, id: &TokenId, by: &Author) -> Result<StoredToken, TokenError> {
        self.revoke_under(None, id, by).await
    }

    async fn revoke_under(
        &self,
        under: Option<&Access>,
        id: &TokenId,
        by: &Author,
    ) -> Result<StoredToken, TokenError> {
        let now = self.clock.now();
        let stored = self.store.revoke_token(id, by, under, now).await?;
        self.revoked.increment();
        log("token revoked", &stored);
        Ok(stored)
    }

    /// How many tokens were revoked since the start.
    #[must_use]
    pub fn revoked(&self) -> u64 {
        self.revoked.get()
    }

    /// Whose token has this digest?
    ///
    /// # Errors
    /// As the store: then nothing is known about the token.
    pub async fn resolve(&self, digest: &TokenDigest) -> Result<Resolution, TokenError> {
        let Some(found) = self.store.find_token(digest).await? else {
            return Ok(Resolution::Refused(Refusal::Unknown, None));
        };
        let state = TokenState::of(&found.token, self.clock.now());
        let reason = match (state, found.tenant.state) {
            (TokenState::Revoked, _) => Refusal::Revoked,
            (TokenState::Expired, _) => Refusal::Expired,
            (TokenState::Live, TenantState::Suspended) => Refusal::TenantSuspended,
            (TokenState::Live, TenantState::Active) => {
                return Ok(Resolution::Live(Box::new(found)));
            }
        };
        Ok(Resolution::Refused(reason, Some(found.tenant.id)))
    }

    /// Stores an access token for whoever presented the API token `id` with this digest. The
    /// access token ends with the API token, whatever ends that; it makes no other. A sign-in is
    /// recorded.
    ///
    /// # Errors
    /// As the store: then nothing is known about the token. [`StoreError::KeyReused`] when the
    /// access token's digest is another token's.
    pub async fn issue_access_token(
        &self,
        digest: &TokenDigest,
        id: &TokenId,
        access: TokenDigest,
        is_sign_in: bool,
    ) -> Result<AccessTokenIssue, TokenError> {
        let found = match self.resolve(digest).await? {
            Resolution::Live(found) => found,
            Resolution::Refused(reason, _) => return Ok(AccessTokenIssue::Refused(reason)),
        };
        if found.is_access_token || found.token.id != *id {
            return Ok(AccessTokenIssue::Refused(Refusal::Unknown));
        }
        let now = self.clock.now();
        let new = NewAccessToken {
            digest: access,
            expires: now.after(ACCESS_TOKEN_LIFE),
        };
        let expires = match self.store.create_access_token(id, &new, now).await {
            // It was live a moment ago. If it is so again, nobody knows what to make of it.
            Err(StoreError::NotFound) => {
                return match self.resolve(digest).await? {
                    Resolution::Refused(reason, _) => Ok(AccessTokenIssue::Refused(reason)),
                    Resolution::Live(_) => Err(StoreError::Refused.into()),
                };
            }
            stored => stored?,
        };
        log("access token issued", &found.token);
        if is_sign_in {
            let by = Author::token(&found.token.id, "");
            let note = AuditNote::new(AuditKind::SignedIn, by, "");
            let tenant = &found.tenant.id;
            self.store.note_audit(tenant, vec![note], now).await?;
        }
        Ok(match u32::try_from(expires.since(now).as_secs()) {
            Ok(0) | Err(_) => AccessTokenIssue::Refused(Refusal::Expired),
            Ok(expires_in_s) => AccessTokenIssue::Issued { expires_in_s },
        })
    }

    /// Ends an access token of a tenant, which its holder wants no longer.
    ///
    /// # Errors
    /// As the store.
    pub async fn end_access_token(
        &self,
        tenant: &TenantId,
        digest: &TokenDigest,
    ) -> Result<(), TokenError> {
        Ok(self.store.end_access_token(tenant, digest).await?)
    }

    /// The tokens of the tenant whose administrator asks.
    ///
    /// # Errors
    /// As the store.
    pub async fn list_own(&self, access: &Access) -> Result<Vec<StoredToken>, TokenError> {
        let tokens = self.list(&access.tenant).await?;
        self.store.head(access).await?;
        Ok(tokens)
    }

    /// One of them.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the tenant has none with that id, and as the store.
    pub async fn get_own(&self, access: &Access, id: &TokenId) -> Result<StoredToken, TokenError> {
        let token = self.store.get_token(id).await?;
        self.store.head(access).await?;
        let own = token.filter(|token| token.tenant == access.tenant);
        Ok(own.ok_or(StoreError::NotFound)?)
    }

    /// Makes a token for the tenant whose administrator asks.
    ///
    /// # Errors
    /// [`TokenError`]; then there is none.
    pub async fn create_own(
        &self,
        access: &Access,
        request: &TokenRequest,
    ) -> Result<IssuedToken, TokenError> {
        let tenant = &access.tenant;
        self.create_under(Some(access), tenant, request).await
    }

    /// As [`Self::rotate`], a token of the tenant whose administrator asks, who holds the token
    /// `by`.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the tenant has none with that id; otherwise as
    /// [`Self::rotate`].
    pub async fn rotate_own(
        &self,
        access: &Access,
        id: &TokenId,
        rotation: Rotation,
        by: &TokenId,
    ) -> Result<IssuedToken, TokenError> {
        self.get_own(access, id).await?;
        self.rotate_under(Some(access), id, rotation, by.as_str())
            .await
    }

    /// As [`Self::revoke`], a token of the tenant whose administrator asks.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the tenant has none with that id; otherwise as
    /// [`Self::revoke`].
    pub async fn revoke_own(
        &self,
        access: &Access,
        id: &TokenId,
        by: &Author,
    ) -> Result<StoredToken, TokenError> {
        self.get_own(access, id).await?;
        self.revoke_under(Some(access), id, by).await
    }

    fn new_token(
        &self,
        request: &TokenRequest,
        now: Timestamp,
    ) -> Result<(NewToken, ApiToken), TokenError> {
        let name = request.name.as_deref().unwrap_or(DEFAULT_NAME);
        let name = checked_name(name).ok_or(TokenError::Name)?;
        if let Some(life) = request.life
            && (life < Duration::from_secs(1) || life > LONGEST_LIFE)
        {
            return Err(TokenError::Expiry);
        }
        let secret = ApiToken::generate(&self.region)?;
        let new = NewToken {
            id: TokenId::generate()?,
            digest: secret.digest(),
            name: name.to_owned(),
            scope: request.scope,
            dialect: request.dialect,
            created_by: request.created_by.clone(),
            expires: request.life.map(|life| now.after(life)),
            networks: request.networks.clone(),
        };
        Ok((new, secret))
    }
}

fn log(what: &'static str, token: &StoredToken) {
    tracing::info!(
        token_id = token.id.as_str(),
        tenant_id = token.tenant.as_str(),
        "{what}"
    );
}
