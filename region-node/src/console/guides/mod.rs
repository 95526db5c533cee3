//! How identity providers are connected, with this tenant's own base URL to copy. What each guide says
//! is in `texts`.

mod texts;

use actix_web::HttpResponse;
use actix_web::web::{Data, Path};
use maud::{Markup, html};

use super::layout::{Frame, Section, cell, copyable, head, table, table_with_caption, trail};
use super::session::Visitor;
use crate::admin::tokens::token_url;
use crate::error::Error;
use crate::startup::Parts;

/// A guide: the last part of its path, the identity provider, and its text.
struct Guide {
    name: &'static str,
    title: &'static str,
    about: &'static str,
    text: fn(&Values) -> Markup,
}

const GUIDES: [Guide; 7] = [
    Guide {
        name: "okta",
        title: "Okta",
        about: "SCIM connector, or the application SCIM 2.0 Test App (Header Auth).",
        text: texts::okta,
    },
    Guide {
        name: "entra",
        title: "Microsoft Entra ID",
        about: "Enterprise application with automatic provisioning.",
        text: texts::entra,
    },
    Guide {
        name: "pingone",
        title: "PingOne",
        about: "SCIM Outbound connection, by bearer token or client credentials.",
        text: texts::pingone,
    },
    Guide {
        name: "onelogin",
        title: "OneLogin",
        about: "SCIM Provisioner with SAML (SCIM v2 Enterprise, or Core).",
        text: texts::onelogin,
    },
    Guide {
        name: "jumpcloud",
        title: "JumpCloud",
        about: "Custom application with identity management.",
        text: texts::jumpcloud,
    },
    Guide {
        name: "google",
        title: "Google Workspace",
        about: "Auto-provisioning of an application of Google's catalogue.",
        text: texts::google,
    },
    Guide {
        name: "other",
        title: "Another client",
        about: "Anything that speaks SCIM 2.0 or 1.1, and a first try by curl.",
        text: texts::other,
    },
];

/// What a guide says of this tenant.
struct Values {
    base_url: String,
    token_url: String,
}

/// `GET /console/guides`
///
/// # Errors
/// As the store.
pub async fn list(visitor: Visitor, parts: Data<Parts>) -> Result<HttpResponse, Error> {
    let frame = Frame::of(&visitor, &parts);
    let body = html! {
        (head("Set-up guides", "Each needs two things: the base URL, and an API token of its own.", None))
        div.card.stack {
            (copyable("base-url", "Base URL", visitor.scope.base_url.as_str()))
            p { a.button href="/console/tokens/new" { "Create an API token" } }
        }
        ul.cards {
            @for guide in &GUIDES {
                li.card {
                    h2 { a href={ "/console/guides/" (guide.name) } { (guide.title) } }
                    p { (guide.about) }
                }
            }
        }
        (test_connection())
    };
    Ok(frame.page(Section::Guides, "Set-up guides", &body))
}

/// `GET /console/guides/{name}`
///
/// # Errors
/// 404 if there is no such guide, and as the store.
pub async fn show(
    visitor: Visitor,
    name: Path<String>,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let guide = GUIDES.iter().find(|guide| guide.name == name.as_str());
    let guide = guide.ok_or(Error::NoSuchPage)?;
    let frame = Frame::of(&visitor, &parts);
    let values = Values {
        base_url: visitor.scope.base_url.as_str().to_owned(),
        token_url: token_url(&visitor.scope.base_url),
    };
    let body = html! {
        (trail(&[("/console/guides", "Set-up guides")], guide.title))
        (head(&format!("Connect {}", guide.title), guide.about, Some(("/console/tokens/new", "Create token"))))
        div.guide {
            ((guide.text)(&values))
            (test_connection())
        }
    };
    Ok(frame.page(Section::Guides, guide.title, &body))
}

/// A table of fields and what to put into them.
fn fields(caption: &str, rows: &[(&str, Markup)]) -> Markup {
    let rows: Vec<Vec<Markup>> = rows
        .iter()
        .map(|(name, value)| vec![cell(name), value.clone()])
        .collect();
    table_with_caption(caption, &["Field", "Value"], &rows)
}

/// A table of attributes: theirs, ours, and a note.
fn mapping(theirs: &str, rows: &[(&str, &str, &str)]) -> Markup {
    let rows: Vec<Vec<Markup>> = rows
        .iter()
        .map(|(from, to, note)| vec![code(from), code(to), cell(note)])
        .collect();
    html! {
        section.stack aria-labelledby="mapping" {
            h2 #mapping { "Mapping" }
            (table("Attribute mapping", &[theirs, "SCIM attribute", "Note"], &rows))
        }
    }
}

/// What an event at the identity provider does here.
fn effects(theirs: &str, rows: &[(&str, &str)]) -> Markup {
    html! {
        section.stack aria-labelledby="effects" {
            h2 #effects { "What happens" }
            (table("What happens", &[theirs, "Here"], &pairs(rows)))
        }
    }
}

fn pairs(rows: &[(&str, &str)]) -> Vec<Vec<Markup>> {
    rows.iter()
        .map(|(left, right)| vec![cell(left), cell(right)])
        .collect()
}

fn code(text: &str) -> Markup {
    html! { code { (text) } }
}

fn the_token() -> Markup {
    html! { "The API token (" a href="/console/tokens/new" { "create one" } ")" }
}

/// What a connection test that fails means.
fn test_connection() -> Markup {
    let rows = [
        (
            "401",
            "The token is not good here: copied incompletely, expired, revoked, or of another region. The message says which. Create or rotate a token, and paste it again.",
        ),
        (
            "403",
            "The token is for administration, or may not be used from the identity provider's network. Create one for provisioning, or change its networks.",
        ),
        (
            "404",
            "The path is not right. The base URL ends in /api/v1/scim, and the identity provider adds /Users itself.",
        ),
        (
            "421",
            "The hostname belongs to another region, or to nobody. Copy the base URL from this page.",
        ),
        (
            "429",
            "Too many requests at once. The identity provider tries again by itself.",
        ),
        (
            "503",
            "The region cannot answer at the moment. The identity provider tries again by itself, and nothing is lost.",
        ),
        (
            "A time-out, or a certificate error",
            "The identity provider does not reach this host. It must be allowed to connect to it on port 443.",
        ),
    ];
    html! {
        section.stack aria-labelledby="test" {
            h2 #test { "If the connection test fails" }
            (table("What a failed test means", &["It says", "What to do"], &pairs(&rows)))
        }
    }
}
