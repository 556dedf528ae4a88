//! The placement API: `/v1` over HTTP, JSON in and out, and what an operator's probes ask.
//!
//! ```text
//!  middleware (request id, metrics) ─► containers | objects | health
//!                                          │
//!                                    wish (who asks, how) ─► scheduler
//!                                    show (fleet ─► model::view)   errors (trouble ─► problem+json)
//! ```
//! Promises: any replica serves any request; a read is as of a read index unless it asks for
//! `consistency=stale`; every list is paged by opaque tokens; a query parameter or member that is
//! not known is an error that names it.
//!
//! Does not: watch. What changes is asked for again, with `If-None-Match`.

mod containers;
pub mod errors;
mod health;
mod middleware;
mod objects;
mod page;
mod query;
mod resolve;
mod show;
mod wish;

use crate::listener::{Listener, ServeError, Serving, stopped};
use actix_web::{App, HttpServer, web};
use berth_metrics::Registry;
use berth_metrics::api::ApiMetrics;
use berth_scheduler::Scheduler;
use berth_wire::tls::{Role, Tls};
use errors::Problem;
use tokio::sync::watch;

/// Longest body of a request, in bytes.
const BODY_MAX: usize = 1 << 20;
const WORKERS: usize = 2;

/// What the placement API is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub listener: Listener,
}

/// What every handler works with.
#[derive(Clone)]
struct Api {
    scheduler: Scheduler,
    metrics: ApiMetrics,
    registry: Registry,
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
    let api = Api { scheduler, metrics, registry };
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(api.clone()))
            .app_data(web::PayloadConfig::new(BODY_MAX))
            .app_data(
                web::JsonConfig::default()
                    .limit(BODY_MAX)
                    .error_handler(|error, _| Problem::from(error).into()),
            )
            .wrap(actix_web::middleware::from_fn(middleware::observe))
            .configure(health::routes)
            .configure(containers::routes)
            .configure(objects::routes)
            .default_service(web::to(|| async {
                Err::<&str, _>(Problem::not_found("no such path; see /v1/containers and its kin"))
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
