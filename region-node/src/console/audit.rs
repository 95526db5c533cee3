//! Who did what to what, and whether the chain of the records is whole.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use maud::{Markup, html};
use shared::TokenId;

use super::layout::{Frame, Section, cell, head, moment, nothing, notice, table, trail};
use super::session::{Form, Visitor};
use crate::error::Error;
use crate::provider::audit::AuditFilter;
use crate::startup::Parts;
use crate::store::AuditRecord;

/// Records on a page.
const COUNT: usize = 50;
/// Kinds of records that can be chosen, and how they are called.
const KINDS: &[(&str, &str)] = &[
    ("resource", "Users and groups"),
    ("token", "API tokens"),
    ("admin", "Administrators"),
    ("settings", "Settings"),
    ("schema", "Extension schemas"),
    ("endpoint", "Webhooks"),
    ("requests", "Refusals"),
    ("tenant", "The tenant"),
];

/// `GET /console/audit`
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
    let filter = AuditFilter {
        kind: form.get("kind").map(str::to_owned),
        actor: form.get("actor").map(str::to_owned),
        subject: form.get("subject").map(str::to_owned),
    };
    let before = form.get("before").and_then(|text| text.parse().ok());
    let tenant = &visitor.scope.access.tenant;
    let page = parts.audit.list(tenant, &filter, before, COUNT).await?;
    let rows: Vec<Vec<Markup>> = page
        .records
        .iter()
        .map(|record| row(&frame, record))
        .collect();
    let body = html! {
        (head("Audit", "Who did what to what. Each record is bound to the one before it.",
            Some(("/console/audit/verify", "Verify the chain"))))
        (filters(&form))
        @if rows.is_empty() {
            (nothing("No record", &html! { p { "Nothing fits. " a href="/console/audit" { "Show all" } } }))
        } @else {
            (table("Audit", &["What", "About", "Changed", "By", "When (UTC)", "Number"], &rows))
        }
        @if let Some(next) = page.next {
            p.pages { a.button href={ "/console/audit?" (older(&form, next)) } { "Older records" } }
        }
    };
    Ok(frame.page(Section::Audit, "Audit", &body))
}

fn filters(form: &Form) -> Markup {
    let kind = form.get("kind");
    html! {
        form.filters method="get" action="/console/audit" {
            div.field {
                label for="kind" { "About" }
                select #kind name="kind" {
                    option value="" { "All" }
                    @for (value, name) in KINDS {
                        option value=(value) selected[kind == Some(*value)] { (name) }
                    }
                }
            }
            div.field {
                label for="actor" { "By" }
                input #actor name="actor" type="text" value=[form.get("actor")] autocomplete="off"
                    placeholder="tok_… or operator";
            }
            div.field {
                label for="subject" { "Id" }
                input #subject name="subject" type="text" value=[form.get("subject")] autocomplete="off";
            }
            button type="submit" { "Show" }
        }
    }
}

fn older(form: &Form, next: i64) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for name in ["kind", "actor", "subject"] {
        if let Some(value) = form.get(name) {
            query.append_pair(name, value);
        }
    }
    query.append_pair("before", &next.to_string());
    query.finish()
}

fn row(frame: &Frame<'_>, record: &AuditRecord) -> Vec<Markup> {
    let names: Vec<String> = serde_json::from_str(&record.names).unwrap_or_default();
    // Several refusals by one rule are one record, which says how many.
    let is_count = record.kind.ends_with("refused");
    let (about, changed) = if is_count {
        let rule = record.subject.replace('_', " ");
        (html! { (rule) }, html! { (names.concat()) " ×" })
    } else {
        let names = html! { @for name in &names { (attribute(name)) " " } };
        (subject(&record.subject), names)
    };
    vec![
        html! {
            (in_words(&record.kind))
            @if !record.request.is_empty() { span.sub { "Request " code { (record.request) } } }
        },
        about,
        changed,
        actor(&record.actor),
        frame.brief(record.at),
        cell(&record.number.to_string()),
    ]
}

