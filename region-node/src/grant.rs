//! [`Grants`]: mints and verifies the short-lived capability by which a node recognises an
//! earlier answer of its region about a token (DESIGN section 4).
//!
//! One algorithm, keys that only this region's nodes hold, every claim required and of one type.
//! Whether what a grant rests on still stands is not asked here: the store asks, in the
//! transaction of the operation.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode,
};
use sha2::{Digest as _, Sha256};
use shared::{Grant, GrantClaims, RegionId, Secret, Timestamp};

use crate::store::StoredToken;

/// How long a grant lives at most.
pub const LIFETIME: Duration = Duration::from_secs(5 * 60);
/// How far the clocks of a region's nodes may differ.
const LEEWAY_S: i64 = 5;
/// No grant of ours is longer; nothing longer is looked at.
const LONGEST_COMPACT: usize = 2048;
/// Verified grants that are remembered, so that each is parsed and checked once.
const REMEMBERED: u64 = 10_000;

/// Why a grant is not accepted, or could not be minted. Tells nothing of the grant.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// The call carries none.
    #[error("the call carries no grant")]
    Missing,
    /// It is no compact JWS, or its header is not one of ours.
    #[error("the grant is not of the form that this region mints")]
    Form,
    /// It names a key that is not live here.
    #[error("the grant is signed with a key that is not live in this region")]
    Key,
    /// The signature or a claim is wrong.
    #[error("the grant is forged or lacks a claim")]
    Claims,
    /// It was minted by or for another region.
    #[error("the grant is of another region")]
    Region,
    /// It has ended, has not begun, or would last longer than any of ours.
    #[error("the grant is not for this time")]
    Time,
    /// The signature could not be made.
    #[error("the grant could not be signed")]
    Mint(#[source] jsonwebtoken::errors::Error),
}

/// Mints grants with the first key and accepts those of every live key.
pub struct Grants {
    region: RegionId,
    signing: Key,
    /// All live keys, the signing one too.
    live: Vec<Key>,
    validation: Validation,
    verified: moka::sync::Cache<Box<str>, Arc<GrantClaims>>,
}

#[derive(Clone)]
struct Key {
    id: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
}

impl Key {
    fn new(secret: &Secret) -> Self {
        let bytes = secret.reveal().as_bytes();
        // The same on every node of the region, and of no use to find the key.
        let mut digest = Sha256::new_with_prefix(b"meridian grant key id\0");
        digest.update(bytes);
        let id: String = hex::encode(digest.finalize()).chars().take(16).collect();
        Self {
            id,
            encoding: EncodingKey::from_secret(bytes),
            decoding: DecodingKey::from_secret(bytes),
        }
    }
}

/// What a minted grant says, for the answer that carries it.
#[derive(Clone, Debug)]
pub struct Minted {
    /// The grant.
    pub grant: Grant,
    /// When it ends.
    pub expires: Timestamp,
    /// Whole seconds that are left of it.
    pub lifetime_s: u32,
}

impl Grants {
    /// Grants of a region; `signing` is the key for new ones, `others` are still accepted.
    #[must_use]
    pub fn new(region: RegionId, signing: &Secret, others: &[Secret]) -> Self {
        let signing = Key::new(signing);
        let mut live = vec![signing.clone()];
        live.extend(others.iter().map(Key::new));
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[region.as_str()]);
        validation.set_audience(&[region.as_str()]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Checked below, against the clock that the caller brings.
        validation.validate_exp = false;
        Self {
            region,
            signing,
            live,
            validation,
            verified: moka::sync::Cache::new(REMEMBERED),
        }
    }

