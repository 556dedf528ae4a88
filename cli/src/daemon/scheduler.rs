//! `berth scheduler`: a replica, its nodes listener and its two HTTP APIs.

use super::{Arguments, EndSignal};
use crate::config::{self, SchedulerConfig};
use anyhow::{Context, Result};
use berth_metrics::Registry;
use berth_metrics::api::ApiMetrics;
use berth_scheduler::{BootstrapOptions, Options};
use berth_wire::tls::Tls;
use std::time::Duration;

pub async fn run(arguments: Arguments) -> Result<()> {
    let mut end = EndSignal::listen()?;
    let config: SchedulerConfig = config::load(&arguments.config, &arguments.set)?;
    let tls = Tls::load(&config.tls.files()).context("cannot use the certificate")?;
    let registry = Registry::new();
    let api_metrics = ApiMetrics::register(&registry).context("cannot register metrics")?;
    let listeners = (
        config.api.listener("api").map_err(anyhow::Error::msg)?,
        config.docker.listener().listener("docker").map_err(anyhow::Error::msg)?,
    );

    let scheduler = berth_scheduler::start(options(&config)?, tls.clone(), &registry)
        .await
        .context("cannot start the scheduler")?;
    let api = berth_api::placement::serve(
        berth_api::placement::Options::new(listeners.0),
        scheduler.clone(),
        tls.clone(),
        api_metrics.clone(),
        registry,
    )
    .await
    .context("cannot serve /v1")?;
    let docker = berth_api::docker::serve(
        berth_api::docker::Options {
            listener: listeners.1,
            endpoint: config.docker.endpoint.clone(),
        },
        scheduler.clone(),
        tls,
        api_metrics,
    )
    .await
    .context("cannot serve the Docker endpoint")?;
    tracing::info!(
        replica = config.replica,
        api = %api.address(),
        docker = %docker.address(),
        nodes = %config.nodes.listen,
        "scheduler serves"
    );

    let stopped = tokio::select! {
        () = end.received() => None,
        reason = scheduler.stopped() => Some(reason),
    };
    tracing::info!("scheduler ends");
    docker.shutdown().await;
    api.shutdown().await;
    // Hands leadership over first, so that the others need no election timeout.
    scheduler.shutdown().await;
    match stopped {
        None => Ok(()),
        Some(reason) => anyhow::bail!("the replica cannot go on: {reason:?}"),
    }
}

fn options(config: &SchedulerConfig) -> Result<Options> {
    let raft = berth_raft::Options::new(
        config.replica,
        config.peers().map_err(anyhow::Error::msg)?,
        config.raft.listen,
        config.data.clone(),
    );
    let bootstrap = BootstrapOptions {
        clusters: config
            .clusters
            .iter()
            .map(|cluster| (cluster.name.clone(), cluster.policy()))
            .collect(),
        endpoints: vec![(config.docker.endpoint.clone(), Default::default())],
    };
    let mut options = Options::new(raft, config.nodes.listen, bootstrap);
    options.silent_after = Duration::from_millis(config.nodes.silent_after_ms);
    options.planners = config.planning.planners;
    options.placement_queue = config.planning.queue_items;
    options.max_hold = config.planning.max_hold_ms.map(Duration::from_millis);
    Ok(options)
}
