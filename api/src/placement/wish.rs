//! Who asks, and how: the parts that requests share, and the way of a command into the log.

use super::Api;
use super::errors::{Kind, Problem};
use super::middleware::Client;
use super::query::Query;
use actix_web::http::header::{HeaderMap, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse};
use berth_model::command::{CommandBody, Principal};
use berth_model::{EndpointId, IdempotencyKey, RequestId};
use berth_scheduler::{Accepted, Consistency, Reading, Request};
use serde::Serialize;
use sha2::Digest as _;
use std::time::Duration;

/// How long a command may take to be committed.
const SUBMIT_DEADLINE: Duration = Duration::from_secs(20);
const KEY_MAX: usize = 255;

/// Who asks for a change.
#[derive(Clone, Debug)]
pub struct Wish {
    principal: Principal,
    request_id: RequestId,
    traceparent: Option<String>,
    /// What the client's idempotency key comes to, or a fresh draw.
    seed: [u8; 32],
}

impl Wish {
    pub fn read(request: &HttpRequest) -> Result<Self, Problem> {
        if request.headers().contains_key(IF_MATCH) {
            return Err(Problem::new(
                Kind::NotSupported,
                "if-match: changes on condition are not there yet; leave the header out",
            ));
        }
        let id = request.extensions().get::<RequestId>().copied();
        let request_id = id.unwrap_or_else(|| RequestId::random(&mut rand::rng()));
        let principal = match request.conn_data::<Client>() {
            Some(Client(principal)) => principal.clone(),
            None => Principal::Local,
        };
        let traceparent = text(request.headers(), "traceparent")
            .filter(|text| text.len() <= 128)
            .map(str::to_owned);
        let seed = match request.headers().get("idempotency-key") {
            None => sha2::Sha256::digest(request_id.as_bytes()).into(),
            Some(key) => {
                let key = key.as_bytes();
                if key.is_empty() || key.len() > KEY_MAX {
                    return Err(Problem::bad(format!(
                        "idempotency-key: expected 1 to {KEY_MAX} bytes"
                    )));
                }
                sha2::Sha256::digest(key).into()
            }
        };
        Ok(Self { principal, request_id, traceparent, seed })
    }

    /// 32 bytes for `purpose`, the same for every request with this idempotency key: a repeated
    /// request asks for the very same object, so its second command is seen to be the first.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        sha2::Sha256::new().chain_update(self.seed).chain_update(purpose).finalize().into()
    }

    /// Sixteen of them, for ids that are so long.
    pub fn derive_short(&self, purpose: &str) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.derive(purpose)[..16]);
        bytes
    }

    /// Commits one command of the request; `step` tells its commands apart.
    pub async fn submit(
        &self,
        api: &Api,
        endpoint: EndpointId,
        step: &str,
        body: CommandBody,
    ) -> Result<Accepted, Problem> {
        tracing::debug!(request = %self.request_id, command = body.name(), "an API client asks");
        let request = Request {
            principal: self.principal.clone(),
            endpoint,
            key: Some(IdempotencyKey::from_bytes(self.derive_short(step))),
            request_id: self.request_id,
            traceparent: self.traceparent.clone(),
            deadline: SUBMIT_DEADLINE,
            body,
        };
        Ok(api.scheduler.submit(request).await?)
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// A fleet as new as the request demands.
pub async fn reading(api: &Api, query: &Query) -> Result<Reading, Problem> {
    let consistency = if query.stale()? { Consistency::Stale } else { Consistency::Linearizable };
    Ok(api.scheduler.read(consistency).await?)
}

/// A resource with its ETag, or 304 if the client has it already. What this replica knew, and
/// since when, goes with it.
pub fn shown<T: Serialize>(
    request: &HttpRequest,
    reading: &Reading,
    etag: &str,
    resource: &T,
) -> HttpResponse {
    let etag = format!("\"{etag}\"");
    let known = text(request.headers(), IF_NONE_MATCH.as_str())
        .is_some_and(|held| held.split(',').any(|one| one.trim() == etag || one.trim() == "*"));
    let mut response = if known {
        HttpResponse::NotModified().finish()
    } else {
        HttpResponse::Ok().json(resource)
    };
    let headers = response.headers_mut();
    let age = reading.age.as_millis().to_string();
    let index = reading.index.to_string();
    for (name, value) in [("etag", etag), ("berth-applied-index", index), ("berth-age-ms", age)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(actix_web::http::header::HeaderName::from_static(name), value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn wish(key: &str) -> Wish {
        let request = TestRequest::default().insert_header(("idempotency-key", key));
        Wish::read(&request.to_http_request()).unwrap()
    }

    #[test]
    fn one_key_asks_for_one_object() {
        assert_eq!(wish("a").derive("id"), wish("a").derive("id"));
        assert_ne!(wish("a").derive("id"), wish("b").derive("id"));
        assert_ne!(wish("a").derive("id"), wish("a").derive("other"));
        let fresh = || Wish::read(&TestRequest::default().to_http_request()).unwrap();
        assert_ne!(fresh().derive("id"), fresh().derive("id"));
    }

    #[test]
    fn what_cannot_be_heeded_is_refused() {
        let conditional = TestRequest::default().insert_header(("if-match", "\"x\""));
        let refused = Wish::read(&conditional.to_http_request()).unwrap_err();
        assert_eq!(refused.kind, Kind::NotSupported);
        let long = TestRequest::default().insert_header(("idempotency-key", "x".repeat(256)));
        assert_eq!(Wish::read(&long.to_http_request()).unwrap_err().kind, Kind::BadRequest);
    }
}
