//! The node's side of the link to the switch: sees that it holds the host's network state.

use super::{Configuration, FromSwitch, NetworkState, ToSwitch, socket};
use crate::causes::with_causes;
use crate::control::{self, ControlError, ControlLink};
use berth_metrics::node::NodeMetrics;
use berth_model::Generation;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often the switch is looked for, and asked what it holds.
const PERIOD: Duration = Duration::from_secs(1);

/// Configures the switch for as long as the node runs. The state that it should hold is empty as
/// long as there are no networks.
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
        metrics.switch_connected.set(0);
        if missed.as_ref() != Some(&error) {
            tracing::warn!(error, "no switch");
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
    tracing::info!("switch is there");
    metrics.switch_connected.set(1);
    *missed = None;
    let wanted = NetworkState {};
    loop {
        match link.ask(&ToSwitch::Tell).await? {
            FromSwitch::Holds(held) => {
                show(held.generation, metrics);
                if held.generation == Generation(0) || held.state != wanted {
                    let generation = Generation(held.generation.0 + 1);
                    let next = Configuration { generation, state: wanted.clone() };
                    configure(&mut link, next, metrics).await?;
                }
            }
            FromSwitch::Kept { generation } => show(generation, metrics),
            FromSwitch::Refused { reason } => tracing::warn!(reason, "switch does not answer"),
        }
        clock.tick().await;
    }
}

async fn configure(
    link: &mut ControlLink,
    configuration: Configuration,
    metrics: &NodeMetrics,
) -> Result<(), ControlError> {
    match link.ask(&ToSwitch::Configure(configuration)).await? {
        FromSwitch::Kept { generation } => show(generation, metrics),
        FromSwitch::Holds(held) => show(held.generation, metrics),
        FromSwitch::Refused { reason } => tracing::warn!(reason, "switch refuses its state"),
    }
    Ok(())
}

fn show(generation: Generation, metrics: &NodeMetrics) {
    metrics.switch_generation.set(i64::try_from(generation.0).unwrap_or(i64::MAX));
}
