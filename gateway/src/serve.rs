//! The road of one request, from its header to its answer: [`serve`].

use std::cell::Cell;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_http::Request;
use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderMap};
use actix_web::http::{ConnectionType, Method, StatusCode};
use actix_web::web::{Bytes, BytesMut, Data};
use actix_web::{HttpMessage as _, HttpResponse};
use futures_util::{FutureExt as _, StreamExt as _};
use shared::link::CONSOLE_SIGN_OUT_PATH;
use shared::{Clock, Dialect, Network};
use telemetry::{Export, prometheus};
use tokio::time::{Instant, timeout};

use crate::connection::{Activity, Seats, ServerName, Serving};
use crate::console::{self, Door, session};
use crate::credential::{self, CredentialError};
use crate::error::{self, Error, Face};
use crate::forward::{self, CallIds, Passage};
use crate::host::{HostError, Hosts, RegionalHost, ServedHost};
use crate::limits::{BodyMemory, BodyRoom};
use crate::link;
use crate::local::Local;
use crate::metrics::{self, Metrics};
use crate::notices::Notices;
use crate::oauth::{self, OAuthEndpoint, TokenRequest};
use crate::provisioning_client::identify;
use crate::region::Region;
use crate::resolver::Resolver;
use crate::routes::{self, Base, Endpoint, Route};
use crate::source::source;
use crate::telemetry::{Observed, RequestRecord, Step, millis_since};
use crate::tls::EdgeTls;

/// A longer target is refused. A filter has 8 KiB at most, and percent-encoding triples it.
const MAX_TARGET_BYTES: usize = 32 * 1024;
/// More headers are refused: a node takes no more than this and our own, and real clients send a
/// dozen.
const MAX_HEADERS: usize = 64;
/// A larger header is refused (failure class 47).
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// What `Allow` lists where there is no endpoint.
const METHODS: [Method; 5] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
];
/// How much longer than any other answer an export may take to be read.
const EXPORT: Duration = Duration::from_secs(10 * 60);
/// How long a refused client may go on sending a body that nobody reads.
pub const LINGER: Duration = Duration::from_secs(2);

/// The parts of a running gateway that serve requests.
#[derive(Debug)]
pub struct Edge {
    /// Hostnames.
    pub hosts: Hosts,
    /// The regions that are served.
    pub regions: Vec<Arc<Region>>,
    /// Who is calling.
    pub resolver: Arc<Resolver>,
    /// What regions are told of what was refused here.
    pub notices: Arc<Notices>,
    /// Proxies that are believed when they say whom they speak for.
    pub trusted_proxies: Vec<Network>,
    /// Room for bodies.
    pub body_memory: BodyMemory,
    /// Room for requests for access tokens.
    pub oauth_memory: BodyMemory,
    /// For a body to arrive.
    pub body_read: Duration,
    /// For a whole request.
    pub request: Duration,
    /// Largest answer, in bytes.
    pub answer_max_bytes: u64,
    /// How connections are encrypted, if they are.
    pub tls: Option<Arc<EdgeTls>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where traces and metrics go.
    pub export: Export,
    /// Whether clients are believed when they name a trace.
    pub trusts_traces: bool,
    /// Connections of clients.
    pub seats: Seats,
    /// Set when the gateway is about to stop.
    pub draining: AtomicBool,
}

impl Edge {
    /// Whether clients should go elsewhere.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The client's `traceparent`, where it is believed.
    fn believed_trace<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        if !self.trusts_traces {
            return None;
        }
        headers.get(&forward::TRACEPARENT)?.to_str().ok()
    }
}

