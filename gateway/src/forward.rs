//! Sends a call to its region and passes the answer on.
//!
//! The phases, in order: `Passage::write_head` picks what may travel, [`forward`] sends and, where
//! that is safe, sends again, `check` makes sure that the answer is to this call and from a
//! node, [`pass_on`] streams it back.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::http::header::{self, HeaderMap, HeaderName};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{Bytes, BytesMut};
use reqwest::header::HeaderValue;
use sha2::{Digest as _, Sha256};
use shared::api_token::RandomnessError;
use shared::{ApiToken, Dialect, TenantId, Timestamp, TokenDigest, link};
use telemetry::{Parent, TraceText, Tracing};
use tokio::time::Instant;

use crate::error::Error;
use crate::link::{Answer, AnswerError, Attempt, LinkError, Node};
use crate::provisioning_client::ProvisioningClient;
use crate::region::Region;
use crate::resolver::Resolver;
use crate::routes::Media;

/// The request's id, in answers.
pub const REQUEST_ID: HeaderName = HeaderName::from_static(link::REQUEST_ID);

const PREFER: HeaderName = HeaderName::from_static("prefer");
/// The client's headers that a node needs. Everything else stays here: hop-by-hop headers and
/// those that `Connection` names, `Forwarded` and its kin, and whatever looks like ours.
static TO_NODE: [HeaderName; 6] = [
    header::ACCEPT,
    header::CONTENT_TYPE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    PREFER,
    header::USER_AGENT,
];
/// The name of a trace and of the span above (W3C Trace Context).
pub static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static(link::IDEMPOTENCY_KEY);
/// SCIM 1.1's way to send another method as POST (SCIM 1.1 API section 3).
pub static METHOD_OVERRIDE: HeaderName = HeaderName::from_static("x-http-method-override");

/// The node's headers that a client needs.
static TO_CLIENT: [HeaderName; 8] = [
    header::ALLOW,
    header::CONTENT_DISPOSITION,
    header::CONTENT_TYPE,
    header::ETAG,
    header::LAST_MODIFIED,
    header::LOCATION,
    HeaderName::from_static("preference-applied"),
    header::RETRY_AFTER,
];

/// How the lines of a call's head begin: with the end of the line before. Put together once, for
/// all calls: a head is written in as few pieces as it can be.
struct LineStarts {
    to_node: Vec<(HeaderName, String)>,
    method_override: String,
    host: String,
    request_id: String,
    traceparent: String,
    idempotency_key: String,
    session: String,
    base_url: String,
    link_key: String,
    authorization: String,
    resent: String,
    deadline_ms: String,
    content_length: String,
}

static LINE_STARTS: LazyLock<LineStarts> = LazyLock::new(|| {
    let start = |name: &str| format!("\r\n{name}: ");
    LineStarts {
        to_node: TO_NODE
            .iter()
            .map(|name| (name.clone(), start(name.as_str())))
            .collect(),
        method_override: start(METHOD_OVERRIDE.as_str()),
        host: start("host"),
        request_id: start(link::REQUEST_ID),
        traceparent: start(TRACEPARENT.as_str()),
        idempotency_key: start(link::IDEMPOTENCY_KEY),
        session: start(link::SESSION),
        base_url: start(link::BASE_URL),
        link_key: start(link::LINK_KEY),
        authorization: start("authorization"),
        resent: start(link::RESENT),
        deadline_ms: start(link::DEADLINE_MS),
        content_length: start("content-length"),
    }
});

/// The names of one call, as hexadecimal digits.
#[derive(Clone, Debug)]
pub struct CallIds {
    request_id: [u8; 32],
    span: [u8; 16],
    trace: [u8; 32],
    idempotency: [u8; 20],
    is_sampled: bool,
    parent: Option<Parent>,
}

/// Random bytes of a worker thread that are not used yet: one call of the operating system gives
/// enough for many requests.
struct Random {
    bytes: [u8; 4000],
    used: usize,
}

thread_local! {
    static RANDOM: RefCell<Random> = const {
        RefCell::new(Random { bytes: [0; 4000], used: 4000 })
    };
}

