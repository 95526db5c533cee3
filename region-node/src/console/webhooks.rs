//! Who is told of the tenant's events: webhooks, how far each is, and what it did not take.

use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use maud::{Markup, html};

use super::layout::{
    Frame, Section, badge, cell, copyable, head, moment, moment_or, nothing, notice, see, table,
    trail,
};
use super::session::{Form, Visitor};
use crate::error::Error;
use crate::events::endpoints::{EndpointError, EndpointUpdate, IssuedEndpoint};
use crate::events::event::{EventType, GAP};
use crate::startup::Parts;
use crate::store::events::EndpointKind;
use crate::store::{DeadLetter, Endpoint, StoreError};

/// Events on the page of a webhook that it did not take.
const LETTERS: u32 = 50;

/// `GET /console/webhooks`
///
/// # Errors
/// As the store.
pub async fn list(
    visitor: Visitor,
    request: HttpRequest,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let frame = Frame::of(&visitor, &parts);
    let endpoints = parts.endpoints.list(&visitor.scope.access.tenant).await?;
    let rows: Vec<Vec<Markup>> = endpoints
        .iter()
        .map(|endpoint| {
            vec![
                html! {
                    a href={ "/console/webhooks/" (endpoint.id) } { (title_of(endpoint)) }
                    span.sub { (subtitle_of(endpoint)) }
                },
                state(endpoint),
                cell(&endpoint.lag().to_string()),
                cell(&endpoint.dead_letters.to_string()),
                endpoint
                    .progress
                    .last_success
                    .map_or_else(|| html! { span.quiet { "Never" } }, |at| frame.ago(at)),
            ]
        })
        .collect();
    let body = html! {
        (head("Webhooks", "Your application is told of every change of users and groups, in order.",
            Some(("/console/webhooks/new", "Create webhook"))))
        @if request.query_string() == "deleted" { (notice("good", "The webhook is deleted.")) }
        @if rows.is_empty() {
            (nothing("No webhook yet", &html! {
                p { "Create one, or let your application come for its events: " code { "GET /api/v1/admin/events" } "." }
            }))
        } @else {
            (table("Webhooks", &["URL", "State", "Writes behind", "Not taken", "Last delivery"], &rows))
        }
    };
    Ok(frame.page(Section::Webhooks, "Webhooks", &body))
}

fn state(endpoint: &Endpoint) -> Markup {
    if endpoint.paused.is_some() {
        badge("warn", "Paused")
    } else if endpoint.progress.failing_since.is_some() {
        badge("bad", "Failing")
    } else {
        badge("good", "Active")
    }
}

/// `GET /console/webhooks/new`
///
/// # Errors
/// As the store.
pub async fn new(visitor: Visitor, parts: Data<Parts>) -> Result<HttpResponse, Error> {
    let frame = Frame::of(&visitor, &parts);
    let body = new_form(&frame, &Form::default(), None);
    Ok(frame.page(Section::Webhooks, "Create webhook", &body))
}

fn new_form(frame: &Frame<'_>, form: &Form, problem: Option<&str>) -> Markup {
    let chosen = kind_of(form);
    html! {
        (trail(&[("/console/webhooks", "Webhooks")], "Create webhook"))
        (head("Create webhook", "", None))
        @if let Some(problem) = problem { (notice("bad", problem)) }
        form.stack.narrow method="post" action="/console/webhooks" {
            (frame.proof())
            fieldset {
                legend { "How" }
                @for (kind, value, name, about) in KINDS {
                    div.choice {
                        input type="radio" id=(value) name="kind" value=(value) checked[*kind == chosen];
                        label for=(value) { strong { (name) } span.hint { (about) } }
                    }
                }
            }
            (fields(form, None))
            div.actions {
                button.primary type="submit" { "Create webhook" }
                a.button href="/console/webhooks" { "Cancel" }
            }
        }
    }
}

