//! [`Node`]: a node on free ports, and calls to it.

use std::collections::HashMap;
use std::sync::Arc;

use region_node::config::Settings;
use region_node::startup::Application;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;
use shared::Secret;
use shared::link::{ACCESS_TOKENS_PATH, LINK_KEY, OPERATOR_KEY, OPERATOR_PATH, RESOLVE_PATH};
use shared::{ApiToken, TestClock, Timestamp};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) const LINK: &str = "link-0123456789abcdefghijklmnopqrstuv";
pub(crate) const OPERATOR: &str = "oper-0123456789abcdefghijklmnopqrstuv";

pub(crate) struct Node {
    pub(crate) url: String,
    pub(crate) management_url: String,
    pub(crate) clock: TestClock,
    http: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<std::io::Result<()>>,
}

pub(crate) fn settings(folder: &tempfile::TempDir) -> Settings {
    let mut settings = Settings::defaults().unwrap();
    settings.link_listen = "127.0.0.1:0".parse().unwrap();
    settings.management_listen = "127.0.0.1:0".parse().unwrap();
    settings.store.path = folder.path().join("{region}").join("meridian.db");
    settings.keys.link = vec![Secret::new(LINK)];
    settings.keys.operator = vec![Secret::new(OPERATOR)];
    settings.keys.grant = vec![Secret::new("gran-0123456789abcdefghijklmnopqrstuv")];
    settings.limits.workers = Some(1);
    settings.limits.drain_ms = 0;
    settings
}

impl Node {
    pub(crate) async fn start(folder: &tempfile::TempDir) -> Self {
        Self::start_with(settings(folder)).await
    }

    pub(crate) async fn start_with(settings: Settings) -> Self {
        let clock = TestClock::at(Timestamp(1_700_000_000_000));
        let application = Application::build(settings, Arc::new(clock.clone()))
            .await
            .unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let url = format!("http://{}", application.link_address());
        let management_url = format!("http://{}", application.management_address());
        let running = tokio::spawn(application.run_until_stopped(async {
            let _ = stopped.await;
        }));
        Self {
            url,
            management_url,
            clock,
            http: reqwest::Client::builder()
                .tls_backend_preconfigured(shared::tls::trusting_nobody().unwrap())
                .no_proxy()
                .build()
                .unwrap(),
            stop: Some(stop),
            running,
        }
    }

    pub(crate) async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.running.await.unwrap().unwrap();
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    pub(crate) async fn get(&self, url: &str) -> StatusCode {
        self.http.get(url).send().await.unwrap().status()
    }

    /// The node's counters by name.
    pub(crate) async fn metrics(&self) -> HashMap<String, u64> {
        let url = format!("{}/metrics", self.management_url);
        let text = self
            .http
            .get(url)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let figures = lines.map(|line| line.rsplit_once(' ').unwrap());
        figures
            .map(|(name, figure)| {
                // The region stands beside everything.
                let name = name.replace("{region=\"us\"}", "");
                (name, figure.parse::<f64>().unwrap() as u64)
            })
            .collect()
    }

    /// A call of the operator; `body` may be null for none.
    pub(crate) async fn operator(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let mut request = self
            .request(method, &format!("{OPERATOR_PATH}{path}"))
            .header(OPERATOR_KEY, OPERATOR);
        if !body.is_null() {
            request = request.body(body.to_string());
        }
        answer(request).await
    }

    pub(crate) async fn tenant(&self) -> String {
        let body = serde_json::json!({"name": "Acme"});
        let (status, tenant) = self.operator(Method::POST, "/tenants", body).await;
        assert_eq!(status, 201, "{tenant}");
        tenant["id"].as_str().unwrap().to_owned()
    }

    /// Makes a token; answers its id and its secret.
    pub(crate) async fn token(&self, tenant: &str, body: Value) -> (String, String) {
        let path = format!("/tenants/{tenant}/tokens");
        let (status, token) = self.operator(Method::POST, &path, body).await;
        assert_eq!(status, 201, "{token}");
        let text = |name: &str| token[name].as_str().unwrap().to_owned();
        (text("id"), text("token"))
    }

    pub(crate) async fn resolve(&self, token: &str) -> Value {
        let digest = ApiToken::parse(token).unwrap().digest();
        self.ask(RESOLVE_PATH, serde_json::json!({"digest": digest}))
            .await
    }

    /// Asks for an access token under an API token.
    pub(crate) async fn access_token(&self, token: &str, id: &str, access: &str) -> Value {
        let digest = |token: &str| ApiToken::parse(token).unwrap().digest();
        let question = serde_json::json!({
            "digest": digest(token), "token_id": id, "access_digest": digest(access),
        });
        self.ask(ACCESS_TOKENS_PATH, question).await
    }

    async fn ask(&self, path: &str, question: Value) -> Value {
        let request = self
            .request(Method::POST, path)
            .header(LINK_KEY, LINK)
            .body(question.to_string());
        let (status, answer) = answer(request).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }
}

pub(crate) async fn answer(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let body = response.text().await.unwrap();
    if body.is_empty() {
        return (status, Value::Null);
    }
    (status, serde_json::from_str(&body).unwrap())
}
