//! The console: the pages of a tenant's administrator, below `/console`. HTML that is made here and
//! works without JavaScript.
//!
//! HTTP in, a page out, as in `handlers`. What never lives here: what the provider does, a text that
//! a user or a client chose and that is not escaped, a script or a style within a page.

pub mod activity;
pub mod audit;
pub mod chart;
pub mod directory;
pub mod doctor;
pub mod guides;
pub mod layout;
pub mod overview;
pub mod session;
pub mod settings;
pub mod tokens;
pub mod webhooks;

use actix_web::web::{Data, ServiceConfig, get, post, resource, to};
use actix_web::{HttpResponse, Resource};
use shared::link::CONSOLE_SIGN_IN_PATH;

use self::session::Visitor;
use crate::error::Error;
use crate::handlers::scim_http::Kind;
use crate::scim::ResourceKind;
use crate::startup::Parts;
use crate::store::{AuditKind, AuditNote};

/// The pages.
pub fn pages(config: &mut ServiceConfig) {
    config
        .service(page("", "GET").route(get().to(overview::show)))
        .service(page("/sign-out", "POST").route(post().to(sign_out)))
        .service(
            page("/tokens", "GET, POST")
                .route(get().to(tokens::list))
                .route(post().to(tokens::create)),
        )
        .service(page("/tokens/new", "GET").route(get().to(tokens::new)))
        .service(page("/tokens/{id}", "GET").route(get().to(tokens::show)))
        .service(page("/tokens/{id}/rotate", "POST").route(post().to(tokens::rotate)))
        .service(
            page("/tokens/{id}/revoke", "GET, POST")
                .route(get().to(tokens::ask_revoke))
                .route(post().to(tokens::revoke)),
        )
        .service(
            page("/settings", "GET, POST")
                .route(get().to(settings::show))
                .route(post().to(settings::change)),
        )
        .service(page("/export", "GET").route(get().to(settings::export)))
        .service(page("/activity", "GET").route(get().to(activity::list)))
        .service(page("/activity/cycles", "GET").route(get().to(activity::cycles)))
        .service(page("/activity/{number}", "GET").route(get().to(activity::show)))
        .service(page("/doctor", "GET").route(get().to(doctor::list)))
        .service(page("/audit", "GET").route(get().to(audit::list)))
        .service(page("/audit/verify", "GET").route(get().to(audit::verify)))
        .service(
            page("/webhooks", "GET, POST")
                .route(get().to(webhooks::list))
                .route(post().to(webhooks::create)),
        )
        .service(page("/webhooks/new", "GET").route(get().to(webhooks::new)))
        .service(page("/webhooks/{id}", "GET").route(get().to(webhooks::show)))
        .service(
            page("/webhooks/{id}/edit", "GET, POST")
                .route(get().to(webhooks::edit))
                .route(post().to(webhooks::change)),
        )
        .service(
            page("/webhooks/{id}/delete", "GET, POST")
                .route(get().to(webhooks::ask_delete))
                .route(post().to(webhooks::delete)),
        )
        .service(page("/webhooks/{id}/{deed}", "POST").route(post().to(webhooks::act_on)))
        .service(page("/guides", "GET").route(get().to(guides::list)))
        .service(page("/guides/{name}", "GET").route(get().to(guides::show)))
        .service(page("/groups/{id}/members", "GET").route(get().to(directory::members)));
    for (name, kind) in [
        ("users", ResourceKind::User),
        ("groups", ResourceKind::Group),
    ] {
        let at = |below: &str| page(&format!("/{name}{below}"), "GET").app_data(Kind(kind));
        config
            .service(at("").route(get().to(directory::search)))
            .service(at("/{id}").route(get().to(directory::show)));
    }
}

/// A page that answers 405 to methods which it does not have.
fn page(path: &str, methods: &'static str) -> Resource {
    let refuse = move |_visitor: Visitor| async move {
        Err::<HttpResponse, _>(Error::MethodNotAllowed(methods))
    };
    resource(path).default_service(to(refuse))
}

/// A page that is not there.
///
/// # Errors
/// Always.
pub async fn no_such_page(_visitor: Visitor) -> Result<HttpResponse, Error> {
    Err(Error::NoSuchPage)
}

/// `POST /console/sign-out`: ends the session, at once and everywhere.
async fn sign_out(
    visitor: Visitor,
    body: actix_web::web::Bytes,
    parts: Data<Parts>,
) -> Result<HttpResponse, Error> {
    visitor.form(&body)?;
    let tenant = &visitor.scope.access.tenant;
    parts
        .tokens
        .end_access_token(tenant, &visitor.session)
        .await?;
    let note = AuditNote::new(AuditKind::SignedOut, visitor.scope.author(), "");
    parts.audit.note(tenant, note).await?;
    Ok(layout::see(&format!("{CONSOLE_SIGN_IN_PATH}?signed-out")))
}
