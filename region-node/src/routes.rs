//! The whole URL space of the node on one screen.

use actix_web::web::{
    PayloadConfig, ServiceConfig, delete, get, patch, post, put, resource, scope, to,
};
use actix_web::{Resource, Route, guard};
use shared::link::{
    ACCESS_TOKENS_PATH, ADMIN_PATH, CONSOLE_PATH, HEALTH_PATH, MAX_GROUP_REPLACE_BYTES,
    NOTICES_PATH, OPERATOR_PATH, RESOLVE_PATH, SCIM_PATH, SCIM11_PATH,
};

use crate::admin::{
    activity, audit, directory, doctor, events, export, openapi, schemas, settings, tokens,
    webhooks,
};
use crate::console;
use crate::error::Error;
use crate::handlers::scim_http::Kind;
use crate::handlers::{
    backup, discovery, fallback, health, notices, operator, resolve, resources, search,
};
use crate::scim::ResourceKind;
use crate::tenant_scope::{AdminScope, FromOperator, TenantScope};

/// Largest body of a call that is not SCIM.
const SMALL_BODY: usize = 64 * 1024;

/// The templates of all routes of the link listener: what may stand for a path in figures and
/// traces. A route that is missing here is `other`.
pub const TEMPLATES: [&str; 103] = [
    "/scim/v2/Users/.search",
    "/scim/v2/Users",
    "/scim/v2/Users/{id}",
    "/scim/v1/Users",
    "/scim/v1/Users/{id}",
    "/scim/v2/Groups/.search",
    "/scim/v2/Groups",
    "/scim/v2/Groups/{id}",
    "/scim/v1/Groups",
    "/scim/v1/Groups/{id}",
    "/scim/v2/.search",
    "/scim/v2/Bulk",
    "/scim/v2/Me",
    "/scim/v2/ServiceProviderConfig",
    "/scim/v2/Schemas",
    "/scim/v2/Schemas/{urn}",
    "/scim/v2/ResourceTypes",
    "/scim/v2/ResourceTypes/{name}",
    "/scim/v1/ServiceProviderConfigs",
    "/scim/v1/ServiceProviderConfig",
    "/scim/v1/Schemas",
    "/scim/v1/Schemas/{urn}",
    "/scim/v1/ResourceTypes",
    "/scim/v1/ResourceTypes/{name}",
    "/admin/v1/schemas",
    "/admin/v1/schemas/{urn}",
    "/admin/v1/audit",
    "/admin/v1/audit/verify",
    "/admin/v1/events",
    "/admin/v1/webhooks",
    "/admin/v1/webhooks/{id}",
    "/admin/v1/webhooks/{id}/poll",
    "/admin/v1/events/jwks",
    "/admin/v1/webhooks/{id}/dead-letters",
    "/admin/v1/webhooks/{id}/rotate",
    "/admin/v1/webhooks/{id}/test",
    "/admin/v1/webhooks/{id}/replay",
    "/admin/v1/webhooks/{id}/pause",
    "/admin/v1/webhooks/{id}/resume",
    "/admin/v1/tokens",
    "/admin/v1/tokens/{id}",
    "/admin/v1/tokens/{id}/rotate",
    "/admin/v1/tokens/{id}/revoke",
    "/admin/v1/settings",
    "/admin/v1/export",
    "/admin/v1/openapi.json",
    "/admin/v1/users",
    "/admin/v1/users/{id}",
    "/admin/v1/users/{id}/history",
    "/admin/v1/groups",
    "/admin/v1/groups/{id}",
    "/admin/v1/groups/{id}/history",
    "/admin/v1/groups/{id}/members",
    "/admin/v1/activity",
    "/admin/v1/activity/cycles",
    "/admin/v1/activity/overview",
    "/admin/v1/activity/{number}",
    "/admin/v1/doctor",
    "/console",
    "/console/sign-out",
    "/console/tokens",
    "/console/tokens/new",
    "/console/tokens/{id}",
    "/console/tokens/{id}/rotate",
    "/console/tokens/{id}/revoke",
    "/console/settings",
    "/console/export",
    "/console/activity",
    "/console/activity/cycles",
    "/console/activity/{number}",
    "/console/doctor",
    "/console/audit",
    "/console/audit/verify",
    "/console/webhooks",
    "/console/webhooks/new",
    "/console/webhooks/{id}",
    "/console/webhooks/{id}/delete",
    "/console/webhooks/{id}/{deed}",
    "/console/guides",
    "/console/guides/{name}",
    "/console/groups/{id}/members",
    "/console/users",
    "/console/users/{id}",
    "/console/groups",
    "/console/groups/{id}",
    "/internal/v1/resolve",
    "/internal/v1/access-tokens",
    "/internal/v1/notices",
    "/internal/v1/health",
    "/internal/v1/operator/region",
    "/internal/v1/operator/tenants",
    "/internal/v1/operator/tenants/{id}",
    "/internal/v1/operator/backup",
    "/internal/v1/operator/restore",
    "/internal/v1/operator/tenants/{id}/export",
    "/internal/v1/operator/tenants/{id}/audit/verify",
    "/internal/v1/operator/tenants/{id}/suspend",
    "/internal/v1/operator/tenants/{id}/resume",
    "/internal/v1/operator/tenants/{id}/settings",
    "/internal/v1/operator/tenants/{id}/tokens",
    "/internal/v1/operator/tokens/{id}",
    "/internal/v1/operator/tokens/{id}/rotate",
    "/internal/v1/operator/tokens/{id}/revoke",
];

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
            resource(ACCESS_TOKENS_PATH)
                .app_data(PayloadConfig::new(SMALL_BODY))
                .route(post().to(resolve::issue_access_token))
                .default_service(to(resolve::not_allowed)),
        )
        .service(
            resource(NOTICES_PATH)
                .app_data(PayloadConfig::new(SMALL_BODY))
                .route(post().to(notices::take))
                .default_service(to(resolve::not_allowed)),
        )
        .service(
            resource(HEALTH_PATH)
                .route(get().to(health::link))
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
        .service(
            scope(SCIM11_PATH)
                .configure(scim11)
                .default_service(to(fallback::no_such_scim_endpoint)),
        )
        .service(
            scope(ADMIN_PATH)
                .configure(admin_calls)
                .default_service(to(admin_fallback)),
        )
        .service(
            scope(CONSOLE_PATH)
                .app_data(PayloadConfig::new(SMALL_BODY))
                .configure(console::pages)
                .default_service(to(console::no_such_page)),
        )
        .default_service(to(fallback::no_such_endpoint));
}

