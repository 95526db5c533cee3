//! [`ApiToken`]: the secret that a provisioning client presents, its shape and its checksum.
//!
//! The secret itself never has a `Display` or a telling `Debug`; look-ups and storage use its
//! SHA-256 digest. The checksum lets the gateway refuse typing errors and guesses with no
//! look-up at all (failure class 18).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::region::RegionId;
use crate::short::Short;

const PREFIX: &str = "mrd_";
const RANDOM_LENGTH: usize = 32;
const CHECKSUM_LENGTH: usize = 6;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// `mrd_<region>_<32 base62 characters><6 base62 characters>`; the last six are the CRC32 of all
/// before them. 190 random bits.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiToken {
    text: String,
    region: RegionId,
}

/// Why a text is no API token. Tells nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApiTokenError {
    /// Prefix, region, length or alphabet is off.
    #[error("not an API token of this service")]
    Shape,
    /// The shape is right and the checksum is not: a typing or copying error.
    #[error("the API token is damaged: its checksum does not fit")]
    Checksum,
}

/// The operating system's random generator failed.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct RandomnessError;

/// Random base62 text of the given length, without modulo bias.
///
/// # Errors
/// [`RandomnessError`] when the operating system's generator fails.
pub fn random_base62(length: usize) -> Result<String, RandomnessError> {
    let mut text = String::with_capacity(length);
    let mut pool = [0_u8; 64];
    while text.len() < length {
        getrandom::fill(&mut pool).map_err(|_| RandomnessError)?;
        // 248 is the largest multiple of 62 in a byte: rejecting the rest keeps every character
        // equally likely.
        let fair = pool.iter().filter(|b| **b < 248);
        text.extend(
            fair.filter_map(|b| BASE62.get(usize::from(b % 62)))
                .map(|b| char::from(*b)),
        );
    }
    text.truncate(length);
    Ok(text)
}

fn checksum(text: &str) -> String {
    let mut rest = crc32fast::hash(text.as_bytes());
    let mut digits = [b'0'; CHECKSUM_LENGTH];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62.get((rest % 62) as usize).copied().unwrap_or(b'0');
        rest /= 62;
    }
    digits.iter().map(|b| char::from(*b)).collect()
}

impl ApiToken {
    /// Makes a new secret for a region.
    ///
    /// # Errors
    /// [`RandomnessError`] when the operating system's generator fails.
    pub fn generate(region: &RegionId) -> Result<Self, RandomnessError> {
        let mut text = format!("{PREFIX}{region}_{}", random_base62(RANDOM_LENGTH)?);
        text.push_str(&checksum(&text));
        Ok(Self {
            text,
            region: region.clone(),
        })
    }

    /// Parses what a client presented.
    ///
    /// # Errors
    /// [`ApiTokenError`] when the text cannot be a token that this service issued.
    pub fn parse(text: &str) -> Result<Self, ApiTokenError> {
        let body = text.strip_prefix(PREFIX).ok_or(ApiTokenError::Shape)?;
        let (region, secret) = body.split_once('_').ok_or(ApiTokenError::Shape)?;
        let region = RegionId::parse(region).map_err(|_| ApiTokenError::Shape)?;
        if secret.len() != RANDOM_LENGTH + CHECKSUM_LENGTH
            || !secret.bytes().all(|b| b.is_ascii_alphanumeric())
        {
            return Err(ApiTokenError::Shape);
        }
        let (signed, presented) = text
            .split_at_checked(text.len() - CHECKSUM_LENGTH)
            .ok_or(ApiTokenError::Shape)?;
        if checksum(signed) != presented {
            return Err(ApiTokenError::Checksum);
        }
        Ok(Self {
            text: text.to_owned(),
            region,
        })
    }

    /// The region that issued the token.
    #[must_use]
    pub fn region(&self) -> &RegionId {
        &self.region
    }

    /// SHA-256 of the whole text: what is stored and looked up.
    #[must_use]
    pub fn digest(&self) -> TokenDigest {
        TokenDigest(Sha256::digest(self.text.as_bytes()).into())
    }

    /// The secret, for the one moment at which it is shown to the person who asked for it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiToken({PREFIX}{}_…)", self.region)
    }
}

/// SHA-256 of an API token. Crosses the link, is a key of caches and of the token table.
///
/// The token has 190 random bits, so its plain hash cannot be reversed (NIST SP 800-63B asks for
/// 112). `Debug` hides it all the same, because a digest in a log would name a credential.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenDigest([u8; 32]);

