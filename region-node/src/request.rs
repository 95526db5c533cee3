//! What happens to every request, whichever its route: an id that comes back with the answer, a
//! deadline, a net for panics, errors in the caller's dialect, one line in the log.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{ConnectionType, Method};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{HttpMessage as _, HttpResponse};
use futures_util::FutureExt as _;
use futures_util::future::Either;
use shared::link::{CONSOLE_PATH, DEADLINE_MS, OPERATOR_PATH, REQUEST_ID, SCIM11_PATH};
use shared::{Dialect, Fault};
use telemetry::method_name;

use crate::error::Error;
use crate::provider::activity::Ended;
use crate::provider::steps::traced;
use crate::startup::Parts;
use crate::telemetry::{Named, RequestRecord};

/// The name of a trace and of the span above (W3C Trace Context).
const TRACEPARENT: &str = "traceparent";
/// Longest request id that is taken over.
const LONGEST_REQUEST_ID: usize = 128;

/// The id of a request, as the gateway gave it or, to a call without one, as we did. Letters,
/// digits, `.`, `_` and `-` only, so that it can stand in a header and in a log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    fn of(headers: &HeaderMap) -> Self {
        let given = headers
            .get(REQUEST_ID)
            .and_then(|value| value.to_str().ok())
            .filter(|id| is_request_id(id));
        Self(match given {
            Some(id) => id.to_owned(),
            // Without randomness the id is only less useful.
            None => shared::api_token::random_base62(22).unwrap_or_default(),
        })
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_request_id(id: &str) -> bool {
    (1..=LONGEST_REQUEST_ID).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// The dialect that a path speaks.
#[must_use]
pub fn dialect_of(path: &str) -> Dialect {
    match path.strip_prefix(SCIM11_PATH) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => Dialect::Scim11,
        _ => Dialect::Scim20,
    }
}

/// How an error looks to the one who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Face {
    /// An error of SCIM.
    Scim(Dialect),
    /// A page of the console.
    Page,
}

impl Face {
    fn of(path: &str) -> Self {
        match path.strip_prefix(CONSOLE_PATH) {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => Self::Page,
            _ => Self::Scim(dialect_of(path)),
        }
    }

    fn response(self, error: &Error, id: &RequestId) -> HttpResponse {
        match self {
            Self::Scim(dialect) => error.response(dialect),
            Self::Page => error.page(id.as_str()),
        }
    }
}

/// Middleware around all routes of the link listener.
///
/// # Errors
/// None that is not an answer already.
pub async fn accompany(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let Some(parts) = request.app_data::<Data<Parts>>() else {
        return Err(Error::Internal("the parts are missing".into()).into());
    };
    let id = RequestId::of(request.headers());
    let face = Face::of(request.path());
    let time_left = if takes_its_time(request.method(), request.path()) {
        None
    } else {
        Some(time_left(request.headers(), parts.longest_request))
    };
    let traceparent = request.headers().get(TRACEPARENT);
    let traceparent = traceparent.and_then(|value| value.to_str().ok());
    let is_operators = request.path().starts_with(OPERATOR_PATH);
    let named = Named::of(traceparent, is_operators, parts.export.tracing());
    let method = method_name(request.method().as_str());
    let record = RequestRecord::begin(parts, id.as_str(), method, named);
    request.extensions_mut().insert(record.clone());
    request.extensions_mut().insert(id.clone());
    let end = End {
        parts: Data::clone(parts),
        record: record.clone(),
        id: id.clone(),
    };

    // The request itself must not be held here: the router needs to be its only owner.
    let served = AssertUnwindSafe(next.call(request)).catch_unwind();
    let served = match record.trace() {
        // In a box: it is rare.
        Some(trace) => Either::Left(Box::pin(traced(trace, served))),
        None => Either::Right(served),
    };
    let served = async {
        match time_left {
            Some(time_left) => tokio::time::timeout(time_left, served).await,
            None => Ok(served.await),
        }
    };
    let error = match served.await {
        Ok(Ok(Ok(response))) => {
            if !record.has_route() {
                record.route(response.request().match_pattern());
            }
            let error = response.response().error();
            end.take_down(response.status().as_u16(), error.map(Cause::Answered));
            let response = in_face(response.map_into_boxed_body(), face, &id);
            return Ok(finish(response, &record, &id));
        }
        Ok(Ok(Err(error))) => {
            let status = error.as_response_error().status_code().as_u16();
            end.take_down(status, Some(Cause::Answered(&error)));
            let response = translate(&error, face, &id)
                .unwrap_or_else(|| error.as_response_error().error_response());
            return Err(answer_alone(response, &record, &id));
        }
        Ok(Err(_panic)) => Error::Panicked,
        Err(_elapsed) => Error::Deadline,
    };
    log(&error, &id);
    let response = face.response(&error, &id);
    end.take_down(response.status().as_u16(), Some(Cause::Ours(&error)));
    Err(answer_alone(response, &record, &id))
}

