//! The whole URL space, on one screen: [`Route::parse`].
//!
//! Only what is written here reaches a node. A path is taken apart once, and the node's path is
//! built from the parts, so no dot-segment, no encoded slash and no other spelling of a path can
//! travel on. The same parts decide about the route, the methods and the limits.

use actix_web::http::Method;
use percent_encoding::percent_decode_str;
use shared::link::{
    ADMIN_PATH, CONSOLE_PATH, MAX_BODY_BYTES, MAX_GROUP_REPLACE_BYTES, SCIM_PATH, SCIM11_PATH,
};
use shared::{Dialect, Scope, urn};

/// One endpoint of the protocol (RFC 7644 section 3.2), without the values in its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/Users` or `/Groups`.
    Collection(Kind),
    /// `/Users/{id}` or `/Groups/{id}`.
    Resource(Kind),
    /// `/Users/.search` or `/Groups/.search`.
    CollectionSearch(Kind),
    /// `/.search`.
    Search,
    /// `/Bulk`.
    Bulk,
    /// `/Me`.
    Me,
    /// `/ServiceProviderConfig`, `/Schemas`, `/ResourceTypes`, with or without a name.
    Discovery(&'static str),
    /// One of the tenant admin's API.
    Admin(&'static AdminEndpoint),
    /// A page of the console; which there are, the node knows.
    Console,
}

/// An endpoint of the tenant admin's API, below its base.
#[derive(Debug, PartialEq, Eq)]
pub struct AdminEndpoint {
    /// Its path, with `{…}` for a value.
    pub template: &'static str,
    /// Its methods.
    pub methods: &'static [Method],
    /// What it answers with.
    pub media: Media,
}

/// What the body of an endpoint's answers is. A node's answer of another type is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// JSON, SCIM's or plain.
    Json,
    /// JSON Lines; errors are JSON.
    JsonLines,
    /// A page, a redirect to one, or a file to be saved.
    Page,
}

impl Media {
    /// Whether a node's answer may have this media type.
    #[must_use]
    pub fn allows(self, media_type: Option<&str>) -> bool {
        match media_type {
            Some(urn::SCIM_JSON | urn::JSON) => self != Self::Page,
            Some(JSON_LINES) => matches!(self, Self::JsonLines | Self::Page),
            Some("text/html") => self == Self::Page,
            _ => false,
        }
    }
}

/// The media type of JSON Lines.
const JSON_LINES: &str = "application/jsonl";

const READ: &[Method] = &[Method::GET, Method::HEAD];
const READ_CREATE: &[Method] = &[Method::GET, Method::HEAD, Method::POST];
const READ_CHANGE: &[Method] = &[Method::GET, Method::HEAD, Method::PATCH];
const READ_CHANGE_DELETE: &[Method] = &[Method::GET, Method::HEAD, Method::PATCH, Method::DELETE];
const ACT: &[Method] = &[Method::POST];

const fn json(template: &'static str, methods: &'static [Method]) -> AdminEndpoint {
    AdminEndpoint {
        template,
        methods,
        media: Media::Json,
    }
}

/// The tenant admin's API. Where a fixed name and a value are possible, the fixed name comes
/// first.
static ADMIN: &[AdminEndpoint] = &[
    json("schemas", READ_CREATE),
    json("schemas/{urn}", &[Method::DELETE]),
    json("tokens", READ_CREATE),
    json("tokens/{id}", READ),
    json("tokens/{id}/rotate", ACT),
    json("tokens/{id}/revoke", ACT),
    json("settings", READ_CHANGE),
    json("users", READ),
    json("users/{id}", READ),
    json("users/{id}/history", READ),
    json("groups", READ),
    json("groups/{id}", READ),
    json("groups/{id}/history", READ),
    json("groups/{id}/members", READ),
    json("activity", READ),
    json("activity/cycles", READ),
    json("activity/overview", READ),
    json("activity/{id}", READ),
    json("doctor", READ),
    json("audit", READ),
    json("audit/verify", READ),
    json("events", READ),
    json("events/jwks", READ),
    json("webhooks", READ_CREATE),
    json("webhooks/{id}", READ_CHANGE_DELETE),
    json("webhooks/{id}/dead-letters", READ),
    json("webhooks/{id}/poll", ACT),
    json("webhooks/{id}/rotate", ACT),
    json("webhooks/{id}/test", ACT),
    json("webhooks/{id}/replay", ACT),
    json("webhooks/{id}/pause", ACT),
    json("webhooks/{id}/resume", ACT),
    AdminEndpoint {
        template: "export",
        methods: READ,
        media: Media::JsonLines,
    },
    json("openapi.json", READ),
];

