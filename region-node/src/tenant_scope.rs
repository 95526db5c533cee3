//! [`TenantScope`]: what a handler may touch, from a call that a gateway of this region sent and
//! that carries a grant of this region. Also [`FromGateway`] and [`FromOperator`], for the calls
//! that have no tenant.
//!
//! Whether the grant still stands is asked by the store, in the transaction of the operation; for
//! administrators also before it, because not all that they ask for is one.

use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::http::header::{AUTHORIZATION, HeaderMap, USER_AGENT};
use actix_web::web::Data;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};
use futures_util::future::LocalBoxFuture;
use shared::link::{BASE_URL, LINK_KEY, OPERATOR_KEY};
use shared::{Dialect, Scope, TokenId};

use crate::error::Error;
use crate::grant::GrantError;
use crate::keys::KeySet;
use crate::provider::Caller;
use crate::provider::noted::{Facts, Noted};
use crate::request::{RequestId, dialect_of};
use crate::scim::ResourceId;
use crate::scim::client::Clues;
use crate::scim::tolerance::Tolerance;
use crate::startup::Parts;
use crate::store::activity::Operation;
use crate::store::{Access, Author, Tenant};
use crate::telemetry::RequestRecord;

/// A tenant's part of the region, as one call may touch it.
#[derive(Clone, Debug)]
pub struct TenantScope {
    /// The right to the tenant's resources.
    pub access: Access,
    /// Which of the tenant's tokens the client presented.
    pub token_id: TokenId,
    /// What that token may be used for.
    pub scope: Scope,
    /// Where the client reaches this service provider: the beginning of `meta.location`.
    pub base_url: BaseUrl,
    /// The id of the request.
    pub request_id: RequestId,
    /// Which protocol the client speaks.
    pub dialect: Dialect,
    /// Takes down what happens, for the tenant's activity.
    pub noted: Arc<Noted>,
}

impl TenantScope {
    /// Who reads, in a call that is not to be repeated under a name.
    #[must_use]
    pub fn caller(&self) -> Caller<'_> {
        Caller {
            access: &self.access,
            request: None,
            noted: &self.noted,
            request_id: self.request_id.as_str(),
        }
    }

    /// What the audit says of the caller.
    #[must_use]
    pub fn author(&self) -> Author {
        Author::token(&self.token_id, self.request_id.as_str())
    }
}

impl FromRequest for TenantScope {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(tenant_scope(request, Scope::Scim))
    }
}

/// The same for the tenant's administrator: a token of the scope `admin`. The store was asked when
/// the call came, and the access holds.
#[derive(Clone, Debug)]
pub struct AdminScope {
    /// What may be touched.
    pub scope: TenantScope,
    /// The tenant, as the store has it.
    pub tenant: Tenant,
}

impl FromRequest for AdminScope {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let scope = tenant_scope(request, Scope::Admin);
        let store = parts(request).map(|parts| Arc::clone(&parts.store));
        Box::pin(async move {
            let scope = scope?;
            let tenant = store?.head(&scope.access).await?;
            Ok(Self { scope, tenant })
        })
    }
}

fn tenant_scope(request: &HttpRequest, needed: Scope) -> Result<TenantScope, Error> {
    let parts = parts(request)?;
    check_key(request.headers(), LINK_KEY, &parts.link_keys).ok_or(Error::LinkKey)?;
    let now = parts.clock.now();
    let claims = parts.grants.verify(bearer(request.headers())?, now)?;
    if let Some(record) = request.extensions().get::<RequestRecord>() {
        record.identify(&claims.tid, &claims.sub);
        record.route(request.match_pattern());
    }
    if claims.scp != needed {
        parts.refusals.scope(&claims.tid, &claims.sub);
        return Err(Error::Scope);
    }
    // The path says 1.1, or the token does; errors are answered in it too.
    let dialect = match dialect_of(request.path()) {
        Dialect::Scim20 => claims.dia,
        Dialect::Scim11 => Dialect::Scim11,
    };
    request.extensions_mut().insert(dialect);
    parts.last_used.note(&claims.sub, now);
    let facts = facts(request, dialect);
    let noted = Arc::new(Noted::begin(claims.tid.clone(), claims.sub.clone(), facts));
    if needed == Scope::Scim
        && let Some(record) = request.extensions().get::<RequestRecord>()
    {
        record.provisioning(Arc::clone(&noted));
    }
    Ok(TenantScope {
        access: Access {
            tenant: claims.tid.clone(),
            credential_version: claims.cvr,
        },
        token_id: claims.sub.clone(),
        scope: claims.scp,
        base_url: base_url(request.headers())?,
        request_id: request
            .extensions()
            .get::<RequestId>()
            .cloned()
            .ok_or(Error::Link("a request id"))?,
        dialect,
        noted,
    })
}