/// What an administrator can say of an endpoint of a kind, and of one whose kind is yet to be
/// chosen.
fn fields(form: &Form, kind: Option<EndpointKind>) -> Markup {
    let names = EventType::ALL.iter().map(|event| event.as_str());
    html! {
        @if kind != Some(EndpointKind::SetPoll) {
            div.field {
                label for="url" { "URL" }
                input #url name="url" type="url" maxlength="2000" autocomplete="off"
                    value=[form.get("url")] aria-describedby="url-hint";
                p.hint #url-hint {
                    "Where your application takes events, by HTTPS."
                    @if kind.is_none() { " Not for one that comes for them." }
                }
            }
        }
        @if kind != Some(EndpointKind::Webhook) {
            div.field {
                label for="audience" { "Audience" }
                input #audience name="audience" type="text" maxlength="200" autocomplete="off"
                    value=[form.get("audience")] aria-describedby="audience-hint";
                p.hint #audience-hint {
                    "Who security event tokens are for, as the receiver is called."
                    @if kind.is_none() { " Webhooks have none." }
                }
            }
        }
        div.field {
            label for="description" { "Description" }
            input #description name="description" type="text" maxlength="200" autocomplete="off"
                value=[form.get("description")];
        }
        fieldset {
            legend { "Events" }
            p.hint { "None chosen means all. That events were lost is told in any case." }
            ul.checks {
                @for name in names.chain([GAP]) {
                    li {
                        input type="checkbox" id=(name) name="events" value=(name)
                            checked[form.all("events").any(|chosen| chosen == name)];
                        label for=(name) { code { (name) } }
                    }
                }
            }
        }
    }
}

/// What a form says of an endpoint.
fn update_of(form: &Form) -> EndpointUpdate {
    let text = |name: &str| Some(form.get(name).unwrap_or_default().to_owned());
    EndpointUpdate {
        url: text("url"),
        description: text("description"),
        events: Some(form.all("events").map(str::to_owned).collect()),
        audience: text("audience"),
    }
}

/// A mistake of the administrator's, in a sentence; all else is ours.
fn mistake(error: EndpointError) -> Result<String, Error> {
    match error {
        EndpointError::Store(_) | EndpointError::Randomness(_) => Err(error.into()),
        mistake => Ok(mistake.to_string()),
    }
}

/// The kinds of receivers, their names in forms, and for people.
const KINDS: &[(EndpointKind, &str, &str, &str)] = &[
    (
        EndpointKind::Webhook,
        "webhook",
        "Webhook",
        "Each event is sent with a signature that your application checks with a secret.",
    ),
    (
        EndpointKind::SetPush,
        "set-push",
        "Security event tokens, pushed",
        "Signed tokens for a receiver that speaks RFC 8935.",
    ),
    (
        EndpointKind::SetPoll,
        "set-poll",
        "Security event tokens, fetched",
        "Signed tokens for a receiver that comes for them (RFC 8936).",
    ),
];

fn kind_of(form: &Form) -> EndpointKind {
    let chosen = form.get("kind").unwrap_or_default();
    let kind = KINDS.iter().find(|(_, value, ..)| *value == chosen);
    kind.map_or(EndpointKind::Webhook, |(kind, ..)| *kind)
}

fn kind_name(kind: EndpointKind) -> &'static str {
    let known = KINDS.iter().find(|(of, ..)| *of == kind);
    known.map_or("", |(_, _, name, _)| *name)
}

/// What an endpoint is called: its URL, or what it is.
fn title_of(endpoint: &Endpoint) -> String {
    let settings = &endpoint.settings;
    [&settings.url, &settings.description]
        .into_iter()
        .find(|text| !text.is_empty())
        .map_or_else(|| kind_name(settings.kind).to_owned(), Clone::clone)
}

/// Its description, where that is not what it is called.
fn subtitle_of(endpoint: &Endpoint) -> &str {
    let settings = &endpoint.settings;
    if settings.url.is_empty() {
        ""
    } else {
        &settings.description
    }
}