/// The templates of all endpoints.
pub fn templates() -> impl Iterator<Item = &'static str> {
    let kinds = [Kind::Users, Kind::Groups];
    let of_kinds = kinds.into_iter().flat_map(|kind| {
        [
            Endpoint::Collection(kind),
            Endpoint::Resource(kind),
            Endpoint::CollectionSearch(kind),
        ]
    });
    let discovery = DISCOVERY.map(Endpoint::Discovery);
    let others = [
        Endpoint::Search,
        Endpoint::Bulk,
        Endpoint::Me,
        Endpoint::Console,
    ];
    let endpoints = of_kinds.chain(discovery).chain(others);
    let admin = ADMIN.iter().map(|endpoint| endpoint.template);
    endpoints.map(Endpoint::template).chain(admin)
}

/// The templates of discovery (RFC 7644 section 4), and of SCIM 1.1's.
const DISCOVERY: [&str; 6] = [
    "ServiceProviderConfig",
    "ServiceProviderConfigs",
    "Schemas",
    "Schemas/{id}",
    "ResourceTypes",
    "ResourceTypes/{id}",
];

/// The endpoints of the tenant admin's API.
#[must_use]
pub fn admin_endpoints() -> &'static [AdminEndpoint] {
    ADMIN
}

/// The endpoint that the segments name, and the value among them.
fn admin<'p>(segments: &[&'p str]) -> Option<(&'static AdminEndpoint, Option<&'p str>)> {
    ADMIN.iter().find_map(|endpoint| {
        let mut value = None;
        let mut rest = segments.iter();
        for part in endpoint.template.split('/') {
            let segment = *rest.next()?;
            if is_placeholder(part) {
                value = Some(segment);
            } else if part != segment {
                return None;
            }
        }
        rest.next().is_none().then_some((endpoint, value))
    })
}

/// The first segment of the console's paths.
const CONSOLE: &str = "console";

fn is_placeholder(part: &str) -> bool {
    part.starts_with('{')
}

/// Which resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `/Users`.
    Users,
    /// `/Groups`.
    Groups,
}

/// How the client spelled the base path, which is how links must be spelled for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// `/api/v1/scim`.
    Plain,
    /// `/api/v1/scim/v2`.
    V2,
    /// `/api/v1/scim/v1`: SCIM 1.1.
    V1,
    /// `/api/v1/admin`: the tenant admin's API.
    Admin,
    /// `/console`: the tenant admin's pages.
    Console,
}

/// A path that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// How the base was spelled.
    pub base: Base,
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The path at the node.
    pub node_path: String,
}

