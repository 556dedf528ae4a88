//! One request, its parameters and body held against its operation: what handlers work with.

use super::Api;
use super::errors::{Kind, Problem};
use super::parameter::{Place, Ready};
use super::schema::{self, Misfit, Numbers};
use super::table::Route;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, web};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;

/// A request that its operation may be asked for.
pub struct Call {
    pub api: web::Data<Api>,
    pub request: HttpRequest,
    pub body: Bytes,
    /// Name and value, decoded; as they came.
    values: Vec<(&'static str, String)>,
}

impl Call {
    /// Holds what came against `route`.
    pub async fn read(
        route: &Arc<Route>,
        api: web::Data<Api>,
        request: HttpRequest,
        payload: web::Payload,
    ) -> Result<Self, Problem> {
        let mut values = Vec::new();
        path(route, &request, &mut values)?;
        query(route, request.query_string(), &mut values)?;
        headers(route, &request, &mut values)?;
        let body = body(route, &api, &request, payload).await?;
        Ok(Self { api, request, body, values })
    }

    /// The first value.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(found, _)| *found == name).map(|(_, value)| value.as_str())
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.values.iter().filter(move |(found, _)| *found == name).map(|(_, value)| value.as_str())
    }

    /// A parameter of the path, which is always there.
    pub fn path(&self, name: &str) -> &str {
        self.text(name).unwrap_or_default()
    }

    pub fn truth(&self, name: &str) -> bool {
        matches!(self.text(name), Some("" | "true"))
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name).and_then(|text| text.parse().ok())
    }

    /// How long `?wait` waits; `None` where it does not.
    pub fn wait(&self) -> Option<Duration> {
        let most = self.api.limits.wait;
        match self.text("wait") {
            None | Some("false") => None,
            Some("" | "true") => Some(most),
            Some(_) => self.number("wait").map(|seconds| Duration::from_secs(seconds).min(most)),
        }
    }

    /// Whether a reading of this replica's own will do.
    pub fn is_stale(&self) -> bool {
        self.text("consistency") == Some("stale")
    }

    /// The body, which fits its schema.
    pub fn body<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Problem::new(Kind::Invalid, format!("the body: {error}")))
    }

    /// The same, where one may be left out.
    pub fn body_or_default<T: DeserializeOwned + Default>(&self) -> Result<T, Problem> {
        if self.body.is_empty() { Ok(T::default()) } else { self.body() }
    }
}

fn path(
    route: &Route,
    request: &HttpRequest,
    values: &mut Vec<(&'static str, String)>,
) -> Result<(), Problem> {
    for ready in route.parameters_in(Place::Path) {
        let name = ready.parameter.name;
        let text = request.match_info().get(name).unwrap_or_default();
        let text = percent_decode_str(text).decode_utf8();
        let text = text.map_err(|_| Problem::not_found(format!("{name}: it is not UTF-8")))?;
        // What cannot be a name is the name of nothing.
        ready.check(&text).map_err(|problem| Problem::not_found(problem.detail))?;
        values.push((name, text.into_owned()));
    }
    Ok(())
}

fn query(
    route: &Route,
    text: &str,
    values: &mut Vec<(&'static str, String)>,
) -> Result<(), Problem> {
    let first = values.len();
    for (name, value) in form_urlencoded::parse(text.as_bytes()) {
        let Some(ready) = route.parameters_in(Place::Query).find(|r| r.parameter.name == name)
        else {
            return Err(unknown(route, &name));
        };
        ready.check(&value)?;
        let before = values[first..].iter().filter(|(found, _)| *found == name).count();
        match ready.may_repeat() {
            None if before > 0 => {
                return Err(Problem::bad(format!("{name}: it is given more than once")));
            }
            Some(most) if before >= most => {
                return Err(Problem::bad(format!("{name}: it is given more than {most} times")));
            }
            Some(_) | None => {}
        }
        values.push((ready.parameter.name, value.into_owned()));
    }
    Ok(())
}

fn unknown(route: &Route, name: &str) -> Problem {
    let known: Vec<&str> = route.parameters_in(Place::Query).map(|r| r.parameter.name).collect();
    let name: String = name.chars().take(80).collect();
    Problem::bad(match known.is_empty() {
        true => format!("the parameter `{name}` is not known here; there are none"),
        false => {
            format!("the parameter `{name}` is not known here; there are: {}", known.join(", "))
        }
    })
}

/// Headers that decide what a request does: where they cannot be heeded, they are refused.
const CONDITIONS: [&str; 2] = ["If-Match", "If-Unmodified-Since"];

fn headers(
    route: &Route,
    request: &HttpRequest,
    values: &mut Vec<(&'static str, String)>,
) -> Result<(), Problem> {
    for ready in route.parameters_in(Place::Header) {
        let name = ready.parameter.name;
        for (position, value) in request.headers().get_all(name).enumerate() {
            if position > 0 {
                return Err(Problem::bad(format!("{name}: it is given more than once")));
            }
            let text = value.to_str();
            let text =
                text.map_err(|_| Problem::bad(format!("{name}: it is not visible ASCII")))?;
            ready.check(text)?;
            values.push((name, text.to_owned()));
        }
    }
    for name in CONDITIONS {
        let known = route.parameters_in(Place::Header).any(|ready| ready.parameter.name == name);
        if !known && request.headers().contains_key(name) {
            return Err(Problem::bad(format!("{name} is not heeded here; leave it out")));
        }
    }
    Ok(())
}

async fn body(
    route: &Route,
    api: &Api,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<Bytes, Problem> {
    let most = api.limits.body;
    let too_large =
        || Problem::new(Kind::TooLarge, format!("the body is larger than {most} bytes"));
    let bytes = match payload.to_bytes_limited(most).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => return Err(Problem::bad(format!("the body was cut off: {error}"))),
        Err(_) => return Err(too_large()),
    };
    let Some((body, node)) = &route.body else {
        if bytes.is_empty() {
            return Ok(bytes);
        }
        return Err(Problem::bad("there is no body here; leave it out"));
    };
    if bytes.is_empty() {
        return match body.required {
            true => Err(Problem::bad("the body is missing; send JSON")),
            false => Ok(bytes),
        };
    }
    media_type(request)?;
    match schema::check(node, &bytes) {
        Ok(Numbers::Plain) => Ok(bytes),
        Ok(Numbers::Fractional) => schema::plain(&bytes)
            .map(Bytes::from)
            .map_err(|error| Problem::bad(format!("the body is not JSON: {error}"))),
        Err(Misfit::Syntax(text)) => Err(Problem::bad(format!("the body is not JSON: {text}"))),
        Err(Misfit::Schema { at, what }) if at.is_empty() => {
            Err(Problem::new(Kind::Invalid, format!("the body: {what}")))
        }
        Err(Misfit::Schema { at, what }) => {
            Err(Problem::new(Kind::Invalid, format!("{at}: {what}")).at(at))
        }
    }
}

fn media_type(request: &HttpRequest) -> Result<(), Problem> {
    let wrong = || Problem::new(Kind::MediaType, "the body must be application/json");
    let value = request.headers().get(CONTENT_TYPE).ok_or_else(wrong)?;
    let text = value.to_str().map_err(|_| wrong())?;
    let essence = text.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") { Ok(()) } else { Err(wrong()) }
}

impl Route {
    pub fn parameters_in(&self, place: Place) -> impl Iterator<Item = &Ready> {
        self.parameters.iter().filter(move |ready| ready.parameter.place == place)
    }
}
