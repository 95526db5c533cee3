//! The tenant's settings, and its data to take away.

use actix_web::http::header::CONTENT_DISPOSITION;
use actix_web::http::header::HeaderValue;
use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use maud::{Markup, html};

use super::layout::{Frame, Section, head, notice, see};
use super::session::Visitor;
use crate::admin::export::stream;
use crate::error::Error;
use crate::provider::tenants::OwnSettings;
use crate::startup::Parts;
use crate::store::{GroupsRule, Tenant, UserNameRule};

/// For how long activity can be kept: days, and how that is called.
const LIVES: &[(u32, &str)] = &[
    (0, "As long as the operator keeps it"),
    (7, "7 days"),
    (14, "14 days"),
    (30, "30 days"),
    (90, "90 days"),
];

/// `GET /console/settings`
///
/// # Errors
/// As the store.
pub async fn show(
    visitor: Visitor,
    request: HttpRequest,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let frame = Frame::of(&visitor, &parts);
    let tenant = &visitor.tenant;
    let is_saved = request.query_string() == "saved";
    let body = html! {
        (head("Settings", "They hold for all of your identity providers.", None))
        @if is_saved { (notice("good", "The settings are saved, and hold from now on.")) }
        (form(&frame, tenant))
        section.stack aria-labelledby="limits" {
            h2 #limits { "Limits" }
            p { "Your operator sets them." }
            dl.facts.card {
                div { dt { "Requests per second" } dd { (tenant.settings.limits.requests_per_s) } }
                div { dt { "At once after a pause" } dd { (tenant.settings.limits.burst) } }
                div { dt { "At the same time" } dd { (tenant.settings.limits.in_flight) } }
                div { dt { "Users" } dd { (tenant.users) } }
                div { dt { "Groups" } dd { (tenant.groups) } }
            }
        }
        section.stack aria-labelledby="export" {
            h2 #export { "Your data" }
            p { "Everything that is kept of your users and groups, one on each line of a file (JSON Lines)." }
            p { a.button href="/console/export" { "Download" } }
        }
    };
    Ok(frame.page(Section::Settings, "Settings", &body))
}

fn form(frame: &Frame<'_>, tenant: &Tenant) -> Markup {
    let settings = &tenant.settings;
    let choice = |name: &'static str, value: &'static str, is_chosen: bool, title, about| {
        let id = format!("{name}-{value}");
        html! {
            div.choice {
                input type="radio" id=(id) name=(name) value=(value) checked[is_chosen];
                label for=(id) { strong { (title) } span.hint { (about) } }
            }
        }
    };
    let kept = settings.activity_days.unwrap_or(0);
    let (any, email) = (UserNameRule::Any, UserNameRule::Email);
    let (on, off) = (GroupsRule::On, GroupsRule::Off);
    html! {
        form.stack.narrow method="post" action="/console/settings" {
            (frame.proof())
            fieldset {
                legend { "User names" }
                (choice("userName", "any", settings.user_name == any, "Any text",
                    "Whatever the identity provider sends as the user name."))
                (choice("userName", "email", settings.user_name == email, "E-mail addresses only",
                    "Anything else is refused, and the identity provider shows why. Users who are there stay."))
            }
            fieldset {
                legend { "Groups" }
                (choice("groups", "on", settings.groups == on, "On",
                    "Identity providers may push groups and their members."))
                (choice("groups", "off", settings.groups == off, "Off",
                    "Discovery does not show groups, and nobody can create any."))
            }
            div.field {
                label for="activityDays" { "Activity is kept for" }
                select #activityDays name="activityDays" aria-describedby="activity-hint" {
                    @for (days, name) in LIVES {
                        option value=(days) selected[*days == kept] { (name) }
                    }
                    @if !LIVES.iter().any(|(days, _)| *days == kept) {
                        option value=(kept) selected { (kept) " days" }
                    }
                }
                p.hint #activity-hint { "Never longer than your operator keeps it." }
            }
            div.actions { button.primary type="submit" { "Save settings" } }
        }
    }
}

/// `POST /console/settings`
///
/// # Errors
/// As the store.
pub async fn change(
    visitor: Visitor,
    body: Bytes,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let form = visitor.form(&body)?;
    let change = OwnSettings {
        user_name: match form.get("userName") {
            Some("any") => Some(UserNameRule::Any),
            Some("email") => Some(UserNameRule::Email),
            _ => None,
        },
        groups: match form.get("groups") {
            Some("on") => Some(GroupsRule::On),
            Some("off") => Some(GroupsRule::Off),
            _ => None,
        },
        activity_days: form
            .get("activityDays")
            .and_then(|days| days.parse::<u16>().ok())
            .map(u32::from),
    };
    parts
        .tenants
        .change_own(&visitor.scope.access, visitor.scope.author(), change)
        .await?;
    Ok(see("/console/settings?saved"))
}

/// `GET /console/export`: the same as the admin API's, to be saved.
///
/// # Errors
/// As the store.
pub async fn export(visitor: Visitor, parts: Data<Parts>) -> Result<HttpResponse, Error> {
    let mut response = stream(&visitor.scope, &parts).await?;
    let name = HeaderValue::from_static("attachment; filename=\"meridian-export.jsonl\"");
    response.headers_mut().insert(CONTENT_DISPOSITION, name);
    Ok(response)
}
