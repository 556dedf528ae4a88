//! Who asks, and how: the parts that requests share, and the way of a command into the log.

use super::Api;
use super::call::Call;
use super::errors::{Kind, Problem};
use super::fields;
use super::middleware::Client;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpMessage as _, HttpResponse};
use berth_model::command::{CommandBody, Condition, Principal};
use berth_model::event::Subject;
use berth_model::{EndpointId, IdempotencyKey, RequestId, Revision};
use berth_scheduler::{Accepted, Consistency, Fleet, Reading, Request};
use serde::Serialize;
use sha2::Digest as _;
use std::sync::Arc;
use std::time::Duration;

/// How long a command may take to be committed.
const SUBMIT_DEADLINE: Duration = Duration::from_secs(20);

/// Who asks for a change.
#[derive(Clone, Debug)]
pub struct Wish {
    pub principal: Principal,
    pub request_id: RequestId,
    pub traceparent: Option<String>,
    /// What the client's idempotency key comes to, or a fresh draw.
    seed: [u8; 32],
}

impl Wish {
    pub fn read(call: &Call) -> Self {
        let id = call.request.extensions().get::<RequestId>().copied();
        let request_id = id.unwrap_or_else(|| RequestId::random(&mut rand::rng()));
        let principal = match call.request.conn_data::<Client>() {
            Some(Client(principal)) => principal.clone(),
            None => Principal::Local,
        };
        let traceparent = text(call.request.headers(), "traceparent")
            .filter(|text| text.len() <= 128)
            .map(str::to_owned);
        Self::with(principal, request_id, traceparent, call.text("Idempotency-Key"))
    }

    fn with(
        principal: Principal,
        request_id: RequestId,
        traceparent: Option<String>,
        key: Option<&str>,
    ) -> Self {
        let seed = match key {
            None => sha2::Sha256::digest(request_id.as_bytes()).into(),
            Some(key) => sha2::Sha256::digest(key).into(),
        };
        Self { principal, request_id, traceparent, seed }
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
        self.submit_if(api, endpoint, step, None, body).await
    }

    /// The same, if the object is still what the client saw.
    pub async fn submit_if(
        &self,
        api: &Api,
        endpoint: EndpointId,
        step: &str,
        condition: Option<Condition>,
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
            condition,
            body,
        };
        Ok(api.scheduler.submit(request).await?)
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// A fleet as new as the request demands.
pub async fn reading(call: &Call) -> Result<Reading, Problem> {
    let consistency = if call.is_stale() { Consistency::Stale } else { Consistency::Linearizable };
    Ok(call.api.scheduler.read(consistency).await?)
}

/// What this replica has applied: after a command it holds what the command did.
pub fn newest(api: &Api) -> Arc<Fleet> {
    api.scheduler.watch().borrow().clone()
}

/// What `If-Match` comes to for an object that was last changed at `modified`.
///
/// A tag names a state of the fleet: the object is what the client saw if it was not changed
/// since. Apply holds the condition again, so nothing slips in between.
pub fn condition(
    call: &Call,
    fleet: &Fleet,
    subject: Subject,
    modified: u64,
) -> Result<Option<Condition>, Problem> {
    let Some(tags) = call.text("If-Match").filter(|tag| *tag != "*") else { return Ok(None) };
    // Of several the newest says the most; of tags that are not ours, none is the object's.
    let seen = tags.split(',').map(|tag| held(fleet, tag.trim().trim_matches('"'), "If-Match"));
    let seen =
        seen.max_by_key(|seen| seen.as_ref().map(|seen| (seen.incarnation, seen.index)).ok());
    let Some(Ok(seen)) = seen else {
        let detail = "If-Match: this cell gave no such ETag out";
        return Err(Problem::new(Kind::UnknownToken, detail));
    };
    if seen.incarnation != fleet.incarnation() {
        return Err(Problem::new(
            Kind::ConditionFailed,
            "If-Match: the cell was restored since that was read; read it again",
        ));
    }
    // Where it was changed since, apply says so: it knows a request that it has done already.
    let modified = if seen.index >= modified { modified } else { seen.index };
    Ok(Some(Condition { subject, modified }))
}

/// A revision that a client gave back.
pub fn held(fleet: &Fleet, text: &str, what: &str) -> Result<Revision, Problem> {
    let unknown =
        || Problem::new(Kind::UnknownToken, format!("{what}: this cell gave no such revision out"));
    let cell = fleet.cell().ok_or_else(unknown)?;
    Revision::parse(text, cell).map_err(|_| unknown())
}

/// A resource with its ETag, or 304 if the client has it already; cut down to the `fields` that
/// were asked for. What this replica knew, and since when, goes with it.
pub fn shown<T: Serialize>(
    call: &Call,
    reading: &Reading,
    etag: &str,
    resource: &T,
) -> HttpResponse {
    let tag = format!("\"{etag}\"");
    let known = call.text("If-None-Match").is_some_and(|tags| {
        tags.split(',')
            .map(str::trim)
            .any(|held| held == "*" || held.strip_prefix("W/").unwrap_or(held) == tag)
    });
    let mut response = match (known, call.text("fields")) {
        (true, _) => HttpResponse::NotModified().finish(),
        (false, None) => HttpResponse::Ok().json(resource),
        (false, Some(names)) => HttpResponse::Ok().json(cut(resource, names)),
    };
    let age = reading.age.as_millis().to_string();
    let index = reading.index.to_string();
    let headers = response.headers_mut();
    for (name, value) in [("etag", tag), ("berth-applied-index", index), ("berth-age-ms", age)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    response
}

/// The members that were named; of a list, of each item.
fn cut<T: Serialize>(resource: &T, names: &str) -> serde_json::Value {
    let names: Vec<&str> = names.split(',').collect();
    let mut value = serde_json::to_value(resource).unwrap_or_default();
    match value.get_mut("items") {
        Some(items) => {
            *items = fields::cut(items.take(), &names);
            value
        }
        None => fields::cut(value, &names),
    }
}

/// The answer to a write that made or changed an object.
pub fn done<T: Serialize>(
    status: actix_web::http::StatusCode,
    etag: &str,
    view: &T,
) -> HttpResponse {
    let mut response = HttpResponse::build(status).json(view);
    if let Ok(value) = HeaderValue::from_str(&format!("\"{etag}\"")) {
        response.headers_mut().insert(HeaderName::from_static("etag"), value);
    }
    response
}

/// Adds where the new object is found.
pub fn located(mut response: HttpResponse, path: &str) -> HttpResponse {
    if let Ok(value) = HeaderValue::from_str(path) {
        response.headers_mut().insert(HeaderName::from_static("location"), value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(key: Option<&str>) -> Wish {
        Wish::with(Principal::Local, RequestId::random(&mut rand::rng()), None, key)
    }

    #[test]
    fn one_key_asks_for_one_object() {
        let with = |key| wish(Some(key));
        assert_eq!(with("a").derive("id"), with("a").derive("id"));
        assert_ne!(with("a").derive("id"), with("b").derive("id"));
        assert_ne!(with("a").derive("id"), with("a").derive("other"));
        assert_ne!(wish(None).derive("id"), wish(None).derive("id"));
    }
}