/// Takes a provisioning request down as its tenant's activity when it ends, however it ends.
struct End {
    parts: Data<Parts>,
    record: RequestRecord,
    id: RequestId,
}

/// The error of an answer.
enum Cause<'c> {
    Answered(&'c actix_web::Error),
    Ours(&'c Error),
}

impl End {
    fn take_down(&self, status: u16, cause: Option<Cause<'_>>) {
        let known = match &cause {
            Some(Cause::Answered(error)) => error.as_error::<Error>(),
            Some(Cause::Ours(error)) => Some(*error),
            None => None,
        };
        // The gateway asks about the token again and sends the request once more.
        let comes_again = known.is_some_and(Error::is_refused_grant);
        let error = match (known, cause) {
            (Some(error), _) => Some(error.to_scim_error()),
            (None, Some(Cause::Answered(error))) => {
                Some(Error::from_framework(error).to_scim_error())
            }
            (None, _) => None,
        };
        self.record.take_down(|noted, method, route, duration| {
            if comes_again {
                return;
            }
            let ended = Ended {
                method,
                route,
                request_id: self.id.as_str(),
                duration,
                status,
                error,
            };
            self.parts.activity.note(noted, ended);
        });
    }
}

impl Drop for End {
    /// The caller hung up.
    fn drop(&mut self) {
        self.take_down(0, None);
    }
}

/// Whether an operator's call works on as much as there is, and so has no deadline: it ends when
/// it is done, or when the operator goes away.
fn takes_its_time(method: &Method, path: &str) -> bool {
    let Some(call) = path.strip_prefix(OPERATOR_PATH) else {
        return false;
    };
    let is_erasure = *method == Method::DELETE && call.starts_with("/tenants/");
    is_erasure
        || call.ends_with("/audit/verify")
        || call == "/backup"
        || call == "/restore"
        || call.ends_with("/export")
}

fn time_left(headers: &HeaderMap, longest: Duration) -> Duration {
    headers
        .get(DEADLINE_MS)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse().ok())
        .map_or(longest, |ms| Duration::from_millis(ms).min(longest))
}

/// Logs the error of an answer, if it is one, and gives it the face that the request asks for.
fn in_face(
    response: ServiceResponse<BoxBody>,
    face: Face,
    id: &RequestId,
) -> ServiceResponse<BoxBody> {
    // A body may have said that it is of SCIM 1.1, where the path did not.
    let said = response.request().extensions().get::<Dialect>().copied();
    let face = match (face, said) {
        (Face::Scim(_), Some(dialect)) => Face::Scim(dialect),
        (face, _) => face,
    };
    let translated = response
        .response()
        .error()
        .and_then(|error| translate(error, face, id));
    match translated {
        Some(answer) => response.into_response(answer),
        None => response,
    }
}

