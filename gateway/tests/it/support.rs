//! A gateway on a free port, and what stands at the other end of its links.

use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::web::{Bytes, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use gateway::config::{HostnameSettings, RegionSettings, Settings};
use gateway::startup::Application;
use serde_json::{Value, json};
use shared::link::{
    self, AccessTokenAnswer, AccessTokenRequest, NoticesAnswer, NoticesRequest, Refusal,
    ResolveAnswer, ResolveRequest, Resolved, TenantLimits,
};
use shared::{ApiToken, Grant, RegionId, Scope, TenantId, TestClock, Timestamp, TokenId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot, watch};

pub(crate) const LINK_KEY: &str = "a link key that is long enough, surely";
pub(crate) const START: Timestamp = Timestamp(1_800_000_000_000);
/// A test that waits longer than this for anything has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One SCIM call as it arrived at the far end.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(n, _)| n == name);
        let value = values.next()?;
        assert!(values.next().is_none(), "two {name} headers");
        Some(&value.1)
    }
}

/// How the far end answers SCIM calls.
#[derive(Clone, Debug, Default)]
pub(crate) enum Manner {
    /// As it should: 200 and a resource.
    #[default]
    Good,
    /// With this status and these headers, echo included.
    Status(u16, Vec<(&'static str, &'static str)>, &'static str),
    /// With another request's id.
    WrongEcho,
    /// Without any.
    NoEcho,
    /// With a body of so many bytes.
    Large(usize),
    /// Not at all, until the gate opens.
    Silent,
}

/// What the far end knows and has seen.
#[derive(Debug, Default)]
pub(crate) struct FarEnd {
    pub(crate) tokens: Mutex<HashMap<String, ResolveAnswer>>,
    pub(crate) refused_grants: Mutex<HashSet<String>>,
    pub(crate) manner: Mutex<Manner>,
    pub(crate) resolve_status: Mutex<Option<u16>>,
    /// What is said to whoever asks for an access token; nothing is that one is issued.
    pub(crate) issue_answer: Mutex<Option<AccessTokenAnswer>>,
    pub(crate) issue_status: Mutex<Option<u16>>,
    /// How looks at its health are answered, if not well.
    pub(crate) health_status: Mutex<Option<u16>>,
    issue_dropped: AtomicBool,
    issue_gate: watch::Sender<bool>,
    access_tokens: Mutex<Vec<AccessTokenRequest>>,
    pub(crate) calls: Mutex<Vec<Call>>,
    pub(crate) lookups: AtomicUsize,
    pub(crate) arrived: Notify,
    grants: AtomicUsize,
    gate: watch::Sender<bool>,
}

impl FarEnd {
    pub(crate) fn lookups(&self) -> usize {
        self.lookups.load(Ordering::SeqCst)
    }

    /// The questions for access tokens that came.
    pub(crate) fn access_tokens(&self) -> Vec<AccessTokenRequest> {
        self.access_tokens.lock().unwrap().clone()
    }