/// The text is no SHA-256 digest in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token digest is 64 hexadecimal digits")]
pub struct TokenDigestError;

impl TokenDigest {
    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl TryFrom<String> for TokenDigest {
    type Error = TokenDigestError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut bytes = [0_u8; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| TokenDigestError)?;
        Ok(Self(bytes))
    }
}

impl From<TokenDigest> for String {
    fn from(digest: TokenDigest) -> Self {
        hex::encode(digest.0)
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(…)")
    }
}

/// The name of a token, safe to show and log: `tok_` and 22 base62 characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenId(Short<26>);

/// The text is no token id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token id is `tok_` followed by 22 letters and digits")]
pub struct TokenIdError;

impl TokenId {
    const PREFIX: &'static str = "tok_";
    const RANDOM_LENGTH: usize = 22;

    /// Makes a new id.
    ///
    /// # Errors
    /// [`RandomnessError`] when the operating system's generator fails.
    pub fn generate() -> Result<Self, RandomnessError> {
        let random = random_base62(Self::RANDOM_LENGTH)?;
        Short::new(&format!("{}{random}", Self::PREFIX))
            .map(Self)
            .ok_or(RandomnessError)
    }

    /// Parses a token id.
    ///
    /// # Errors
    /// [`TokenIdError`] when the text has another shape.
    pub fn parse(text: &str) -> Result<Self, TokenIdError> {
        let random = text.strip_prefix(Self::PREFIX).ok_or(TokenIdError)?;
        if random.len() == Self::RANDOM_LENGTH && random.bytes().all(|b| b.is_ascii_alphanumeric())
        {
            Short::new(text).map(Self).ok_or(TokenIdError)
        } else {
            Err(TokenIdError)
        }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TokenId {
    type Err = TokenIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for TokenId {
    type Error = TokenIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<TokenId> for String {
    fn from(id: TokenId) -> Self {
        id.as_str().to_owned()
    }
}

/// What a token may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Provisioning: the SCIM endpoints of the tenant.
    Scim,
    /// Administration of the tenant: settings, tokens, activity.
    Admin,
}

impl Scope {
    /// The name on the wire and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scim => "scim",
            Self::Admin => "admin",
        }
    }
}

/// The text names no scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a scope is `scim` or `admin`")]
pub struct ScopeError;

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "scim" => Ok(Self::Scim),
            "admin" => Ok(Self::Admin),
            _ => Err(ScopeError),
        }
    }
}

#[cfg(test)]
#[expect(clippy::string_slice, reason = "tokens are ASCII")]
mod tests {
    use super::*;

    fn token() -> ApiToken {
        ApiToken::generate(&RegionId::parse("us").unwrap()).unwrap()
    }

    #[test]
    fn a_generated_token_parses_and_names_its_region() {
        let token = token();
        let parsed = ApiToken::parse(token.reveal()).unwrap();
        assert_eq!(parsed, token);
        assert_eq!(parsed.region().as_str(), "us");
        assert_eq!(parsed.digest(), token.digest());
    }

    #[test]
    fn every_single_character_error_is_caught() {
        let text = token().reveal().to_owned();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(ApiToken::parse(&changed).is_err(), "changed at {at}");
        }
    }

    #[test]
    fn odd_credentials_are_no_tokens() {
        let good = token().reveal().to_owned();
        let odd = [
            "",
            "undefined",
            "null",
            "mrd_",
            "mrd_us_",
            "mrd_us",
            &good[1..],
            &good[..good.len() - 1],
        ];
        for text in odd {
            assert!(ApiToken::parse(text).is_err(), "{text:?}");
        }
        assert!(ApiToken::parse(&format!("{good} ")).is_err());
        assert!(ApiToken::parse(&good.replace("us", "üs")).is_err());
    }

    #[test]
    fn debug_shows_no_secret() {
        let token = token();
        let shown = format!("{token:?} {:?}", token.digest());
        assert!(!shown.contains(&token.reveal()[7..]));
        assert!(!shown.contains(&String::from(token.digest())));
    }

    #[test]
    fn the_alphabet_is_used_evenly() {
        let text = random_base62(62_000).unwrap();
        let mut counts = std::collections::HashMap::new();
        for c in text.chars() {
            *counts.entry(c).or_insert(0_u32) += 1;
        }
        assert_eq!(counts.len(), 62);
        // 1,000 expected for each; eight standard deviations either way.
        assert!(
            counts.values().all(|n| (750..1250).contains(n)),
            "{counts:?}"
        );
    }
}
