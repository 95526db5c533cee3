//! Sends a call to its region and passes the answer on.
//!
//! The phases, in order: `Passage::headers` picks what may travel, [`forward`] sends and, where
//! that is safe, sends again, `check` makes sure that the answer is to this call and from a
//! node, [`pass_on`] streams it back. Client and node use different generations of header types;
//! they are converted here and nowhere else.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header::{
    HeaderMap as ClientHeaders, HeaderName as ClientHeaderName, HeaderValue as ClientHeaderValue,
};
use actix_web::http::{Method as ClientMethod, StatusCode as ClientStatus};
use actix_web::web::Bytes;
use futures_util::Stream;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response, StatusCode};
use sha2::{Digest as _, Sha256};
use shared::api_token::RandomnessError;
use shared::{Dialect, TenantId, Timestamp, link};
use tokio::time::Instant;

use crate::error::Error;
use crate::provisioning_client::ProvisioningClient;
use crate::region::LinkError;
use crate::resolver::Resolver;

/// The request's id, in answers.
pub const REQUEST_ID: ClientHeaderName = ClientHeaderName::from_static(link::REQUEST_ID);

/// The client's headers that a node needs. Everything else stays here: hop-by-hop headers and
/// those that `Connection` names, `Forwarded` and its kin, and whatever looks like ours.
const TO_NODE: [&str; 6] = [
    "accept",
    "content-type",
    "if-match",
    "if-none-match",
    "prefer",
    "user-agent",
];
/// SCIM 1.1's way to send another method as POST (SCIM 1.1 API section 3).
pub const METHOD_OVERRIDE: &str = "x-http-method-override";

/// The node's headers that a client needs.
const TO_CLIENT: [&str; 7] = [
    "allow",
    "content-type",
    "etag",
    "last-modified",
    "location",
    "preference-applied",
    "retry-after",
];

/// The names of one call.
#[derive(Clone, Debug)]
pub struct CallIds {
    /// Ours alone: what a client calls its request is not trusted.
    pub request_id: String,
    span: String,
    trace: String,
    idempotency: String,
}

impl CallIds {
    /// New names.
    ///
    /// # Errors
    /// [`RandomnessError`] when the operating system's generator fails.
    pub fn generate() -> Result<Self, RandomnessError> {
        let mut random = [0_u8; 50];
        getrandom::fill(&mut random).map_err(|_| RandomnessError)?;
        let random = hex::encode(random);
        let (request_id, rest) = random.split_at_checked(32).ok_or(RandomnessError)?;
        let (span, rest) = rest.split_at_checked(16).ok_or(RandomnessError)?;
        let (trace, rest) = rest.split_at_checked(32).ok_or(RandomnessError)?;
        Ok(Self {
            request_id: request_id.to_owned(),
            span: span.to_owned(),
            trace: trace.to_owned(),
            idempotency: rest.to_owned(),
        })
    }

    /// `traceparent` for the node: the client's trace goes on, if it is one.
    fn traceparent(&self, client: Option<&str>) -> String {
        match client.and_then(trace_of) {
            Some((trace, flags)) => format!("00-{trace}-{}-{flags}", self.span),
            None => format!("00-{}-{}-00", self.trace, self.span),
        }
    }

