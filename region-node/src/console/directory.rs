//! Users and groups: looking for them, reading one, and what happened to it. Nothing here changes
//! them; the identity provider does.

use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use maud::{Markup, html};
use serde_json::Value;
use shared::Timestamp;

use super::layout::{
    Frame, Section, badge, cell, head, moment, moment_or, nothing, notice, table, trail,
};
use super::session::{Form, Visitor};
use crate::error::Error;
use crate::handlers::scim_http::{Kind, resource_id};
use crate::provider::ProviderError;
use crate::provider::directory::{Found, Search};
use crate::provider::resources::Resources;
use crate::scim::{ResourceKind, datetime};
use crate::startup::Parts;
use crate::store::{Change, ChangeKind, StoreError};

/// How many changes of one resource a page shows.
const CHANGES: u32 = 50;
/// How many members of a group its page shows.
const MEMBERS: u32 = 20;

fn section(kind: ResourceKind) -> Section {
    match kind {
        ResourceKind::User => Section::Users,
        ResourceKind::Group => Section::Groups,
    }
}

/// The path of a kind's pages, its name, and what one of them is called.
fn names(kind: ResourceKind) -> (&'static str, &'static str, &'static str) {
    match kind {
        ResourceKind::User => ("/console/users", "Users", "user"),
        ResourceKind::Group => ("/console/groups", "Groups", "group"),
    }
}

/// `GET /console/users`, `GET /console/groups`
///
/// # Errors
/// As the provider says.
pub async fn search(
    visitor: Visitor,
    Kind(kind): Kind,
    request: HttpRequest,
    parts: Data<Parts>,
    resources: Data<Resources>,
) -> Result<HttpResponse, Error> {
    let frame = Frame::of(&visitor, &parts);
    let query = Form::of_query(request.query_string());
    let text = query.get("search");
    let asked = Search {
        text: text.map(str::to_owned),
        cursor: query.get("cursor").map(str::to_owned),
        count: None,
    };
    let base_url = visitor.scope.base_url.as_str();
    let found = resources
        .search(visitor.scope.caller(), kind, base_url, &asked)
        .await;
    let (path, name, one) = names(kind);
    let (found, problem) = match found {
        Ok(found) => (Some(found), None),
        // A cursor that has grown old, or a text that is too long: told above the list.
        Err(ProviderError::Scim(error)) if error.status < 500 => (None, Some(error.detail)),
        Err(error) => return Err(error.into()),
    };
    let about = match kind {
        ResourceKind::User => "Everybody whom your identity provider has provisioned.",
        ResourceKind::Group => "The groups that your identity provider pushes.",
    };
    let hint = match kind {
        ResourceKind::User => {
            "The beginning of a user name, display name, e-mail address or external id."
        }
        ResourceKind::Group => "The beginning of a display name or external id.",
    };
    let body = html! {
        (head(name, about, None))
        form.search role="search" method="get" action=(path) {
            div.field {
                label for="search" { "Search" }
                input #search type="search" name="search" value=[text] maxlength="200"
                    autocomplete="off" spellcheck="false" aria-describedby="search-hint";
                p.hint #search-hint { (hint) }
            }
            button type="submit" { "Search" }
        }
        @if let Some(problem) = problem { (notice("bad", &problem)) }
        @if let Some(found) = found {
            @if found.resources.is_empty() {
                (nothing(
                    &match text {
                        Some(_) => format!("No {one} begins so"),
                        None => format!("There is no {one} yet"),
                    },
                    &html! {
                        @if text.is_some() { p { a href=(path) { "Show all" } } }
                        @else { p { "They appear here as soon as your identity provider sends them. " a href="/console/guides" { "Set-up guides" } } }
                    },
                ))
            } @else {
                p.count { (count(found.total, one)) }
                @match kind {
                    ResourceKind::User => { (users(&frame, &found.resources, "Users")) }
                    ResourceKind::Group => { (groups(&frame, &found.resources)) }
                }
                (next_page(path, text, &found))
            }
        }
    };
    Ok(frame.page(section(kind), name, &body))
}

fn count(total: u64, one: &str) -> String {
    match total {
        1 => format!("1 {one}"),
        total => format!("{total} {one}s"),
    }
}