/// The management listener: health, and what the node has done.
pub fn management(config: &mut ServiceConfig) {
    config
        .route("/livez", get().to(health::livez))
        .route("/readyz", get().to(health::readyz))
        .route("/metrics", get().to(health::metrics))
        .default_service(to(fallback::no_such_endpoint));
}

/// SCIM 2.0 (RFC 7644 section 3.2). Every resource says which methods it has.
fn scim20(config: &mut ServiceConfig) {
    for kind in [ResourceKind::User, ResourceKind::Group] {
        let search = scim_resource(&format!("{}/.search", kind.endpoint()), "POST");
        config
            .service(
                search
                    .app_data(Kind(kind))
                    .route(post().to(search::search_kind)),
            )
            .service(collection(kind))
            .service(single(kind));
    }
    config
        .service(scim_resource("/.search", "POST").route(post().to(search::search_all)))
        .service(scim_resource("/Bulk", "POST").route(post().to(search::bulk)))
        .service(resource("/Me").route(to(fallback::me)))
        .service(service_provider_config("/ServiceProviderConfig"));
    schemas_and_resource_types(config);
}

/// SCIM 1.1: the same resources under its own names.
fn scim11(config: &mut ServiceConfig) {
    for kind in [ResourceKind::User, ResourceKind::Group] {
        config.service(collection(kind)).service(single(kind));
    }
    config
        .service(service_provider_config("/ServiceProviderConfigs"))
        .service(service_provider_config("/ServiceProviderConfig"));
    schemas_and_resource_types(config);
}

