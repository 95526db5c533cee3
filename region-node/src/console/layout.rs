//! What all pages of the console look like: the frame, and the parts that pages are made of.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use maud::{DOCTYPE, Markup, html};
use shared::{RegionId, Timestamp};

use super::session::{PROOF, Visitor};
use crate::scim::datetime;
use crate::startup::Parts;

/// A part of the console, as the navigation names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// What goes on.
    Overview,
    /// What identity providers sent.
    Activity,
    /// What should be put right.
    Doctor,
    /// Who did what.
    Audit,
    /// Who is told of events.
    Webhooks,
    /// API tokens.
    Tokens,
    /// The tenant's settings.
    Settings,
    /// How identity providers are connected.
    Guides,
    /// Users.
    Users,
    /// Groups.
    Groups,
}

impl Section {
    fn path(self) -> &'static str {
        match self {
            Self::Overview => "/console",
            Self::Activity => "/console/activity",
            Self::Doctor => "/console/doctor",
            Self::Audit => "/console/audit",
            Self::Webhooks => "/console/webhooks",
            Self::Tokens => "/console/tokens",
            Self::Settings => "/console/settings",
            Self::Guides => "/console/guides",
            Self::Users => "/console/users",
            Self::Groups => "/console/groups",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Activity => "Activity",
            Self::Doctor => "Doctor",
            Self::Audit => "Audit",
            Self::Webhooks => "Webhooks",
            Self::Tokens => "API tokens",
            Self::Settings => "Settings",
            Self::Guides => "Set-up guides",
            Self::Users => "Users",
            Self::Groups => "Groups",
        }
    }
}

/// The navigation, under its headings.
const NAVIGATION: &[(&str, &[Section])] = &[
    (
        "Provisioning",
        &[
            Section::Overview,
            Section::Activity,
            Section::Doctor,
            Section::Guides,
        ],
    ),
    ("Directory", &[Section::Users, Section::Groups]),
    (
        "Global Settings",
        &[
            Section::Tokens,
            Section::Webhooks,
            Section::Settings,
            Section::Audit,
        ],
    ),
];

/// The frame of a page: whose console it is.
pub struct Frame<'f> {
    visitor: &'f Visitor,
    region: &'f RegionId,
    tenant: &'f str,
    /// The time of the page.
    pub now: Timestamp,
}

impl<'f> Frame<'f> {
    /// The frame of what a visitor is shown.
    #[must_use]
    pub fn of(visitor: &'f Visitor, parts: &'f Parts) -> Self {
        Self {
            visitor,
            region: &parts.region,
            tenant: &visitor.tenant.name,
            now: parts.clock.now(),
        }
    }

    /// A page of a section.
    #[must_use]
    pub fn page(&self, section: Section, title: &str, body: &Markup) -> HttpResponse {
        self.page_with(StatusCode::OK, section, title, body)
    }

    /// The same with a status.
    #[must_use]
    pub fn page_with(
        &self,
        status: StatusCode,
        section: Section,
        title: &str,
        body: &Markup,
    ) -> HttpResponse {
        let content = html! {
            a.skip href="#main" { "Skip to the content" }
            header.top {
                a.brand href="/console" {
                    img src="/console/assets/icon.svg" alt="" width="28" height="28"; "Meridian"
                }
                p.whose {
                    span.tenant { (self.tenant) }
                    span.badge { "Region " (self.region.as_str()) }
                }
                form method="post" action="/console/sign-out" {
                    (self.proof())
                    button.quiet type="submit" { "Sign out" }
                }
            }
            div.shell {
                nav.side aria-label="Console" {
                    @for (heading, sections) in NAVIGATION {
                        div.group {
                            p.heading { (heading) }
                            ul {
                                @for each in *sections {
                                    li {
                                        a href=(each.path())
                                            aria-current=[(*each == section).then_some("page")]
                                            { (each.name()) }
                                    }
                                }
                            }
                        }
                    }
                }
                main #main tabindex="-1" { (body) }
            }
        };
        answer(status, &document(title, self.tenant, "", &content))
    }

    /// The field that proves that a form is of this session.
    #[must_use]
    pub fn proof(&self) -> Markup {
        html! { input type="hidden" name=(PROOF) value=(self.visitor.proof()); }
    }

    /// A moment as it stands in a long list: the time of day, with the day where it is another.
    #[must_use]
    pub fn brief(&self, at: Timestamp) -> Markup {
        let text = match day(at) == day(self.now) {
            true => written(at, "%H:%M:%S"),
            false => written(at, "%-d %b, %H:%M"),
        };
        html! { time.whole datetime=(datetime::format(at)) title=(words(at)) { (text) } }
    }

    /// How long ago something was, in words.
    #[must_use]
    pub fn ago(&self, at: Timestamp) -> Markup {
        let seconds = self.now.since(at).as_secs();
        let text = match seconds {
            0..60 => "just now".to_owned(),
            60..3_600 => format!("{} min ago", seconds / 60),
            3_600..86_400 => format!("{} h ago", seconds / 3_600),
            _ => day(at),
        };
        html! { time.whole datetime=(datetime::format(at)) title=(words(at)) { (text) } }
    }
}