/// Serves any request there is. Never panics, and never fails: an error is an answer too.
pub async fn serve(
    mut request: Request,
    edge: Local<Edge>,
    metrics: Local<Metrics>,
) -> HttpResponse<Observed> {
    let mut payload = request.take_payload();
    let activity = request.conn_data::<Rc<Activity>>().cloned();
    if activity
        .as_ref()
        .is_some_and(|activity| activity.is_closing())
    {
        // Pipelined behind a request whose answer closes the connection: it may be what that
        // request's body was meant to smuggle. The connection ends in a moment.
        return std::future::pending().await;
    }
    let mut serving = Serving::begin(activity);
    let face = face_of(request.path());
    let tracing = edge.export.tracing();
    let (outcome, mut record) = match CallIds::generate() {
        Ok(ids) => {
            let ids = ids.traced(tracing, edge.believed_trace(request.headers()));
            let mut record =
                RequestRecord::begin(Some(ids.clone()), request.method(), &metrics, tracing);
            // Whatever goes wrong in one request must not end its connection without an answer.
            // The future is made where it is awaited: in a variable it would have its room twice.
            let outcome =
                AssertUnwindSafe(answer(&request, &mut payload, &edge, &ids, &mut record))
                    .catch_unwind()
                    .await
                    .unwrap_or(Err(Error::Panic));
            (outcome, record)
        }
        Err(error) => {
            let record = RequestRecord::begin(None, request.method(), &metrics, tracing);
            (Err(error.into()), record)
        }
    };
    let mut response = outcome.unwrap_or_else(|error| {
        if matches!(face, Face::Scim(_)) {
            let token = credential::present(request.headers());
            let token = token.as_ref().map_err(|error| *error);
            let (path, clock) = (request.path(), &*edge.clock);
            edge.notices.note(&error, path, token, &record, clock);
        }
        record.failure = Some((&error).into());
        error.to_response(face, record.ids.as_ref().map(CallIds::request_id))
    });
    record.status = Some(response.status());
    serving.answered();
    let request_id = record.ids.as_ref().map(CallIds::request_id);
    error::dress(
        &mut response,
        face,
        request_id.and_then(|id| header::HeaderValue::from_str(id).ok()),
    );
    if edge.is_draining() {
        response
            .head_mut()
            .set_connection_type(ConnectionType::Close);
    }
    // A body that was not read must not be taken for the next request (failure class 45).
    if has_body(request.headers()) && record.bytes_in == 0 {
        response
            .head_mut()
            .set_connection_type(ConnectionType::Close);
        serving.close_after(LINGER);
    }
    response.map_body(|_, body| Observed::new(body, record, serving))
}