/// `/Users`, `/Groups`.
fn collection(kind: ResourceKind) -> Resource {
    scim_resource(kind.endpoint(), "GET, POST")
        .app_data(Kind(kind))
        .route(get().to(resources::query))
        .route(post().to(resources::create))
}

/// `/Users/{id}`, `/Groups/{id}`. A POST may say that it means another method (SCIM protocol 1.1,
/// section 3), on the main path too, where a body can be of 1.1.
fn single(kind: ResourceKind) -> Resource {
    let path = format!("{}/{{id}}", kind.endpoint());
    scim_resource(&path, "GET, PUT, PATCH, DELETE")
        .app_data(Kind(kind))
        .route(get().to(resources::get))
        .route(put().to(resources::replace))
        .route(patch().to(resources::patch))
        .route(delete().to(resources::delete))
        .route(meaning("PUT").to(resources::replace))
        .route(meaning("PATCH").to(resources::patch))
        .route(meaning("DELETE").to(resources::delete))
}

fn meaning(method: &'static str) -> Route {
    post().guard(guard::fn_guard(move |context| {
        let said = context.head().headers().get("x-http-method-override");
        said.is_some_and(|said| said.as_bytes().eq_ignore_ascii_case(method.as_bytes()))
    }))
}

fn service_provider_config(path: &str) -> Resource {
    scim_resource(path, "GET").route(get().to(discovery::get_service_provider_config))
}

fn schemas_and_resource_types(config: &mut ServiceConfig) {
    config
        .service(scim_resource("/Schemas", "GET").route(get().to(discovery::list_schemas)))
        .service(scim_resource("/Schemas/{urn}", "GET").route(get().to(discovery::get_schema)))
        .service(
            scim_resource("/ResourceTypes", "GET").route(get().to(discovery::list_resource_types)),
        )
        .service(
            scim_resource("/ResourceTypes/{name}", "GET")
                .route(get().to(discovery::get_resource_type)),
        );
}

/// The tenant admin's API.
fn admin_calls(config: &mut ServiceConfig) {
    config
        .service(
            admin_resource("/schemas", "GET, POST")
                .route(get().to(schemas::list_schemas))
                .route(post().to(schemas::create_schema)),
        )
        .service(
            admin_resource("/schemas/{urn}", "DELETE").route(delete().to(schemas::delete_schema)),
        )
        .service(admin_resource("/audit", "GET").route(get().to(audit::list)))
        .service(admin_resource("/audit/verify", "GET").route(get().to(audit::verify)))
        .service(admin_resource("/events", "GET").route(get().to(events::list)))
        .service(
            admin_resource("/webhooks", "GET, POST")
                .route(get().to(webhooks::list))
                .route(post().to(webhooks::create)),
        )
        .service(
            admin_resource("/webhooks/{id}", "GET, PATCH, DELETE")
                .route(get().to(webhooks::get))
                .route(patch().to(webhooks::change))
                .route(delete().to(webhooks::delete)),
        )
        .service(admin_resource("/webhooks/{id}/poll", "POST").route(post().to(webhooks::poll)))
        .service(admin_resource("/events/jwks", "GET").route(get().to(events::jwks)))
        .service(
            admin_resource("/webhooks/{id}/dead-letters", "GET")
                .route(get().to(webhooks::dead_letters)),
        )
        .service(admin_resource("/webhooks/{id}/rotate", "POST").route(post().to(webhooks::rotate)))
        .service(admin_resource("/webhooks/{id}/test", "POST").route(post().to(webhooks::test)))
        .service(admin_resource("/webhooks/{id}/replay", "POST").route(post().to(webhooks::replay)))
        .service(admin_resource("/webhooks/{id}/pause", "POST").route(post().to(webhooks::pause)))
        .service(admin_resource("/webhooks/{id}/resume", "POST").route(post().to(webhooks::resume)))
        .service(
            admin_resource("/tokens", "GET, POST")
                .route(get().to(tokens::list))
                .route(post().to(tokens::create)),
        )
        .service(admin_resource("/tokens/{id}", "GET").route(get().to(tokens::get)))
        .service(admin_resource("/tokens/{id}/rotate", "POST").route(post().to(tokens::rotate)))
        .service(admin_resource("/tokens/{id}/revoke", "POST").route(post().to(tokens::revoke)))
        .service(
            admin_resource("/settings", "GET, PATCH")
                .route(get().to(settings::get))
                .route(patch().to(settings::change)),
        )
        .service(admin_resource("/export", "GET").route(get().to(export::get)))
        .service(admin_resource("/openapi.json", "GET").route(get().to(openapi::get)));
    for (name, kind) in [
        ("users", ResourceKind::User),
        ("groups", ResourceKind::Group),
    ] {
        let at =
            |below: &str| admin_resource(&format!("/{name}{below}"), "GET").app_data(Kind(kind));
        config
            .service(at("").route(get().to(directory::search)))
            .service(at("/{id}").route(get().to(directory::get)))
            .service(at("/{id}/history").route(get().to(directory::history)));
    }
    config
        .service(admin_resource("/groups/{id}/members", "GET").route(get().to(directory::members)))
        .service(admin_resource("/activity", "GET").route(get().to(activity::list)))
        .service(admin_resource("/activity/cycles", "GET").route(get().to(activity::cycles)))
        .service(admin_resource("/activity/overview", "GET").route(get().to(activity::overview)))
        .service(admin_resource("/activity/{number}", "GET").route(get().to(activity::get)))
        .service(admin_resource("/doctor", "GET").route(get().to(doctor::list)));
}