    /// The key under which a node keeps the outcome of this call. A client's own key counts for
    /// its tenant only; without one, the key is new for each call and the same when it is sent
    /// again. It begins with the time: keys of one time lie side by side in a node's store.
    fn idempotency_key(&self, client: Option<&str>, tenant: &TenantId, begun: Timestamp) -> String {
        let is_sound = |key: &&str| {
            (1..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
        };
        match client.filter(is_sound) {
            Some(key) => hex::encode(Sha256::digest(format!("{tenant} {key}"))),
            None => format!("{:012x}{}", begun.as_millis(), self.idempotency),
        }
    }
}

/// Trace id and flags of a valid `traceparent` (W3C Trace Context, version 00).
fn trace_of(text: &str) -> Option<(&str, &str)> {
    let is_hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_zero = |part: &str| part.bytes().all(|b| b == b'0');
    let mut parts = text.split('-');
    let (version, trace, parent, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let valid = version == "00"
        && is_hex(trace, 32)
        && !is_zero(trace)
        && is_hex(parent, 16)
        && !is_zero(parent)
        && is_hex(flags, 2)
        && parts.next().is_none();
    valid.then_some((trace, flags))
}

/// A call on its way.
pub struct Passage<'a> {
    /// When the call began.
    pub begun: Timestamp,
    /// The client's method.
    pub method: &'a ClientMethod,
    /// The path at the node.
    pub node_path: &'a str,
    /// The client's query string.
    pub query: Option<&'a str>,
    /// The client's headers.
    pub headers: &'a ClientHeaders,
    /// The client's body.
    pub body: Bytes,
    /// Which protocol it speaks.
    pub dialect: Dialect,
    /// The public base URL of the call.
    pub base_url: &'a str,
    /// The call's names.
    pub ids: &'a CallIds,
    /// When the answer must be complete.
    pub deadline: Instant,
    /// The client's address, for the look-up limits.
    pub source: IpAddr,
}

impl Passage<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// HEAD goes as GET: what is left out is the body, and the listener leaves it out.
    fn node_method(&self) -> Method {
        match self.method.as_str() {
            "HEAD" => Method::GET,
            name => Method::from_bytes(name.as_bytes()).unwrap_or(Method::GET),
        }
    }

    fn is_read(&self) -> bool {
        matches!(*self.method, ClientMethod::GET | ClientMethod::HEAD)
    }

    /// Whether it does no harm that a node gets the call a second time. Writes to resources have
    /// their outcome kept under the idempotency key; the admin's writes do not.
    fn is_repeatable(&self) -> bool {
        let is_scim = [link::SCIM_PATH, link::SCIM11_PATH]
            .iter()
            .any(|base| self.node_path.starts_with(base));
        self.is_read() || is_scim
    }

    /// What travels to the node: what is allowed of the client's headers, then ours, so that ours
    /// win.
    fn headers(&self, client: &ProvisioningClient) -> Result<HeaderMap, Error> {
        let mut headers = HeaderMap::with_capacity(16);
        let of_post = (*self.method == ClientMethod::POST).then_some(METHOD_OVERRIDE);
        for name in TO_NODE.into_iter().chain(of_post) {
            for value in self.headers.get_all(name) {
                if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                    headers.append(HeaderName::from_static(name), value);
                }
            }
        }
        let mut ours = |name: &'static str, value: &str| match HeaderValue::from_str(value) {
            Ok(value) => {
                headers.insert(HeaderName::from_static(name), value);
                Ok(())
            }
            Err(_) => Err(Error::Contract("a header of ours is no header")),
        };
        ours(link::REQUEST_ID, &self.ids.request_id)?;
        ours(link::BASE_URL, self.base_url)?;
        ours(
            "traceparent",
            &self.ids.traceparent(self.text("traceparent")),
        )?;
        if !self.is_read() {
            let of_client = self.text(link::IDEMPOTENCY_KEY);
            let key = self
                .ids
                .idempotency_key(of_client, &client.tenant_id, self.begun);
            ours(link::IDEMPOTENCY_KEY, &key)?;
        }
        headers.insert(link::LINK_KEY, client.region.link.key.clone());
        headers.insert(reqwest::header::AUTHORIZATION, client.authorization.clone());
        Ok(headers)
    }

    /// Sends the call to its region; once more where no answer came and that does no harm.
    async fn send(&self, client: &ProvisioningClient) -> Result<Response, Error> {
        let mut headers = self.headers(client)?;
        let link = &client.region.link;
        match link.send(self.deadline, self.call(&headers)).await {
            Err(LinkError::NoAnswer(_)) if self.is_repeatable() => {
                let name = HeaderName::from_static(link::RESENT);
                headers.insert(name, HeaderValue::from_static("1"));
                Ok(link.send_again(self.deadline, self.call(&headers)).await?)
            }
            answer => Ok(answer?),
        }
    }

    /// Makes the call for a node.
    fn call(
        &self,
        headers: &HeaderMap,
    ) -> impl Fn(&reqwest::Client, reqwest::Url) -> reqwest::RequestBuilder {
        |http: &reqwest::Client, mut node: reqwest::Url| {
            node.set_path(self.node_path);
            node.set_query(self.query.filter(|query| !query.is_empty()));
            let left = self.deadline.saturating_duration_since(Instant::now());
            http.request(self.node_method(), node)
                .headers(headers.clone())
                .header(link::DEADLINE_MS, left.as_millis().to_string())
                .body(self.body.clone())
        }
    }
}

