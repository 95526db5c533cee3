//! "Global Settings / API tokens": what identity providers present. A token is shown once, on the
//! page that answers its making.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use maud::{Markup, html};
use shared::{Dialect, Network, Networks, Scope, TokenId};

use super::layout::{
    Frame, Section, badge, cell, copyable, head, moment, moment_or, nothing, notice, see, table,
    trail,
};
use super::session::{Form, Visitor};
use crate::admin::tokens::{token_id, token_url};
use crate::error::Error;
use crate::provider::expiry::{self, Expiring};
use crate::provider::tokens::{IssuedToken, Rotation, TokenError, TokenRequest, TokenState};
use crate::scim::client::Client;
use crate::startup::Parts;
use crate::store::StoredToken;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Lives that can be chosen: days, and how they are called.
const LIVES: &[(&str, &str)] = &[
    ("90", "90 days"),
    ("180", "180 days"),
    ("365", "1 year"),
    ("730", "2 years"),
    ("", "No end"),
];
/// The life that is suggested.
const SUGGESTED_LIFE: &str = "365";
/// Overlaps that can be chosen: hours, and how they are called.
const OVERLAPS: &[(&str, &str)] = &[
    ("72", "3 days"),
    ("24", "1 day"),
    ("168", "7 days"),
    ("0", "None: the old token ends at once"),
];

/// `GET /console/tokens`
///
/// # Errors
/// As the store.
pub async fn list(
    visitor: Visitor,
    request: HttpRequest,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let frame = Frame::of(&visitor, &parts);
    let tokens = parts.tokens.list_own(&visitor.scope.access).await?;
    let clients = parts.activities.clients(&visitor.scope.access).await?;
    let (live, ended): (Vec<_>, Vec<_>) = tokens
        .iter()
        .rev()
        .partition(|token| TokenState::of(token, frame.now) == TokenState::Live);
    let body = html! {
        (head(
            "API tokens",
            "An identity provider presents one with each request. Give each its own.",
            Some(("/console/tokens/new", "Create token")),
        ))
        @if request.query_string() == "revoked" {
            (notice("good", "The token is revoked. Nothing is read or written with it any more."))
        }
        @if live.is_empty() {
            (nothing("No live token", &html! {
                p { "Create one, and paste it into your identity provider." }
            }))
        } @else {
            (listed(&frame, &live, &clients, "Live tokens"))
        }
        @if !ended.is_empty() {
            details.more {
                summary { "Tokens that have ended (" (ended.len()) ")" }
                (listed(&frame, &ended, &clients, "Tokens that have ended"))
            }
        }
    };
    Ok(frame.page(Section::Tokens, "API tokens", &body))
}

fn listed(
    frame: &Frame<'_>,
    tokens: &[&StoredToken],
    clients: &[(TokenId, Client)],
    caption: &str,
) -> Markup {
    let rows: Vec<Vec<Markup>> = tokens
        .iter()
        .map(|token| {
            vec![
                html! {
                    a href={ "/console/tokens/" (token.id.as_str()) } { (token.name) }
                    code.sub { (token.id.as_str()) }
                },
                cell(scope_name(token.scope)),
                state(frame, token),
                html! {
                    (last_used(frame, token))
                    @if let Some((_, client)) = clients.iter().find(|(of, _)| *of == token.id) {
                        span.sub { (client.name()) }
                    }
                },
                moment_or(token.expires, "Never"),
            ]
        })
        .collect();
    table(
        caption,
        &["Name", "For", "State", "Last used", "Ends"],
        &rows,
    )
}

fn scope_name(scope: Scope) -> &'static str {
    match scope {
        Scope::Scim => "Provisioning",
        Scope::Admin => "Administration",
    }
}

fn state(frame: &Frame<'_>, token: &StoredToken) -> Markup {
    match TokenState::of(token, frame.now) {
        TokenState::Live if Expiring::of(token, frame.now).is_some() => {
            badge("warn", &days_left(token, frame))
        }
        TokenState::Live => badge("good", "Live"),
        TokenState::Expired => badge("", "Expired"),
        TokenState::Revoked => badge("bad", "Revoked"),
    }
}

fn days_left(token: &StoredToken, frame: &Frame<'_>) -> String {
    match expiry::days_left(token, frame.now) {
        Some(0) | None => "Ends today".to_owned(),
        Some(1) => "Ends in 1 day".to_owned(),
        Some(days) => format!("Ends in {days} days"),
    }
}

fn last_used(frame: &Frame<'_>, token: &StoredToken) -> Markup {
    token
        .last_used
        .map_or_else(|| html! { span.quiet { "Never" } }, |at| frame.ago(at))
}

