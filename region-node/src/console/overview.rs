//! What goes on: the first page.

use actix_web::HttpResponse;
use actix_web::web::Data;
use maud::html;

use super::layout::{Frame, Section, copyable, head};
use super::session::Visitor;
use crate::error::Error;
use crate::startup::Parts;

/// `GET /console`
///
/// # Errors
/// As the store.
pub async fn show(visitor: Visitor, parts: Data<Parts>) -> Result<HttpResponse, Error> {
    let frame = Frame::open(&visitor, &parts).await?;
    let tenant = parts.tenants.get_own(&visitor.scope.access).await?;
    let body = html! {
        (head("Overview", "", None))
        div.tiles {
            div.tile { p.label { "Users" } p.figure { a href="/console/users" { (tenant.users) } } }
            div.tile { p.label { "Groups" } p.figure { a href="/console/groups" { (tenant.groups) } } }
        }
        div.card.stack { (copyable("base-url", "Base URL", visitor.scope.base_url.as_str())) }
    };
    Ok(frame.page(Section::Overview, "Overview", &body))
}