/// A page that says what went wrong, for one whose console nobody knows.
#[must_use]
pub fn problem(status: StatusCode, detail: &str, request_id: &str) -> HttpResponse {
    let title = match status.as_u16() {
        400 | 422 => "That did not work",
        403 => "This is not allowed",
        404 => "There is no such page",
        405 => "That cannot be done here",
        413 => "This is too large",
        500 => "Something went wrong",
        503 => "Not available at the moment",
        _ => "That did not work",
    };
    let body = html! {
        main.card {
            p.brand { img src="/console/assets/icon.svg" alt="" width="28" height="28"; "Meridian" }
            h1 { (title) }
            p { (detail) }
            p.quiet { "Request id " code { (request_id) } }
            p { a.button href="/console" { "Back to the console" } }
        }
    };
    answer(status, &document(title, "", "alone", &body))
}

fn document(title: &str, tenant: &str, class: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title {
                    (title) @if !tenant.is_empty() { " · " (tenant) } " · Meridian"
                }
                link rel="icon" href="/console/assets/icon.svg" type="image/svg+xml";
                link rel="stylesheet" href="/console/assets/console.css";
                script src="/console/assets/console.js" defer {}
            }
            body class=[(!class.is_empty()).then_some(class)] { (body) }
        }
    }
}

fn answer(status: StatusCode, page: &Markup) -> HttpResponse {
    HttpResponse::build(status)
        .content_type("text/html; charset=utf-8")
        .body(page.0.clone())
}

/// Sends a browser to another page of the console, by GET.
#[must_use]
pub fn see(path: &str) -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header((actix_web::http::header::LOCATION, path))
        .finish()
}

/// The head of a page: what it is, and what can be done.
#[must_use]
pub fn head(title: &str, about: &str, action: Option<(&str, &str)>) -> Markup {
    html! {
        div.head {
            div {
                h1 { (title) }
                @if !about.is_empty() { p.lead { (about) } }
            }
            @if let Some((path, name)) = action { a.button.primary href=(path) { (name) } }
        }
    }
}

/// Where a page is, below which others.
#[must_use]
pub fn trail(above: &[(&str, &str)], here: &str) -> Markup {
    html! {
        nav.trail aria-label="Breadcrumb" {
            ol {
                @for (path, name) in above { li { a href=(path) { (name) } } }
                li aria-current="page" { (here) }
            }
        }
    }
}

/// What there is to say above a page.
#[must_use]
pub fn notice(kind: &str, text: &str) -> Markup {
    let role = if kind == "bad" { "alert" } else { "status" };
    html! { div class={ "notice " (kind) } role=(role) { p { (text) } } }
}

/// A state in a word.
#[must_use]
pub fn badge(kind: &str, text: &str) -> Markup {
    html! { span class={ "badge " (kind) } { (text) } }
}

/// A value to be copied, with its label.
#[must_use]
pub fn copyable(id: &str, label: &str, value: &str) -> Markup {
    html! {
        div.field {
            label for=(id) { (label) }
            div.copy {
                input id=(id) type="text" readonly value=(value) spellcheck="false";
                button type="button" hidden data-copy=(id) aria-label={ "Copy " (label) } { "Copy" }
            }
        }
    }
}

/// A moment, in UTC.
#[must_use]
pub fn moment(at: Timestamp) -> Markup {
    html! { time datetime=(datetime::format(at)) { (words(at)) } }
}

/// A moment that may not be.
#[must_use]
pub fn moment_or(at: Option<Timestamp>, otherwise: &str) -> Markup {
    at.map_or_else(|| html! { span.quiet { (otherwise) } }, moment)
}

fn words(at: Timestamp) -> String {
    written(at, "%-d %b %Y, %H:%M UTC")
}

fn day(at: Timestamp) -> String {
    written(at, "%-d %b %Y")
}

/// A moment, written as `how` says (`strftime`), in UTC.
#[must_use]
pub fn written(at: Timestamp, how: &str) -> String {
    let moment = jiff::Timestamp::from_millisecond(at.as_millis());
    moment.unwrap_or_default().strftime(how).to_string()
}

/// What a list says that has nothing in it.
#[must_use]
pub fn nothing(title: &str, what_to_do: &Markup) -> Markup {
    html! { div.nothing { p.title { (title) } (what_to_do) } }
}

/// A table. The first cell of a row is its head; on a narrow screen each row is a card, and every
/// cell says which column it is of.
#[must_use]
pub fn table(caption: &str, columns: &[&str], rows: &[Vec<Markup>]) -> Markup {
    html! { div.table.fold { table { caption.unseen { (caption) } (columns_and_rows(columns, rows)) } } }
}

/// The same with a caption to be seen.
#[must_use]
pub fn table_with_caption(caption: &str, columns: &[&str], rows: &[Vec<Markup>]) -> Markup {
    html! { div.table.fold { table { caption { (caption) } (columns_and_rows(columns, rows)) } } }
}

fn columns_and_rows(columns: &[&str], rows: &[Vec<Markup>]) -> Markup {
    html! {
        thead { tr { @for column in columns { th scope="col" { (column) } } } }
        tbody {
            @for row in rows {
                tr {
                    @for (at, (column, cell)) in columns.iter().zip(row).enumerate() {
                        @if at == 0 { th scope="row" { (cell) } }
                        @else if cell.0.is_empty() { td {} }
                        @else { td data-label=(column) { div { (cell) } } }
                    }
                }
            }
        }
    }
}

/// A text as a cell.
#[must_use]
pub fn cell(text: &str) -> Markup {
    html! { (text) }
}