/// `GET /console/tokens/new`
///
/// # Errors
/// As the store.
pub async fn new(visitor: Visitor, parts: Data<Parts>) -> Result<HttpResponse, Error> {
    let frame = Frame::of(&visitor, &parts);
    let body = new_form(&frame, &Form::default(), None);
    Ok(frame.page(Section::Tokens, "Create token", &body))
}

fn new_form(frame: &Frame<'_>, form: &Form, problem: Option<&str>) -> Markup {
    let chosen =
        |name: &str, value: &str, default: &str| form.all(name).next().unwrap_or(default) == value;
    let choice = |name: &'static str, value: &'static str, default, title, about| {
        let id = format!("{name}-{value}");
        html! {
            div.choice {
                input type="radio" id=(id) name=(name) value=(value)
                    checked[chosen(name, value, default)];
                label for=(id) { strong { (title) } span.hint { (about) } }
            }
        }
    };
    html! {
        (trail(&[("/console/tokens", "API tokens")], "Create token"))
        (head("Create token", "", None))
        @if let Some(problem) = problem { (notice("bad", problem)) }
        form.stack.narrow method="post" action="/console/tokens" {
            (frame.proof())
            div.field {
                label for="name" { "Name" }
                input #name name="name" type="text" required maxlength="200" autocomplete="off"
                    value=[form.get("name")] aria-describedby="name-hint";
                p.hint #name-hint { "What it is for: Okta, or Entra ID in the test tenant." }
            }
            fieldset {
                legend { "What it is for" }
                (choice("scope", "scim", "scim", "Provisioning",
                    "An identity provider creates and changes users and groups with it."))
                (choice("scope", "admin", "scim", "Administration",
                    "Signs in here, and opens the admin API. It reads no password, and writes no user."))
            }
            div.field {
                label for="life" { "Lives for" }
                select #life name="life" { (options(LIVES, form.all("life").next().unwrap_or(SUGGESTED_LIFE))) }
            }
            details.more open[form.get("networks").is_some() || form.get("dialect") == Some("1.1")] {
                summary { "More" }
                div.field {
                    label for="networks" { "Networks that it may be used from" }
                    textarea #networks name="networks" rows="3" spellcheck="false"
                        aria-describedby="networks-hint" { (form.get("networks").unwrap_or_default()) }
                    p.hint #networks-hint {
                        "One a line, as " code { "192.0.2.0/24" } ". Left empty: from anywhere."
                    }
                }
                fieldset {
                    legend { "Protocol on the main base URL" }
                    (choice("dialect", "2.0", "2.0", "SCIM 2.0", "What identity providers speak today."))
                    (choice("dialect", "1.1", "2.0", "SCIM 1.1", "For a client that speaks nothing newer."))
                }
            }
            div.actions {
                button.primary type="submit" { "Create token" }
                a.button href="/console/tokens" { "Cancel" }
            }
        }
    }
}

fn options(choices: &[(&str, &str)], chosen: &str) -> Markup {
    html! {
        @for (value, name) in choices {
            option value=(value) selected[*value == chosen] { (name) }
        }
    }
}

/// `POST /console/tokens`: makes a token and shows it, this once.
///
/// # Errors
/// As the store.
pub async fn create(
    visitor: Visitor,
    body: Bytes,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let form = visitor.form(&body)?;
    let frame = Frame::of(&visitor, &parts);
    let refused = |problem: &str| {
        let body = new_form(&frame, &form, Some(problem));
        frame.page_with(
            StatusCode::BAD_REQUEST,
            Section::Tokens,
            "Create token",
            &body,
        )
    };
    let request = match token_request(&visitor, &form) {
        Ok(request) => request,
        Err(problem) => return Ok(refused(&problem)),
    };
    let created = parts
        .tokens
        .create_own(&visitor.scope.access, &request)
        .await;
    let issued = match created {
        Err(TokenError::Name) => {
            return Ok(refused(
                "The name has 1 to 200 characters, and no control characters.",
            ));
        }
        created => created?,
    };
    let body = shown_once(&visitor, &issued, None);
    Ok(frame.page(Section::Tokens, "Token created", &body))
}

/// What the form asks for, or what is wrong with it.
fn token_request(visitor: &Visitor, form: &Form) -> Result<TokenRequest, String> {
    Ok(TokenRequest {
        name: Some(form.get("name").unwrap_or_default().to_owned()),
        scope: match form.get("scope") {
            None | Some("scim") => Scope::Scim,
            Some("admin") => Scope::Admin,
            Some(_) => return Err("Choose what the token is for.".to_owned()),
        },
        dialect: match form.get("dialect") {
            None | Some("2.0") => Dialect::Scim20,
            Some("1.1") => Dialect::Scim11,
            Some(_) => return Err("Choose SCIM 2.0 or SCIM 1.1.".to_owned()),
        },
        life: life(form)?,
        created_by: visitor.scope.token_id.to_string(),
        networks: networks(form)?,
    })
}