impl Route {
    /// Takes a path apart; `None` when there is no such endpoint.
    ///
    /// Empty segments are passed over, because clients join base URL and path with two slashes
    /// or none (idp-wire, OneLogin and Entra).
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let (base, mut segments) = split(path)?;
        if let (Base::V1, Some(last)) = (base, segments.last_mut()) {
            // SCIM 1.1 lets a client say the format it wants by a suffix (SCIM protocol 1.1,
            // section 3.1); ids and URNs of ours do not end so.
            *last = last.strip_suffix(".json").unwrap_or(last);
        }
        let (endpoint, value) = match (base, segments.as_slice()) {
            (Base::Admin, segments) => {
                let (endpoint, value) = admin(segments)?;
                (Endpoint::Admin(endpoint), value)
            }
            (Base::Console, segments) => return page(segments),
            (_, ["Users"]) => (Endpoint::Collection(Kind::Users), None),
            (_, ["Users", ".search"]) => (Endpoint::CollectionSearch(Kind::Users), None),
            (_, ["Users", id]) => (Endpoint::Resource(Kind::Users), Some(*id)),
            (_, ["Groups"]) => (Endpoint::Collection(Kind::Groups), None),
            (_, ["Groups", ".search"]) => (Endpoint::CollectionSearch(Kind::Groups), None),
            (_, ["Groups", id]) => (Endpoint::Resource(Kind::Groups), Some(*id)),
            (_, ["Bulk"]) => (Endpoint::Bulk, None),
            (_, [".search"]) => (Endpoint::Search, None),
            (_, ["Me"]) => (Endpoint::Me, None),
            (_, ["ServiceProviderConfig"]) => discovery("ServiceProviderConfig"),
            (Base::V1, ["ServiceProviderConfigs"]) => discovery("ServiceProviderConfigs"),
            (_, ["Schemas"]) => discovery("Schemas"),
            (_, ["Schemas", urn]) => (Endpoint::Discovery("Schemas/{id}"), Some(*urn)),
            (_, ["ResourceTypes"]) => discovery("ResourceTypes"),
            (_, ["ResourceTypes", name]) => {
                (Endpoint::Discovery("ResourceTypes/{id}"), Some(*name))
            }
            _ => return None,
        };
        let value = match value {
            Some(text) => Some(safe_value(text)?),
            None => None,
        };
        let node_base = match base {
            Base::Plain | Base::V2 => SCIM_PATH,
            Base::V1 => SCIM11_PATH,
            Base::Admin => ADMIN_PATH,
            Base::Console => CONSOLE_PATH,
        };
        // No template has two values.
        let template = endpoint.template();
        let (before, after) = match (template.find('{'), template.find('}')) {
            (Some(open), Some(close)) => (template.get(..open), template.get(close + 1..)),
            _ => (Some(template), None),
        };
        let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
        let value = value.unwrap_or_default();
        let length = node_base.len() + 1 + template.len() + value.len();
        let mut node_path = String::with_capacity(length);
        for part in [node_base, "/", before, &value, after] {
            node_path.push_str(part);
        }
        Some(Self {
            base,
            endpoint,
            node_path,
        })
    }

    /// The methods that the endpoint has. `HEAD` goes with `GET`.
    #[must_use]
    pub fn methods(&self) -> &'static [Method] {
        match self.endpoint {
            Endpoint::Collection(_) => &[Method::GET, Method::HEAD, Method::POST],
            Endpoint::Resource(_) => &[
                Method::GET,
                Method::HEAD,
                Method::PUT,
                Method::PATCH,
                Method::DELETE,
            ],
            Endpoint::CollectionSearch(_) | Endpoint::Search | Endpoint::Bulk => &[Method::POST],
            Endpoint::Me => &[
                Method::GET,
                Method::HEAD,
                Method::POST,
                Method::PUT,
                Method::PATCH,
                Method::DELETE,
            ],
            Endpoint::Discovery(_) => &[Method::GET, Method::HEAD],
            Endpoint::Admin(endpoint) => endpoint.methods,
            Endpoint::Console => READ_CREATE,
        }
    }

    /// Whether it gives all that a tenant has, which takes its time and has no largest size.
    #[must_use]
    pub fn is_export(&self) -> bool {
        self.media() != Media::Json && self.node_path.ends_with("/export")
    }

    /// What its answers are.
    #[must_use]
    pub fn media(&self) -> Media {
        match self.endpoint {
            Endpoint::Admin(endpoint) => endpoint.media,
            Endpoint::Console => Media::Page,
            _ => Media::Json,
        }
    }

    /// The largest body for a method, in bytes.
    #[must_use]
    pub fn max_body(&self, method: &Method) -> usize {
        match self.endpoint {
            Endpoint::Resource(Kind::Groups) if *method == Method::PUT => MAX_GROUP_REPLACE_BYTES,
            _ => MAX_BODY_BYTES,
        }
    }
}

