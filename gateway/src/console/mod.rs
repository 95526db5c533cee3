//! The console's door: signing in, the cookie of a session, and what a browser loads before it has
//! one.
//!
//! A session is an access token (RFC 6749 section 4.4), so the region keeps it and ends it, and the
//! gateway keeps nothing. The pages behind the door are the region-node's, and travel as SCIM does.
//! What never lives here: anything of a tenant.

pub mod page;
pub mod session;

use std::net::IpAddr;

use actix_web::HttpResponse;
use actix_web::http::{Method, StatusCode, header};
use shared::link::{CONSOLE_PATH, CONSOLE_SIGN_IN_PATH, SIGN_IN_ROUTE};
use shared::{ApiToken, Scope};

use crate::credential::CredentialError;
use crate::error::Error;
use crate::host::ServedHost;
use crate::oauth;
use crate::provisioning_client::resolve_at;
use crate::serve::Edge;
use crate::telemetry::RequestRecord;

/// What the gateway answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// `/console/sign-in`.
    SignIn,
    /// `/console/assets/…`: how pages look and what they run.
    Asset(&'static Asset),
}

/// A file that pages load.
#[derive(Debug, PartialEq, Eq)]
pub struct Asset {
    name: &'static str,
    media_type: &'static str,
    text: &'static str,
}

static ASSETS: [Asset; 3] = [
    Asset {
        name: "console.css",
        media_type: "text/css; charset=utf-8",
        text: include_str!("console.css"),
    },
    Asset {
        name: "console.js",
        media_type: "text/javascript; charset=utf-8",
        text: include_str!("console.js"),
    },
    Asset {
        name: "icon.svg",
        media_type: "image/svg+xml",
        text: include_str!("icon.svg"),
    },
];

/// The folder of the assets, below the console.
const ASSETS_FOLDER: &str = "assets";

impl Door {
    /// The template of all assets.
    pub const ASSETS: &'static str = "console/assets";

    /// What a path names, if the gateway answers there. Empty segments are passed over.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let (first, second) = (segments.next()?, segments.next()?);
        if CONSOLE_PATH.strip_prefix('/') != Some(first) {
            return None;
        }
        let sign_in = CONSOLE_SIGN_IN_PATH.rsplit('/').next();
        match (segments.next(), segments.next()) {
            (None, None) if sign_in == Some(second) => Some(Self::SignIn),
            (Some(name), None) if second == ASSETS_FOLDER => ASSETS
                .iter()
                .find(|asset| asset.name == name)
                .map(Self::Asset),
            _ => None,
        }
    }

    /// The path, for logs and metrics.
    #[must_use]
    pub fn template(self) -> &'static str {
        match self {
            Self::SignIn => SIGN_IN_ROUTE,
            Self::Asset(_) => Self::ASSETS,
        }
    }

    /// Refuses a method that is not there.
    ///
    /// # Errors
    /// [`Error::Method`].
    pub fn check_method(self, method: &Method) -> Result<(), Error> {
        let allowed: &'static [Method] = match self {
            Self::SignIn => &[Method::GET, Method::HEAD, Method::POST],
            Self::Asset(_) => &[Method::GET, Method::HEAD],
        };
        match allowed.contains(method) {
            true => Ok(()),
            false => Err(Error::Method { allowed }),
        }
    }

    /// What a browser is shown. `query` says why it is at the sign-in page.
    #[must_use]
    pub fn show(self, query: &str) -> HttpResponse {
        let mut response = HttpResponse::build(StatusCode::OK);
        match self {
            Self::SignIn => page::html(&mut response, page::sign_in(session::why(query), None)),
            Self::Asset(asset) => response.content_type(asset.media_type).body(asset.text),
        }
    }
}

/// Takes what the form of the sign-in page gave: an API token of the scope `admin`. The region stores an access token, which the browser keeps as its session.
///
/// # Errors
/// [`Error`]: whatever keeps the API token from being used for administration.
pub async fn sign_in(
    edge: &Edge,
    host: &ServedHost,
    token: &ApiToken,
    source: IpAddr,
    record: &mut RequestRecord,
) -> Result<HttpResponse, Error> {
    let client = resolve_at(&edge.resolver, &edge.regions, host, "", token, source).await?;
    if client.is_access_token {
        return Err(CredentialError::Malformed.into());
    }
    record.client = Some(std::sync::Arc::clone(&client));
    client.check_source(source)?;
    if client.scope != Scope::Admin {
        return Err(Error::Scope {
            needed: Scope::Admin,
        });
    }
    let issued = oauth::issue_to(&client, edge, host, token, source, true).await?;
    let mut response = HttpResponse::SeeOther()
        .insert_header((header::LOCATION, CONSOLE_PATH))
        .finish();
    session::give(&mut response, &issued, &host.base_urls)?;
    Ok(response)
}

/// The field `token` of the sign-in page's form, once. White space around it comes from copying.
///
/// # Errors
/// [`CredentialError`] when there is none, more than one, or none that could be ours.
pub fn token_of(body: &[u8]) -> Result<ApiToken, CredentialError> {
    let mut tokens = form_urlencoded::parse(body).filter(|(name, _)| name == "token");
    match (tokens.next(), tokens.next()) {
        (Some((_, token)), None) => {
            ApiToken::parse(token.trim()).map_err(|_| CredentialError::Malformed)
        }
        (None, _) => Err(CredentialError::Malformed),
        (Some(_), Some(_)) => Err(CredentialError::Ambiguous),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_door_has_one_path_each() {
        for path in ["/console/sign-in", "//console//sign-in/"] {
            assert_eq!(Door::parse(path), Some(Door::SignIn), "{path}");
        }
        for asset in &ASSETS {
            let path = format!("/console/assets/{}", asset.name);
            assert_eq!(Door::parse(&path), Some(Door::Asset(asset)));
            assert!(!asset.text.is_empty());
        }
        for path in [
            "/",
            "/console",
            "/console/sign-out",
            "/console/sign-in/x",
            "/console/sign%2Din",
            "/console/assets",
            "/console/assets/x.css",
            "/console/assets/../mod.rs",
            "/console/assets/console.css/x",
            "/sign-in",
            "/api/console/sign-in",
        ] {
            assert_eq!(Door::parse(path), None, "{path}");
        }
    }

    #[test]
    fn a_token_comes_in_one_field_and_once() {
        let region = shared::RegionId::parse("us").unwrap();
        let token = ApiToken::generate(&region).unwrap();
        let form = format!("other=x&token=+{}%0A", token.reveal());
        assert!(token_of(form.as_bytes()).unwrap() == token);
        for form in ["", "token=", "token=mrd_us_x", "Token=x"] {
            let refused = token_of(form.as_bytes());
            assert_eq!(refused.unwrap_err(), CredentialError::Malformed, "{form}");
        }
        let twice = format!("{form}&token=x");
        let refused = token_of(twice.as_bytes());
        assert_eq!(refused.unwrap_err(), CredentialError::Ambiguous);
    }
}
