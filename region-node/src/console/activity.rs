//! What identity providers sent, why it failed, and what was tolerated.

use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use maud::{Markup, html};
use shared::Timestamp;

use super::chart::duration;
use super::layout::{Frame, Section, badge, cell, head, moment, nothing, notice, table, trail};
use super::session::{Form, Visitor};
use crate::admin::activity::{gap_in_words, write_what_waits};
use crate::error::Error;
use crate::scim::client::Client;
use crate::scim::{ResourceId, ResourceKind, datetime};
use crate::startup::Parts;
use crate::store::StoreError;
use crate::store::activity::{ActivityQuery, Cycle, Effects, Entry, EntryNumber, Gap, Operation};

/// Requests on a page.
const COUNT: u32 = 50;
/// Cycles on a page.
const CYCLES: u32 = 50;

/// `GET /console/activity`
///
/// # Errors
/// As the store.
pub async fn list(
    visitor: Visitor,
    request: HttpRequest,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let frame = Frame::of(&visitor, &parts);
    let form = Form::of_query(request.query_string());
    let (query, problem) = match read(&form) {
        Ok(query) => (query, None),
        Err(problem) => (everything(), Some(problem)),
    };
    write_what_waits(&parts).await;
    let page = parts.activities.page(&visitor.scope.access, &query).await?;
    let body = html! {
        (head("Activity", "Every provisioning request of the last days, newest first.",
            Some(("/console/activity/cycles", "Sync cycles"))))
        (filters(&form))
        @if let Some(problem) = problem { (notice("bad", problem)) }
        @for gap in &page.gaps { (missing(gap)) }
        @if page.entries.is_empty() {
            (nothing("No request", &html! {
                p { "Nothing fits, or nobody has sent anything yet. " a href="/console/activity" { "Show all" } }
            }))
        } @else {
            (entries(&frame, &page.entries, "Requests"))
        }
        @if let Some(next) = page.next {
            p.pages { a.button href={ "/console/activity?" (older(&form, next)) } { "Older requests" } }
        }
    };
    Ok(frame.page(Section::Activity, "Activity", &body))
}

fn everything() -> ActivityQuery {
    ActivityQuery {
        before: EntryNumber(i64::MAX),
        from: EntryNumber::least_at(Timestamp(0)),
        count: COUNT,
        client: None,
        has_failed: None,
        operation: None,
        resource: None,
        request_id: None,
    }
}

/// Reads the filters; a sentence where one says nothing.
fn read(form: &Form) -> Result<ActivityQuery, &'static str> {
    let moment = |name: &str| match form.get(name) {
        None => Ok(None),
        Some(text) => datetime::parse(text)
            .map(|at| Some(Timestamp(at.as_millisecond())))
            .ok_or("A time is written as 2026-01-31T09:30, in UTC."),
    };
    let resource = form.get("resource").map(ResourceId::parse).transpose();
    let end = moment("to")?.map_or(EntryNumber(i64::MAX), EntryNumber::least_at);
    let cursor = form.get("before").and_then(|text| text.parse().ok());
    Ok(ActivityQuery {
        before: cursor.map_or(end, |cursor| end.min(EntryNumber(cursor))),
        from: EntryNumber::least_at(moment("from")?.unwrap_or(Timestamp(0))),
        client: form.get("client").and_then(Client::from_code),
        has_failed: form.get("outcome").map(|outcome| outcome == "failed"),
        operation: form.get("operation").and_then(Operation::from_code),
        resource: resource.map_err(|_| "There is no user or group of that id.")?,
        request_id: form.get("request").map(Into::into),
        ..everything()
    })
}

/// The query of the page that follows.
fn older(form: &Form, next: EntryNumber) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for name in [
        "client",
        "outcome",
        "operation",
        "resource",
        "request",
        "from",
        "to",
    ] {
        if let Some(value) = form.get(name) {
            query.append_pair(name, value);
        }
    }
    query.append_pair("before", &next.0.to_string());
    query.finish()
}