impl Endpoint {
    /// The path below the base, without values: for logs and metrics.
    #[must_use]
    pub fn template(self) -> &'static str {
        match self {
            Self::Collection(Kind::Users) => "Users",
            Self::Collection(Kind::Groups) => "Groups",
            Self::Resource(Kind::Users) => "Users/{id}",
            Self::Resource(Kind::Groups) => "Groups/{id}",
            Self::CollectionSearch(Kind::Users) => "Users/.search",
            Self::CollectionSearch(Kind::Groups) => "Groups/.search",
            Self::Search => ".search",
            Self::Bulk => "Bulk",
            Self::Me => "Me",
            Self::Discovery(template) => template,
            Self::Admin(endpoint) => endpoint.template,
            Self::Console => "console",
        }
    }
}

impl Base {
    /// What a token must be good for below this base.
    #[must_use]
    pub fn scope(self) -> Scope {
        match self {
            Self::Plain | Self::V2 | Self::V1 => Scope::Scim,
            Self::Admin | Self::Console => Scope::Admin,
        }
    }

    /// What the client wrote after `/api/v1/scim`. Links lead to SCIM resources also from the
    /// admin's API.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Plain | Self::Admin | Self::Console => "",
            Self::V2 => "/v2",
            Self::V1 => "/v1",
        }
    }
}

/// Whether a path is one of the console's, whether it exists or not.
#[must_use]
pub fn is_console(path: &str) -> bool {
    path.split('/').find(|segment| !segment.is_empty()) == Some(CONSOLE)
}

/// The protocol that a path asks for, whether the path exists or not.
#[must_use]
pub fn dialect(path: &str) -> Dialect {
    match segments(path).take(4).eq([API, "v1", "scim", "v1"]) {
        true => Dialect::Scim11,
        false => Dialect::Scim20,
    }
}

/// A page of the console: some of which are a resource's, so that every segment but the dots and
/// slashes that a path could be bent with is let through.
fn page(segments: &[&str]) -> Option<Route> {
    const MOST_SEGMENTS: usize = 3;
    if segments.len() > MOST_SEGMENTS {
        return None;
    }
    let mut node_path = CONSOLE_PATH.to_owned();
    for segment in segments {
        node_path.push('/');
        node_path.push_str(&safe_value(segment)?);
    }
    Some(Route {
        base: Base::Console,
        endpoint: Endpoint::Console,
        node_path,
    })
}

fn discovery(name: &'static str) -> (Endpoint, Option<&'static str>) {
    (Endpoint::Discovery(name), None)
}

/// Segments of a path below its base, one more than the longest endpoint has at most.
#[derive(Default)]
struct Segments<'p> {
    first: [&'p str; 4],
    count: usize,
}

impl<'p> Segments<'p> {
    fn of(mut segments: impl Iterator<Item = &'p str>) -> Self {
        let mut this = Self::default();
        for (place, segment) in this.first.iter_mut().zip(&mut segments) {
            *place = segment;
            this.count += 1;
        }
        this
    }

    fn as_slice(&self) -> &[&'p str] {
        self.first.get(..self.count).unwrap_or_default()
    }

    fn last_mut(&mut self) -> Option<&mut &'p str> {
        self.first.get_mut(..self.count)?.last_mut()
    }
}

/// Whether a path is below `/api`, where the endpoints of SCIM and of the admin's API are.
#[must_use]
pub fn is_api(path: &str) -> bool {
    segments(path).next() == Some(API)
}

const API: &str = "api";

/// The segments of a path, empty ones passed over.
fn segments(path: &str) -> impl Iterator<Item = &str> + Clone {
    path.split('/').filter(|segment| !segment.is_empty())
}