async fn answer(
    request: &Request,
    payload: &mut Payload,
    edge: &Edge,
    ids: &CallIds,
    record: &mut RequestRecord,
) -> Result<HttpResponse, Error> {
    let mut deadline = record.started + edge.request;
    let peer = request.peer_addr().map(|peer| peer.ip());
    let source = source(peer, request.headers(), &edge.trusted_proxies);

    check_header(request)?;
    let host = edge.hosts.find(request.head())?;
    check_connection(request)?;
    record.region = Some(host.region.id.clone());
    if !routes::is_api(request.path()) {
        if let Some(endpoint) = OAuthEndpoint::parse(request.path()) {
            record.route = endpoint.template();
            // In a box: it is rare, and what it needs would be moved with every request.
            return Box::pin(answer_oauth(
                endpoint, request, payload, edge, &host, source, record,
            ))
            .await;
        }
        if let Some(door) = Door::parse(request.path()) {
            record.route = door.template();
            return Box::pin(answer_at_door(
                door, request, payload, edge, &host, source, record,
            ))
            .await;
        }
    }
    let (route, method) = find_route(request)?;
    record.route = route.endpoint.template();
    let max_body = route.max_body(&method);
    if route.is_export() {
        deadline += EXPORT;
    }
    check_body_header(request.headers(), max_body)?;
    let is_console = route.base == Base::Console;
    let token = if is_console {
        session::check_origin(request.method(), request.headers(), &host.base_urls)?;
        session::present(request.headers(), &host.base_urls)?
    } else {
        credential::present(request.headers())?
    };

    record.enter(Step::Resolve);
    let client = identify(
        &edge.resolver,
        &edge.regions,
        &host,
        route.base,
        &token,
        source,
    )
    .await;
    record.leave(client.is_err());
    let client = client?;
    if is_console && !client.is_access_token {
        // A session has an end, and can be ended without ending the API token.
        return Err(CredentialError::Malformed.into());
    }
    record.client = Some(Arc::clone(&client));
    client.check_source(source)?;
    let begun = edge.clock.now();
    let tenant_pass = client.admit(begun)?;

    let takes_body =
        matches!(method, Method::POST | Method::PUT | Method::PATCH) && has_body(request.headers());
    let (body, body_pass) = match takes_body {
        true => {
            let memories = [
                &edge.body_memory,
                &client.region.body_memory,
                &client.gate.body_memory,
            ];
            let room = BodyRoom::new(memories);
            let (body, room) = Box::pin(read_body(payload, max_body, room, edge.body_read)).await?;
            (body, Some(room))
        }
        false => (Bytes::new(), None),
    };
    record.bytes_in = body.len();
    #[cfg(feature = "log-bodies-control")]
    tracing::warn!(body = %String::from_utf8_lossy(&body), "this build is a control");

    let passage = Passage {
        begun,
        method: request.method(),
        node_path: &route.node_path,
        media: route.media(),
        query: request.uri().query(),
        headers: request.headers(),
        body,
        dialect: dialect_of(route.base),
        base_url: host.base_urls.of(route.base),
        ids,
        deadline,
        was_sent: Cell::new(false),
        source,
        token: &token,
        session: is_console.then(|| token.digest()),
    };
    record.enter(Step::Forward);
    let asked = Instant::now();
    let answer = forward::forward(&passage, client, &edge.resolver).await;
    record.upstream_ms = Some(millis_since(asked));
    record.leave(answer.is_err());
    // The body was needed to send it again; the answer is here.
    drop((passage, body_pass));
    let max_bytes = match route.is_export() {
        true => u64::MAX,
        false => edge.answer_max_bytes,
    };
    let mut response = forward::pass_on(answer?, max_bytes, tenant_pass)?;
    if route.node_path == CONSOLE_SIGN_OUT_PATH && response.status() == StatusCode::SEE_OTHER {
        session::take_back(&mut response);
    }
    Ok(response)
}

/// Answers at the console's door: what a browser needs before it has a session.
async fn answer_at_door(
    door: Door,
    request: &Request,
    payload: &mut Payload,
    edge: &Edge,
    host: &ServedHost,
    source: IpAddr,
    record: &mut RequestRecord,
) -> Result<HttpResponse, Error> {
    door.check_method(request.method())?;
    let is_sign_in = *request.method() == Method::POST;
    if !is_sign_in {
        return Ok(door.show(request.uri().query().unwrap_or_default()));
    }
    session::check_origin(request.method(), request.headers(), &host.base_urls)?;
    let headers = request.headers();
    check_body_header(headers, oauth::MAX_BODY_BYTES)?;
    oauth::check_media_type(headers)?;
    let room = BodyRoom::new([&edge.oauth_memory]);
    let (body, _room) = read_body(payload, oauth::MAX_BODY_BYTES, room, edge.body_read).await?;
    record.bytes_in = body.len();
    let token = console::token_of(&body)?;
    let signed_in = console::sign_in(edge, host, &token, source, record).await;
    if let Err(error) = &signed_in {
        let (path, clock) = (request.path(), &*edge.clock);
        edge.notices.note(error, path, Ok(&token), record, clock);
    }
    signed_in
}

/// How an error at a path looks.
fn face_of(path: &str) -> Face {
    if routes::is_api(path) {
        Face::Scim(routes::dialect(path))
    } else if OAuthEndpoint::parse(path).is_some() {
        Face::OAuth
    } else if !routes::is_console(path) {
        Face::Scim(routes::dialect(path))
    } else if Door::parse(path) == Some(Door::SignIn) {
        Face::SignIn
    } else {
        Face::Console
    }
}

