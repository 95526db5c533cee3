//! What every SCIM handler reads from a request and writes to an answer: bodies, conditions,
//! parameters, media types, and the face of SCIM 1.1. No operation of any resource lives here.

use std::cell::Cell;
use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    ACCEPT, CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH, LOCATION,
};
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, HttpResponse};
use serde_json::{Map, Value};
use shared::link::{IDEMPOTENCY_KEY, MAX_BODY_BYTES, MAX_GROUP_REPLACE_BYTES, RESENT};
use shared::{Dialect, ScimError, urn};

use crate::error::Error;
use crate::provider::resources::Got;
use crate::provider::{Caller, Shown, View};
use crate::scim::client::Clues;
use crate::scim::schema::{GROUP, ResourceSchema, USER};
use crate::scim::tolerance::Tolerance;
use crate::scim::{
    EntityTags, ListRequest, Notes, PatchRequest, ResourceId, ResourceKind, json, scim11,
};
use crate::store::RequestKey;
use crate::tenant_scope::TenantScope;

/// The kind of resources that a route serves, as the route says.
#[derive(Clone, Copy, Debug)]
pub struct Kind(pub ResourceKind);

impl FromRequest for Kind {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let kind = request.app_data::<Self>().copied();
        ready(kind.ok_or_else(|| Error::Internal("a route without a kind".into())))
    }
}

/// One request and its answer: what is sent is read in the client's dialect, and what is
/// answered is written in it.
pub struct Exchange<'r> {
    request: &'r HttpRequest,
    scope: &'r TenantScope,
    /// That of the path, until the body says otherwise: PingOne speaks both on one URL.
    dialect: Cell<Dialect>,
}

impl<'r> Exchange<'r> {
    /// The exchange of a call.
    #[must_use]
    pub fn new(request: &'r HttpRequest, scope: &'r TenantScope) -> Self {
        Self {
            request,
            scope,
            dialect: Cell::new(scope.dialect),
        }
    }

