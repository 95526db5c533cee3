//! Events as security event tokens (RFC 8417) in SCIM's profile of them (RFC 9967): signed with the
//! region's key, for receivers that speak that and not webhooks.
//!
//! Tokens are notices: they name what changed, and whoever wants the values reads the resource. What
//! the profile has beyond that is left out: see docs/LIMITS.md.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::SigningKey;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use shared::{Clock, RegionId};
use tokio::sync::OnceCell;

use super::event::{Event, EventType};
use crate::store::{Change, ChangeKind, Endpoint, Store, StoreError};

/// RFC 9967 section 2.4.
const CREATE: &str = "urn:ietf:params:scim:event:prov:create:notice";
const PATCH: &str = "urn:ietf:params:scim:event:prov:patch:notice";
const DELETE: &str = "urn:ietf:params:scim:event:prov:delete";
const ACTIVATE: &str = "urn:ietf:params:scim:event:prov:activate";
const DEACTIVATE: &str = "urn:ietf:params:scim:event:prov:deactivate";
/// Ours: some events are lost.
const GAP: &str = "urn:meridian:event:gap";
/// Ours: somebody wants to see whether tokens arrive.
const TEST: &str = "urn:meridian:event:test";

/// `typ` of such tokens (RFC 8417 section 2.3), and what their media type ends in.
const TYPE: &str = "secevent+jwt";
/// Their media type.
pub const MEDIA_TYPE: &str = "application/secevent+jwt";
/// What stands before the 32 bytes of an Ed25519 key in PKCS #8 (RFC 8410).
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The store did not do it.
    #[error("the store did not do it")]
    Store(#[from] StoreError),
    /// The operating system's random generator failed.
    #[error("no key could be made")]
    Randomness,
    /// The key signs nothing.
    #[error("the token could not be signed")]
    Signing(#[from] jsonwebtoken::errors::Error),
}

struct Key {
    id: String,
    signing: EncodingKey,
    public: [u8; 32],
}

/// Makes tokens. The region's key is made when it is needed for the first time, and kept in the
/// region's store: all its nodes sign with it.
pub struct Tokens {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    issuer: String,
    key: OnceCell<Key>,
}

impl Tokens {
    /// Tokens of a region. Its public URL is the issuer, where there is one.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        region: &RegionId,
        base_url: &str,
    ) -> Self {
        let issuer = if base_url.is_empty() {
            format!("meridian-{region}")
        } else {
            base_url.to_owned()
        };
        Self {
            store,
            clock,
            issuer,
            key: OnceCell::new(),
        }
    }

    async fn key(&self) -> Result<&Key, TokenError> {
        self.key
            .get_or_try_init(|| async {
                let mut seed = [0; 32];
                getrandom::fill(&mut seed).map_err(|_| TokenError::Randomness)?;
                let public = SigningKey::from_bytes(&seed).verifying_key().to_bytes();
                let id = URL_SAFE_NO_PAD.encode(Sha256::digest(public));
                let candidate = (id, seed.to_vec());
                let now = self.clock.now();
                let (id, seed) = self.store.event_key(&candidate, now).await?;
                let seed: [u8; 32] = seed
                    .try_into()
                    .map_err(|_| StoreError::Corrupt("a key for events that is none"))?;
                Ok(Key {
                    id,
                    signing: EncodingKey::from_ed_der(&[PKCS8.as_slice(), &seed].concat()),
                    public: SigningKey::from_bytes(&seed).verifying_key().to_bytes(),
                })
            })
            .await
    }

    /// The keys that tokens can be verified with (RFC 7517, RFC 8037).
    ///
    /// # Errors
    /// [`TokenError`]
    pub async fn jwks(&self) -> Result<Value, TokenError> {
        let key = self.key().await?;
        Ok(json!({ "keys": [{
            "kty": "OKP",
            "crv": "Ed25519",
            "alg": "EdDSA",
            "use": "sig",
            "kid": key.id,
            "x": URL_SAFE_NO_PAD.encode(key.public),
        }] }))
    }

    /// The token of a change, or of an event that is ours alone.
    ///
    /// # Errors
    /// [`TokenError`]
    pub async fn token(
        &self,
        endpoint: &Endpoint,
        event: &Event,
        change: Option<&Change>,
    ) -> Result<String, TokenError> {
        let key = self.key().await?;
        let claims = claims(
            &self.issuer,
            endpoint,
            event,
            change,
            self.clock.now().as_seconds(),
        );
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(TYPE.to_owned());
        header.kid = Some(key.id.clone());
        Ok(jsonwebtoken::encode(&header, &claims, &key.signing)?)
    }
}

fn claims(
    issuer: &str,
    endpoint: &Endpoint,
    event: &Event,
    change: Option<&Change>,
    now_s: i64,
) -> Map<String, Value> {
    let mut claims = Map::new();
    let mut claim = |name: &str, value: Value| {
        claims.insert(name.to_owned(), value);
    };
    claim("iss", json!(issuer));
    claim("iat", json!(now_s));
    claim("jti", json!(event.id));
    claim("aud", json!(endpoint.settings.audience));
    match change {
        Some(change) => {
            claim("toe", json!(change.at.as_seconds()));
            claim("txn", json!(format!("{}.{}", endpoint.tenant, change.seq)));
            let uri = format!("{}/{}", change.kind.endpoint(), change.id);
            claim("sub_id", json!({ "format": "scim", "uri": uri }));
            claim("events", Value::Object(events(event, change)));
        }
        None => {
            let data: Value = serde_json::from_str(&event.body).unwrap_or_default();
            let name = if event.name == super::event::GAP {
                GAP
            } else {
                TEST
            };
            claim("events", json!({ name: data.get("data") }));
        }
    }
    claims
}

/// What happened, in the words of RFC 9967 section 2.4. A user that is disabled or enabled was
/// changed as well.
fn events(event: &Event, change: &Change) -> Map<String, Value> {
    let version = format!("W/\"{}\"", change.seq);
    let notice = |attributes: &[String]| json!({ "attributes": attributes, "version": version });
    let mut events = Map::new();
    match change.what {
        ChangeKind::Created => {
            events.insert(CREATE.to_owned(), notice(&attributes_of(event)));
        }
        ChangeKind::Changed => {
            events.insert(PATCH.to_owned(), notice(&change.attributes));
        }
        ChangeKind::Deleted => {
            events.insert(DELETE.to_owned(), json!({}));
        }
    }
    match EventType::of(change) {
        EventType::UserEnabled => drop(events.insert(ACTIVATE.to_owned(), json!({}))),
        EventType::UserDisabled => drop(events.insert(DEACTIVATE.to_owned(), json!({}))),
        _ => {}
    }
    events
}

/// The names of what a new resource has, as far as it is still there.
fn attributes_of(event: &Event) -> Vec<String> {
    let body: Value = serde_json::from_str(&event.body).unwrap_or_default();
    let resource = body.pointer("/data/resource").and_then(Value::as_object);
    let names = resource.into_iter().flat_map(Map::keys);
    names
        .filter(|name| !matches!(name.as_str(), "schemas" | "meta"))
        .cloned()
        .collect()
}
