//! What every SCIM handler reads from a request and writes to an answer: bodies, conditions,
//! parameters, media types. No operation of any resource lives here.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH, LOCATION};
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, HttpResponse};
use serde_json::{Map, Value};
use shared::link::MAX_BODY_BYTES;
use shared::urn;

use crate::error::Error;
use crate::provider::users::Shown;
use crate::scim::schema::ResourceSchema;
use crate::scim::{EntityTags, ListRequest, Projection, ResourceId, json};

/// A body that is one JSON object.
#[derive(Debug)]
pub struct ScimBody(pub Map<String, Value>);

impl ScimBody {
    /// Reads a body. `application/scim+json` and `application/json` are taken, with any
    /// parameters and in any case; a missing type is taken for JSON (RFC 7644 section 3.1).
    ///
    /// # Errors
    /// 415, 413 or 400 `invalidSyntax`.
    pub fn parse(request: &HttpRequest, body: &[u8]) -> Result<Self, Error> {
        let media_type = request.content_type().trim();
        let is = |name: &str| media_type.eq_ignore_ascii_case(name);
        if !(media_type.is_empty() || is(urn::SCIM_JSON) || is(urn::JSON)) {
            return Err(Error::UnsupportedMediaType);
        }
        if body.len() > MAX_BODY_BYTES {
            return Err(Error::PayloadTooLarge);
        }
        Ok(Self(json::parse_object(body)?))
    }
}

/// The parameters of a list request.
#[derive(Debug)]
pub struct ListQuery(pub ListRequest);

impl FromRequest for ListQuery {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(ListRequest::parse(request.query_string()).map(Self).map_err(Error::from))
    }
}

/// `attributes` and `excludedAttributes` of a request for one resource.
///
/// # Errors
/// 400 where the query string cannot be read.
pub fn projection(request: &HttpRequest, schema: &ResourceSchema) -> Result<Projection, Error> {
    let query = request.query_string();
    if query.is_empty() {
        return Ok(Projection::default());
    }
    let list = ListRequest::parse(query)?;
    let (only, without) = (list.attributes.as_deref(), list.excluded_attributes.as_deref());
    Ok(Projection::parse(schema, only, without))
}

/// The id in a path. Whatever is no id of ours is the id of nothing: 404.
///
/// # Errors
/// 404.
pub fn resource_id(text: &str) -> Result<ResourceId, Error> {
    ResourceId::parse(text).map_err(|_| Error::NotFound)
}

/// `If-Match`.
#[must_use]
pub fn if_match(request: &HttpRequest) -> Option<EntityTags> {
    entity_tags(request, &IF_MATCH)
}

/// `If-None-Match`.
#[must_use]
pub fn if_none_match(request: &HttpRequest) -> Option<EntityTags> {
    entity_tags(request, &IF_NONE_MATCH)
}

/// A header that is there counts, however malformed: it names nothing then.
fn entity_tags(request: &HttpRequest, name: &HeaderName) -> Option<EntityTags> {
    let header = request.headers().get(name)?;
    Some(EntityTags::parse(header.to_str().unwrap_or_default()))
}

/// SCIM's media type, unless the client accepts plain JSON alone (RFC 7644 section 3.8).
fn media_type(request: &HttpRequest) -> &'static str {
    let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let accepts = |name: &str| {
        accept.is_none_or(|accept| {
            let mut types = accept.split(',').map(|t| t.split(';').next().unwrap_or(t).trim());
            types.any(|t| t.eq_ignore_ascii_case(name))
        })
    };
    let json_alone = accepts(urn::JSON) && !accepts(urn::SCIM_JSON) && !accepts("*/*");
    if json_alone && !accepts("application/*") { urn::JSON } else { urn::SCIM_JSON }
}

/// An answer with a JSON text.
#[must_use]
pub fn answer(request: &HttpRequest, status: StatusCode, body: String) -> HttpResponse {
    HttpResponse::build(status).insert_header((CONTENT_TYPE, media_type(request))).body(body)
}

fn with_version(request: &HttpRequest, status: StatusCode, shown: Shown) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((CONTENT_TYPE, media_type(request)))
        .insert_header((ETAG, shown.version.to_string()))
        .insert_header((LOCATION, shown.location))
        .body(shown.body)
}

/// 201 with the resource, `Location` and `ETag`.
#[must_use]
pub fn created(request: &HttpRequest, shown: Shown) -> HttpResponse {
    with_version(request, StatusCode::CREATED, shown)
}

/// 200 with the resource.
#[must_use]
pub fn ok(request: &HttpRequest, shown: Shown) -> HttpResponse {
    with_version(request, StatusCode::OK, shown)
}

/// 200 with the resource, or 304 where the client has it.
#[must_use]
pub fn ok_or_not_modified(request: &HttpRequest, shown: Option<Shown>) -> HttpResponse {
    shown.map_or_else(|| HttpResponse::NotModified().finish(), |shown| ok(request, shown))
}

/// 200 with a list response.
#[must_use]
pub fn list(request: &HttpRequest, list: String) -> HttpResponse {
    answer(request, StatusCode::OK, list)
}