/// `POST /console/webhooks`: makes one, and shows its secret, this once.
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
    let (tenant, by) = (&visitor.scope.access.tenant, visitor.scope.author());
    let created = parts
        .endpoints
        .create(tenant, by, kind_of(&form), update_of(&form))
        .await;
    match created {
        Ok(issued) => {
            let body = shown_once(&issued, "Webhook created");
            Ok(frame.page(Section::Webhooks, "Webhook created", &body))
        }
        Err(error) => {
            let body = new_form(&frame, &form, Some(&mistake(error)?));
            let status = StatusCode::BAD_REQUEST;
            Ok(frame.page_with(status, Section::Webhooks, "Create webhook", &body))
        }
    }
}

fn shown_once(issued: &IssuedEndpoint, title: &str) -> Markup {
    let endpoint = &issued.endpoint;
    let is_webhook = endpoint.settings.kind == EndpointKind::Webhook;
    html! {
        (trail(&[("/console/webhooks", "Webhooks")], &title_of(endpoint)))
        (head(title, "", None))
        @if is_webhook {
            (notice("warn", "Copy the secret now. It is shown this once; your application checks signatures with it."))
            div.card.stack { (copyable("secret", "Signing secret", &issued.secret)) }
        } @else {
            p { "Tokens are signed with a key of the region: " code { "GET /api/v1/admin/events/jwks" } "." }
            @if endpoint.settings.kind == EndpointKind::SetPoll {
                p { "The receiver comes to " code { "POST /api/v1/admin/webhooks/" (endpoint.id) "/poll" } "." }
            }
        }
        p.actions {
            a.button.primary href={ "/console/webhooks/" (issued.endpoint.id) } { "To the webhook" }
        }
    }
}

/// `GET /console/webhooks/{id}`
///
/// # Errors
/// 404 if there is none, and as the store.
pub async fn show(
    visitor: Visitor,
    id: Path<String>,
    request: HttpRequest,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let said = match request.query_string() {
        "paused" => Some(notice("good", "Events are held back until you resume it.")),
        "resumed" => Some(notice(
            "good",
            "It gets its events again, from where it stopped.",
        )),
        "changed" => Some(notice(
            "good",
            "The change is saved, and holds from the next event on.",
        )),
        "replayed" => Some(notice("good", "What it did not take is sent once more.")),
        _ => None,
    };
    let frame = Frame::of(&visitor, &parts);
    detail(&frame, &visitor, &id, &parts, said).await
}

async fn detail(
    frame: &Frame<'_>,
    visitor: &Visitor,
    id: &str,
    parts: &Parts,
    said: Option<Markup>,
) -> Result<HttpResponse, Error> {
    let tenant = &visitor.scope.access.tenant;
    let endpoint = parts.endpoints.get(tenant, id).await?;
    let letters = parts.endpoints.dead_letters(tenant, id, 0, LETTERS).await?;
    let title = &title_of(&endpoint);
    let body = html! {
        (trail(&[("/console/webhooks", "Webhooks")], title))
        (head(title, subtitle_of(&endpoint), None))
        @if let Some(said) = said { (said) }
        @else if let Some(reason) = &endpoint.paused { (notice("warn", &format!("Paused: {reason}."))) }
        (facts(&endpoint))
        section.stack aria-labelledby="do" {
            h2 #do { "What you can do" }
            div.actions {
                (act(frame, id, "test", "Send a test event", ""))
                @if endpoint.paused.is_some() { (act(frame, id, "resume", "Resume", "")) }
                @else { (act(frame, id, "pause", "Pause", "")) }
                @if endpoint.settings.kind == EndpointKind::Webhook {
                    (act(frame, id, "rotate", "Rotate the secret", ""))
                }
                a.button href={ "/console/webhooks/" (id) "/edit" } { "Edit" }
                a.button.danger href={ "/console/webhooks/" (id) "/delete" } { "Delete…" }
            }
        }
        (not_taken(frame, id, &letters))
    };
    Ok(frame.page(Section::Webhooks, title, &body))
}