    /// The next question for an access token gets no answer: its connection ends.
    pub(crate) fn drop_next_issue(&self) {
        self.issue_dropped.store(true, Ordering::SeqCst);
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    pub(crate) fn last_call(&self) -> Call {
        self.calls().pop().unwrap()
    }

    pub(crate) fn behave(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    /// Look-ups wait from now on.
    pub(crate) fn close_gate(&self) {
        self.gate.send_replace(true);
    }

    pub(crate) fn open_gate(&self) {
        self.gate.send_replace(false);
    }

    async fn pass_gate(&self) {
        pass(&self.gate).await;
    }

    /// Questions for access tokens wait from now on.
    pub(crate) fn close_issue_gate(&self) {
        self.issue_gate.send_replace(true);
    }

    pub(crate) fn open_issue_gate(&self) {
        self.issue_gate.send_replace(false);
    }

    /// Waits for the so many-th question for an access token.
    pub(crate) async fn wait_for_issues(&self, count: usize) {
        self.wait_until(|| self.access_tokens().len() >= count)
            .await;
    }

    /// Waits for the so many-th look-up.
    pub(crate) async fn wait_for_lookups(&self, count: usize) {
        self.wait_until(|| self.lookups() >= count).await;
    }

    async fn wait_until(&self, is_so: impl Fn() -> bool) {
        let waiting = async {
            loop {
                let arrived = self.arrived.notified();
                if is_so() {
                    return;
                }
                arrived.await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap();
    }

    /// Refuses the grant that the token has now; the next look-up gives a new one.
    pub(crate) fn refuse_current_grant(&self, token: &ApiToken) {
        let tokens = self.tokens.lock().unwrap();
        if let Some(ResolveAnswer::Granted(resolved)) = tokens.get(&digest(token)) {
            let grant = resolved.grant.as_compact();
            let latest = self.grants.load(Ordering::SeqCst);
            let mut refused = self.refused_grants.lock().unwrap();
            refused.extend((0..=latest).map(|n| format!("{grant}.{n}")));
        }
    }
}

async fn pass(gate: &watch::Sender<bool>) {
    let mut gate = gate.subscribe();
    drop(gate.wait_for(|closed| !closed).await);
}

fn digest(token: &ApiToken) -> String {
    String::from(token.digest())
}

async fn resolve(
    request: HttpRequest,
    question: web::Json<ResolveRequest>,
    end: Data<FarEnd>,
) -> HttpResponse {
    assert_eq!(request.headers().get(link::LINK_KEY).unwrap(), LINK_KEY);
    end.lookups.fetch_add(1, Ordering::SeqCst);
    end.arrived.notify_waiters();
    end.pass_gate().await;
    if let Some(status) = *end.resolve_status.lock().unwrap() {
        return HttpResponse::build(status.try_into().unwrap()).finish();
    }
    let known = end.tokens.lock().unwrap();
    let answer = match known.get(&String::from(question.digest)) {
        Some(ResolveAnswer::Granted(resolved)) => {
            let mut resolved = resolved.clone();
            let number = end.grants.fetch_add(1, Ordering::SeqCst) + 1;
            let grant = format!("{}.{number}", resolved.grant.as_compact());
            resolved.grant = Grant::from_compact(grant);
            ResolveAnswer::Granted(resolved)
        }
        Some(refused) => refused.clone(),
        None => ResolveAnswer::Refused {
            reason: Refusal::Unknown,
            tenant_id: None,
        },
    };
    HttpResponse::Ok().json(answer)
}

/// Looks at a node's health are no calls, and are not noted.
async fn health(end: Data<FarEnd>) -> HttpResponse {
    let status = *end.health_status.lock().unwrap();
    HttpResponse::build(status.unwrap_or(200).try_into().unwrap()).finish()
}

async fn issue(
    request: HttpRequest,
    question: web::Json<AccessTokenRequest>,
    end: Data<FarEnd>,
) -> HttpResponse {
    assert_eq!(request.headers().get(link::LINK_KEY).unwrap(), LINK_KEY);
    let status = *end.issue_status.lock().unwrap();
    if let Some(status) = status {
        return HttpResponse::build(status.try_into().unwrap()).finish();
    }
    let question = question.into_inner();
    end.access_tokens.lock().unwrap().push(question.clone());
    end.arrived.notify_waiters();
    pass(&end.issue_gate).await;
    assert!(
        !end.issue_dropped.swap(false, Ordering::SeqCst),
        "this connection ends here"
    );
    if let Some(answer) = end.issue_answer.lock().unwrap().clone() {
        return HttpResponse::Ok().json(answer);
    }
    let mut tokens = end.tokens.lock().unwrap();
    if let Some(ResolveAnswer::Granted(of_parent)) = tokens.get(&String::from(question.digest)) {
        let mut resolved = of_parent.clone();
        resolved.is_access_token = true;
        let access_digest = String::from(question.access_digest);
        tokens.insert(access_digest, ResolveAnswer::Granted(resolved));
    }
    HttpResponse::Ok().json(AccessTokenAnswer::Issued { expires_in_s: 3600 })
}

/// What was refused is told a moment later, and is no call of a client.
async fn notices(request: HttpRequest, told: web::Json<NoticesRequest>) -> HttpResponse {
    assert_eq!(request.headers().get(link::LINK_KEY).unwrap(), LINK_KEY);
    let taken = told.notices.len();
    HttpResponse::Ok().json(NoticesAnswer { taken })
}

async fn scim(request: HttpRequest, body: Bytes, end: Data<FarEnd>) -> HttpResponse {
    let headers = request.headers();
    let text = |value: &actix_web::http::header::HeaderValue| value.to_str().unwrap().to_owned();
    end.calls.lock().unwrap().push(Call {
        method: request.method().to_string(),
        target: request.uri().to_string(),
        headers: headers
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect(),
        body,
    });
    end.arrived.notify_waiters();
    let id = text(headers.get(link::REQUEST_ID).unwrap());
    let authorization = text(headers.get("authorization").unwrap());
    let grant = authorization.strip_prefix("Bearer ").unwrap();
    if end.refused_grants.lock().unwrap().contains(grant) {
        return HttpResponse::Unauthorized()
            .insert_header((link::REQUEST_ID, id))
            .insert_header((link::REFUSED, link::REFUSED_GRANT))
            .finish();
    }
    let manner = end.manner.lock().unwrap().clone();
    let mut good = HttpResponse::Ok();
    good.insert_header((link::REQUEST_ID, id.clone()))
        .content_type("application/scim+json");
    match manner {
        Manner::Good => good
            .insert_header(("etag", "W/\"1\""))
            .insert_header(("location", "https://x/Users/1"))
            .insert_header(("x-meridian-secret", "inside"))
            .insert_header(("server", "inside"))
            .body(r#"{"id":"1"}"#),
        Manner::Status(status, extra, body) => {
            let mut answer = HttpResponse::build(status.try_into().unwrap());
            answer.insert_header((link::REQUEST_ID, id));
            for pair in extra {
                answer.insert_header(pair);
            }
            answer.body(body)
        }
        Manner::WrongEcho => good
            .insert_header((link::REQUEST_ID, "another"))
            .body(r#"{"id":"another tenant's"}"#),
        Manner::NoEcho => HttpResponse::Ok()
            .content_type("application/scim+json")
            .body("{}"),
        Manner::Large(size) => good.body(vec![b'x'; size]),
        Manner::Silent => {
            end.pass_gate().await;
            good.body("{}")
        }
    }
}

/// A running far end.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) state: Data<FarEnd>,
    pub(crate) address: SocketAddr,
    handle: ServerHandle,
}

impl Node {
    pub(crate) fn start(address: SocketAddr, state: Data<FarEnd>) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = state.clone();
        let server = HttpServer::new(move || {
            App::new()
                .app_data(shared.clone())
                .app_data(web::PayloadConfig::new(32 * 1024 * 1024))
                .route(link::RESOLVE_PATH, web::post().to(resolve))
                .route(link::HEALTH_PATH, web::get().to(health))
                .route(link::NOTICES_PATH, web::post().to(notices))
                .route(link::ACCESS_TOKENS_PATH, web::post().to(issue))
                .default_service(web::to(scim))
        })
        .workers(1)
        .disable_signals()
        .shutdown_timeout(0)
        .listen(listener)
        .unwrap()
        .run();
        let handle = server.handle();
        tokio::spawn(server);
        Self {
            state,
            address,
            handle,
        }
    }

    pub(crate) async fn stop(&self) {
        self.handle.stop(false).await;
        // The worker's thread, and every connection that the gateway keeps to it, ends a moment
        // later: when nobody but this node and these lines knows the state.
        let state = self.state.clone().into_inner();
        let ended = async {
            while Arc::strong_count(&state) > 2 {
                tokio::task::yield_now().await;
            }
        };
        drop(tokio::time::timeout(Duration::from_secs(1), ended).await);
    }
}

/// A gateway and the two regions behind it.
pub(crate) struct World {
    pub(crate) gateway: SocketAddr,
    pub(crate) management: SocketAddr,
    pub(crate) us: Node,
    pub(crate) de: Node,
    pub(crate) clock: TestClock,
    pub(crate) http: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
    pub(crate) ended: tokio::task::JoinHandle<std::io::Result<()>>,
}

pub(crate) fn region(name: &str) -> RegionId {
    RegionId::parse(name).unwrap()
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        let clock = TestClock::at(START);
        let mut world = Self::start_on(Arc::new(clock.clone()), change).await;
        world.clock = clock;
        world
    }

    pub(crate) async fn start_on(
        clock: Arc<dyn shared::Clock>,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let anywhere: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let nodes = [
            Node::start(anywhere, Data::new(FarEnd::default())),
            Node::start(anywhere, Data::new(FarEnd::default())),
        ];
        Self::start_before(nodes, clock, change).await
    }

    /// Another gateway before the same regions, with the same clock.
    pub(crate) async fn beside(&self, change: impl FnOnce(&mut Settings)) -> Self {
        let nodes = [self.us.clone(), self.de.clone()];
        let mut world = Self::start_before(nodes, Arc::new(self.clock.clone()), change).await;
        world.clock = self.clock.clone();
        world
    }

    async fn start_before(
        [us, de]: [Node; 2],
        clock: Arc<dyn shared::Clock>,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let anywhere: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let mut settings = Settings::defaults().unwrap();
        settings.listen = anywhere;
        settings.management_listen = anywhere;
        settings.public_port = Some(0);
        settings.workers = Some(2);
        settings.timeouts.node_hold_ms = 200;
        settings.timeouts.shutdown_s = 5;
        settings.timeouts.drain_ms = 0;
        for (name, node) in [("us", &us), ("de", &de)] {
            let region_settings = RegionSettings {
                nodes: vec![format!("http://{}", node.address)],
                link_key: Some(shared::Secret::new(LINK_KEY)),
                ..RegionSettings::default()
            };
            settings.regions.insert(region(name), region_settings);
        }
        settings.hostname.push(HostnameSettings {
            name: "scim.customer.example".to_owned(),
            region: region("us"),
            tenant: None,
        });
        change(&mut settings);
        let application = Application::build(settings, clock).await.unwrap();
        let (gateway, management) = (application.address(), application.management_address());
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(application.run_until_stopped(async move {
            drop(stopped.await);
        }));
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(shared::tls::trusting_nobody().unwrap())
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .unwrap();
        Self {
            gateway,
            management,
            us,
            de,
            clock: TestClock::at(START),
            http,
            stop: Some(stop),
            ended,
        }
    }

    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// A live token of a tenant of its own.
    pub(crate) fn token(&self, of: &str) -> ApiToken {
        self.token_with(of, |_| {})
    }

    pub(crate) fn token_with(&self, of: &str, change: impl FnOnce(&mut Resolved)) -> ApiToken {
        let token = ApiToken::generate(&region(of)).unwrap();
        self.grant(&token, change);
        token
    }

    /// Makes a token live again.
    pub(crate) fn resume(&self, token: &ApiToken) {
        self.grant(token, |_| {});
    }

    fn grant(&self, token: &ApiToken, change: impl FnOnce(&mut Resolved)) {
        let mut resolved = Resolved {
            grant: Grant::from_compact(format!("grant-{}", TenantId::generate().unwrap())),
            grant_expires: START.after(Duration::from_secs(300)),
            tenant_id: TenantId::generate().unwrap(),
            token_id: TokenId::generate().unwrap(),
            scope: Scope::Scim,
            limits: TenantLimits::default(),
            keep_s: 300,
            is_access_token: false,
            networks: shared::Networks::default(),
        };
        change(&mut resolved);
        self.know(token, ResolveAnswer::Granted(resolved));
    }

    /// Sets what a token's region says about it.
    pub(crate) fn know(&self, token: &ApiToken, answer: ResolveAnswer) {
        let end = self.end(token.region().as_str());
        end.tokens.lock().unwrap().insert(digest(token), answer);
    }

    pub(crate) fn refuse(&self, token: &ApiToken, reason: Refusal) {
        self.refuse_of(token, reason, None);
    }

    /// As a region does that says whose the token is.
    pub(crate) fn refuse_of(&self, token: &ApiToken, reason: Refusal, whose: Option<&TenantId>) {
        let tenant_id = whose.cloned();
        self.know(token, ResolveAnswer::Refused { reason, tenant_id });
    }

    pub(crate) fn end(&self, region: &str) -> &FarEnd {
        match region {
            "us" => &self.us.state,
            _ => &self.de.state,
        }
    }

    /// A request to a region's own host.
    pub(crate) fn request(
        &self,
        method: reqwest::Method,
        region: &str,
        path: &str,
    ) -> reqwest::RequestBuilder {
        self.http
            .request(method, format!("http://{}/api/v1/scim{path}", self.gateway))
            .header("host", format!("global-{region}.localhost"))
    }

    pub(crate) fn get(
        &self,
        region: &str,
        path: &str,
        token: &ApiToken,
    ) -> reqwest::RequestBuilder {
        self.request(reqwest::Method::GET, region, path)
            .bearer_auth(token.reveal())
    }

    /// How ready the gateway says it is.
    pub(crate) async fn readiness(&self) -> (u16, Value) {
        let url = format!("http://{}/readyz", self.management);
        let answer = self.http.get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// Waits until it says so.
    pub(crate) async fn ready_so(&self, status: u16, expected: Value) {
        let asking = async {
            loop {
                let now = self.readiness().await;
                if now == (status, expected.clone()) {
                    return;
                }
            }
        };
        if tokio::time::timeout(PATIENCE, asking).await.is_err() {
            panic!("{:?}, and not {expected}", self.readiness().await);
        }
    }

    /// What the gateway says about its Redis.
    pub(crate) async fn redis(&self) -> Value {
        let url = format!("http://{}/readyz", self.management);
        let answer = self.http.get(url).send().await.unwrap();
        answer.json::<Value>().await.unwrap()["redis"].take()
    }

    /// Asks about Redis until what is said is as wanted, and returns it.
    pub(crate) async fn redis_until(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let asking = async {
            loop {
                let status = self.redis().await;
                if wanted(&status) {
                    return status;
                }
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.unwrap()
    }

    /// What a raw request is answered with, to the end of the connection.
    pub(crate) async fn raw(&self, request: &[u8]) -> String {
        let exchange = async {
            let mut socket = TcpStream::connect(self.gateway).await.unwrap();
            // The gateway may close while we still write: that is what some cases are about.
            let _written = socket.write_all(request).await;
            let mut answer = Vec::new();
            let _read = socket.read_to_end(&mut answer).await;
            String::from_utf8_lossy(&answer).into_owned()
        };
        tokio::time::timeout(PATIENCE, exchange)
            .await
            .expect("the connection stays open")
    }
}

/// Asserts that an answer is a SCIM error, and gives its detail.
pub(crate) async fn scim_error(answer: reqwest::Response, status: u16) -> String {
    assert_eq!(answer.status().as_u16(), status);
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "application/scim+json");
    assert_eq!(header("cache-control"), "no-store");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(header("x-request-id").len(), 32);
    if matches!(status, 429 | 503) {
        assert!(header("retry-after").parse::<u32>().unwrap() >= 1);
    }
    if status == 401 {
        assert!(header("www-authenticate").starts_with("Bearer"));
    }
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["schemas"], json!([shared::urn::ERROR]));
    assert_eq!(body["status"], status.to_string());
    body["detail"].as_str().unwrap().to_owned()
}
