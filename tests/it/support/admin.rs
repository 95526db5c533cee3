//! An administrator of a tenant.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Answer, Tenant, Token, World};

/// Holds a token of the scope `admin`.
pub struct Admin {
    pub tenant: Tenant,
    pub token: Token,
}

impl Admin {
    /// A new one of a tenant.
    pub async fn of(world: &World, tenant: &Tenant) -> Self {
        let scope = json!({"scope": "admin"});
        let token = world.token(&tenant.region.name, &tenant.id, scope).await;
        Self {
            tenant: tenant.clone(),
            token,
        }
    }

    /// The same one after the world has started again.
    pub fn in_world(&self, world: &World) -> Self {
        Self {
            tenant: self.tenant.in_world(world),
            token: self.token.clone(),
        }
    }

    /// A call of the admin API.
    pub async fn send(&self, method: Method, path: &str, body: &Value) -> Answer {
        let request = self.request(method, path);
        let request = request.header("content-type", "application/json");
        Answer::of(request.body(body.to_string())).await
    }

    /// What a path of the admin API shows.
    pub async fn get(&self, path: &str) -> Value {
        let answer = Answer::of(self.request(Method::GET, path)).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }

    /// What a path of the admin API answers, whatever that is.
    pub async fn ask(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    /// Looks at all events from the beginning, page by page.
    pub async fn each_event(&self, of_page: usize, mut see: impl FnMut(&Value)) {
        let mut after = String::new();
        loop {
            let page = self.get(&format!("/events?limit={of_page}{after}")).await;
            let events = page["events"].as_array().unwrap();
            if events.is_empty() {
                return;
            }
            events.iter().for_each(&mut see);
            after = format!("&after={}", page["nextCursor"].as_str().unwrap());
        }
    }

    /// A `POST` to the admin API.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, body).await
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let region = &self.tenant.region;
        let base_url = region.base_url.replace("/api/v1/scim", "/api/v1/admin");
        let url = format!("{base_url}{path}");
        region
            .client
            .request(method, url)
            .bearer_auth(&self.token.secret)
    }
}
