//! Signatures in the form of Standard Webhooks: HMAC-SHA256 over id, time and body.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use shared::Timestamp;
use shared::api_token::RandomnessError;

use crate::store::events::SigningSecret;

/// What a secret begins with.
const PREFIX: &str = "whsec_";
/// Bytes of a secret.
const SECRET_BYTES: usize = 32;

/// A new secret: `whsec_` and 32 random bytes in base64.
///
/// # Errors
/// [`RandomnessError`] when the operating system's generator fails.
pub fn new_secret() -> Result<String, RandomnessError> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes).map_err(|_| RandomnessError)?;
    Ok(format!("{PREFIX}{}", STANDARD.encode(bytes)))
}

/// The value of `webhook-signature`: one signature for each secret that is good now, the newest
/// first, so that a receiver that knows either takes the delivery.
#[must_use]
pub fn sign(secrets: &[SigningSecret], id: &str, at: Timestamp, body: &str) -> String {
    let live = secrets
        .iter()
        .filter(|secret| secret.until.is_none_or(|until| at < until));
    let signatures = live.filter_map(|secret| one(&secret.secret, id, at, body));
    signatures.collect::<Vec<_>>().join(" ")
}

fn one(secret: &str, id: &str, at: Timestamp, body: &str) -> Option<String> {
    let key = STANDARD.decode(secret.strip_prefix(PREFIX)?).ok()?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
    for part in [id, ".", &at.as_seconds().to_string(), ".", body] {
        mac.update(part.as_bytes());
    }
    Some(format!(
        "v1,{}",
        STANDARD.encode(mac.finalize().into_bytes())
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference libraries.
    #[test]
    fn a_signature_is_that_of_the_specification() {
        let secret = SigningSecret {
            secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned(),
            until: None,
        };
        let signature = sign(
            &[secret],
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            Timestamp(1_614_265_330_000),
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn both_secrets_sign_until_the_old_one_ends() {
        let secret = |until| SigningSecret {
            secret: new_secret().unwrap(),
            until,
        };
        let secrets = [secret(None), secret(Some(Timestamp(2000)))];
        let signatures = |at| sign(&secrets, "evt_1", Timestamp(at), "{}");
        assert_eq!(signatures(1999).split(' ').count(), 2);
        assert_eq!(signatures(2000).split(' ').count(), 1);
    }
}