/// The answer that takes the place of the one that the error gave of itself.
fn translate(
    error: &actix_web::Error,
    face: Face,
    id: &RequestId,
) -> Option<HttpResponse<BoxBody>> {
    match error.as_error::<Error>() {
        Some(error) => {
            log(error, id);
            (face != Face::Scim(Dialect::Scim20)).then(|| face.response(error, id))
        }
        None => {
            let error = Error::from_framework(error);
            log(&error, id);
            Some(face.response(&error, id))
        }
    }
}

/// The one place that logs why a request failed.
fn log(error: &Error, id: &RequestId) {
    let (fault, cause, request_id) = (error.fault(), error.chain(), id.as_str());
    match fault {
        Fault::Us => tracing::error!(fault = fault.as_str(), cause, request_id, "request failed"),
        Fault::Upstream => {
            tracing::warn!(fault = fault.as_str(), cause, request_id, "request failed");
        }
        Fault::Client | Fault::Quota => {
            tracing::debug!(fault = fault.as_str(), cause, request_id, "request refused");
        }
    }
}

fn finish(
    mut response: ServiceResponse<BoxBody>,
    record: &RequestRecord,
    id: &RequestId,
) -> ServiceResponse<BoxBody> {
    echo(response.headers_mut(), id);
    let parts = response.request().app_data::<Data<Parts>>();
    if parts.is_some_and(|parts| parts.is_closing()) {
        let head = response.response_mut().head_mut();
        head.set_connection_type(ConnectionType::Close);
    }
    record.finish(
        response.status().as_u16(),
        length(response.response().body().size()),
    );
    response
}

/// An answer to a request that is gone: consumed by a panic, or still in a handler that was too
/// slow.
fn answer_alone(
    mut response: HttpResponse<BoxBody>,
    record: &RequestRecord,
    id: &RequestId,
) -> actix_web::Error {
    echo(response.headers_mut(), id);
    record.finish(response.status().as_u16(), length(response.body().size()));
    InternalError::from_response("answered", response).into()
}

fn echo(headers: &mut HeaderMap, id: &RequestId) {
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        headers.insert(HeaderName::from_static(REQUEST_ID), value);
    }
}

fn length(size: BodySize) -> u64 {
    match size {
        BodySize::Sized(length) => length,
        BodySize::None | BodySize::Stream => 0,
    }
}

#[cfg(test)]
mod tests {
    use actix_web::App;
    use actix_web::body::to_bytes;
    use actix_web::dev::Service as _;
    use actix_web::middleware::from_fn;
    use actix_web::test::{TestRequest, init_service};
    use actix_web::web::{Bytes, PayloadConfig, get, post};

    use super::*;
    use crate::startup::tests::parts_in;

    /// Sends a request to a node with a route that panics, one that is slow, and one that echoes.
    async fn send(request: TestRequest) -> (u16, HeaderMap, String) {
        async fn panics() -> HttpResponse {
            panic!("canary");
        }
        async fn never() -> HttpResponse {
            std::future::pending().await
        }
        async fn length(body: Bytes) -> String {
            body.len().to_string()
        }
        async fn refuses() -> Result<HttpResponse, Error> {
            Err(Error::NotOffered("/Me"))
        }
        let folder = tempfile::tempdir().unwrap();
        let app = App::new()
            .wrap(from_fn(accompany))
            .app_data(parts_in(&folder).await)
            .app_data(PayloadConfig::new(10))
            .route("/panics", get().to(panics))
            .route("/never", get().to(never))
            .route("/length", post().to(length))
            .route("/scim/v1/Me", get().to(refuses))
            .route("/scim/v2/Me", get().to(refuses));
        let app = init_service(app).await;
        let response = match app.call(request.to_request()).await {
            Ok(response) => response.into_parts().1,
            Err(error) => error.error_response(),
        };
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = to_bytes(response.into_body()).await.unwrap();
        (status, headers, String::from_utf8(body.to_vec()).unwrap())
    }

    fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
        headers.get(name).map(|value| value.to_str().unwrap())
    }

    #[actix_web::test]
    async fn a_panic_is_a_500_that_tells_nothing() {
        let request = TestRequest::get()
            .uri("/panics")
            .insert_header((REQUEST_ID, "req-1"));
        let (status, headers, body) = send(request).await;
        assert_eq!(status, 500);
        assert_eq!(header(&headers, REQUEST_ID), Some("req-1"));
        assert_eq!(
            header(&headers, "content-type"),
            Some("application/scim+json")
        );
        assert!(body.contains(r#""status":"500""#) && !body.contains("canary"));
    }

    #[actix_web::test]
    async fn a_deadline_that_passes_is_a_503() {
        let request = TestRequest::get()
            .uri("/never")
            .insert_header((DEADLINE_MS, "1"))
            .insert_header((REQUEST_ID, "req-2"));
        let (status, headers, _) = send(request).await;
        assert_eq!(status, 503);
        assert_eq!(header(&headers, "retry-after"), Some("1"));
        assert_eq!(header(&headers, REQUEST_ID), Some("req-2"));
    }

    #[actix_web::test]
    async fn the_frameworks_errors_are_scim_errors_too() {
        let fits = TestRequest::post().uri("/length").set_payload("0123456789");
        assert_eq!(send(fits).await.2, "10");
        let longer = TestRequest::post()
            .uri("/length")
            .set_payload("0123456789+");
        let (status, _, body) = send(longer).await;
        assert_eq!(status, 413);
        assert!(body.contains(r#""status":"413""#));
    }

    #[actix_web::test]
    async fn errors_are_in_the_dialect_of_the_path() {
        let (status, headers, body) = send(TestRequest::get().uri("/scim/v2/Me")).await;
        assert_eq!(status, 501);
        assert_eq!(
            header(&headers, "content-type"),
            Some("application/scim+json")
        );
        assert!(body.contains(r#""schemas""#));
        assert_eq!(header(&headers, REQUEST_ID).unwrap().len(), 22);
        let (status, headers, body) = send(TestRequest::get().uri("/scim/v1/Me")).await;
        assert_eq!(status, 501);
        assert_eq!(header(&headers, "content-type"), Some("application/json"));
        assert!(body.contains(r#""Errors""#));
    }

    #[test]
    fn a_path_speaks_one_dialect() {
        for path in ["/scim/v1", "/scim/v1/", "/scim/v1/Users/2"] {
            assert_eq!(dialect_of(path), Dialect::Scim11, "{path}");
        }
        for path in ["/scim/v2/Users", "/scim/v10", "/scim/v1x/Users", "/", ""] {
            assert_eq!(dialect_of(path), Dialect::Scim20, "{path}");
        }
    }

    #[test]
    fn only_work_on_all_there_is_has_no_deadline() {
        let takes = |method: Method, path: &str| takes_its_time(&method, path);
        for path in ["/backup", "/restore", "/tenants/ten_x/export"] {
            assert!(
                takes(Method::GET, &format!("{OPERATOR_PATH}{path}")),
                "{path}"
            );
        }
        assert!(takes(
            Method::DELETE,
            &format!("{OPERATOR_PATH}/tenants/ten_x")
        ));
        for path in ["/tenants", "/tenants/ten_x", "/tokens/tok_x/revoke"] {
            assert!(
                !takes(Method::GET, &format!("{OPERATOR_PATH}{path}")),
                "{path}"
            );
        }
        assert!(!takes(Method::GET, "/scim/v2/Users/backup"));
        assert!(!takes(Method::DELETE, "/scim/v2/Users/x"));
    }

    #[test]
    fn odd_request_ids_are_not_taken_over() {
        for good in ["a", "0190-ab_cd.EF", &"x".repeat(128)] {
            assert!(is_request_id(good), "{good}");
        }
        for bad in ["", "a b", "a\n", "ä", "{}", &"x".repeat(129)] {
            assert!(!is_request_id(bad), "{bad}");
        }
    }
}