/// Fills a text with random hexadecimal digits.
fn random_hex<const DIGITS: usize>() -> Result<[u8; DIGITS], RandomnessError> {
    let mut digits = [0; DIGITS];
    RANDOM.with_borrow_mut(|random| {
        let (bytes, end) = (DIGITS / 2, random.used + DIGITS / 2);
        if end > random.bytes.len() {
            getrandom::fill(&mut random.bytes).map_err(|_| RandomnessError)?;
            random.used = 0;
        }
        let from = random.used;
        random.used += bytes;
        let fresh = random
            .bytes
            .get(from..from + bytes)
            .ok_or(RandomnessError)?;
        hex::encode_to_slice(fresh, &mut digits).map_err(|_| RandomnessError)
    })?;
    Ok(digits)
}

/// Digits that [`random_hex`] made are text.
fn text(digits: &[u8]) -> &str {
    std::str::from_utf8(digits).unwrap_or_default()
}

impl CallIds {
    /// New names.
    ///
    /// # Errors
    /// [`RandomnessError`] when the operating system's generator fails.
    pub fn generate() -> Result<Self, RandomnessError> {
        Ok(Self {
            request_id: random_hex()?,
            span: random_hex()?,
            trace: random_hex()?,
            idempotency: random_hex()?,
            is_sampled: false,
            parent: None,
        })
    }

    /// The same, with the decision whether the request is traced: its client's, whose trace goes on,
    /// if it is believed and says so in a valid `traceparent`; else ours.
    #[must_use]
    pub fn traced(mut self, tracing: &Tracing, client: Option<&str>) -> Self {
        if let Some(client) = client.and_then(TraceText::parse)
            && let Ok(trace) = client.trace.as_bytes().try_into()
        {
            self.trace = trace;
            self.is_sampled = client.is_sampled;
            self.parent = Parent::of(client);
        } else {
            self.is_sampled = tracing.samples(text(&self.trace));
        }
        self
    }

    /// Whether the request is traced.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.is_sampled
    }

    /// The id of its trace, whether it is traced or not: 32 hexadecimal digits.
    #[must_use]
    pub fn trace(&self) -> &str {
        text(&self.trace)
    }

    /// The id of the span that the node's work is below: 16 hexadecimal digits.
    #[must_use]
    pub fn span(&self) -> &str {
        text(&self.span)
    }

    /// The span of the client's that the request is below, if its client is believed.
    #[must_use]
    pub fn parent(&self) -> Option<Parent> {
        self.parent
    }

    /// The request's id. Ours alone: what a client calls its request is not trusted.
    #[must_use]
    pub fn request_id(&self) -> &str {
        text(&self.request_id)
    }

    /// `traceparent` for the node (W3C Trace Context).
    fn traceparent(&self) -> [&str; 6] {
        let flags = if self.is_sampled { "01" } else { "00" };
        ["00-", self.trace(), "-", self.span(), "-", flags]
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
            None => format!("{:012x}{}", begun.as_millis(), text(&self.idempotency)),
        }
    }
}

/// A call on its way.
pub struct Passage<'a> {
    /// When the call began.
    pub begun: Timestamp,
    /// The client's method.
    pub method: &'a Method,
    /// The path at the node.
    pub node_path: &'a str,
    /// What the answer's body must be.
    pub media: Media,
    /// The client's query string.
    pub query: Option<&'a str>,
    /// The client's headers.
    pub headers: &'a HeaderMap,
    /// The client's body.
    pub body: Bytes,
    /// Which protocol it speaks.
    pub dialect: Dialect,
    /// The public base URL of the call.
    pub base_url: &'a HeaderValue,
    /// The call's names.
    pub ids: &'a CallIds,
    /// When the answer must be complete.
    pub deadline: Instant,
    /// Whether it was sent and got no answer: whatever is sent from then on says so.
    pub was_sent: Cell<bool>,
    /// The client's address, for the look-up limits.
    pub source: IpAddr,
    /// The client's credential, to ask about it again. It does not travel.
    pub token: &'a ApiToken,
    /// The session that a call to the console is of.
    pub session: Option<TokenDigest>,
}

