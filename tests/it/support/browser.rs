//! [`Browser`]: an administrator at the console.

use reqwest::{Method, RequestBuilder};

use super::admin::Admin;
use super::{Answer, Region, Tenant, with_form};

/// A browser with at most one session.
pub struct Browser {
    pub region: Region,
    /// The session.
    pub cookie: Option<String>,
}

impl Browser {
    pub fn new(tenant: &Tenant) -> Self {
        Self {
            region: tenant.region.clone(),
            cookie: None,
        }
    }

    /// One that has signed in.
    pub async fn of(admin: &Admin) -> Self {
        let mut browser = Self::new(&admin.tenant);
        let answer = browser.sign_in(&admin.token.secret).await;
        assert_eq!(answer.status, 303, "{answer:?}");
        assert_eq!(answer.header("location"), Some("/console"));
        browser.cookie = Some(session(&answer));
        browser
    }

    pub fn origin(&self) -> String {
        let base_url = &self.region.base_url;
        base_url.strip_suffix("/api/v1/scim").unwrap().to_owned()
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.origin());
        let request = self.region.client.request(method, url);
        match &self.cookie {
            Some(cookie) => request.header("cookie", format!("meridian_session={cookie}")),
            None => request,
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    /// A page that must be there.
    pub async fn page(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        String::from_utf8(answer.body).unwrap()
    }

    /// Sends a form as a page of the console would.
    pub async fn send(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let request = self
            .request(Method::POST, path)
            .header("origin", self.origin());
        Answer::of(with_form(request, fields)).await
    }

    pub async fn sign_in(&self, token: &str) -> Answer {
        self.send("/console/sign-in", &[("token", token)]).await
    }

    /// What forms of this session hold.
    pub async fn proof(&self) -> String {
        let page = self.page("/console").await;
        let (_, rest) = page.split_once("name=\"proof\" value=\"").unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    }
}

/// The session in an answer's cookie.
fn session(answer: &Answer) -> String {
    let cookie = answer.header("set-cookie").unwrap();
    let (pair, attributes) = cookie.split_once("; ").unwrap();
    assert_eq!(
        attributes, "Path=/; Max-Age=3600; HttpOnly; SameSite=Strict",
        "there is no TLS here"
    );
    pair.strip_prefix("meridian_session=").unwrap().to_owned()
}
