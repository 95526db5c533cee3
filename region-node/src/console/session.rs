//! [`Visitor`]: an administrator in a session of the console, and the proof that a form is one that
//! this session was shown.
//!
//! A session is an access token that the gateway took from a cookie; it says which one by its
//! digest. The proof in a form is made from that digest, which no page and nobody but the region
//! and the holder of the token can know. So another site cannot make a form, whatever a browser
//! sends along with it.

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use futures_util::future::LocalBoxFuture;
use sha2::{Digest as _, Sha256};
use shared::TokenDigest;
use shared::link::SESSION;
use subtle::ConstantTimeEq as _;

use crate::error::Error;
use crate::store::Tenant;
use crate::tenant_scope::{AdminScope, TenantScope};

/// The field of a form that holds its proof.
pub const PROOF: &str = "proof";

/// An administrator in a session, which is good: the store was asked when the call came.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// What may be touched.
    pub scope: TenantScope,
    /// The tenant, as the store has it.
    pub tenant: Tenant,
    /// The session.
    pub session: TokenDigest,
    proof: String,
}

impl FromRequest for Visitor {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self, Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let scope = AdminScope::from_request(request, payload);
        let session = request
            .headers()
            .get(SESSION)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| TokenDigest::try_from(text.to_owned()).ok());
        Box::pin(async move {
            let AdminScope { scope, tenant } = scope.await?;
            let session = session.ok_or(Error::Link("a session"))?;
            Ok(Self {
                proof: proof(&session),
                session,
                scope,
                tenant,
            })
        })
    }
}

fn proof(session: &TokenDigest) -> String {
    let digest = Sha256::new()
        .chain_update(b"a form of the console")
        .chain_update(session.as_bytes())
        .finalize();
    hex::encode(digest)
}

impl Visitor {
    /// What a form of this session holds.
    #[must_use]
    pub fn proof(&self) -> &str {
        &self.proof
    }

    /// Reads a form, if it is one of this session.
    ///
    /// # Errors
    /// [`Error::ForeignForm`].
    pub fn form(&self, body: &[u8]) -> Result<Form, Error> {
        let form = Form(form_urlencoded::parse(body).into_owned().collect());
        let proofs: Vec<&str> = form.all(PROOF).collect();
        match proofs.as_slice() {
            [proof] if proof.as_bytes().ct_eq(self.proof.as_bytes()).into() => Ok(form),
            _ => Err(Error::ForeignForm),
        }
    }
}

/// The fields of a form.
#[derive(Clone, Debug, Default)]
pub struct Form(Vec<(String, String)>);

impl Form {
    /// The fields of a query string.
    #[must_use]
    pub fn of_query(query: &str) -> Self {
        Self(
            form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    /// A form that is filled in already.
    pub fn of_fields<'v>(fields: impl IntoIterator<Item = (&'static str, &'v String)>) -> Self {
        let fields = fields.into_iter();
        Self(
            fields
                .map(|(name, value)| (name.to_owned(), value.clone()))
                .collect(),
        )
    }

    /// A field without the white space around it; one that is left empty is not there.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.all(name).next()?.trim();
        (!value.is_empty()).then_some(value)
    }

    /// All fields of a name, as they were sent.
    pub fn all<'f, 'n>(&'f self, name: &'n str) -> impl Iterator<Item = &'f str> + use<'f, 'n> {
        let named = self.0.iter().filter(move |(of, _)| of == name);
        named.map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use shared::{ApiToken, RegionId};

    use super::*;

    #[test]
    fn a_form_proves_its_session() {
        let region = RegionId::parse("us").unwrap();
        let digest = || ApiToken::generate(&region).unwrap().digest();
        let (mine, other) = (proof(&digest()), proof(&digest()));
        assert_ne!(mine, other);
        let is_mine = |body: &str| {
            let form = Form(
                form_urlencoded::parse(body.as_bytes())
                    .into_owned()
                    .collect(),
            );
            let proofs: Vec<&str> = form.all(PROOF).collect();
            matches!(proofs.as_slice(), [one] if *one == mine)
        };
        assert!(is_mine(&format!("name=x&proof={mine}")));
        for body in [
            String::new(),
            "name=x".to_owned(),
            "proof=".to_owned(),
            format!("proof={other}"),
            format!("proof={mine}&proof={mine}"),
            format!("Proof={mine}"),
        ] {
            assert!(!is_mine(&body), "{body}");
        }
    }

    #[test]
    fn an_empty_field_is_none() {
        let form = Form::of_query("a=+x+&b=&c=+&d=1&d=2&%65=%22");
        assert_eq!(form.get("a"), Some("x"));
        assert_eq!(
            (form.get("b"), form.get("c"), form.get("z")),
            (None, None, None)
        );
        assert_eq!(form.all("d").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(form.get("e"), Some("\""));
    }
}