    /// Who reads.
    #[must_use]
    pub fn reader(&self) -> Caller<'r> {
        Caller {
            access: &self.scope.access,
            request_id: self.scope.request_id.as_str(),
            request: None,
            noted: &self.scope.noted,
        }
    }

    /// Who writes, and by which request.
    #[must_use]
    pub fn writer(&self, body: &[u8]) -> Caller<'r> {
        let request = self.request;
        let is_resent = request.headers().contains_key(RESENT);
        let key = request
            .headers()
            .get(IDEMPOTENCY_KEY)
            .and_then(|value| value.to_str().ok());
        let what = [
            request.method().as_str().as_bytes(),
            request.uri().path().as_bytes(),
            request.query_string().as_bytes(),
            body,
        ];
        Caller {
            request: key.and_then(|key| RequestKey::parse(key, is_resent, what)),
            ..self.reader()
        }
    }

    /// Where the client reaches this service provider.
    #[must_use]
    pub fn base_url(&self) -> &'r str {
        self.scope.base_url.as_str()
    }

    /// A body that is one JSON object of at most `limit` bytes. `application/scim+json` and
    /// `application/json` are taken, with any parameters and in any case; a missing type is
    /// taken for JSON (RFC 7644 section 3.1).
    ///
    /// # Errors
    /// 415, 413 or 400 `invalidSyntax`.
    pub fn object(&self, body: &[u8], limit: usize) -> Result<Map<String, Value>, Error> {
        let media_type = self.request.content_type().trim();
        let is = |name: &str| media_type.eq_ignore_ascii_case(name);
        if !(media_type.is_empty() || is(urn::SCIM_JSON) || is(urn::JSON)) {
            return Err(Error::MediaType);
        }
        if body.len() > limit {
            return Err(Error::PayloadTooLarge(limit));
        }
        let body = json::parse_object(body).map_err(ScimError::from)?;
        let is_scim11 = scim11::is_scim11(&body);
        self.scope.noted.with(|facts| {
            facts.clues.add(Clues::of_body(&body));
            if !body.keys().any(|name| name.eq_ignore_ascii_case("schemas")) {
                facts.tolerated.note(Tolerance::NoSchemas);
            }
            if is_scim11 && facts.dialect == Dialect::Scim20 {
                facts.tolerated.note(Tolerance::Scim11Body);
                facts.dialect = Dialect::Scim11;
            }
        });
        if is_scim11 {
            self.dialect.set(Dialect::Scim11);
            // An error is to be answered in it too.
            self.request.extensions_mut().insert(Dialect::Scim11);
        }
        Ok(body)
    }

    /// The body of a whole resource. A group may be larger than other bodies.
    ///
    /// # Errors
    /// As [`Self::object`].
    pub fn resource(&self, kind: ResourceKind, body: &[u8]) -> Result<Map<String, Value>, Error> {
        let limit = match kind {
            ResourceKind::User => MAX_BODY_BYTES,
            ResourceKind::Group => MAX_GROUP_REPLACE_BYTES,
        };
        self.object(body, limit)
    }

    /// The body of a PATCH. SCIM 1.1 sends a partial resource.
    ///
    /// # Errors
    /// As [`Self::object`], and 400 where it is no PATCH.
    pub fn patch(&self, kind: ResourceKind, body: &[u8]) -> Result<PatchRequest, Error> {
        let body = self.object(body, MAX_BODY_BYTES)?;
        let has_operations = body
            .keys()
            .any(|name| name.eq_ignore_ascii_case("operations"));
        if self.dialect.get() == Dialect::Scim11 && !has_operations {
            return Ok(scim11::read_patch(scim11_schema(kind), body));
        }
        let mut notes = Notes::default();
        let patch = PatchRequest::parse(body, &mut notes);
        self.scope.noted.tolerate(notes);
        Ok(patch.map_err(ScimError::from)?)
    }

    /// `If-Match`.
    #[must_use]
    pub fn if_match(&self) -> Option<EntityTags> {
        self.entity_tags(&IF_MATCH)
    }

    /// `If-None-Match`.
    #[must_use]
    pub fn if_none_match(&self) -> Option<EntityTags> {
        self.entity_tags(&IF_NONE_MATCH)
    }

    /// A header that is there counts, however malformed: it names nothing then.
    fn entity_tags(&self, name: &HeaderName) -> Option<EntityTags> {
        let header = self.request.headers().get(name)?;
        Some(EntityTags::parse(header.to_str().unwrap_or_default()))
    }

    /// 201 with the resource, `Location` and `ETag`.
    #[must_use]
    pub fn created(&self, shown: Shown) -> HttpResponse {
        self.with_version(StatusCode::CREATED, shown)
    }

    /// 200 with the resource.
    #[must_use]
    pub fn ok(&self, shown: Shown) -> HttpResponse {
        self.with_version(StatusCode::OK, shown)
    }

    /// 200 with the resource, or 304 where the client has it.
    #[must_use]
    pub fn ok_or_not_modified(&self, got: Got) -> HttpResponse {
        match got {
            Got::Shown(shown) => self.ok(shown),
            Got::NotModified(version) => HttpResponse::NotModified()
                .insert_header((ETAG, version.to_string()))
                .finish(),
        }
    }

    /// 200 with the resource, or 204 where it is not shown.
    #[must_use]
    pub fn ok_or_no_content(&self, shown: Option<Shown>) -> HttpResponse {
        shown.map_or_else(
            || HttpResponse::NoContent().finish(),
            |shown| self.ok(shown),
        )
    }

    /// 200 with a list response.
    #[must_use]
    pub fn list(&self, list: String) -> HttpResponse {
        let list = self.in_dialect(list, scim11::show_list);
        self.answer(StatusCode::OK, list)
    }

    /// An answer with a JSON text.
    #[must_use]
    pub fn answer(&self, status: StatusCode, body: String) -> HttpResponse {
        HttpResponse::build(status)
            .insert_header((CONTENT_TYPE, self.media_type()))
            .body(body)
    }

    fn with_version(&self, status: StatusCode, shown: Shown) -> HttpResponse {
        HttpResponse::build(status)
            .insert_header((CONTENT_TYPE, self.media_type()))
            .insert_header((ETAG, shown.version.to_string()))
            .insert_header((LOCATION, shown.location))
            .body(self.in_dialect(shown.body, scim11::show_resource))
    }

    fn in_dialect(
        &self,
        body: String,
        show: impl Fn(Map<String, Value>) -> Map<String, Value>,
    ) -> String {
        if self.dialect.get() == Dialect::Scim20 {
            return body;
        }
        match serde_json::from_str(&body) {
            Ok(Value::Object(object)) => Value::Object(show(object)).to_string(),
            _ => body,
        }
    }

    /// SCIM's media type, unless the client accepts plain JSON alone (RFC 7644 section 3.8).
    fn media_type(&self) -> &'static str {
        let accept = self
            .request
            .headers()
            .get(ACCEPT)
            .and_then(|accept| accept.to_str().ok());
        let accepts = |name: &str| {
            accept.is_none_or(|accept| {
                let mut types = accept
                    .split(',')
                    .map(|t| t.split(';').next().unwrap_or(t).trim());
                types.any(|t| t.eq_ignore_ascii_case(name))
            })
        };
        let any = [urn::SCIM_JSON, "*/*", "application/*"]
            .into_iter()
            .any(accepts);
        if accepts(urn::JSON) && !any {
            urn::JSON
        } else {
            self.dialect.get().media_type()
        }
    }
}

/// The parameters of a list request.
#[derive(Debug)]
pub struct ListQuery(pub ListRequest);

/// The parameters of a request for one resource: those of lists say nothing here.
#[derive(Debug)]
pub struct ViewQuery(ListRequest);

impl ViewQuery {
    /// How the client wants to see one resource.
    #[must_use]
    pub fn view<'v>(&'v self, base_url: &'v str) -> View<'v> {
        let Self(request) = self;
        let (only, without) = (&request.attributes, &request.excluded_attributes);
        View {
            base_url,
            only: only.as_deref(),
            without: without.as_deref(),
        }
    }
}

impl FromRequest for ListQuery {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let parsed = ListRequest::parse(request.query_string()).map(Self);
        ready(parsed.map_err(|error| Error::Scim(error.into())))
    }
}

impl FromRequest for ViewQuery {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let parsed = ListRequest::parse_view(request.query_string()).map(Self);
        ready(parsed.map_err(|error| Error::Scim(error.into())))
    }
}

/// SCIM 1.1 knows the core schemas and the enterprise extension, and no tenant's own.
fn scim11_schema(kind: ResourceKind) -> &'static ResourceSchema {
    match kind {
        ResourceKind::User => &USER,
        ResourceKind::Group => &GROUP,
    }
}

/// The id in a path. Whatever is no id of ours is the id of nothing: 404.
///
/// # Errors
/// 404.
pub fn resource_id(text: &str) -> Result<ResourceId, Error> {
    ResourceId::parse(text).map_err(|_| Error::Store(crate::store::StoreError::NotFound))
}