fn filters(form: &Form) -> Markup {
    let select = |name: &'static str, label: &str, choices: Vec<(&'static str, &'static str)>| {
        html! {
            div.field {
                label for=(name) { (label) }
                select id=(name) name=(name) {
                    option value="" { "All" }
                    @for (value, shown) in choices {
                        option value=(value) selected[form.get(name) == Some(value)] { (shown) }
                    }
                }
            }
        }
    };
    let input = |name: &'static str, label: &str, kind: &str| {
        html! {
            div.field {
                label for=(name) { (label) }
                input id=(name) name=(name) type=(kind) value=[form.get(name)] autocomplete="off";
            }
        }
    };
    let clients: Vec<_> = Client::ALL
        .iter()
        .map(|client| (client.code(), client.name()))
        .collect();
    let operations = Operation::ALL
        .iter()
        .map(|one| (one.code(), operation_name(*one)));
    let is_narrow = ["resource", "request", "from", "to"]
        .iter()
        .any(|name| form.get(name).is_some());
    html! {
        form.stack method="get" action="/console/activity" {
            div.filters {
                (select("client", "Client", clients))
                (select("outcome", "Outcome", vec![("failed", "Failed"), ("ok", "Went well")]))
                (select("operation", "Operation", operations.collect()))
                button type="submit" { "Show" }
            }
            details.more open[is_narrow] {
                summary { "More filters" }
                div.filters {
                    (input("from", "From (UTC)", "datetime-local"))
                    (input("to", "Until (UTC)", "datetime-local"))
                    (input("resource", "Id of a user or group", "text"))
                    (input("request", "Request id", "text"))
                }
            }
        }
    }
}

/// Requests as a table.
#[must_use]
pub fn entries(frame: &Frame<'_>, entries: &[(Entry, Client)], caption: &str) -> Markup {
    let rows: Vec<Vec<Markup>> = entries
        .iter()
        .map(|(entry, client)| {
            vec![
                html! {
                    a href={ "/console/activity/" (entry.number.0) } { (what(entry)) }
                    @if let Some(shape) = &entry.filter_shape { code.sub { (shape) } }
                    @else if let Some(display) = &entry.display { span.sub { (display) } }
                },
                outcome(entry),
                cell(client.name()),
                html! {
                    @match entry.tolerated.as_slice().len() {
                        0 => {}, 1 => { "1 habit" }, n => { (n) " habits" }
                    }
                },
                html! { span.whole { (duration(entry.duration_us.into())) } },
                frame.brief(entry.number.at()),
            ]
        })
        .collect();
    let columns = [
        "Request",
        "Outcome",
        "Client",
        "Tolerated",
        "Took",
        "When (UTC)",
    ];
    table(caption, &columns, &rows)
}

fn operation_name(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "Create",
        Operation::Get => "Read",
        Operation::Query => "Look for",
        Operation::Replace => "Replace",
        Operation::Patch => "Change",
        Operation::Delete => "Delete",
        Operation::Bulk => "Bulk",
        Operation::Discovery => "Discovery",
        Operation::Other => "Other",
    }
}

fn what(entry: &Entry) -> String {
    let name = operation_name(entry.operation);
    match (entry.operation, entry.kind) {
        (Operation::Query, Some(ResourceKind::User)) => format!("{name} users"),
        (Operation::Query, Some(ResourceKind::Group)) => format!("{name} groups"),
        (_, Some(ResourceKind::User)) => format!("{name} user"),
        (_, Some(ResourceKind::Group)) => format!("{name} group"),
        (_, None) => name.to_owned(),
    }
}

fn outcome(entry: &Entry) -> Markup {
    let kind = if entry.has_failed() { "bad" } else { "good" };
    html! {
        (badge(kind, &match entry.status { 0 => "Given up".to_owned(), status => status.to_string() }))
        @if let Some(keyword) = &entry.scim_type { span.sub.whole { (keyword) } }
    }
}

fn missing(gap: &Gap) -> Markup {
    html! {
        div.notice.warn role="status" {
            p { (moment(gap.from)) " – " (moment(gap.to)) ": " (gap_in_words(gap)) }
        }
    }
}

/// `GET /console/activity/{number}`
///
/// # Errors
/// 404 where there is none, and as the store.
pub async fn show(
    visitor: Visitor,
    number: Path<String>,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let frame = Frame::of(&visitor, &parts);
    let number = number.parse().map(EntryNumber);
    let number = number.map_err(|_| Error::Store(StoreError::NotFound))?;
    write_what_waits(&parts).await;
    let (entry, client) = parts.activities.get(&visitor.scope.access, number).await?;
    let title = what(&entry);
    let body = html! {
        (trail(&[("/console/activity", "Activity")], &title))
        (head(&title, "", None))
        @if entry.has_failed() {
            div.notice.bad {
                p { strong { "It failed"
                    @if entry.status > 0 { " with " (entry.status) }
                    @if let Some(keyword) = &entry.scim_type { ", " code { (keyword) } }
                    "." }
                }
                @if let Some(detail) = &entry.detail { p { (detail) } }
                @else if entry.status == 0 { p { "The client was gone before it was answered." } }
            }
        }
        (facts(&entry, client))
        section.stack aria-labelledby="tolerated" {
            h2 #tolerated { "What was tolerated" }
            @if entry.tolerated.is_empty() { p.quiet { "Nothing: the request kept to the protocol." } }
            @else { ul.plain { @for note in entry.tolerated.as_slice() { li { (note.sentence()) } } } }
        }
    };
    Ok(frame.page(Section::Activity, &title, &body))
}