fn facts(endpoint: &Endpoint) -> Markup {
    let (settings, progress) = (&endpoint.settings, &endpoint.progress);
    html! {
        dl.facts.card {
            div { dt { "State" } dd { (state(endpoint)) } }
            div { dt { "Writes behind" } dd { (endpoint.lag()) } }
            div { dt { "Last delivery" } dd { (moment_or(progress.last_success, "Never")) } }
            @if let Some(since) = progress.failing_since {
                div { dt { "Failing since" } dd { (moment(since)) } }
                div { dt { "Attempts" } dd { (progress.attempts) } }
            }
            @if let Some(error) = &progress.last_error { div { dt { "Last error" } dd { (error) } } }
            div { dt { "Kind" } dd {
                (kind_name(settings.kind))
            } }
            @if !settings.audience.is_empty() { div { dt { "Audience" } dd { (settings.audience) } } }
            div { dt { "Events" } dd {
                @if settings.events.is_empty() { "All" }
                @for event in &settings.events { code { (event) } " " }
            } }
            div { dt { "Created" } dd { (moment(endpoint.created)) } }
            div { dt { "Id" } dd { code { (endpoint.id) } } }
        }
    }
}

fn act(frame: &Frame<'_>, id: &str, deed: &str, name: &str, class: &str) -> Markup {
    html! {
        form method="post" action={ "/console/webhooks/" (id) "/" (deed) } {
            (frame.proof())
            button class=(class) type="submit" { (name) }
        }
    }
}

fn not_taken(frame: &Frame<'_>, id: &str, letters: &[DeadLetter]) -> Markup {
    let rows: Vec<Vec<Markup>> = letters
        .iter()
        .map(|letter| {
            let change = &letter.change;
            vec![
                html! { code.whole { (EventType::of(change).as_str()) } },
                html! { code { (change.id) } },
                cell(&change.seq.to_string()),
                cell(&letter.attempts.to_string()),
                cell(&letter.reason),
                frame.brief(letter.at),
            ]
        })
        .collect();
    html! {
        section.stack aria-labelledby="letters" {
            h2 #letters { "Events that it did not take" }
            @if rows.is_empty() { p.quiet { "None." } }
            @else {
                (table("Events that it did not take", &["Event", "Id", "Write", "Attempts", "Reason", "Given up (UTC)"], &rows))
                (act(frame, id, "replay", "Send them once more", ""))
            }
        }
    }
}

/// `GET /console/webhooks/{id}/edit`
///
/// # Errors
/// 404 if there is none, and as the store.
pub async fn edit(
    visitor: Visitor,
    id: Path<String>,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let frame = Frame::of(&visitor, &parts);
    let tenant = &visitor.scope.access.tenant;
    let endpoint = parts.endpoints.get(tenant, &id).await?;
    let settings = &endpoint.settings;
    let texts = [
        ("url", &settings.url),
        ("audience", &settings.audience),
        ("description", &settings.description),
    ];
    let events = settings.events.iter().map(|event| ("events", event));
    let form = Form::of_fields(texts.into_iter().chain(events));
    let body = edit_form(&frame, &endpoint, &form, None);
    Ok(frame.page(Section::Webhooks, "Edit webhook", &body))
}

fn edit_form(frame: &Frame<'_>, endpoint: &Endpoint, form: &Form, problem: Option<&str>) -> Markup {
    let path = format!("/console/webhooks/{}", endpoint.id);
    html! {
        (trail(&[("/console/webhooks", "Webhooks"), (&path, &title_of(endpoint))], "Edit"))
        (head("Edit webhook", "", None))
        @if let Some(problem) = problem { (notice("bad", problem)) }
        form.stack.narrow method="post" action={ (path) "/edit" } {
            (frame.proof())
            (fields(form, Some(endpoint.settings.kind)))
            div.actions {
                button.primary type="submit" { "Save webhook" }
                a.button href=(path) { "Cancel" }
            }
        }
    }
}