fn next_page(path: &str, text: Option<&str>, found: &Found) -> Markup {
    let Some(next) = &found.next else {
        return html! {};
    };
    let mut query = form_urlencoded::Serializer::new(String::new());
    if let Some(text) = text {
        query.append_pair("search", text);
    }
    query.append_pair("cursor", next);
    html! { p.pages { a.button href={ (path) "?" (query.finish()) } { "Next page" } } }
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The address that a user has first of all.
fn email(user: &Value) -> &str {
    let emails = user.get("emails").and_then(Value::as_array);
    let emails = emails.map(Vec::as_slice).unwrap_or_default();
    let is_primary = |email: &&Value| email.get("primary") == Some(&Value::Bool(true));
    let first = emails.iter().find(is_primary).or(emails.first());
    first.map_or("", |email| text(email, "value"))
}

fn is_active(user: &Value) -> bool {
    user.get("active") != Some(&Value::Bool(false))
}

fn state(user: &Value) -> Markup {
    if is_active(user) {
        badge("good", "Active")
    } else {
        badge("", "Disabled")
    }
}

/// A time within `meta`.
fn time_of(resource: &Value, name: &str) -> Option<Timestamp> {
    let meta = resource.get("meta")?;
    let at = datetime::parse(text(meta, name))?;
    Some(Timestamp(at.as_millisecond()))
}

fn when(resource: &Value, name: &str) -> Markup {
    moment_or(time_of(resource, name), "–")
}

fn ago(frame: &Frame<'_>, resource: &Value, name: &str) -> Markup {
    time_of(resource, name).map_or_else(|| html! {}, |at| frame.ago(at))
}

/// What people call a user or a group.
fn name_of(resource: &Value) -> String {
    let name = resource.get("name").unwrap_or(&Value::Null);
    let full = [text(name, "givenName"), text(name, "familyName")];
    let full = full.join(" ");
    [
        text(resource, "displayName"),
        text(name, "formatted"),
        full.trim(),
        text(resource, "userName"),
        "(no name)",
    ]
    .into_iter()
    .find(|name| !name.is_empty())
    .unwrap_or_default()
    .to_owned()
}

fn users(frame: &Frame<'_>, users: &[Value], caption: &str) -> Markup {
    let rows: Vec<Vec<Markup>> = users
        .iter()
        .map(|user| {
            let (name, user_name) = (name_of(user), text(user, "userName"));
            vec![
                html! {
                    a href={ "/console/users/" (text(user, "id")) } { (name) }
                    @if name != user_name { span.sub { (user_name) } }
                },
                state(user),
                cell(email(user)),
                cell(text(user, "externalId")),
                ago(frame, user, "lastModified"),
            ]
        })
        .collect();
    let columns = ["User", "State", "E-mail", "External id", "Changed"];
    table(caption, &columns, &rows)
}

fn groups(frame: &Frame<'_>, groups: &[Value]) -> Markup {
    let rows: Vec<Vec<Markup>> = groups
        .iter()
        .map(|group| {
            vec![
                html! { a href={ "/console/groups/" (text(group, "id")) } { (name_of(group)) } },
                cell(text(group, "externalId")),
                ago(frame, group, "created"),
                ago(frame, group, "lastModified"),
            ]
        })
        .collect();
    table(
        "Groups",
        &["Group", "External id", "Created", "Changed"],
        &rows,
    )
}

/// `GET /console/users/{id}`, `GET /console/groups/{id}`: as it is, and what happened to it. One that
/// is gone has a history still.
///
/// # Errors
/// 404 if there is nothing of that id, and as the provider says.
pub async fn show(
    visitor: Visitor,
    Kind(kind): Kind,
    id: Path<String>,
    parts: Data<Parts>,
    resources: Data<Resources>,
) -> Result<HttpResponse, Error> {
    let frame = Frame::of(&visitor, &parts);
    let (caller, base_url) = (visitor.scope.caller(), visitor.scope.base_url.as_str());
    let id = resource_id(&id)?;
    let changes = resources.history(caller, kind, id, None, CHANGES).await?;
    let (path, name, one) = names(kind);
    let resource = match resources.look_at(caller, kind, base_url, id).await {
        Err(ProviderError::Store(StoreError::NotFound)) if !changes.is_empty() => None,
        resource => Some(resource?),
    };
    let Some(resource) = resource else {
        let title = format!("A {one} that was deleted");
        let body = html! {
            (trail(&[(path, name)], "Deleted"))
            (head(&title, "Its attributes are gone. What happened to it is kept for a while.", None))
            (history(&changes))
        };
        return Ok(frame.page(section(kind), &title, &body));
    };
    let members = match kind {
        ResourceKind::User => None,
        ResourceKind::Group => {
            let search = Search {
                count: Some(MEMBERS),
                ..Search::default()
            };
            let found = resources.look_at_members(caller, base_url, id, &search);
            Some(found.await?)
        }
    };
    let title = &name_of(&resource);
    let body = html! {
        (trail(&[(path, name)], title))
        (head(title, "", None))
        @match kind {
            ResourceKind::User => { (user_facts(&resource)) }
            ResourceKind::Group => { (group_facts(&resource)) }
        }
        @if let Some(found) = &members {
            section.stack aria-labelledby="members" {
                h2 #members { "Members (" (count(found.total, "user")) ")" }
                @if found.resources.is_empty() { p.quiet { "No user is a direct member." } }
                @else { (users(&frame, &found.resources, "Members")) }
                @if found.next.is_some() {
                    p { a.button href={ (path) "/" (text(&resource, "id")) "/members" } { "All members" } }
                }
            }
        }
        (history(&changes))
        details.more {
            summary { "As SCIM shows it" }
            pre tabindex="0" { code { (serde_json::to_string_pretty(&resource).unwrap_or_default()) } }
        }
    };
    Ok(frame.page(section(kind), title, &body))
}

/// `GET /console/groups/{id}/members`: all of them, page by page.
///
/// # Errors
/// 404 if there is no such group, and as the provider says.
pub async fn members(
    visitor: Visitor,
    id: Path<String>,
    request: HttpRequest,
    parts: Data<Parts>,
    resources: Data<Resources>,
) -> Result<HttpResponse, Error> {
    let frame = Frame::of(&visitor, &parts);
    let (caller, base_url) = (visitor.scope.caller(), visitor.scope.base_url.as_str());
    let id = resource_id(&id)?;
    let query = Form::of_query(request.query_string());
    let search = Search {
        cursor: query.get("cursor").map(str::to_owned),
        ..Search::default()
    };
    let kind = ResourceKind::Group;
    let group = resources.look_at(caller, kind, base_url, id).await?;
    let found = resources
        .look_at_members(caller, base_url, id, &search)
        .await?;
    let (above, name, _) = names(kind);
    let path = format!("{above}/{id}");
    let title = format!("Members of {}", name_of(&group));
    let body = html! {
        (trail(&[(above, name), (&path, &name_of(&group))], "Members"))
        (head(&title, "", None))
        p.count { (count(found.total, "user")) }
        (users(&frame, &found.resources, "Members"))
        (next_page(&format!("{path}/members"), None, &found))
    };
    Ok(frame.page(Section::Groups, &title, &body))
}

fn fact(name: &str, value: &str) -> Markup {
    html! { @if !value.is_empty() { div { dt { (name) } dd { (value) } } } }
}

fn user_facts(user: &Value) -> Markup {
    let name = user.get("name").unwrap_or(&Value::Null);
    let groups = user.get("groups").and_then(Value::as_array);
    html! {
        dl.facts.card {
            div { dt { "State" } dd { (state(user)) } }
            (fact("User name", text(user, "userName")))
            (fact("Given name", text(name, "givenName")))
            (fact("Family name", text(name, "familyName")))
            (fact("E-mail", email(user)))
            (fact("Title", text(user, "title")))
            (fact("Time zone", text(user, "timezone")))
            (fact("External id", text(user, "externalId")))
            @if let Some(groups) = groups {
                div { dt { "Groups" } dd {
                    ul.inline {
                        @for group in groups {
                            li { a href={ "/console/groups/" (text(group, "value")) } {
                                (match text(group, "display") { "" => text(group, "value"), display => display })
                            } }
                        }
                    }
                } }
            }
            div { dt { "Created" } dd { (when(user, "created")) } }
            div { dt { "Changed" } dd { (when(user, "lastModified")) } }
            div { dt { "Id" } dd { code { (text(user, "id")) } } }
        }
    }
}

fn group_facts(group: &Value) -> Markup {
    html! {
        dl.facts.card {
            (fact("External id", text(group, "externalId")))
            div { dt { "Created" } dd { (when(group, "created")) } }
            div { dt { "Changed" } dd { (when(group, "lastModified")) } }
            div { dt { "Id" } dd { code { (text(group, "id")) } } }
        }
    }
}

fn history(changes: &[Change]) -> Markup {
    html! {
        section.stack aria-labelledby="history" {
            h2 #history { "History" }
            @if changes.is_empty() { p.quiet { "Nothing is kept of what happened to it." } }
            @else {
                ol.history {
                    @for change in changes {
                        li {
                            (moment(change.at))
                            div {
                                strong { (deed(change.what)) }
                                @if !change.attributes.is_empty() {
                                    span.changed { @for name in &change.attributes { code { (name) } " " } }
                                }
                                span.sub { "Write " (change.seq) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn deed(what: ChangeKind) -> &'static str {
    match what {
        ChangeKind::Created => "Created",
        ChangeKind::Changed => "Changed",
        ChangeKind::Deleted => "Deleted",
    }
}