fn facts(entry: &Entry, client: Client) -> Markup {
    html! {
        dl.facts.card {
            div { dt { "Outcome" } dd { (outcome(entry)) } }
            div { dt { "When" } dd { (moment(entry.number.at())) } }
            div { dt { "Took" } dd { (duration(entry.duration_us.into())) } }
            div { dt { "Client" } dd { (client.name()) } }
            div { dt { "API token" } dd {
                a href={ "/console/tokens/" (entry.token.as_str()) } { code { (entry.token.as_str()) } }
            } }
            div { dt { "Protocol" } dd { "SCIM " (entry.dialect.as_str()) } }
            @if let Some(display) = &entry.display { div { dt { "About" } dd { (display) } } }
            @if let (Some(id), Some(kind)) = (entry.resource, entry.kind) {
                div { dt { (kind.name()) } dd { a href={ "/console" (path_of(kind)) "/" (id) } { code { (id) } } } }
            }
            (did(entry.effects))
            div { dt { "Request id" } dd { code { (entry.request_id) } } }
            @if let Some(filter) = &entry.filter { div.all { dt { "Filter" } dd { code { (filter) } } } }
        }
    }
}

fn path_of(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::User => "/users",
        ResourceKind::Group => "/groups",
    }
}

fn did(effects: Effects) -> Markup {
    let done = effects_in_words(effects);
    html! { @if !done.is_empty() { div { dt { "Did" } dd { (done) } } } }
}

fn effects_in_words(effects: Effects) -> String {
    let parts = [
        (effects.created, "created"),
        (effects.updated, "changed"),
        (effects.unchanged, "left as they were"),
        (effects.deleted, "deleted"),
    ];
    let parts = parts.iter().filter(|(count, _)| *count > 0);
    let parts: Vec<String> = parts
        .map(|(count, name)| format!("{count} {name}"))
        .collect();
    parts.join(", ")
}

/// `GET /console/activity/cycles`
///
/// # Errors
/// As the store.
pub async fn cycles(
    visitor: Visitor,
    request: HttpRequest,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let frame = Frame::of(&visitor, &parts);
    let before = Form::of_query(request.query_string());
    let before = before.get("before").and_then(|text| text.parse().ok());
    write_what_waits(&parts).await;
    let access = &visitor.scope.access;
    let cycles = parts
        .activities
        .cycles(access, before.map(Timestamp), CYCLES);
    let cycles = cycles.await?;
    let rows: Vec<Vec<Markup>> = cycles.iter().map(|cycle| row(&frame, cycle)).collect();
    let full = usize::try_from(CYCLES).is_ok_and(|count| cycles.len() >= count);
    let body = html! {
        (trail(&[("/console/activity", "Activity")], "Sync cycles"))
        (head("Sync cycles", "Requests that a client sent without a longer pause.", None))
        @if cycles.is_empty() {
            (nothing("No cycle yet", &html! { p { "They appear as soon as an identity provider works." } }))
        } @else {
            (table("Sync cycles", &["Client", "Began", "Lasted", "Requests", "Failed", "Did"], &rows))
        }
        @if let (true, Some(last)) = (full, cycles.last()) {
            p.pages { a.button href={ "/console/activity/cycles?before=" (last.started.as_millis()) } { "Older cycles" } }
        }
    };
    Ok(frame.page(Section::Activity, "Sync cycles", &body))
}

fn row(frame: &Frame<'_>, cycle: &Cycle) -> Vec<Markup> {
    let lasted = cycle.ended.since(cycle.started);
    vec![
        cell(cycle.client().name()),
        frame.ago(cycle.started),
        cell(&duration(
            u64::try_from(lasted.as_micros()).unwrap_or(u64::MAX),
        )),
        cell(&cycle.requests.to_string()),
        html! { @if cycle.failed > 0 { (badge("bad", &cycle.failed.to_string())) } @else { "0" } },
        cell(&effects_in_words(cycle.effects)),
    ]
}