/// `POST /console/webhooks/{id}/edit`
///
/// # Errors
/// 404 if there is none, and as the store.
pub async fn change(
    visitor: Visitor,
    id: Path<String>,
    body: Bytes,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let form = visitor.form(&body)?;
    let frame = Frame::of(&visitor, &parts);
    let (tenant, by) = (&visitor.scope.access.tenant, visitor.scope.author());
    let changed = parts.endpoints.update(tenant, &id, by, update_of(&form));
    match changed.await {
        Ok(_) => Ok(see(&format!("/console/webhooks/{id}?changed"))),
        Err(error) => {
            let problem = mistake(error)?;
            let endpoint = parts.endpoints.get(tenant, &id).await?;
            let body = edit_form(&frame, &endpoint, &form, Some(&problem));
            let status = StatusCode::BAD_REQUEST;
            Ok(frame.page_with(status, Section::Webhooks, "Edit webhook", &body))
        }
    }
}

/// `GET /console/webhooks/{id}/delete`: asks whether it is meant.
///
/// # Errors
/// 404 if there is none, and as the store.
pub async fn ask_delete(
    visitor: Visitor,
    id: Path<String>,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    let frame = Frame::of(&visitor, &parts);
    let endpoint = parts
        .endpoints
        .get(&visitor.scope.access.tenant, &id)
        .await?;
    let (path, title) = (
        format!("/console/webhooks/{}", endpoint.id),
        title_of(&endpoint),
    );
    let body = html! {
        (trail(&[("/console/webhooks", "Webhooks"), (&path, &title)], "Delete"))
        (head("Delete this webhook?", "", None))
        div.card.stack.narrow {
            p { "“" (title) "” hears of nothing any more. Its place in the events is forgotten." }
            div.actions {
                (act(&frame, &id, "delete", "Delete webhook", "danger"))
                a.button href=(path) { "Keep it" }
            }
        }
    };
    Ok(frame.page(Section::Webhooks, "Delete webhook", &body))
}

/// `POST /console/webhooks/{id}/delete`
///
/// # Errors
/// 404 if there is none, and as the store.
pub async fn delete(
    visitor: Visitor,
    id: Path<String>,
    body: Bytes,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    visitor.form(&body)?;
    let (tenant, by) = (&visitor.scope.access.tenant, visitor.scope.author());
    parts.endpoints.delete(tenant, &id, by).await?;
    Ok(see("/console/webhooks?deleted"))
}

/// `POST /console/webhooks/{id}/{deed}`: everything else that can be done to one.
///
/// # Errors
/// 404 if there is none, or no such deed; and as the store.
pub async fn act_on(
    visitor: Visitor,
    path: Path<(String, String)>,
    body: Bytes,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    visitor.form(&body)?;
    let frame = Frame::of(&visitor, &parts);
    let (id, deed) = path.into_inner();
    let (tenant, by) = (&visitor.scope.access.tenant, visitor.scope.author());
    let endpoints = &parts.endpoints;
    let back = |said: &str| see(&format!("/console/webhooks/{id}?{said}"));
    match deed.as_str() {
        "pause" => {
            endpoints.set_paused(tenant, &id, by, true).await?;
            Ok(back("paused"))
        }
        "resume" => {
            endpoints.set_paused(tenant, &id, by, false).await?;
            Ok(back("resumed"))
        }
        "replay" => {
            endpoints.replay(tenant, &id).await?;
            Ok(back("replayed"))
        }
        "rotate" => {
            let issued = endpoints.rotate(tenant, &id, by).await?;
            let body = shown_once(&issued, "Secret rotated");
            Ok(frame.page(Section::Webhooks, "Secret rotated", &body))
        }
        "test" => {
            let said = match endpoints.test(tenant, &id).await? {
                Ok(()) => notice("good", "The test event was taken."),
                Err(error) => notice("bad", &format!("The test event was not taken: {error}.")),
            };
            detail(&frame, &visitor, &id, &parts, Some(said)).await
        }
        _ => Err(StoreError::NotFound.into()),
    }
}