impl Passage<'_> {
    fn text(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn is_read(&self) -> bool {
        matches!(*self.method, Method::GET | Method::HEAD)
    }

    /// Whether it does no harm that a node gets the call a second time. Writes to resources have
    /// their outcome kept under the idempotency key; the admin's writes do not.
    fn is_repeatable(&self) -> bool {
        let is_scim = [link::SCIM_PATH, link::SCIM11_PATH]
            .iter()
            .any(|base| self.node_path.starts_with(base));
        self.is_read() || is_scim
    }

    /// Writes the call for a node, up to its body. What is allowed of the client's headers, then
    /// ours. Values hold no line ends: they are parts of a header that was taken apart before, or
    /// made here.
    fn write_head(
        &self,
        client: &ProvisioningClient,
        node: &Node,
        left: Duration,
        out: &mut BytesMut,
    ) {
        // HEAD goes as GET: what is left out is the body, and the listener leaves it out.
        let method = match *self.method {
            Method::HEAD => "GET",
            ref method => method.as_str(),
        };
        out.reserve(USUAL_HEAD_BYTES);
        for part in [method, " ", self.node_path] {
            out.extend_from_slice(part.as_bytes());
        }
        if let Some(query) = self.query.filter(|query| !query.is_empty()) {
            out.extend_from_slice(b"?");
            out.extend_from_slice(query.as_bytes());
        }
        out.extend_from_slice(b" HTTP/1.1");
        let starts = &*LINE_STARTS;
        let mut line = |start: &str, value: &[u8]| {
            out.extend_from_slice(start.as_bytes());
            out.extend_from_slice(value);
        };
        line(&starts.host, node.authority().as_bytes());
        // A client sends few: to look at each costs less than to look for those that may travel.
        for (name, value) in self.headers {
            if let Some((_, start)) = starts.to_node.iter().find(|(it, _)| it == name) {
                line(start, value.as_bytes());
            } else if *self.method == Method::POST && *name == METHOD_OVERRIDE {
                line(&starts.method_override, value.as_bytes());
            }
        }
        line(&starts.request_id, self.ids.request_id().as_bytes());
        line(&starts.traceparent, b"");
        for part in self.ids.traceparent() {
            line(part, b"");
        }
        if !self.is_read() {
            let of_client = self.text(&IDEMPOTENCY_KEY);
            let key = self
                .ids
                .idempotency_key(of_client, &client.tenant_id, self.begun);
            line(&starts.idempotency_key, key.as_bytes());
        }
        if let Some(session) = self.session {
            line(&starts.session, String::from(session).as_bytes());
        }
        line(&starts.base_url, self.base_url.as_bytes());
        line(&starts.link_key, client.region.link.key.as_bytes());
        line(&starts.authorization, client.authorization.as_bytes());
        if self.was_sent.get() {
            line(&starts.resent, b"1");
        }
        let mut digits = itoa::Buffer::new();
        let left = digits.format(left.as_millis());
        line(&starts.deadline_ms, left.as_bytes());
        if !self.is_read() {
            let length = digits.format(self.body.len());
            line(&starts.content_length, length.as_bytes());
        }
        out.extend_from_slice(b"\r\n\r\n");
    }

    /// Sends the call to its region; once more where no answer came and that does no harm.
    async fn send(&self, client: &ProvisioningClient) -> Result<Answer, Error> {
        let link = &client.region.link;
        // Made where it is awaited: in a variable the future would have its room twice.
        let first = link
            .send(self.deadline, |node| self.attempt(node, client))
            .await;
        match first {
            Err(LinkError::NoAnswer(_)) if self.is_repeatable() => {
                self.was_sent.set(true);
                let again = link.send_again(self.deadline, |node| self.attempt(node, client));
                // In a box: it is rare, and its room would be moved with every call.
                Ok(Box::pin(again).await?)
            }
            answer => Ok(answer?),
        }
    }

    /// Sends the call to a node when it is its turn. A node begins to answer when its work is done,
    /// so a client that reads slowly keeps nobody's turn, and neither does a call that waits for a
    /// region to come back.
    async fn attempt(
        &self,
        node: Arc<Node>,
        client: &ProvisioningClient,
    ) -> Result<Answer, Attempt> {
        let Region { turns, link, .. } = &*client.region;
        let nodes = link.nodes_up();
        let _turn = match turns.at_once(client.gate.in_flight(), nodes) {
            Some(turn) => turn,
            None => {
                let turn = turns.take(&client.tenant_id, nodes);
                turn.await.map_err(Attempt::Busy)?
            }
        };
        let write_head = |node: &Node, left: Duration, out: &mut BytesMut| {
            self.write_head(client, node, left, out);
        };
        link.attempt(node, self.deadline, write_head, &self.body)
            .await
    }
}

