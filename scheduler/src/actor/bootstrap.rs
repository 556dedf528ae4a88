//! Sets a new cell up: whichever replica leads first proposes what the configuration names.

use super::machine::Published;
use super::proposer::Proposer;
use crate::options::BootstrapOptions;
use berth_model::command::{Bootstrap, CommandBody, Principal};
use berth_model::{CellId, ClusterId, EndpointId};
use berth_raft::ReplicaId;
use std::time::Duration;

const RETRY: Duration = Duration::from_millis(200);

/// Runs until the cell is set up, by this replica or another.
pub(super) async fn run(
    cell: CellId,
    id: ReplicaId,
    options: BootstrapOptions,
    mut published: Published,
    proposer: Proposer,
) {
    let command = CommandBody::Bootstrap(draw(cell, options));
    loop {
        if published.fleet.borrow_and_update().cell().is_some() {
            return;
        }
        if published.reign.borrow_and_update().is_ours() {
            match proposer.propose(Principal::Scheduler(id), command.clone()).await {
                Ok(_) => return,
                Err(error) => tracing::warn!(%error, "cell could not be set up, trying again"),
            }
            tokio::time::sleep(RETRY).await;
            continue;
        }
        let changed = async {
            tokio::select! {
                fleet = published.fleet.changed() => fleet,
                reign = published.reign.changed() => reign,
            }
        };
        if changed.await.is_err() {
            return;
        }
    }
}

/// Every replica draws its own ids; those of the first to be applied count.
fn draw(cell: CellId, options: BootstrapOptions) -> Bootstrap {
    let mut source = rand::rng();
    Bootstrap {
        cell,
        clusters: options
            .clusters
            .into_iter()
            .map(|(name, policy)| (ClusterId::random(&mut source), name, policy))
            .collect(),
        endpoints: options
            .endpoints
            .into_iter()
            .map(|(name, defaults)| (EndpointId::random(&mut source), name, defaults))
            .collect(),
    }
}