/// Answers at the endpoints of OAuth.
async fn answer_oauth(
    endpoint: OAuthEndpoint,
    request: &Request,
    payload: &mut Payload,
    edge: &Edge,
    host: &ServedHost,
    source: IpAddr,
    record: &mut RequestRecord,
) -> Result<HttpResponse, Error> {
    endpoint.check_method(request.method())?;
    if endpoint == OAuthEndpoint::Metadata {
        return Ok(oauth::metadata(host));
    }
    let headers = request.headers();
    check_body_header(headers, oauth::MAX_BODY_BYTES)?;
    oauth::check_media_type(headers)?;
    TokenRequest::check_header(headers)?;
    let room = BodyRoom::new([&edge.oauth_memory]);
    let (body, _room) = read_body(payload, oauth::MAX_BODY_BYTES, room, edge.body_read).await?;
    record.bytes_in = body.len();
    let token_request = TokenRequest::parse(headers, &body)?;
    let issued = oauth::issue(edge, host, &token_request, source, record).await;
    if let Err(error) = &issued {
        let token = Ok(&token_request.client_secret);
        let (path, clock) = (request.path(), &*edge.clock);
        edge.notices.note(error, path, token, record, clock);
    }
    issued
}

fn dialect_of(base: Base) -> Dialect {
    match base {
        Base::V1 => Dialect::Scim11,
        Base::Plain | Base::V2 | Base::Admin | Base::Console => Dialect::Scim20,
    }
}

/// Refuses what is not done here, before anything else is looked at.
fn check_header(request: &Request) -> Result<(), Error> {
    let headers = request.headers();
    if request.uri().path().len() + request.uri().query().map_or(0, str::len) > MAX_TARGET_BYTES {
        return Err(Error::TargetTooLong);
    }
    let (mut size, mut expects_other, mut upgrades) = (0, false, request.head().upgrade());
    for (name, value) in headers {
        size += name.as_str().len() + value.len() + 4;
        upgrades |= *name == header::UPGRADE;
        expects_other |=
            *name == header::EXPECT && !value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    }
    if size > MAX_HEADER_BYTES || headers.len() > MAX_HEADERS {
        return Err(Error::HeaderTooLarge);
    }
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return Err(Error::Method { allowed: &METHODS });
    }
    if upgrades {
        return Err(Error::Refused("Protocol upgrades are not offered."));
    }
    if expects_other {
        return Err(Error::Expectation);
    }
    Ok(())
}

/// A connection that was encrypted for one host carries requests for no other: what stands in front
/// of us may have let it through because of that name (failure class 56).
fn check_connection(request: &Request) -> Result<(), HostError> {
    match request.conn_data::<ServerName>() {
        Some(ServerName(name)) if RegionalHost::of(request.head())? != *name => {
            Err(HostError::NotOfConnection)
        }
        _ => Ok(()),
    }
}

/// The route, and the method that it is asked for: SCIM 1.1 lets a POST stand for another one.
fn find_route(request: &Request) -> Result<(Route, Method), Error> {
    let method = request.method();
    let Some(route) = Route::parse(request.uri().path()) else {
        return match METHODS.contains(method) || *method == Method::HEAD {
            true => Err(Error::NoSuchEndpoint),
            false => Err(Error::Method { allowed: &METHODS }),
        };
    };
    // Only a resource can be meant to be changed by a POST, and only so.
    let meant = request
        .headers()
        .get(&forward::METHOD_OVERRIDE)
        .filter(|_| matches!(route.endpoint, Endpoint::Resource(_)) && *method == Method::POST)
        .and_then(|value| {
            let named = |method: &&Method| {
                value
                    .as_bytes()
                    .eq_ignore_ascii_case(method.as_str().as_bytes())
            };
            [Method::PUT, Method::PATCH, Method::DELETE]
                .iter()
                .find(named)
                .cloned()
        })
        .unwrap_or_else(|| method.clone());
    let allowed = route.methods();
    if allowed.contains(&meant) {
        Ok((route, meant))
    } else {
        Err(Error::Method { allowed })
    }
}

