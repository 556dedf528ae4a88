//! One request: its version, route and query, then who answers it.

use super::answer::{self, Answer};
use super::error::DockerError;
use super::peer::Peer;
use super::query::Query;
use super::routes::{self, Endpoint, Served};
use super::version::ApiVersion;
use super::{Docker, containers, events, images, system};
use berth_metrics::api::{DOCKER, NO_ROUTE};
use berth_model::command::CommandBody;
use berth_model::{EndpointId, IdempotencyKey, RequestId};
use berth_scheduler::{Accepted, Consistency, Fleet, Request as Wish, SubmitError};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a command may take to be committed.
const SUBMIT_DEADLINE: Duration = Duration::from_secs(20);

/// A request on its way through its endpoint.
pub(super) struct Call {
    pub docker: Arc<Docker>,
    pub peer: Arc<Peer>,
    pub version: ApiVersion,
    pub query: Query,
    /// What the path's placeholder stands for.
    pub name: String,
    pub request: Request<Incoming>,
    /// W3C trace context of the client.
    pub traceparent: Option<String>,
}

/// A fleet as of a read index, and the endpoint that the call is for.
pub(super) struct View {
    pub fleet: Arc<Fleet>,
    pub endpoint: EndpointId,
}

/// Answers one request, with the engine's headers, and counts it.
pub(super) async fn answer(
    docker: Arc<Docker>,
    peer: Arc<Peer>,
    request: Request<Incoming>,
) -> Answer {
    let begun = Instant::now();
    let metrics = docker.metrics.clone();
    let method = request.method().clone();
    metrics.in_flight.inc();
    let (route, mut answer) = respond(docker, peer, request).await;
    metrics.in_flight.dec();
    let (verb, route) = route.unwrap_or((NO_ROUTE, NO_ROUTE));
    let status = answer.status();
    metrics.answered(DOCKER, verb, route, status.as_u16(), begun.elapsed().as_secs_f64());
    if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED {
        tracing::warn!(%method, route, status = status.as_u16(), "a Docker request failed");
    } else {
        tracing::debug!(%method, route, status = status.as_u16(), "a Docker request was answered");
    }
    answer::add_engine_headers(answer.headers_mut());
    answer
}

type Route = Option<(&'static str, &'static str)>;

async fn respond(
    docker: Arc<Docker>,
    peer: Arc<Peer>,
    request: Request<Incoming>,
) -> (Route, Answer) {
    let path = request.uri().path();
    let (version, path) = match ApiVersion::split(path) {
        Ok(split) => split,
        Err(refused) if refused.plain => {
            return (None, answer::text(refused.status, refused.message));
        }
        Err(refused) => {
            return (None, answer::error(&DockerError::new(refused.status, refused.message)));
        }
    };
    let Some(matched) = routes::find(request.method().as_str(), path) else {
        return (None, answer::error(&DockerError::not_found("page not found")));
    };
    let route = Some((matched.method, matched.template));
    let endpoint = match matched.served {
        Served::By(endpoint) => endpoint,
        Served::NotYet(reason) => return (route, answer::error(&DockerError::not_yet(reason))),
        Served::Never(reason) => return (route, answer::error(&DockerError::not_yet(reason))),
    };
    let key = format!("{} {}", matched.method, matched.template);
    let query = match Query::read(&key, request.uri().query().unwrap_or_default()) {
        Ok(query) => query,
        Err(error) => return (route, answer::error(&error)),
    };
    let traceparent = request
        .headers()
        .get("traceparent")
        .and_then(|value| value.to_str().ok())
        .filter(|text| text.len() <= 128)
        .map(str::to_owned);
    let call = Call { docker, peer, version, query, name: matched.name, request, traceparent };
    let answer = dispatch(endpoint, call).await.unwrap_or_else(|error| answer::error(&error));
    (route, answer)
}

async fn dispatch(endpoint: Endpoint, call: Call) -> Result<Answer, DockerError> {
    match endpoint {
        Endpoint::Ping => Ok(system::ping(&call)),
        Endpoint::Version => system::version(&call).await,
        Endpoint::Info => system::info(&call).await,
        Endpoint::Events => events::follow(call).await,
        Endpoint::ImageList => images::list(&call).await,
        Endpoint::ImageInspect => images::inspect(&call).await,
        Endpoint::ImageLoad => images::load(call).await,
        Endpoint::ContainerList => containers::show::list(&call).await,
        Endpoint::ContainerCreate => containers::create::create(call).await,
        Endpoint::ContainerInspect => containers::show::inspect(&call).await,
        Endpoint::ContainerLogs => containers::logs::logs(call).await,
        Endpoint::ContainerResize => containers::signal::resize(&call).await,
        Endpoint::ContainerStart => containers::run::start(call).await,
        Endpoint::ContainerStop => containers::run::stop(&call).await,
        Endpoint::ContainerRestart => containers::run::restart(&call).await,
        Endpoint::ContainerKill => containers::signal::kill(&call).await,
        Endpoint::ContainerAttach => containers::attach::attach(call).await,
        Endpoint::ContainerWait => containers::wait::wait(call).await,
        Endpoint::ContainerDelete => containers::run::delete(&call).await,
    }
}

impl Call {
    /// A fleet that holds everything acknowledged before now.
    pub async fn view(&self) -> Result<View, DockerError> {
        let reading = self.docker.scheduler.read(Consistency::Linearizable).await?;
        let name = &self.docker.endpoint;
        let endpoint = reading.fleet.endpoint_named(name).map(|endpoint| endpoint.id);
        let endpoint = endpoint.ok_or_else(|| {
            DockerError::unavailable(format!("the endpoint {name} is not set up yet; try again"))
        })?;
        Ok(View { fleet: reading.fleet, endpoint })
    }

    /// Commits what is asked for.
    pub async fn submit(
        &self,
        endpoint: EndpointId,
        body: CommandBody,
    ) -> Result<Accepted, SubmitError> {
        submit(&self.docker, &self.peer, self.traceparent.clone(), endpoint, body).await
    }

    /// The body, up to `limit` bytes.
    pub async fn body(&mut self, limit: usize) -> Result<Bytes, DockerError> {
        match Limited::new(self.request.body_mut(), limit).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(DockerError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the request's body is over {limit} bytes"),
            )),
            Err(error) => {
                Err(DockerError::bad(format!("the request's body could not be read: {error}")))
            }
        }
    }

    pub fn is_head(&self) -> bool {
        self.request.method() == Method::HEAD
    }
}

/// Commits a command for a client.
pub(super) async fn submit(
    docker: &Docker,
    peer: &Peer,
    traceparent: Option<String>,
    endpoint: EndpointId,
    body: CommandBody,
) -> Result<Accepted, SubmitError> {
    let (request_id, key) = {
        let mut source = rand::rng();
        (RequestId::random(&mut source), IdempotencyKey::random(&mut source))
    };
    tracing::debug!(request = %request_id, command = body.name(), "a Docker client asks");
    let wish = Wish {
        principal: peer.principal.clone(),
        endpoint,
        key: Some(key),
        request_id,
        traceparent,
        deadline: SUBMIT_DEADLINE,
        condition: None,
        body,
    };
    docker.scheduler.submit(wish).await
}
