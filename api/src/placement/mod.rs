//! The placement API: `/v1` over HTTP, JSON in and out, and what an operator's probes ask.
//!
//! ```text
//!  table of operations ─┬─► routes    middleware (request id, metrics)
//!                       ├─► checks    call (parameters, body held against their schemas)
//!                       └─► document     └─► a resource's handler ─► wish, resolve ─► scheduler
//!                                            show (fleet ─► model::view)   errors (─► problem+json)
//! ```
//! Promises: any replica serves any request; a read is as of a read index unless it asks for
//! `consistency=stale`; every list is paged by opaque tokens; a query parameter or member that is
//! not known is an error that names it. What the document says is what is checked: both are made
//! from one table and from the views.

mod call;
mod capacity;
mod cell;
mod clusters;
mod container_vms;
mod datastores;
mod document;
mod endpoints;
pub mod errors;
mod events;
mod fields;
mod health;
mod hosts;
mod images;
mod lookup;
mod middleware;
mod networks;
mod operation;
mod page;
mod parameter;
mod placements;
mod policies;
mod resolve;
mod rules;
mod schema;
mod show;
mod table;
mod what_if;
mod wish;

use crate::listener::{Listener, ServeError, Serving, stopped};
use actix_web::{App, HttpServer, web};
use berth_metrics::Registry;
use berth_metrics::api::ApiMetrics;
use berth_scheduler::Scheduler;
use berth_wire::tls::{Role, Tls};
use errors::{Kind, Problem};
use events::Streams;
use std::sync::Arc;
use std::time::Duration;
use table::Table;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

const WORKERS: usize = 2;
/// Questions of what would be that are answered at once, and how long others wait for a turn.
const QUESTIONS: usize = 2;
const QUESTION_PATIENCE: Duration = Duration::from_secs(10);

/// What the placement API is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub listener: Listener,
    pub limits: Limits,
}

/// What one client may ask of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest body of a request, in bytes.
    pub body: usize,
    /// The longest that `?wait` waits, whatever it says.
    pub wait: Duration,
    /// Streams of events that are open at once.
    pub streams: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body: 4 << 20, wait: Duration::from_secs(parameter::WAIT_SECONDS_MAX), streams: 256 }
    }
}

impl Options {
    /// With every limit at its default.
    pub fn new(listener: Listener) -> Self {
        Self { listener, limits: Limits::default() }
    }
}

/// What every handler works with.
#[derive(Clone)]
struct Api {
    scheduler: Scheduler,
    metrics: ApiMetrics,
    registry: Registry,
    limits: Limits,
    streams: Streams,
    /// Questions that may take seconds of a processor.
    questions: Arc<Semaphore>,
    table: Arc<Table>,
}

impl Api {
    /// A turn to ask what would be: few are answered at once, so that they cannot starve what is.
    async fn turn(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let turn = self.questions.clone().acquire_owned();
        match tokio::time::timeout(QUESTION_PATIENCE, turn).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => {
                let detail = "others ask such questions; try again in a while";
                Err(Problem::new(Kind::TooMany, detail))
            }
        }
    }
}

/// The OpenAPI document that `serve` serves.
pub fn document() -> Result<serde_json::Value, ServeError> {
    Ok(Table::new().map_err(ServeError::Table)?.document)
}

/// Serves `/v1`, `/healthz`, `/readyz` and `/metrics`. Must be called inside an actix system.
pub async fn serve(
    options: Options,
    scheduler: Scheduler,
    tls: Tls,
    metrics: ApiMetrics,
    registry: Registry,
) -> Result<Serving, ServeError> {
    options.listener.validate()?;
    let address = options.listener.address;
    let limits = options.limits;
    let streams = Streams::new(limits.streams);
    let table = Arc::new(Table::new().map_err(ServeError::Table)?);
    let questions = Arc::new(Semaphore::new(QUESTIONS));
    let api = Api { scheduler, metrics, registry, limits, streams, questions, table };
    let server = HttpServer::new(move || {
        let table = api.table.clone();
        App::new()
            .app_data(web::Data::new(api.clone()))
            .wrap(actix_web::middleware::from_fn(middleware::observe))
            .configure(move |config| table.configure(config))
            .default_service(web::to(|| async {
                Err::<&str, _>(Problem::not_found("no such path; see /v1/openapi.json"))
            }))
    })
    .workers(WORKERS)
    .disable_signals()
    .shutdown_timeout(1)
    .on_connect(middleware::note_client);
    let bind = |source| ServeError::Bind { address, source };
    let server = if options.listener.tls {
        let config = tls.server_config_for(&[Role::Client]).map_err(ServeError::Tls)?;
        server.bind_rustls_0_23(address, (*config).clone()).map_err(bind)?
    } else {
        server.bind(address).map_err(bind)?
    };
    let address = server.addrs().first().copied().unwrap_or(address);
    let (stop, stopping) = watch::channel(false);
    let server = server.run();
    let handle = server.handle();
    let task = actix_rt::spawn(async move {
        tokio::select! {
            ended = server => {
                if let Err(error) = ended {
                    tracing::error!(%error, "the placement API ended");
                }
            }
            () = stopped(stopping) => handle.stop(false).await,
        }
    });
    Ok(Serving::new(address, stop, task))
}