/// How often a call is sent with a new grant. One revocation in a tenant makes the grants of all
/// its tokens stale, and a look-up that was under way then brings one more; a tenant whose
/// tokens change all the time is not kept waiting for ever.
const MAX_NEW_GRANTS: u32 = 3;

/// Sends a call to its region. When the node refuses the grant, nothing was done: the token is
/// resolved anew and, if it is still good, the call is sent again.
///
/// # Errors
/// [`Error`] when there is no answer that may be passed on.
pub async fn forward(
    passage: &Passage<'_>,
    mut client: Arc<ProvisioningClient>,
    resolver: &Arc<Resolver>,
) -> Result<Response, Error> {
    let mut new_grants = 0;
    loop {
        let answer = passage.send(&client).await?;
        if let Verdict::PassOn = check(&answer, &passage.ids.request_id)? {
            return Ok(answer);
        }
        if new_grants == MAX_NEW_GRANTS {
            return Err(Error::GrantRefused);
        }
        new_grants += 1;
        // To its end, so that the connection can be used again.
        drop(answer.bytes().await);
        let region = Arc::clone(&client.region);
        client = resolver
            .resolve_again(&region, client.digest, &client, passage.source)
            .await?;
    }
}

/// What to do with an answer.
enum Verdict {
    PassOn,
    GrantRefused,
}

/// Whether an answer is to this call and one that a node gives.
fn check(answer: &Response, request_id: &str) -> Result<Verdict, Error> {
    let header = |name: &str| {
        answer
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let status = answer.status();
    if header(link::REQUEST_ID) != Some(request_id) {
        tracing::error!(
            request_id,
            "ALARM: a node's answer does not carry its request's id"
        );
        return Err(Error::WrongAnswer);
    }
    if header(link::REFUSED) == Some(link::REFUSED_GRANT) {
        return Ok(Verdict::GrantRefused);
    }
    if status == StatusCode::UNAUTHORIZED {
        // A node says 401 to gateways only. Passed on, it would make identity providers
        // quarantine every tenant of the region.
        tracing::error!(
            request_id,
            "ALARM: a node refuses this gateway; check the link key"
        );
        return Err(Error::LinkRefused);
    }
    if status.is_informational() || (status.is_redirection() && status != StatusCode::NOT_MODIFIED)
    {
        return Err(Error::Contract("a redirect"));
    }
    let is_empty = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || answer.content_length() == Some(0);
    let media_type = header("content-type").and_then(|text| text.split(';').next());
    if !is_empty && !matches!(media_type, Some(shared::urn::SCIM_JSON | shared::urn::JSON)) {
        return Err(Error::Contract("not JSON"));
    }
    Ok(Verdict::PassOn)
}

/// Streams an answer back. `passes` end with it.
///
/// # Errors
/// [`Error::Contract`] when it is larger than `max_bytes`.
pub fn pass_on<P: Unpin + 'static>(
    answer: Response,
    max_bytes: u64,
    passes: P,
) -> Result<HttpResponse, Error> {
    let length = answer.content_length();
    if length.is_some_and(|length| length > max_bytes) {
        return Err(Error::Contract("too large"));
    }
    let status = ClientStatus::from_u16(answer.status().as_u16())
        .map_err(|_| Error::Contract("no status"))?;
    let mut response = HttpResponse::build(status);
    for name in TO_CLIENT {
        if let Some(value) = answer.headers().get(name)
            && let Ok(value) = ClientHeaderValue::from_bytes(value.as_bytes())
        {
            response.insert_header((ClientHeaderName::from_static(name), value));
        }
    }
    if status == ClientStatus::SERVICE_UNAVAILABLE && !answer.headers().contains_key("retry-after")
    {
        response.insert_header(("retry-after", "1"));
    }
    let size = match (status, length) {
        (ClientStatus::NO_CONTENT | ClientStatus::NOT_MODIFIED, _) => BodySize::None,
        (_, Some(length)) => BodySize::Sized(length),
        (_, None) => BodySize::Stream,
    };
    Ok(response.body(AnswerBody {
        stream: Box::pin(answer.bytes_stream()),
        size,
        left: max_bytes,
        _passes: passes,
    }))
}

