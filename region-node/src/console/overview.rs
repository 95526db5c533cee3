//! What goes on: the first page.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::Data;
use maud::{Markup, html};

use super::activity::entries;
use super::chart::{self, Column, duration};
use super::layout::{Frame, Section, badge, cell, copyable, head, notice, table, written};
use super::session::Visitor;
use crate::admin::activity::{alarm_in_words, write_what_waits};
use crate::error::Error;
use crate::provider::activity::reading::{Seen, Span};
use crate::startup::Parts;
use crate::store::Tenant;
use crate::store::activity::{ActivityQuery, EntryNumber};

/// Failed requests that are shown.
const FAILED: u32 = 5;
/// Days that are shown at most.
const DAYS: usize = 30;
/// How many columns have a name below.
const NAMED: usize = 8;

/// `GET /console`
///
/// # Errors
/// As the store.
pub async fn show(visitor: Visitor, parts: Data<Parts>) -> Result<HttpResponse, Error> {
    let frame = Frame::of(&visitor, &parts);
    let access = &visitor.scope.access;
    let tenant = &visitor.tenant;
    write_what_waits(&parts).await;
    let overview = parts.activities.overview(access).await?;
    let failed = ActivityQuery {
        before: EntryNumber(i64::MAX),
        from: EntryNumber::least_at(frame.now.before(DAY)),
        count: FAILED,
        client: None,
        has_failed: Some(true),
        operation: None,
        resource: None,
        request_id: None,
    };
    let failed = parts.activities.page(access, &failed).await?.entries;
    let hours = columns(&overview.hours, "%H:%M");
    let first = overview.days.len().saturating_sub(DAYS);
    let days = columns(overview.days.get(first..).unwrap_or_default(), "%-d %b");
    let body = html! {
        (head("Overview", "The last 24 hours.", None))
        @for seen in &overview.clients { (missed(seen)) }
        (tiles(&overview.hours, tenant))
        @if overview.clients.is_empty() && overview.hours.iter().all(|hour| hour.requests == 0) {
            (first_steps(&visitor))
        } @else {
            (chart::requests("Requests each hour", &hours))
            (chart::latency("How long they took", &hours))
            @if days.len() > 1 { (chart::requests("Requests each day", &days)) }
            (clients(&frame, &overview.clients))
            section.stack aria-labelledby="failed" {
                h2 #failed { "Failed lately" }
                @if failed.is_empty() { p.quiet { "No request failed in the last 24 hours." } }
                @else {
                    (entries(&frame, &failed, "Failed lately"))
                    p { a href="/console/activity?outcome=failed" { "All failed requests" } }
                }
            }
        }
    };
    Ok(frame.page(Section::Overview, "Overview", &body))
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Spans of time as columns, some of them with a name below.
fn columns(spans: &[Span], name: &str) -> Vec<Column> {
    let every = spans.len().div_ceil(NAMED).max(1);
    let column = |(at, span): (usize, &Span)| {
        let name = written(span.from, name);
        Column {
            label: (at % every == 0).then(|| name.clone()),
            name,
            good: span.requests - span.failed.min(span.requests),
            failed: span.failed,
            half_us: span.percentile_us(50),
            most_us: span.percentile_us(95),
        }
    };
    spans.iter().enumerate().map(column).collect()
}

fn missed(seen: &Seen) -> Markup {
    let alarm = seen.alarm.map(|alarm| alarm_in_words(seen, alarm));
    alarm.map_or_else(|| html! {}, |sentence| notice("bad", &sentence))
}

fn tiles(hours: &[Span], tenant: &Tenant) -> Markup {
    let requests: u64 = hours.iter().map(|hour| hour.requests).sum();
    let failed: u64 = hours.iter().map(|hour| hour.failed).sum();
    let slowest = hours.iter().filter_map(|hour| hour.percentile_us(95)).max();
    html! {
        div.tiles {
            div.tile { p.label { "Requests" } p.figure { a href="/console/activity" { (requests) } } }
            div.tile {
                p.label { "Failed" }
                p.figure { a href="/console/activity?outcome=failed" { (failed) } }
            }
            div.tile {
                p.label { "95 of 100 within" }
                p.figure { (slowest.map_or_else(|| "–".to_owned(), duration)) }
            }
            div.tile { p.label { "Users" } p.figure { a href="/console/users" { (tenant.users) } } }
            div.tile { p.label { "Groups" } p.figure { a href="/console/groups" { (tenant.groups) } } }
        }
    }
}

fn clients(frame: &Frame<'_>, clients: &[Seen]) -> Markup {
    let rows: Vec<Vec<Markup>> = clients
        .iter()
        .map(|seen| {
            let state = if seen.alarm.is_some() {
                badge("bad", "Missed")
            } else {
                badge("good", "Seen")
            };
            vec![
                cell(seen.client.name()),
                state,
                frame.ago(seen.last),
                cell(&seen.cycles.to_string()),
                html! {
                    @for token in &seen.tokens {
                        a href={ "/console/tokens/" (token.as_str()) } { code { (token.as_str()) } } " "
                    }
                },
            ]
        })
        .collect();
    html! {
        section.stack aria-labelledby="clients" {
            h2 #clients { "Who provisions" }
            @if rows.is_empty() { p.quiet { "Nobody but people who try something." } }
            @else { (table("Who provisions", &["Client", "State", "Last seen", "Sync cycles", "API tokens"], &rows)) }
        }
    }
}

fn first_steps(visitor: &Visitor) -> Markup {
    html! {
        section.card.stack aria-labelledby="first" {
            h2 #first { "Connect your identity provider" }
            ol.steps {
                li { p { a href="/console/tokens/new" { "Create an API token" } " for it." } }
                li { p { "Follow the " a href="/console/guides" { "guide" } " for Okta, Microsoft Entra ID, PingOne, or another client." } }
                li { p { "Watch its requests appear here, and the people under " a href="/console/users" { "Users" } "." } }
            }
            (copyable("base-url", "Base URL", visitor.scope.base_url.as_str()))
        }
    }
}
