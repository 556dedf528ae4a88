//! Answers of the Docker endpoint, and the headers that all of them carry.

use super::error::DockerError;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Response, StatusCode, Version};
use serde_json::Value;
use std::convert::Infallible;
use std::io;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

pub type Body = UnsyncBoxBody<Bytes, io::Error>;
pub type Answer = Response<Body>;

/// What a task writes the body of a streamed answer into. An error cuts the answer off, so that
/// the client sees that it is not whole.
pub type BodySender = mpsc::Sender<Result<Bytes, io::Error>>;

/// Pieces of a streamed answer that may wait for the client.
const PIECES_MAX: usize = 16;

fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

fn answer(status: StatusCode, content: Option<&'static str>, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    if let Some(content) = content {
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content));
    }
    answer
}

pub fn json(status: StatusCode, value: &Value) -> Answer {
    let mut text = value.to_string();
    text.push('\n');
    answer(status, Some("application/json"), whole(text))
}

pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    answer(status, Some("text/plain; charset=utf-8"), whole(text))
}

/// An answer without content: 204, 304.
pub fn empty(status: StatusCode) -> Answer {
    answer(status, None, whole(Bytes::new()))
}

/// An error as Docker tells it.
pub fn error(error: &DockerError) -> Answer {
    let mut answer = json(error.status, &serde_json::json!({"message": error.message}));
    if error.status == StatusCode::TOO_MANY_REQUESTS
        || error.status == StatusCode::SERVICE_UNAVAILABLE
    {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

/// An answer whose head goes out at once and whose body a task writes.
pub fn stream(content: &'static str) -> (Answer, BodySender) {
    let (sender, receiver) = mpsc::channel::<Result<Bytes, io::Error>>(PIECES_MAX);
    let frames = ReceiverStream::new(receiver).map(|piece| piece.map(Frame::data));
    (answer(StatusCode::OK, Some(content), StreamBody::new(frames).boxed_unsync()), sender)
}

/// As [`stream`], for clients that did not ask for an upgrade and read raw bytes until the
/// connection closes: without chunks.
pub fn raw_stream(content: &'static str) -> (Answer, BodySender) {
    let (mut answer, sender) = stream(content);
    *answer.version_mut() = Version::HTTP_10;
    (answer, sender)
}

/// The answer after which the connection is the client's raw stream.
pub fn upgraded(content: &'static str) -> Answer {
    let mut answer = answer(StatusCode::SWITCHING_PROTOCOLS, Some(content), whole(Bytes::new()));
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("tcp"));
    answer
}

/// Headers of each answer of the engine.
pub fn add_engine_headers(headers: &mut HeaderMap) {
    const HEADERS: [(&str, &str); 4] = [
        ("api-version", super::version::API_VERSION),
        ("docker-experimental", "false"),
        ("ostype", "linux"),
        ("server", concat!("berth/", env!("CARGO_PKG_VERSION"), " (linux)")),
    ];
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
}