/// A node's body on its way to the client, as fast as the client takes it.
struct AnswerBody<S, P> {
    stream: Pin<Box<S>>,
    size: BodySize,
    left: u64,
    _passes: P,
}

/// Why a body broke off. The connection ends with it, so the client notices.
#[derive(Debug, thiserror::Error)]
enum AnswerBodyError {
    #[error("the node's answer broke off")]
    Broken(#[source] reqwest::Error),
    #[error("the node's answer is too large")]
    TooLarge,
}

impl<S, P> MessageBody for AnswerBody<S, P>
where
    S: Stream<Item = reqwest::Result<Bytes>>,
    P: Unpin + 'static,
{
    type Error = AnswerBodyError;

    fn size(&self) -> BodySize {
        self.size
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        // Nothing is pinned in place: the stream is in a box of its own.
        let this = Pin::get_mut(self);
        let next = match std::task::ready!(this.stream.as_mut().poll_next(cx)) {
            None => None,
            Some(Err(error)) => Some(Err(AnswerBodyError::Broken(error.without_url()))),
            Some(Ok(part)) => match this.left.checked_sub(part.len() as u64) {
                Some(left) => {
                    this.left = left;
                    Some(Ok(part))
                }
                None => Some(Err(AnswerBodyError::TooLarge)),
            },
        };
        Poll::Ready(next)
    }
}

/// The HTTP client for all links: it does as it is told and nothing of its own.
///
/// # Errors
/// When the client cannot be built.
pub fn http_client(
    connect_timeout: Duration,
    idle_timeout: Duration,
) -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        // The environment of an operator's shell must not reroute calls (failure class 43).
        .no_proxy()
        .connect_timeout(connect_timeout)
        .pool_idle_timeout(idle_timeout)
        .tcp_nodelay(true)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_trace_goes_on_and_another_does_not() {
        let ids = CallIds::generate().unwrap();
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let valid = format!("00-{trace}-b7ad6b7169203331-01");
        let continued = ids.traceparent(Some(&valid));
        assert_eq!(continued, format!("00-{trace}-{}-01", ids.span));
        for odd in [
            "",
            "00",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-zz",
        ] {
            let fresh = ids.traceparent(Some(odd));
            assert_eq!(fresh, format!("00-{}-{}-00", ids.trace, ids.span), "{odd}");
            assert!(trace_of(&fresh).is_some());
        }
    }

    #[test]
    fn a_clients_idempotency_key_counts_for_its_tenant_only() {
        let ids = CallIds::generate().unwrap();
        let (one, two) = (TenantId::generate().unwrap(), TenantId::generate().unwrap());
        let key = ids.idempotency_key(Some("k"), &one, Timestamp(1));
        let again = CallIds::generate().unwrap();
        assert_eq!(key, again.idempotency_key(Some("k"), &one, Timestamp(2)));
        assert_ne!(key, ids.idempotency_key(Some("k"), &two, Timestamp(1)));
        assert_ne!(key, ids.idempotency_key(Some("l"), &one, Timestamp(1)));
        for odd in [None, Some(""), Some("a b"), Some("ü")] {
            let key = ids.idempotency_key(odd, &one, Timestamp(1));
            assert_eq!(key, format!("000000000001{}", ids.idempotency));
        }
    }

    #[test]
    fn the_names_of_two_calls_differ() {
        let (one, two) = (CallIds::generate().unwrap(), CallIds::generate().unwrap());
        assert_ne!(one.request_id, two.request_id);
        assert_eq!(one.request_id.len(), 32);
        assert_eq!((one.span.len(), one.trace.len()), (16, 32));
        assert_eq!(one.idempotency.len(), 20);
    }
}
