//! The whole URL space of the node on one screen.

use actix_web::Resource;
use actix_web::web::{PayloadConfig, ServiceConfig, delete, get, post, put, resource, scope, to};
use shared::link::{MAX_GROUP_REPLACE_BYTES, OPERATOR_PATH, RESOLVE_PATH, SCIM_PATH, SCIM11_PATH};

use crate::error::Error;
use crate::handlers::{fallback, health, operator, resolve};
use crate::tenant_scope::{FromOperator, TenantScope};

/// Largest body of a call that is not SCIM.
const SMALL_BODY: usize = 64 * 1024;

/// The link listener: gateways and the operator.
pub fn link(config: &mut ServiceConfig) {
    config
        // SCIM bodies up to what the link carries; the handlers keep to their own limits.
        .app_data(PayloadConfig::new(MAX_GROUP_REPLACE_BYTES))
        .service(
            resource(RESOLVE_PATH)
                .app_data(PayloadConfig::new(SMALL_BODY))
                .route(post().to(resolve::resolve))
                .default_service(to(resolve::not_allowed)),
        )
        .service(
            scope(OPERATOR_PATH)
                .app_data(PayloadConfig::new(SMALL_BODY))
                .configure(operator_calls)
                .default_service(to(operator::no_such_endpoint)),
        )
        .service(
            scope(SCIM_PATH)
                .configure(scim20)
                .default_service(to(fallback::no_such_scim_endpoint)),
        )
        .service(scope(SCIM11_PATH).default_service(to(fallback::no_such_scim_endpoint)))
        .default_service(to(fallback::no_such_endpoint));
}

/// The management listener: health.
pub fn management(config: &mut ServiceConfig) {
    config
        .route("/livez", get().to(health::livez))
        .route("/readyz", get().to(health::readyz))
        .default_service(to(fallback::no_such_endpoint));
}

/// SCIM 2.0 (RFC 7644 section 3.2). Every resource says which methods it has:
/// `scim_resource("/Users", "GET, POST").route(…)`.
fn scim20(config: &mut ServiceConfig) {
    config.service(resource("/Me").route(to(fallback::me)));
}

fn operator_calls(config: &mut ServiceConfig) {
    config
        .service(
            operator_resource("/tenants", "GET, POST")
                .route(get().to(operator::list_tenants))
                .route(post().to(operator::create_tenant)),
        )
        .service(
            operator_resource("/tenants/{id}", "GET, DELETE")
                .route(get().to(operator::get_tenant))
                .route(delete().to(operator::delete_tenant)),
        )
        .service(
            operator_resource("/tenants/{id}/suspend", "POST")
                .route(post().to(operator::suspend_tenant)),
        )
        .service(
            operator_resource("/tenants/{id}/resume", "POST")
                .route(post().to(operator::resume_tenant)),
        )
        .service(
            operator_resource("/tenants/{id}/settings", "PUT")
                .route(put().to(operator::set_tenant_settings)),
        )
        .service(
            operator_resource("/tenants/{id}/tokens", "GET, POST")
                .route(get().to(operator::list_tokens))
                .route(post().to(operator::create_token)),
        )
        .service(operator_resource("/tokens/{id}", "GET").route(get().to(operator::get_token)))
        .service(
            operator_resource("/tokens/{id}/rotate", "POST")
                .route(post().to(operator::rotate_token)),
        )
        .service(
            operator_resource("/tokens/{id}/revoke", "POST")
                .route(post().to(operator::revoke_token)),
        );
}

/// A SCIM endpoint that answers 405 to methods which it does not have, once the call has proved
/// whose it is.
#[must_use]
pub fn scim_resource(path: &str, methods: &'static str) -> Resource {
    resource(path).default_service(to(move |_scope: TenantScope| refuse(methods)))
}

/// The same for the operator's calls.
fn operator_resource(path: &str, methods: &'static str) -> Resource {
    resource(path).default_service(to(move |_operator: FromOperator| refuse(methods)))
}

async fn refuse(methods: &'static str) -> Result<actix_web::HttpResponse, Error> {
    Err(Error::MethodNotAllowed(methods))
}
