//! The node's side of the link to the keeper: beats out, judgements in.

use super::decide::{Judgement, LeaseState};
use super::{FromKeeper, ToKeeper, socket};
use crate::causes::with_causes;
use crate::control::{self, ControlError, ControlLink};
use berth_metrics::node::NodeMetrics;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PERIOD: Duration = Duration::from_secs(1);

/// Beats for as long as the node runs; a keeper that is not there is looked for each second.
pub async fn attend(run_directory: PathBuf, metrics: NodeMetrics) {
    let path = socket(&run_directory);
    let mut clock = tokio::time::interval(PERIOD);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut missed = None;
    loop {
        clock.tick().await;
        let error = match converse(&path, &mut clock, &metrics, &mut missed).await {
            Ok(never) => match never {},
            Err(error) => with_causes(&error),
        };
        metrics.keeper_connected.set(0);
        if missed.as_ref() != Some(&error) {
            tracing::warn!(error, "no keeper; this host's leases are not renewed");
            missed = Some(error);
        }
    }
}

async fn converse(
    path: &Path,
    clock: &mut tokio::time::Interval,
    metrics: &NodeMetrics,
    missed: &mut Option<String>,
) -> Result<std::convert::Infallible, ControlError> {
    let mut link = ControlLink::connect(path, &control::hello()).await?;
    tracing::info!("keeper is there");
    metrics.keeper_connected.set(1);
    *missed = None;
    loop {
        let FromKeeper::Judged(judgement) = link.ask(&ToKeeper::Beat).await?;
        show(&judgement, metrics);
        clock.tick().await;
    }
}

fn show(judgement: &Judgement, metrics: &NodeMetrics) {
    for (datastore, state) in &judgement.leases {
        let kept = match state {
            LeaseState::Kept | LeaseState::Slow => true,
            LeaseState::Starting | LeaseState::Gone => false,
        };
        metrics.lease_is(datastore, kept);
    }
}
