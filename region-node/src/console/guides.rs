//! How identity providers are connected, with this tenant's own base URL to copy.

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

const GUIDES: [Guide; 4] = [
    Guide {
        name: "okta",
        title: "Okta",
        about: "SCIM connector, or the application SCIM 2.0 Test App (Header Auth).",
        text: okta,
    },
    Guide {
        name: "entra",
        title: "Microsoft Entra ID",
        about: "Enterprise application with automatic provisioning.",
        text: entra,
    },
    Guide {
        name: "pingone",
        title: "PingOne",
        about: "SCIM Outbound connection, by bearer token or client credentials.",
        text: pingone,
    },
    Guide {
        name: "other",
        title: "Another client",
        about: "Anything that speaks SCIM 2.0 or 1.1, and a first try by curl.",
        text: other,
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

fn okta(values: &Values) -> Markup {
    html! {
        (copyable("base-url", "Base URL", &values.base_url))
        section.stack aria-labelledby="connect" {
            h2 #connect { "Connect" }
            ol.steps {
                li { p { "In the Okta Admin Console open " strong { "Applications" } ", then your application, or " strong { "Browse App Catalog" } " and " em { "SCIM 2.0 Test App (Header Auth)" } ". In an application of your own: " strong { "General" } " › " em { "App Settings" } " › " strong { "Edit" } " › Provisioning: " strong { "SCIM" } " › " strong { "Save" } "." } }
                li {
                    p { strong { "Provisioning" } " › " strong { "Integration" } " › " strong { "Edit" } " (catalogue application: " strong { "Configure API Integration" } " › Enable API integration)." }
                    (fields("Integration", &[
                        ("SCIM connector base URL, or Base URL", code(&values.base_url)),
                        ("Unique identifier field for users", code("userName")),
                        ("Supported provisioning actions", html! { "Import New Users and Profile Updates, Push New Users, Push Profile Updates; Push Groups if you want groups" }),
                        ("Authentication Mode", html! { "HTTP Header" }),
                        ("Authorization, or API Token", html! { (the_token()) ", with or without " code { "Bearer" } " before it" }),
                    ]))
                }
                li { p { strong { "Test Connector Configuration" } ", or " strong { "Test API Credentials" } "; then " strong { "Save" } "." } }
                li { p { strong { "Provisioning" } " › " strong { "To App" } " › " strong { "Edit" } ": enable " em { "Create Users" } ", " em { "Update User Attributes" } " and " em { "Deactivate Users" } " › " strong { "Save" } "." } }
                li { p { strong { "Assignments" } ": assign a person, and look at " a href="/console/users" { "Users" } " here." } }
            }
        }
        (mapping("Okta", &[
            ("userName", "userName", "Required; unique without case. Application username format: Email"),
            ("user.firstName", "name.givenName", ""),
            ("user.lastName", "name.familyName", ""),
            ("user.email", "emails[type eq \"work\"].value", "Primary"),
            ("user.displayName", "displayName", "Optional"),
            ("user.timezone", "timezone", "Optional; an IANA name, Etc/UTC if absent"),
            ("Okta's user id", "externalId", "Set by Okta"),
            ("assigned / unassigned", "active", ""),
        ]))
        (effects("In Okta", &[
            ("A person is assigned", "Looked up by userName; linked if found, else created"),
            ("The profile changes", "Replaced as a whole (PUT)"),
            ("Unassigned, or deactivated", "Disabled (active: false); stays, and can be found"),
            ("Assigned again", "Active again, the same user"),
            ("Import Now", "All users are read, in pages of 100"),
        ]))
        p.quiet { "Okta never deletes users." }
    }
}

fn entra(values: &Values) -> Markup {
    html! {
        (copyable("base-url", "Tenant URL", &values.base_url))
        section.stack aria-labelledby="connect" {
            h2 #connect { "Connect" }
            ol.steps {
                li { p { "In the Microsoft Entra admin center open " strong { "Enterprise applications" } ", then your application, or " strong { "New application" } " › " strong { "Create your own application" } " › " em { "Integrate any other application you don't find in the gallery" } "." } }
                li {
                    p { strong { "Provisioning" } " › " strong { "New configuration" } " (or " strong { "Get started" } " › Provisioning Mode: " em { "Automatic" } ")." }
                    (fields("Admin credentials", &[
                        ("Tenant URL", code(&values.base_url)),
                        ("Secret Token", the_token()),
                    ]))
                    p.hint { "A tenant URL that ends in " code { "?aadOptscim062020" } " works as well." }
                }
                li { p { strong { "Test Connection" } "; then " strong { "Create" } " (or " strong { "Save" } ")." } }
                li { p { strong { "Mappings" } " › " em { "Provision Microsoft Entra ID Groups" } ": " strong { "Enabled: No" } ", unless you want groups › " strong { "Save" } "." } }
                li { p { strong { "Mappings" } " › " em { "Provision Microsoft Entra ID Users" } ": check the table below › " strong { "Save" } "." } }
                li { p { "Assign users under " strong { "Users and groups" } ", then " strong { "Start provisioning" } ". " strong { "Provision on demand" } " does it for one person at once, and shows each step." } }
            }
        }
        (mapping("Microsoft Entra ID", &[
            ("userPrincipalName, or mail", "userName", "Matching, precedence 1"),
            ("Switch([IsSoftDeleted], , \"False\", \"True\", \"True\", \"False\")", "active", ""),
            ("givenName", "name.givenName", ""),
            ("surname", "name.familyName", ""),
            ("mail", "emails[type eq \"work\"].value", ""),
            ("objectId", "externalId", "May be the matching attribute instead"),
            ("displayName", "displayName", "Optional"),
            ("manager, department, …", "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:…", "Optional"),
        ]))
        (effects("In Entra ID", &[
            ("Assigned", "Looked up by the matching attribute; created if not found"),
            ("Changed", "Patched"),
            ("Unassigned, blocked, soft-deleted", "Disabled (active: false); still found"),
            ("Restored", "Active again, the same user"),
            ("Hard-deleted, thirty days later", "Deleted"),
        ]))
        p.quiet { "The first cycle takes its time; later ones run every 20 to 40 minutes. If a job is in quarantine, correct what its message names, and choose Restart provisioning." }
    }
}

fn pingone(values: &Values) -> Markup {
    html! {
        (copyable("base-url", "SCIM base URL", &values.base_url))
        section.stack aria-labelledby="connect" {
            h2 #connect { "Connect" }
            ol.steps {
                li { p { "In the PingOne admin console: " strong { "Integrations" } " › " strong { "Provisioning" } " › " strong { "+" } " › " strong { "New Connection" } " › " em { "Identity Store" } " › " strong { "SCIM Outbound" } " › " strong { "Next" } ". Give it a name › " strong { "Next" } "." } }
                li {
                    p { strong { "Configure Authentication" } "." }
                    (fields("With a bearer token", &[
                        ("SCIM BASE URL", code(&values.base_url)),
                        ("Users Resource", code("/Users")),
                        ("Groups Resource", html! { "Blank, or " code { "/Groups" } " if you want groups" }),
                        ("SCIM Version", code("2.0")),
                        ("Authentication Method", html! { "OAuth 2 Bearer Token" }),
                        ("OAuth Access Token", the_token()),
                        ("Auth Type Header", code("Bearer")),
                    ]))
                    (fields("Or with client credentials, which give PingOne an access token of one hour at a time", &[
                        ("Authentication Method", html! { "OAuth 2 Client Credentials" }),
                        ("OAuth Token Request", code(&values.token_url)),
                        ("OAuth Client ID", html! { "The API token's id, " code { "tok_…" } }),
                        ("OAuth Client Secret", html! { "The API token" }),
                    ]))
                }
                li { p { strong { "Test Connection" } " › " strong { "Next" } "." } }
                li {
                    p { strong { "Configure Preferences" } "." }
                    (fields("Preferences", &[
                        ("User Filter Expression", code("userName Eq \"%s\"")),
                        ("User Identifier", html! { code { "userName" } ", or " code { "workEmail" } " with " code { "workEmail Eq \"%s\"" } }),
                        ("Allow users to be created / updated / disabled", html! { "On" }),
                        ("Remove action", html! { "Disable, or Delete" }),
                    ]))
                }
                li { p { strong { "Save" } ", and switch the connection on." } }
                li { p { strong { "Integrations" } " › " strong { "Provisioning" } " › " strong { "+" } " › " strong { "New Rule" } ": source PingOne, target the new connection; a user filter (such as " em { "Enabled" } " equals " em { "true" } "); the mapping below; switch the rule on." } }
            }
        }
        (mapping("PingOne", &[
            ("Email Address", "userName", "Required; unique without case"),
            ("Email Address", "workEmail", ""),
            ("Given Name", "givenName", ""),
            ("Family Name", "familyName", ""),
            ("Enabled", "active", ""),
            ("Timezone", "timeZone", "Optional; an IANA name, Etc/UTC if absent or blank"),
        ]))
        (effects("In PingOne", &[
            ("A user enters the rule's scope", "Looked up by the filter expression; created if not found"),
            ("A user changes", "Read, then replaced as a whole (PUT)"),
            ("A user leaves the scope", "Disabled (active: false) or deleted, as you chose"),
        ]))
        p.quiet { "PingOne cannot clear an attribute: what it does not map it does not send." }
    }
}

fn other(values: &Values) -> Markup {
    let curl = format!(
        "curl -H \"Authorization: Bearer $TOKEN\" {}/Users?count=2",
        values.base_url
    );
    html! {
        (copyable("base-url", "Base URL", &values.base_url))
        section.stack aria-labelledby="connect" {
            h2 #connect { "Connect" }
            (fields("What a client needs", &[
                ("Base URL, SCIM 2.0", html! { code { (values.base_url) } " (or with " code { "/v2" } " at its end)" }),
                ("Base URL, SCIM 1.1", html! { code { (values.base_url) "/v1" } }),
                ("Bearer token", html! { code { "Authorization: Bearer …" } ", with " (the_token()) }),
                ("Basic", html! { "Any user name; the API token as the password" }),
                ("OAuth 2.0 client credentials", html! { "Token URL " code { (values.token_url) } ", client ID the token's id, client secret the API token" }),
            ]))
        }
        section.stack aria-labelledby="try" {
            h2 #try { "A first try" }
            p { "The token in the variable " code { "TOKEN" } ":" }
            (copyable("curl", "Command", &curl))
            p { "The answer is a list of users, also where it is empty." }
        }
    }
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