/// A kind of records as a sentence without its subject; one that is not known as it is.
fn in_words(kind: &str) -> &str {
    match kind {
        "resource.created" => "Created",
        "resource.changed" => "Changed",
        "resource.deleted" => "Deleted",
        "tenant.created" => "Tenant created",
        "tenant.suspended" => "Tenant suspended",
        "tenant.resumed" => "Tenant resumed",
        "tenant.restored" => "Tenant restored from a backup",
        "tenant.exported" => "Users and groups exported",
        "settings.changed" => "Settings changed",
        "schema.created" => "Extension schema added",
        "schema.deleted" => "Extension schema removed",
        "token.created" => "API token created",
        "token.rotated" => "API token rotated",
        "token.revoked" => "API token revoked",
        "token.first_used" => "API token used for the first time",
        "admin.signed_in" => "Administrator signed in",
        "admin.signed_out" => "Administrator signed out",
        "admin.sign_in_refused" => "Sign-in refused",
        "requests.refused" => "Requests refused",
        "audit.pruned" => "Old records removed",
        "endpoint.created" => "Webhook created",
        "endpoint.changed" => "Webhook changed",
        "endpoint.deleted" => "Webhook deleted",
        "endpoint.paused" => "Webhook paused",
        "endpoint.resumed" => "Webhook resumed",
        "events.lost" => "Events lost",
        other => other,
    }
}

/// The name of what changed; of an extension's attribute without its schema, which is shown where a
/// pointer rests on it.
fn attribute(name: &str) -> Markup {
    match name.rsplit_once(':') {
        Some((_, own)) if name.starts_with("urn:") => html! { code title=(name) { (own) } },
        _ => html! { code { (name) } },
    }
}

/// What a record is about, with a link where there is a page of it. Of a resource's id there is room
/// for the end.
fn subject(subject: &str) -> Markup {
    let shown = match subject.split_once('/') {
        Some((kind, id)) => format!("{kind} …{}", id.rsplit('-').next().unwrap_or_default()),
        None => subject.to_owned(),
    };
    let path = match subject.split_once('/') {
        Some(("User", id)) => Some(format!("/console/users/{id}")),
        Some(("Group", id)) => Some(format!("/console/groups/{id}")),
        _ if subject.starts_with("tok_") => Some(format!("/console/tokens/{subject}")),
        _ if subject.starts_with("whk_") => Some(format!("/console/webhooks/{subject}")),
        _ => None,
    };
    html! {
        @match path {
            Some(path) => { a.whole href=(path) title=(subject) { code { (shown) } } }
            None => { (subject) }
        }
    }
}

fn actor(actor: &str) -> Markup {
    html! {
        @if TokenId::parse(actor).is_ok() {
            a.whole href={ "/console/tokens/" (actor) } { code { (actor) } }
        } @else { (actor) }
    }
}

/// `GET /console/audit/verify`: walks along the chain.
///
/// # Errors
/// As the store.
pub async fn verify(visitor: Visitor, parts: Data<Parts>) -> Result<HttpResponse, Error> {
    let frame = Frame::of(&visitor, &parts);
    let verified = parts.audit.verify(&visitor.scope.access.tenant).await?;
    let body = html! {
        (trail(&[("/console/audit", "Audit")], "Verify"))
        (head("The chain of audit records", "", None))
        @match &verified.damage {
            None => (notice("good", "The chain is whole: no record was changed, moved, added or taken away.")),
            Some((number, damage)) => (notice("bad", &format!(
                "The chain is broken at record {number}: {}. Tell your operator.", damage.as_str()
            ))),
        }
        dl.facts.card {
            div { dt { "Records" } dd { (verified.records) } }
            div { dt { "First" } dd { (verified.head.base_number + 1) } }
            div { dt { "Last" } dd { (verified.head.number) } }
            div { dt { "Verified" } dd { (moment(frame.now)) } }
            div.all { dt { "Hash of the last record" } dd { code { (hex::encode(&verified.head.hash)) } } }
        }
        p.quiet { "Whoever keeps that hash elsewhere can tell later that nothing before it was changed." }
    };
    Ok(frame.page(Section::Audit, "Verify the audit", &body))
}