/// What a request's head tells its tenant's activity.
fn facts(request: &HttpRequest, dialect: Dialect) -> Facts {
    let mut facts = Facts {
        dialect,
        clues: Clues::of_query(request.query_string()),
        resource: request
            .match_info()
            .get("id")
            .and_then(|id| ResourceId::parse(id).ok()),
        ..Facts::default()
    };
    let text = |name: &str| request.headers().get(name)?.to_str().ok();
    if let Some(agent) = text(USER_AGENT.as_str()) {
        facts.clues.add(Clues::of_user_agent(agent));
    }
    if *request.method() == Method::POST
        && let Some(named) = text("x-http-method-override")
    {
        let meant = match named.to_ascii_uppercase().as_str() {
            "PUT" => Some((Operation::Replace, "PUT")),
            "PATCH" => Some((Operation::Patch, "PATCH")),
            "DELETE" => Some((Operation::Delete, "DELETE")),
            _ => None,
        };
        if let Some((operation, name)) = meant {
            facts.meant = Some(operation);
            facts.tolerated.note_of(Tolerance::MethodOverride, name);
        }
    }
    facts
}

fn parts(request: &HttpRequest) -> Result<&Data<Parts>, Error> {
    request
        .app_data::<Data<Parts>>()
        .ok_or_else(|| Error::Internal("the parts are missing".into()))
}

fn check_key(headers: &HeaderMap, name: &str, keys: &KeySet) -> Option<()> {
    let presented = only(headers, name)?;
    keys.accepts(presented.as_bytes()).then_some(())
}

/// The value of a header that must stand there once.
fn only<'a>(
    headers: &'a HeaderMap,
    name: &str,
) -> Option<&'a actix_web::http::header::HeaderValue> {
    let mut values = headers.get_all(name);
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value),
        _ => None,
    }
}

fn bearer(headers: &HeaderMap) -> Result<&str, GrantError> {
    only(headers, AUTHORIZATION.as_str())
        .ok_or(GrantError::Missing)?
        .to_str()
        .ok()
        .and_then(|value| value.strip_prefix("Bearer "))
        .ok_or(GrantError::Form)
}

fn base_url(headers: &HeaderMap) -> Result<BaseUrl, Error> {
    only(headers, BASE_URL)
        .and_then(|value| value.to_str().ok())
        .and_then(BaseUrl::parse)
        .ok_or(Error::Link("the base URL"))
}

/// The public base URL of a call, without a slash at its end. Made of characters that need no
/// escaping in JSON, in a header or in HTML, so it can be put in front of a path as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(String);

impl BaseUrl {
    const LONGEST: usize = 512;

    /// Takes an absolute `http` or `https` URL without query or fragment; `None` for all else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"))?;
        let plain = |b: u8| {
            b.is_ascii_alphanumeric()
                || matches!(b, b'.' | b':' | b'/' | b'_' | b'-' | b'~' | b'[' | b']')
        };
        if rest.is_empty()
            || rest.starts_with('/')
            || text.len() > Self::LONGEST
            || !rest.bytes().all(plain)
        {
            return None;
        }
        Some(Self(text.trim_end_matches('/').to_owned()))
    }

    /// The URL as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The public base URL, where the caller knows it; empty where it does not, and links are
/// relative to it.
#[derive(Clone, Debug)]
pub struct MaybeBaseUrl(pub String);

impl FromRequest for MaybeBaseUrl {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        if !request.headers().contains_key(BASE_URL) {
            return ready(Ok(Self(String::new())));
        }
        ready(base_url(request.headers()).map(|url| Self(url.0)))
    }
}

/// Proof that the caller is a gateway of this region: it has the link key.
#[derive(Clone, Copy, Debug)]
pub struct FromGateway(());

impl FromRequest for FromGateway {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(parts(request).and_then(|parts| {
            check_key(request.headers(), LINK_KEY, &parts.link_keys)
                .map(Self)
                .ok_or(Error::LinkKey)
        }))
    }
}

/// Proof that the caller is the region's operator: it has the operator key.
#[derive(Clone, Copy, Debug)]
pub struct FromOperator(());

impl FromRequest for FromOperator {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(parts(request).and_then(|parts| {
            check_key(request.headers(), OPERATOR_KEY, &parts.operator_keys)
                .map(Self)
                .ok_or(Error::OperatorKey)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_plain() {
        let url = BaseUrl::parse("http://global-us.localhost:8080/api/v1/scim/").unwrap();
        assert_eq!(url.as_str(), "http://global-us.localhost:8080/api/v1/scim");
        assert!(BaseUrl::parse("https://[::1]:80/x").is_some());
        for odd in [
            "",
            "http://",
            "https:///x",
            "ftp://a/b",
            "//a/b",
            "http://a/\"",
            "http://a/<",
            "http://a/?q",
            "http://a/#f",
            "http://a/ b",
            "http://ä/",
            "javascript:alert(1)",
        ] {
            assert!(BaseUrl::parse(odd).is_none(), "{odd}");
        }
        assert!(BaseUrl::parse(&format!("http://{}", "a".repeat(600))).is_none());
    }
}
