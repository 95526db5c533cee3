//! What an administrator should put right, and how.

use actix_web::HttpResponse;
use actix_web::web::Data;
use maud::{Markup, html};

use super::layout::{Frame, Section, head, moment, nothing};
use super::session::Visitor;
use crate::admin::activity::write_what_waits;
use crate::error::Error;
use crate::provider::doctor::Problem;
use crate::startup::Parts;
use crate::store::activity::Finding;

/// `GET /console/doctor`
///
/// # Errors
/// As the store.
pub async fn list(visitor: Visitor, parts: Data<Parts>) -> Result<HttpResponse, Error> {
    let frame = Frame::of(&visitor, &parts);
    write_what_waits(&parts).await;
    let findings = parts.activities.findings(&visitor.scope.access).await?;
    let base_url = visitor.scope.base_url.as_str();
    let shown = |finding: &Finding| show(&frame, finding, base_url);
    let shown: Vec<Markup> = findings.iter().filter_map(shown).collect();
    let body = html! {
        (head("Doctor", "What went wrong, and the sentence that fixes it. Newest first.", None))
        @if shown.is_empty() {
            (nothing("Nothing is wrong", &html! { p { "No request of the last days points to a mistake in a set-up." } }))
        } @else {
            ul.findings { @for finding in &shown { li.card { (finding) } } }
        }
    };
    Ok(frame.page(Section::Doctor, "Doctor", &body))
}

/// A finding; `None` for one that only a newer release knows.
fn show(frame: &Frame<'_>, finding: &Finding, base_url: &str) -> Option<Markup> {
    let sentence = Problem::from_code(&finding.kind)?.sentence(&finding.subject, base_url);
    let times = match finding.times {
        1 => "Once, ".to_owned(),
        times => format!("{times} times, last "),
    };
    Some(html! {
        p.sentence { (sentence) }
        dl.facts {
            div { dt { "How often" } dd { (times) (frame.ago(finding.last)) } }
            @if finding.times > 1 { div { dt { "First" } dd { (moment(finding.first)) } } }
            div { dt { "API token" } dd {
                a href={ "/console/tokens/" (finding.token.as_str()) } { code { (finding.token.as_str()) } }
            } }
            @if !finding.route.is_empty() { div { dt { "Last request" } dd { code { (finding.route) } } } }
            @if !finding.request_id.is_empty() {
                div { dt { "Request id" } dd {
                    a href={ "/console/activity?request=" (finding.request_id) } { code { (finding.request_id) } }
                } }
            }
        }
    })
}