fn operator_calls(config: &mut ServiceConfig) {
    config
        .service(operator_resource("/region", "GET").route(get().to(operator::get_region)))
        .service(operator_resource("/node", "GET").route(get().to(operator::get_node)))
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
        .service(operator_resource("/backup", "GET").route(get().to(backup::backup)))
        .service(operator_resource("/restore", "POST").route(post().to(backup::restore)))
        .service(operator_resource("/tenants/{id}/export", "GET").route(get().to(backup::export)))
        .service(
            operator_resource("/tenants/{id}/audit/verify", "GET")
                .route(get().to(operator::verify_audit)),
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

/// The same for the tenant admin's calls.
fn admin_resource(path: &str, methods: &'static str) -> Resource {
    resource(path).default_service(to(move |_scope: AdminScope| refuse(methods)))
}

async fn admin_fallback(_scope: AdminScope) -> Result<actix_web::HttpResponse, Error> {
    Err(Error::NoSuchEndpoint)
}

/// The same for the operator's calls.
fn operator_resource(path: &str, methods: &'static str) -> Resource {
    resource(path).default_service(to(move |_operator: FromOperator| refuse(methods)))
}

async fn refuse(methods: &'static str) -> Result<actix_web::HttpResponse, Error> {
    Err(Error::MethodNotAllowed(methods))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_endpoint_of_the_admins_description_has_a_template() {
        let openapi: serde_json::Value =
            serde_json::from_str(include_str!("admin/openapi.json")).unwrap();
        let templates: BTreeSet<String> = TEMPLATES.iter().map(|it| unnamed(it)).collect();
        let paths = openapi["paths"].as_object().unwrap();
        assert!(paths.len() > 20);
        for path in paths.keys() {
            let below = path.trim_start_matches("/api/v1/admin");
            let template = unnamed(&format!("{ADMIN_PATH}{below}"));
            assert!(templates.contains(&template), "{template}");
        }
    }

    /// A template whose values have no names.
    fn unnamed(template: &str) -> String {
        let segments = template.split('/');
        let segments = segments.map(|it| if it.starts_with('{') { "{}" } else { it });
        segments.collect::<Vec<_>>().join("/")
    }
}
