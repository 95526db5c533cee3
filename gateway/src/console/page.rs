//! The two pages that the gateway shows itself: signing in, and what went wrong before a
//! region-node could show anything. Nothing that a browser sent is in them.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, HttpResponseBuilder};
use maud::{DOCTYPE, Markup, html};
use shared::link::{CONSOLE_PATH, CONSOLE_SIGN_IN_PATH};

/// What a page may load, run and send, and who may frame it: nothing that is not ours.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; \
    img-src 'self' data:; script-src 'self'; form-action 'self'; frame-ancestors 'none'; \
    base-uri 'none'";

/// Answers with a page.
pub fn html(response: &mut HttpResponseBuilder, page: Markup) -> HttpResponse {
    response
        .content_type("text/html; charset=utf-8")
        .body(page.into_string())
}

/// The sign-in page, with what there is to say.
#[must_use]
pub fn sign_in(message: Option<&str>, request_id: Option<&str>) -> Markup {
    let body = html! {
        h1 { "Sign in" }
        p { "Administer your tenant: API tokens, users and groups, activity and events." }
        @if let Some(message) = message {
            div.notice role="alert" {
                p { (message) }
                @if let Some(id) = request_id { (request(id)) }
            }
        }
        form.stack method="post" action=(CONSOLE_SIGN_IN_PATH) {
            div.field {
                label for="token" { "Admin API token" }
                input #token name="token" type="password" required autocomplete="current-password"
                    autofocus spellcheck="false" autocapitalize="none" aria-describedby="token-hint";
                p.hint #token-hint {
                    "An API token of the scope " code { "admin" } ", as " code { "mrd_…" }
                    ". Your operator gives you the first one."
                }
            }
            button.primary.wide type="submit" { "Sign in" }
        }
        p.quiet {
            "You have signed in already, and came here from another site? "
            a href=(CONSOLE_PATH) { "Go on to the console" } "."
        }
    };
    document("Sign in", &body)
}

/// A page that says what went wrong.
#[must_use]
pub fn problem(status: StatusCode, detail: &str, request_id: Option<&str>) -> Markup {
    let title = match status.as_u16() {
        403 => "This is not allowed",
        404 => "There is no such page",
        405 => "That cannot be done here",
        413 => "This is too large",
        421 => "There is nobody at this address",
        429 => "Too much at once",
        500 => "Something went wrong",
        502..=504 => "Not available at the moment",
        _ => "That did not work",
    };
    let body = html! {
        h1 { (title) }
        p { (detail) }
        @if let Some(id) = request_id { (request(id)) }
        p { a.button href=(CONSOLE_PATH) { "Back to the console" } }
    };
    document(title, &body)
}

fn request(id: &str) -> Markup {
    html! { p.quiet { "Request id " code { (id) } } }
}

fn document(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Meridian" }
                link rel="icon" href="/console/assets/icon.svg" type="image/svg+xml";
                link rel="stylesheet" href="/console/assets/console.css";
            }
            body.alone {
                main.card {
                    p.brand { img src="/console/assets/icon.svg" alt="" width="28" height="28"; "Meridian" }
                    (body)
                }
            }
        }
    }
}