    /// Mints a grant for a token, under its tenant's credential version, that ends with the token
    /// at the latest.
    ///
    /// # Errors
    /// [`GrantError::Time`] when the token has less than a second left, [`GrantError::Mint`] when
    /// signing fails.
    pub fn mint(
        &self,
        token: &StoredToken,
        credential_version: i64,
        now: Timestamp,
    ) -> Result<Minted, GrantError> {
        let iat = now.as_seconds();
        let exp = now.after(LIFETIME).as_seconds();
        let exp = token.expires.map_or(exp, |end| exp.min(end.as_seconds()));
        let lifetime_s = match u32::try_from(exp.saturating_sub(iat)) {
            Ok(seconds) if seconds > 0 => seconds,
            _ => return Err(GrantError::Time),
        };
        let claims = GrantClaims {
            iss: self.region.clone(),
            aud: self.region.clone(),
            sub: token.id.clone(),
            tid: token.tenant.clone(),
            cvr: credential_version,
            scp: token.scope,
            dia: token.dialect,
            iat,
            exp,
        };
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(self.signing.id.clone());
        let compact = encode(&header, &claims, &self.signing.encoding).map_err(GrantError::Mint)?;
        Ok(Minted {
            grant: Grant::from_compact(compact),
            expires: Timestamp(exp.saturating_mul(1000)),
            lifetime_s,
        })
    }

    /// The claims of a grant that this region minted and whose time is not over.
    ///
    /// # Errors
    /// [`GrantError`] for everything else.
    pub fn verify(&self, compact: &str, now: Timestamp) -> Result<Arc<GrantClaims>, GrantError> {
        if compact.len() > LONGEST_COMPACT {
            return Err(GrantError::Form);
        }
        let claims = match self.verified.get(compact) {
            Some(claims) => claims,
            None => {
                let claims = Arc::new(self.verify_anew(compact)?);
                check_time(&claims, now)?;
                self.verified.insert(compact.into(), Arc::clone(&claims));
                claims
            }
        };
        // On every use: what was verified once has ended all the same.
        check_time(&claims, now)?;
        Ok(claims)
    }

    fn verify_anew(&self, compact: &str) -> Result<GrantClaims, GrantError> {
        let header = decode_header(compact).map_err(|_| GrantError::Form)?;
        let kid = header.kid.clone().ok_or(GrantError::Form)?;
        // A header of ours has these three members and no other: nothing in a grant can say
        // where to find a key, or what else to pay attention to.
        let mut ours = Header::new(Algorithm::HS256);
        ours.kid = Some(kid.clone());
        if header != ours {
            return Err(GrantError::Form);
        }
        let key = self
            .live
            .iter()
            .find(|key| key.id == kid)
            .ok_or(GrantError::Key)?;
        let claims = decode::<GrantClaims>(compact, &key.decoding, &self.validation)
            .map_err(|_| GrantError::Claims)?
            .claims;
        if claims.iss != self.region || claims.aud != self.region {
            return Err(GrantError::Region);
        }
        Ok(claims)
    }
}

