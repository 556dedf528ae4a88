//! Around every request: its id, its count, who asks, and the body of a problem.

use super::Api;
use super::errors::PROBLEM_JSON;
use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Extensions, ServiceRequest, ServiceResponse};
use actix_web::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::rt::net::TcpStream;
use actix_web::{Error, HttpMessage as _, web};
use berth_metrics::api::{NO_ROUTE, PLACEMENT};
use berth_model::RequestId;
use berth_model::command::Principal;
use berth_model::view::ProblemView;
use berth_wire::identity::Identity;
use std::any::Any;
use tokio::time::Instant;

/// Kept with a TLS connection: whose certificate it is.
#[derive(Clone)]
pub struct Client(pub Principal);

/// Remembers the client of a TLS connection. The certificate has been verified in the handshake.
pub fn note_client(connection: &dyn Any, extensions: &mut Extensions) {
    let Some(stream) = connection.downcast_ref::<TlsStream<TcpStream>>() else { return };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|all| all.first());
    if let Some(Ok(identity)) = certificate.map(Identity::from_certificate) {
        extensions.insert(Client(Principal::Client(identity.id)));
    }
}

/// Gives the request an id, counts its answer, and writes the body of a problem.
pub async fn observe(
    api: web::Data<Api>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let begun = Instant::now();
    let id = RequestId::random(&mut rand::rng());
    request.extensions_mut().insert(id);
    let method = known(request.method().as_str());
    api.metrics.in_flight.inc();
    let answered = next.call(request).await;
    api.metrics.in_flight.dec();
    let mut response = answered?.map_into_boxed_body();
    let problem = response.response().extensions().get::<ProblemView>().cloned();
    if let Some(mut problem) = problem {
        problem.request_id = id.to_string();
        let body = serde_json::to_string(&problem).unwrap_or_default();
        response = response.map_body(|head, _| {
            head.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
            BoxBody::new(body)
        });
    }
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(HeaderName::from_static("x-request-id"), value);
    }
    let route = response.request().match_pattern().unwrap_or_else(|| NO_ROUTE.to_owned());
    let status = response.status().as_u16();
    let seconds = begun.elapsed().as_secs_f64();
    api.metrics.answered(PLACEMENT, method, &route, status, seconds);
    tracing::debug!(request = %id, method, route, status, "an API request was answered");
    Ok(response)
}

/// Methods that routes have; a client's inventions do not become series.
fn known(method: &str) -> &'static str {
    const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    METHODS.into_iter().find(|known| *known == method).unwrap_or("other")
}