fn life(form: &Form) -> Result<Option<Duration>, String> {
    let Some(days) = form.get("life") else {
        return Ok(None);
    };
    let is_offered = LIVES.iter().any(|(value, _)| *value == days);
    let days: Option<u32> = days.parse().ok().filter(|_| is_offered);
    days.map(|days| Some(DAY * days))
        .ok_or_else(|| "Choose one of the lives that are offered.".to_owned())
}

fn networks(form: &Form) -> Result<Networks, String> {
    let lines = form.get("networks").unwrap_or_default().lines();
    let lines = lines.map(str::trim).filter(|line| !line.is_empty());
    let networks: Result<Vec<Network>, String> = lines
        .map(|line| {
            Network::parse(line).map_err(|_| {
                format!("“{line}” is no network. Write it as 192.0.2.0/24 or 2001:db8::/32.")
            })
        })
        .collect();
    Networks::new(networks?).map_err(|error| format!("The networks are not right: {error}."))
}

/// The page with a new token.
fn shown_once(visitor: &Visitor, issued: &IssuedToken, replaced: Option<&StoredToken>) -> Markup {
    let (token, base_url) = (&issued.stored, &visitor.scope.base_url);
    html! {
        (trail(&[("/console/tokens", "API tokens")], &token.name))
        (head(if replaced.is_some() { "Token rotated" } else { "Token created" }, "", None))
        (notice("warn", "Copy the token now. It is shown this once, and nobody can show it again."))
        div.card.stack {
            (copyable("token", "API token", issued.secret.reveal()))
            @if token.scope == Scope::Scim {
                (copyable("base-url", "Base URL", base_url.as_str()))
            }
            @if let Some(end) = replaced.and_then(|before| before.expires) {
                p { "The token before this one lives until " (moment(end)) ". Put this one into your identity provider until then." }
            }
        }
        @if token.scope == Scope::Scim {
            section.stack aria-labelledby="oauth" {
                h2 #oauth { "For a client that speaks OAuth 2.0 only" }
                p { "It exchanges the token for access tokens of one hour, by client credentials. The client secret is the API token." }
                div.card.stack {
                    (copyable("token-url", "Token URL", &token_url(base_url)))
                    (copyable("client-id", "Client ID", token.id.as_str()))
                }
            }
            p.actions {
                a.button.primary href="/console/guides" { "How to connect an identity provider" }
                a.button href="/console/tokens" { "Done" }
            }
        } @else {
            p.actions { a.button href="/console/tokens" { "Done" } }
        }
    }
}

/// `GET /console/tokens/{id}`
///
/// # Errors
/// 404 if the tenant has none with that id, and as the store.
pub async fn show(
    visitor: Visitor,
    id: Path<String>,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let frame = Frame::of(&visitor, &parts);
    let token = parts
        .tokens
        .get_own(&visitor.scope.access, &token_id(&id)?)
        .await?;
    let body = detail(&frame, &visitor, &token, None);
    Ok(frame.page(Section::Tokens, &token.name, &body))
}

fn detail(
    frame: &Frame<'_>,
    visitor: &Visitor,
    token: &StoredToken,
    problem: Option<&str>,
) -> Markup {
    let is_live = TokenState::of(token, frame.now) == TokenState::Live;
    let path = format!("/console/tokens/{}", token.id.as_str());
    html! {
        (trail(&[("/console/tokens", "API tokens")], &token.name))
        (head(&token.name, "", None))
        @if let Some(problem) = problem { (notice("bad", problem)) }
        dl.facts.card {
            div { dt { "State" } dd { (state(frame, token)) } }
            div { dt { "For" } dd { (scope_name(token.scope)) } }
            div { dt { "Protocol" } dd { "SCIM " (token.dialect.as_str()) } }
            div { dt { "Last used" } dd { (last_used(frame, token)) } }
            div { dt { "Created" } dd { (moment(token.created)) " by " (maker(token)) } }
            div { dt { "Ends" } dd { (moment_or(token.expires, "Never")) } }
            @if let Some(at) = token.revoked { div { dt { "Revoked" } dd { (moment(at)) } } }
            div { dt { "Networks" } dd {
                @if token.networks.is_empty() { "Anywhere" }
                @for network in token.networks.as_slice() { code { (network) } " " }
            } }
            div { dt { "Id" } dd { code { (token.id.as_str()) } } }
        }
        @if is_live {
            section.stack aria-labelledby="rotate" {
                h2 #rotate { "Rotate" }
                p { "Makes a successor with the same name, scope and networks. Both are good for the overlap, so your identity provider misses nothing." }
                form.row method="post" action={ (path) "/rotate" } {
                    (frame.proof())
                    div.field {
                        label for="overlap" { "Overlap" }
                        select #overlap name="overlap" { (options(OVERLAPS, "72")) }
                    }
                    button type="submit" { "Rotate token" }
                }
            }
            section.stack aria-labelledby="revoke" {
                h2 #revoke { "Revoke" }
                p {
                    "Ends the token at once and everywhere."
                    @if token.id == visitor.scope.token_id {
                        " This is the token that you signed in with: your session ends with it."
                    }
                }
                p { a.button.danger href={ (path) "/revoke" } { "Revoke token…" } }
            }
        }
    }
}