fn check_time(claims: &GrantClaims, now: Timestamp) -> Result<(), GrantError> {
    let now = now.as_seconds();
    let begun = claims.iat <= now.saturating_add(LEEWAY_S);
    let ended = claims.exp.saturating_add(LEEWAY_S) <= now;
    let lifetime = claims.exp.saturating_sub(claims.iat);
    let longest = i64::try_from(LIFETIME.as_secs()).unwrap_or(i64::MAX);
    if begun && !ended && (1..=longest).contains(&lifetime) {
        Ok(())
    } else {
        Err(GrantError::Time)
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
    use serde_json::{Value, json};

    use shared::{Dialect, Scope, TenantId, TokenId};

    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);
    const SECRET: &str = "grant-key-0123456789-0123456789-01";
    const OLD_SECRET: &str = "older-key-0123456789-0123456789-01";

    fn us() -> RegionId {
        RegionId::parse("us").unwrap()
    }

    fn token(expires: Option<Timestamp>) -> StoredToken {
        StoredToken {
            id: TokenId::parse("tok_0123456789012345678901").unwrap(),
            tenant: TenantId::parse("ten_0123456789012345678901").unwrap(),
            name: String::new(),
            scope: Scope::Scim,
            dialect: Dialect::Scim20,
            created: NOW,
            created_by: String::new(),
            expires,
            last_used: None,
            revoked: None,
            networks: shared::Networks::default(),
            meant_life: None,
        }
    }

    fn grants() -> Grants {
        Grants::new(us(), &Secret::new(SECRET), &[Secret::new(OLD_SECRET)])
    }

    fn mint(grants: &Grants) -> String {
        let minted = grants.mint(&token(None), 7, NOW).unwrap();
        minted.grant.as_compact().to_owned()
    }

    fn header() -> Value {
        json!({"typ": "JWT", "alg": "HS256", "kid": Key::new(&Secret::new(SECRET)).id})
    }

    fn claims() -> Value {
        let now = NOW.as_seconds();
        json!({
            "iss": "us", "aud": "us", "sub": "tok_0123456789012345678901",
            "tid": "ten_0123456789012345678901", "cvr": 7, "scp": "scim", "dia": "2.0",
            "iat": now, "exp": now + 300,
        })
    }

    /// A compact form with any header and claims, correctly signed with a key.
    fn forge(header: &str, claims: &str, secret: &str) -> String {
        let message = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
        let signature = jsonwebtoken::crypto::sign(
            message.as_bytes(),
            &EncodingKey::from_secret(secret.as_bytes()),
            Algorithm::HS256,
        )
        .unwrap();
        format!("{message}.{signature}")
    }

    fn with(mut object: Value, name: &str, value: Value) -> Value {
        object[name] = value;
        object
    }

    fn without(mut object: Value, name: &str) -> Value {
        object.as_object_mut().unwrap().remove(name);
        object
    }

    #[test]
    fn a_minted_grant_verifies_until_it_ends() {
        let grants = grants();
        let compact = mint(&grants);
        let read = grants.verify(&compact, NOW).unwrap();
        assert_eq!(serde_json::to_value(&*read).unwrap(), claims());
        let at = |seconds: i64| Timestamp(NOW.0 + seconds * 1000);
        for good in [-5, 0, 299, 304] {
            assert!(grants.verify(&compact, at(good)).is_ok(), "{good}");
        }
        for bad in [-6, 305, 100_000, -100_000] {
            assert!(
                matches!(grants.verify(&compact, at(bad)), Err(GrantError::Time)),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_grant_ends_with_its_token() {
        let minted = |left_ms: i64| grants().mint(&token(Some(Timestamp(NOW.0 + left_ms))), 1, NOW);
        let short = minted(20_500).unwrap();
        assert_eq!(short.lifetime_s, 20);
        assert_eq!(short.expires, Timestamp(NOW.0 + 20_000));
        assert_eq!(minted(3_600_000).unwrap().lifetime_s, 300);
        for left_ms in [999, 0, -5_000] {
            assert!(matches!(minted(left_ms), Err(GrantError::Time)));
        }
    }

    #[test]
    fn both_live_keys_verify_and_a_removed_one_does_not() {
        let before = Grants::new(us(), &Secret::new(OLD_SECRET), &[]);
        let compact = mint(&before);
        assert!(grants().verify(&compact, NOW).is_ok());
        let after = Grants::new(us(), &Secret::new(SECRET), &[]);
        assert!(matches!(after.verify(&compact, NOW), Err(GrantError::Key)));
    }

    #[test]
    fn another_region_does_not_verify() {
        let de = Grants::new(RegionId::parse("de").unwrap(), &Secret::new(SECRET), &[]);
        assert!(de.verify(&mint(&grants()), NOW).is_err());
    }

    #[test]
    fn the_forger_of_these_tests_can_make_a_good_one() {
        let compact = forge(&header().to_string(), &claims().to_string(), SECRET);
        assert!(grants().verify(&compact, NOW).is_ok());
    }

    #[test]
    fn forged_headers_are_refused() {
        let jwk = json!({"kty": "oct", "k": BASE64.encode(SECRET)});
        let forged = [
            with(header(), "alg", json!("none")),
            with(header(), "alg", json!("None")),
            with(header(), "alg", json!("HS384")),
            with(header(), "alg", json!("HS512")),
            with(header(), "alg", json!("RS256")),
            with(header(), "alg", json!("EdDSA")),
            with(header(), "alg", json!(["HS256"])),
            without(header(), "alg"),
            with(header(), "kid", json!("0000000000000000")),
            with(header(), "kid", json!("")),
            with(header(), "kid", json!("../../dev/null")),
            with(header(), "kid", json!(0)),
            without(header(), "kid"),
            without(header(), "typ"),
            with(header(), "typ", json!("at+jwt")),
            with(header(), "cty", json!("JWT")),
            with(header(), "jku", json!("http://127.0.0.1/keys")),
            with(header(), "jwk", jwk),
            with(header(), "x5u", json!("http://127.0.0.1/cert")),
            with(header(), "x5c", json!(["AAAA"])),
            with(header(), "x5t", json!("AAAA")),
            with(header(), "crit", json!(["exp"])),
            with(header(), "b64", json!(false)),
            with(header(), "zip", json!("DEF")),
            with(header(), "nonce", json!("n")),
            with(header(), "anything", json!(1)),
            json!([]),
            json!("HS256"),
            json!(null),
        ];
        for header in forged {
            let compact = forge(&header.to_string(), &claims().to_string(), SECRET);
            assert!(grants().verify(&compact, NOW).is_err(), "{header}");
        }
    }

    #[test]
    fn forged_claims_are_refused() {
        let now = NOW.as_seconds();
        let mut forged: Vec<Value> = [
            "iss", "aud", "sub", "tid", "cvr", "scp", "dia", "iat", "exp",
        ]
        .into_iter()
        .flat_map(|name| {
            [
                without(claims(), name),
                with(claims(), name, json!(null)),
                with(claims(), name, json!([])),
                with(claims(), name, json!({})),
                with(claims(), name, json!("")),
                with(claims(), name, json!(true)),
                with(claims(), name, json!(1.5)),
            ]
        })
        .collect();
        forged.extend([
            with(claims(), "iss", json!("de")),
            with(claims(), "aud", json!("de")),
            with(claims(), "aud", json!(["us", "de"])),
            with(claims(), "aud", json!(["us"])),
            with(claims(), "scp", json!("operator")),
            with(claims(), "cvr", json!("7")),
            with(claims(), "exp", json!((now + 300).to_string())),
            with(claims(), "exp", json!(now as f64 + 300.5)),
            with(claims(), "exp", json!(now + 301)),
            with(claims(), "exp", json!(i64::MAX)),
            with(claims(), "exp", json!(u64::MAX)),
            with(claims(), "exp", json!(1e300)),
            with(claims(), "exp", json!(-1)),
            with(claims(), "exp", json!(0)),
            with(claims(), "exp", json!(i64::MIN)),
            with(claims(), "exp", json!(now - 5)),
            with(claims(), "iat", json!(now + 6)),
            with(claims(), "iat", json!(i64::MIN)),
            with(claims(), "iat", json!(i64::MAX)),
            with(claims(), "nbf", json!(0)),
            with(claims(), "admin", json!(true)),
            json!([]),
            json!(null),
        ]);
        for claims in forged {
            let compact = forge(&header().to_string(), &claims.to_string(), SECRET);
            assert!(grants().verify(&compact, NOW).is_err(), "{claims}");
        }
        let twice = claims().to_string().replacen('{', r#"{"cvr":8,"#, 1);
        let compact = forge(&header().to_string(), &twice, SECRET);
        assert!(grants().verify(&compact, NOW).is_err(), "{twice}");
    }

    #[test]
    fn damaged_grants_are_refused() {
        let grants = grants();
        let good = mint(&grants);
        grants.verify(&good, NOW).unwrap();
        let (message, signature) = good.rsplit_once('.').unwrap();
        let damaged = [
            String::new(),
            ".".into(),
            "..".into(),
            "...".into(),
            message.to_owned(),
            format!("{message}."),
            format!(".{message}.{signature}"),
            format!("{good}."),
            format!("{good}="),
            format!("{good} "),
            format!(" {good}"),
            format!("{good}{good}"),
            format!("{message}.{}", BASE64.encode([0; 32])),
            good.replace('.', ":"),
            forge(&header().to_string(), &claims().to_string(), "another key"),
            "a".repeat(LONGEST_COMPACT + 1),
            "\u{fe0f}.\u{fe0f}.\u{fe0f}".into(),
        ];
        for compact in damaged {
            assert!(grants.verify(&compact, NOW).is_err(), "{compact}");
        }
        for length in 0..good.len() {
            assert!(grants.verify(good.split_at(length).0, NOW).is_err());
        }
    }
}