/// Refuses a body that its header gives away.
fn check_body_header(headers: &HeaderMap, limit: usize) -> Result<(), Error> {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING);
    if encodings.any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Error::BodyEncoding);
    }
    match content_length(headers) {
        Some(length) if length > limit => Err(Error::BodyTooLarge { limit }),
        _ => Ok(()),
    }
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    let text = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?;
    // Too large for a number is too large for us.
    Some(text.trim().parse().unwrap_or(usize::MAX))
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || content_length(headers).is_some_and(|length| length > 0)
}

/// Reads a body whole, within a time for all of it. Room for it is taken as it arrives: what is only
/// announced takes none, or a few idle connections could take all of it from everybody.
async fn read_body(
    payload: &mut Payload,
    limit: usize,
    mut room: BodyRoom,
    time: Duration,
) -> Result<(Bytes, BodyRoom), Error> {
    let reading = async {
        let mut body = BytesMut::new();
        while let Some(part) = payload.next().await {
            let part = part.map_err(|_| Error::BodyBroken)?;
            let length = body.len() + part.len();
            if length > limit {
                return Err(Error::BodyTooLarge { limit });
            }
            room.grow(length)?;
            body.extend_from_slice(&part);
            // The buffer grows by more than what it takes in.
            room.grow(body.capacity())?;
        }
        Ok((body.freeze(), room))
    };
    timeout(time, reading)
        .await
        .unwrap_or(Err(Error::BodyTooSlow))
}

/// `GET /livez`: the program runs, and which release it is.
pub async fn livez() -> HttpResponse {
    let version = env!("CARGO_PKG_VERSION");
    HttpResponse::Ok().json(serde_json::json!({ "live": true, "version": version }))
}

/// `GET /readyz`: at least one region lets us in, and this gateway is not about to stop. Which ones,
/// the body says, and what is wrong with which node; and how Redis is doing, which is never a reason
/// not to be ready.
pub async fn readyz(edge: Data<Edge>) -> HttpResponse {
    let probes = edge
        .regions
        .iter()
        .map(|region| async move { (region.id.to_string(), link::readiness(region).await) });
    let redis = async {
        match edge.resolver.redis() {
            Some(redis) => Some(redis.status().await),
            None => None,
        }
    };
    let (regions, redis) = tokio::join!(futures_util::future::join_all(probes), redis);
    let is_stopping = edge.is_draining();
    let ready = !is_stopping && regions.iter().any(|(_, region)| region.is_ready);
    let (mut trouble, mut ready_regions) = (serde_json::Map::new(), serde_json::Map::new());
    for (id, region) in regions {
        for (node, what) in region.trouble {
            trouble.insert(format!("{id} {node}"), what.to_string().into());
        }
        ready_regions.insert(id, region.is_ready.into());
    }
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let mut body = serde_json::json!({
        "ready": ready,
        "stopping": is_stopping,
        "regions": ready_regions,
    });
    if let (Some(body), false) = (body.as_object_mut(), trouble.is_empty()) {
        body.insert("trouble".to_owned(), trouble.into());
    }
    if let (Some(body), Some(redis)) = (body.as_object_mut(), redis) {
        body.insert("redis".to_owned(), redis);
    }
    HttpResponse::build(status).json(body)
}

/// `GET /metrics`: all figures, in Prometheus' text format.
pub async fn metrics(edge: Data<Edge>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(prometheus::MEDIA_TYPE)
        .body(prometheus::text(&metrics::snapshot(&edge)))
}