/// The base, and the segments below it.
fn split(path: &str) -> Option<(Base, Segments<'_>)> {
    let mut segments = segments(path);
    match segments.next()? {
        API => {}
        CONSOLE => return Some((Base::Console, Segments::of(segments))),
        _ => return None,
    }
    if segments.next() != Some("v1") {
        return None;
    }
    match segments.next()? {
        "scim" => {}
        "admin" => return Some((Base::Admin, Segments::of(segments))),
        _ => return None,
    }
    let mut rest = segments.clone();
    Some(match rest.next() {
        Some("v1") => (Base::V1, Segments::of(rest)),
        Some("v2") => (Base::V2, Segments::of(rest)),
        _ => (Base::Plain, Segments::of(segments)),
    })
}

/// An id, a URN or a name from a path, decoded once. `None` when it holds anything but unreserved
/// characters and colons, or only dots: such a value names nothing, and must not become a path.
fn safe_value(segment: &str) -> Option<String> {
    const LONGEST: usize = 200;
    // Most are spelled as they are meant, and need no decoding.
    let value = match segment.contains('%') {
        true => percent_decode_str(segment).decode_utf8().ok()?,
        false => segment.into(),
    };
    let is_plain = |b: u8| matches!(b, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'.' | b'_' | b'~' | b'-' | b':');
    // Without leaving early, which the compiler does many bytes at a time.
    let (plain, dots) = value.bytes().fold((true, true), |(plain, dots), b| {
        (plain & is_plain(b), dots & (b == b'.'))
    });
    let is_safe = (1..=LONGEST).contains(&value.len()) && plain && !dots;
    is_safe.then(|| value.into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node_path(path: &str) -> Option<String> {
        Route::parse(path).map(|route| route.node_path)
    }

    #[test]
    fn every_endpoint_has_one_path_at_the_node() {
        let urn = "urn:ietf:params:scim:schemas:core:2.0:User";
        let encoded = urn.replace(':', "%3A");
        for (path, expected) in [
            ("/api/v1/scim/Users", "/scim/v2/Users"),
            ("/api/v1/scim/v2/Users", "/scim/v2/Users"),
            ("/api/v1/scim/v1/Users", "/scim/v1/Users"),
            ("/api/v1/scim/v1/Users.json", "/scim/v1/Users"),
            ("/api/v1/scim/v1/Users/abc.json", "/scim/v1/Users/abc"),
            ("/api/v1/scim/Users/", "/scim/v2/Users"),
            ("/api/v1/scim//Users", "/scim/v2/Users"),
            ("//api//v1/scim///Users//abc//", "/scim/v2/Users/abc"),
            (
                "/api/v1/scim/Users/2819c223-7f76-453a",
                "/scim/v2/Users/2819c223-7f76-453a",
            ),
            ("/api/v1/scim/Users/a.b_c~d:e", "/scim/v2/Users/a.b_c~d:e"),
            ("/api/v1/scim/Users/%61bc", "/scim/v2/Users/abc"),
            ("/api/v1/scim/Users/.search", "/scim/v2/Users/.search"),
            ("/api/v1/scim/Groups", "/scim/v2/Groups"),
            ("/api/v1/scim/Groups/g1", "/scim/v2/Groups/g1"),
            ("/api/v1/scim/Groups/.search", "/scim/v2/Groups/.search"),
            ("/api/v1/scim/Bulk", "/scim/v2/Bulk"),
            ("/api/v1/scim/.search", "/scim/v2/.search"),
            ("/api/v1/scim/Me", "/scim/v2/Me"),
            (
                "/api/v1/scim/ServiceProviderConfig",
                "/scim/v2/ServiceProviderConfig",
            ),
            (
                "/api/v1/scim/v1/ServiceProviderConfigs",
                "/scim/v1/ServiceProviderConfigs",
            ),
            ("/api/v1/scim/Schemas", "/scim/v2/Schemas"),
            ("/api/v1/scim/ResourceTypes", "/scim/v2/ResourceTypes"),
            (
                "/api/v1/scim/ResourceTypes/User",
                "/scim/v2/ResourceTypes/User",
            ),
        ] {
            assert_eq!(node_path(path).as_deref(), Some(expected), "{path}");
        }
        let expected = Some(format!("/scim/v2/Schemas/{urn}"));
        assert_eq!(node_path(&format!("/api/v1/scim/Schemas/{urn}")), expected);
        assert_eq!(
            node_path(&format!("/api/v1/scim/Schemas/{encoded}")),
            expected
        );
    }

    #[test]
    fn every_endpoint_of_the_admin_has_one_path_at_the_node() {
        for endpoint in ADMIN {
            let path = endpoint
                .template
                .replace("{id}", "x1")
                .replace("{urn}", "u:r:n");
            let route = Route::parse(&format!("/api/v1/admin/{path}")).unwrap();
            assert_eq!(route.node_path, format!("/admin/v1/{path}"));
            assert_eq!(route.endpoint, Endpoint::Admin(endpoint), "{path}");
            assert_eq!(route.base.scope(), Scope::Admin);
            let further = format!("/api/v1/admin/{path}/further");
            assert_ne!(node_path(&further), Some(route.node_path), "{further}");
        }
        let encoded = "/api/v1/admin//tokens/%74ok_1/rotate/";
        assert_eq!(node_path(encoded).unwrap(), "/admin/v1/tokens/tok_1/rotate");
        for path in [
            "",
            "Users",
            "token",
            "tokens/..",
            "tokens/%2e%2e/rotate",
            "tokens/a%2frotate",
            "tokens/a/rotate/b",
            "tokens/a/delete",
            "users/a/b/c/d/e",
            "users/a b/history",
            "users//history/x/y",
            "settings/x",
            "export/..",
            "scim/Users",
        ] {
            assert_eq!(node_path(&format!("/api/v1/admin/{path}")), None, "{path}");
        }
    }

    #[test]
    fn a_page_of_the_console_has_one_path_and_no_other_spelling_reaches_the_node() {
        for (path, expected) in [
            ("/console", "/console"),
            ("/console/", "/console"),
            ("//console//tokens/", "/console/tokens"),
            ("/console/users/%61b-1", "/console/users/ab-1"),
            (
                "/console/tokens/tok_1/rotate",
                "/console/tokens/tok_1/rotate",
            ),
        ] {
            let route = Route::parse(path).unwrap();
            assert_eq!(route.node_path, expected, "{path}");
            assert_eq!(route.base.scope(), Scope::Admin);
        }
        for path in [
            "/Console",
            "/console/..",
            "/console/%2e%2e/internal",
            "/console/../internal/v1/operator",
            "/console/.",
            "/console/users/a%2f..%2fb",
            "/console/users/a\\b",
            "/console/users/a%00",
            "/console/users/a;b",
            "/console/users/a@b",
            "/console/a/b/c/d",
            "/console/a/b/c/d/e/f",
            "/x/console",
            "/consoles",
        ] {
            assert_eq!(node_path(path), None, "{path}");
        }
        assert!(is_console("/console/../x") && is_console("//console"));
        assert!(!is_console("/api/v1/scim/Users") && !is_console("/") && !is_console(""));
    }

    #[test]
    fn answers_have_the_media_type_of_their_endpoint() {
        let media = |path: &str| Route::parse(path).unwrap().media();
        let (scim, export) = (media("/api/v1/scim/Users"), media("/api/v1/admin/export"));
        for json in ["application/scim+json", "application/json"] {
            assert!(scim.allows(Some(json)) && export.allows(Some(json)));
        }
        assert!(export.allows(Some("application/jsonl")));
        let is_export = |path: &str| Route::parse(path).unwrap().is_export();
        assert!(is_export("/api/v1/admin/export") && is_export("/console/export"));
        for path in [
            "/console",
            "/api/v1/admin/users/export",
            "/api/v1/scim/Users/export",
        ] {
            assert!(!is_export(path), "{path}");
        }
        assert!(!scim.allows(Some("application/jsonl")));
        let page = media("/console/users");
        assert!(page.allows(Some("text/html")) && page.allows(Some("application/jsonl")));
        assert!(!page.allows(Some("application/json")) && !page.allows(None));
        for other in [None, Some("text/html"), Some("text/plain"), Some("")] {
            assert!(!scim.allows(other) && !export.allows(other), "{other:?}");
        }
    }

    #[test]
    fn nothing_else_exists() {
        for path in [
            "/",
            "*",
            "",
            "/api",
            "/api/v1",
            "/api/v1/scim",
            "/api/v1/scim/",
            "/api/v1/scim/v2",
            "/api/v1/scim/v3/Users",
            "/api/v1/scim/v2/v2/Users",
            "/api/v1/scim/v2/ServiceProviderConfigs",
            "/api/v1/scim/users",
            "/api/v1/scim/%55sers",
            "/api/v1/scim/Users.json",
            "/api/v1/scim/v1/Users/.json",
            "/api/v1/scim/v1/Users.json/x",
            "/api/v1/scim/v1/Users.xml",
            "/api/v1/scim/Users/a/b",
            "/api/v1/scim/Users/a/b/c/d/e/f/g",
            "/api/v1/scim/Users/..",
            "/api/v1/scim/Users/.",
            "/api/v1/scim/Users/...",
            "/api/v1/scim/Users/%2e%2e",
            "/api/v1/scim/Users/%2E%2e/Groups",
            "/api/v1/scim/Users/.%2e",
            "/api/v1/scim/Users/%252e%252e",
            "/api/v1/scim/Users/..%2fGroups",
            "/api/v1/scim/Users/a%2fb",
            "/api/v1/scim/Users/a%5cb",
            "/api/v1/scim/Users/a\\b",
            "/api/v1/scim/Users/a%00",
            "/api/v1/scim/Users/a%0d%0ab",
            "/api/v1/scim/Users/a%3fb",
            "/api/v1/scim/Users/a%23b",
            "/api/v1/scim/Users/a;b",
            "/api/v1/scim/Users/a%20b",
            "/api/v1/scim/Users/%ff",
            "/api/v1/scim/Users/%c0%ae%c0%ae",
            "/api/v1/scim/Users/%zz",
            "/api/v1/scim/Users/%e2%80%ae",
            "/api/v1/scim/../scim/Users",
            "/api/v1/scim/./Users",
            "/api/v1/scim/%2e/Users",
            "/api/v1/scim/Users/.search/x",
            "/api/v1/scim/Me/x",
            "/api/v1/scim/Bulk/x",
            "/internal/v1/resolve",
            "/api/v1/scim/internal",
            "/scim/v2/Users",
        ] {
            assert_eq!(node_path(path), None, "{path}");
        }
        assert_eq!(
            node_path(&format!("/api/v1/scim/Users/{}", "a".repeat(201))),
            None
        );
    }

    #[test]
    fn the_dialect_follows_the_base_even_where_nothing_is() {
        for (path, expected) in [
            ("/api/v1/scim/v1/nothing", Dialect::Scim11),
            ("/api/v1/scim/v1", Dialect::Scim11),
            ("/api//v1/scim/v1/Users", Dialect::Scim11),
            ("/api/v1/scim/Users/v1", Dialect::Scim20),
            ("/v1", Dialect::Scim20),
        ] {
            assert_eq!(dialect(path), expected, "{path}");
        }
    }

    #[test]
    fn only_a_group_replace_may_be_large() {
        let group = Route::parse("/api/v1/scim/Groups/g").unwrap();
        assert_eq!(group.max_body(&Method::PUT), MAX_GROUP_REPLACE_BYTES);
        assert_eq!(group.max_body(&Method::PATCH), MAX_BODY_BYTES);
        let user = Route::parse("/api/v1/scim/Users/u").unwrap();
        assert_eq!(user.max_body(&Method::PUT), MAX_BODY_BYTES);
    }

    proptest! {
        #[test]
        fn a_path_at_the_node_is_always_canonical(path in "/api/v1/scim/[A-Za-z]{0,8}/?[!-~]{0,40}") {
            if let Some(route) = Route::parse(&path) {
                let url = reqwest::Url::parse(&format!("http://node{}", route.node_path)).unwrap();
                prop_assert_eq!(url.path(), route.node_path.as_str());
                prop_assert!(url.query().is_none() && url.fragment().is_none());
            }
        }
    }
}
