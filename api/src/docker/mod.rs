//! The Docker endpoint: what the stock `docker` client and its kin speak to.
//!
//! ```text
//!  server ── a connection ──► call: version, route, query ──► system | images | containers | events
//!                                      routes, fields               │            │
//!                                                              translate      scheduler, streams
//! ```
//! Promises: an answer as the engine gives it, with its texts where clients match them; a field or
//! parameter that the API document names is honoured or refused by name (`fields`), an endpoint
//! too (`routes`). An attached connection that is cut short tells its client so.
//!
//! Does not: keep state of its own. Any replica serves any request.

mod answer;
mod call;
mod containers;
mod error;
mod events;
mod fields;
mod images;
mod lookup;
mod peer;
mod query;
mod routes;
mod server;
mod system;
pub mod translate;
mod version;

use crate::listener::{Listener, ServeError, Serving};
use crate::streams::Streams;
use berth_metrics::api::ApiMetrics;
use berth_scheduler::Scheduler;
use berth_wire::tls::Tls;
use std::sync::Arc;
use tokio::sync::watch;

/// What a Docker endpoint is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub listener: Listener,
    /// Name of the endpoint in the fleet. It need not be there yet when serving begins.
    pub endpoint: String,
}

/// What every call works with.
struct Docker {
    scheduler: Scheduler,
    streams: Streams,
    endpoint: String,
    metrics: ApiMetrics,
    /// True once the endpoint is to stop.
    stop: watch::Receiver<bool>,
}

/// Serves the Docker API of one endpoint. `tls` is the identity of this scheduler: with it nodes
/// are dialled, whether or not the listener demands TLS itself.
pub async fn serve(
    options: Options,
    scheduler: Scheduler,
    tls: Tls,
    metrics: ApiMetrics,
) -> Result<Serving, ServeError> {
    let (stop, stopped) = watch::channel(false);
    let docker = Arc::new(Docker {
        scheduler,
        streams: Streams::new(tls.clone(), metrics.clone()),
        endpoint: options.endpoint,
        metrics,
        stop: stopped,
    });
    server::start(options.listener, docker, tls, stop).await
}