/// A head has some nine hundred bytes, half of them the grant.
const USUAL_HEAD_BYTES: usize = 1_536;

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
) -> Result<Answer, Error> {
    let mut new_grants = 0;
    loop {
        let answer = passage.send(&client).await?;
        if let Verdict::PassOn = check(&answer, passage.ids.request_id(), passage.media)? {
            return Ok(answer);
        }
        if new_grants == MAX_NEW_GRANTS {
            return Err(Error::GrantRefused);
        }
        new_grants += 1;
        answer.discard().await;
        let region = Arc::clone(&client.region);
        client = resolver
            .resolve_again(&region, passage.token, &client, passage.source)
            .await?;
        client.check_source(passage.source)?;
    }
}

/// What to do with an answer.
enum Verdict {
    PassOn,
    GrantRefused,
}

/// Whether an answer is to this call and one that a node gives.
fn check(answer: &Answer, request_id: &str, media: Media) -> Result<Verdict, Error> {
    let header = |name: &str| answer.head.text(name);
    let status = answer.head.status;
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
    let is_redirect = status.is_redirection() && status != StatusCode::NOT_MODIFIED;
    if status.is_informational() || (is_redirect && !is_within_console(answer, media)) {
        return Err(Error::Contract("a redirect"));
    }
    let is_empty = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || answer.length() == Some(0);
    let media_type = header("content-type").and_then(|text| text.split(';').next());
    if !is_empty && !media.allows(media_type) {
        return Err(Error::Contract("of another media type"));
    }
    Ok(Verdict::PassOn)
}

/// Whether a redirect leads a browser from one page of the console to another.
fn is_within_console(answer: &Answer, media: Media) -> bool {
    let location = answer.head.text("location");
    let below = location.and_then(|location| location.strip_prefix(link::CONSOLE_PATH));
    media == Media::Page
        && answer.head.status == StatusCode::SEE_OTHER
        && below.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
}

/// Streams an answer back. `passes` end with it.
///
/// # Errors
/// [`Error::Contract`] when it is larger than `max_bytes`.
pub fn pass_on<P: Unpin + 'static>(
    answer: Answer,
    max_bytes: u64,
    passes: P,
) -> Result<HttpResponse, Error> {
    let length = answer.length();
    if length.is_some_and(|length| length > max_bytes) {
        return Err(Error::Contract("too large"));
    }
    let status = answer.head.status;
    let mut response = HttpResponse::new(status);
    for name in &TO_CLIENT {
        if let Some(value) = answer.head.value(name.as_str()) {
            response.headers_mut().insert(name.clone(), value);
        }
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let headers = response.headers_mut();
        if !headers.contains_key(header::RETRY_AFTER) {
            headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
    }
    let size = match (status, length) {
        (StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED, _) => BodySize::None,
        (_, Some(length)) => BodySize::Sized(length),
        (_, None) => BodySize::Stream,
    };
    let body = AnswerBody {
        answer,
        size,
        left: max_bytes,
        _passes: passes,
    };
    Ok(response.set_body(BoxBody::new(body)))
}

/// A node's body on its way to the client, as fast as the client takes it. When it breaks off, the
/// connection ends with it, so the client notices.
struct AnswerBody<P> {
    answer: Answer,
    size: BodySize,
    left: u64,
    _passes: P,
}

impl<P: Unpin + 'static> MessageBody for AnswerBody<P> {
    type Error = AnswerError;

    fn size(&self) -> BodySize {
        self.size
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = Pin::get_mut(self);
        let next = match std::task::ready!(this.answer.poll_part(cx)) {
            Some(Ok(part)) => match this.left.checked_sub(part.len() as u64) {
                Some(left) => {
                    this.left = left;
                    Some(Ok(part))
                }
                None => Some(Err(AnswerError::TooLarge)),
            },
            other => other,
        };
        Poll::Ready(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_trace_goes_on_and_another_does_not() {
        let (ids, off) = (CallIds::generate().unwrap(), Tracing::default());
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let valid = format!("00-{trace}-b7ad6b7169203331-01");
        let continued = ids.clone().traced(&off, Some(&valid));
        let told = format!("00-{trace}-{}-01", ids.span());
        assert_eq!(continued.traceparent().concat(), told);
        assert!(continued.parent().is_some());
        let odd = format!("00-{trace}-b7ad6b7169203331-01-x");
        for client in [None, Some(odd.as_str())] {
            let fresh = ids.clone().traced(&off, client);
            let told = format!("00-{}-{}-00", ids.trace(), ids.span());
            assert_eq!(fresh.traceparent().concat(), told);
            assert!(TraceText::parse(&told).is_some());
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
            assert_eq!(key, format!("000000000001{}", text(&ids.idempotency)));
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