fn maker(token: &StoredToken) -> Markup {
    match TokenId::parse(&token.created_by) {
        Ok(id) => html! { a href={ "/console/tokens/" (id.as_str()) } { "another token" } },
        Err(_) => html! { "the operator" },
    }
}

/// `POST /console/tokens/{id}/rotate`
///
/// # Errors
/// 404 if the tenant has none with that id, and as the store.
pub async fn rotate(
    visitor: Visitor,
    id: Path<String>,
    body: Bytes,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let form = visitor.form(&body)?;
    let frame = Frame::of(&visitor, &parts);
    let (access, id) = (&visitor.scope.access, token_id(&id)?);
    let chosen = form.get("overlap").unwrap_or_default();
    let is_offered = OVERLAPS.iter().any(|(value, _)| *value == chosen);
    let hours: Option<u32> = chosen.parse().ok().filter(|_| is_offered);
    let before = parts.tokens.get_own(access, &id).await?;
    let Some(hours) = hours else {
        let body = detail(
            &frame,
            &visitor,
            &before,
            Some("Choose one of the overlaps."),
        );
        let status = StatusCode::BAD_REQUEST;
        return Ok(frame.page_with(status, Section::Tokens, &before.name, &body));
    };
    let rotation = Rotation {
        overlap: Some(DAY / 24 * hours),
        ..Rotation::default()
    };
    let by = &visitor.scope.token_id;
    let issued = match parts.tokens.rotate_own(access, &id, rotation, by).await {
        Err(TokenError::Ended) => {
            let problem = "The token has ended. Create a new one.";
            let body = detail(&frame, &visitor, &before, Some(problem));
            let status = StatusCode::CONFLICT;
            return Ok(frame.page_with(status, Section::Tokens, &before.name, &body));
        }
        rotated => rotated?,
    };
    let before = parts.tokens.get(&id).await?;
    let body = shown_once(&visitor, &issued, Some(&before));
    Ok(frame.page(Section::Tokens, "Token rotated", &body))
}

/// `GET /console/tokens/{id}/revoke`: asks whether it is meant.
///
/// # Errors
/// 404 if the tenant has none with that id, and as the store.
pub async fn ask_revoke(
    visitor: Visitor,
    id: Path<String>,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let frame = Frame::of(&visitor, &parts);
    let token = parts
        .tokens
        .get_own(&visitor.scope.access, &token_id(&id)?)
        .await?;
    let path = format!("/console/tokens/{}", token.id.as_str());
    let body = html! {
        (trail(&[("/console/tokens", "API tokens"), (&path, &token.name)], "Revoke"))
        (head("Revoke this token?", "", None))
        div.card.stack.narrow {
            p { "“" (token.name) "” ends at once, for every client that has it. This cannot be taken back." }
            @if let Some(at) = token.last_used { p { "It was last used " (frame.ago(at)) "." } }
            @else { p { "It was never used." } }
            form.actions method="post" action={ (path) "/revoke" } {
                (frame.proof())
                button.danger type="submit" { "Revoke token" }
                a.button href=(path) { "Keep it" }
            }
        }
    };
    Ok(frame.page(Section::Tokens, "Revoke token", &body))
}

/// `POST /console/tokens/{id}/revoke`
///
/// # Errors
/// 404 if the tenant has none with that id, and as the store.
pub async fn revoke(
    visitor: Visitor,
    id: Path<String>,
    body: Bytes,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    visitor.form(&body)?;
    parts
        .tokens
        .revoke_own(
            &visitor.scope.access,
            &token_id(&id)?,
            &visitor.scope.author(),
        )
        .await?;
    Ok(see("/console/tokens?revoked"))
}
