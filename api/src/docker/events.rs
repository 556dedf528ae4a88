//! `GET /events`: what happens to containers from now on.

use super::answer::{self, Answer};
use super::call::Call;
use super::error::DockerError;
use super::translate::event::{self, Event};
use super::translate::filter::Filters;
use super::translate::time;
use crate::clock;
use crate::listener::stopped;
use berth_model::{ContainerId, ContainerVm, EndpointId};
use berth_scheduler::Fleet;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

pub(super) async fn follow(call: Call) -> Result<Answer, DockerError> {
    let filters = Filters::parse(call.query.text("filters"), event::FILTERS)?;
    let until = time::parse_ns("until", call.query.text("until"))?;
    let left = until.map(|until| {
        let now = clock::now().0.saturating_mul(1_000_000);
        Duration::from_nanos(until.saturating_sub(now))
    });
    let view = call.view().await?;
    let (answer, sender) = answer::stream("application/json");
    tokio::spawn(async move {
        let end = async {
            match left {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        let mut fleets = call.docker.scheduler.watch();
        let tell = async {
            let mut before = view.fleet;
            loop {
                let after = fleets.borrow_and_update().clone();
                for event in since(&before, &after, view.endpoint) {
                    if !event::passes(&event, &filters) {
                        continue;
                    }
                    let line = format!("{}\n", event::message(&event));
                    if sender.send(Ok(Bytes::from(line))).await.is_err() {
                        return;
                    }
                }
                before = after;
                if fleets.changed().await.is_err() {
                    return;
                }
            }
        };
        let whole = tokio::select! {
            () = tell => false,
            () = end => true,
            () = sender.closed() => true,
            () = call.peer.hung_up() => true,
            () = stopped(call.docker.stop.clone()) => false,
        };
        if !whole {
            // A client must see that there is more to tell, and ask another scheduler.
            let cut = io::Error::other("this scheduler is shutting down");
            if sender.send(Err(cut)).await.is_err() {
                tracing::debug!("a client of events left while they were cut");
            }
        }
    });
    Ok(answer)
}

/// Events of one endpoint between two fleets, in the order of the log where it is known.
fn since(before: &Arc<Fleet>, after: &Arc<Fleet>, endpoint: EndpointId) -> Vec<Event> {
    if after.index() <= before.index() {
        return Vec::new();
    }
    let of_endpoint = |vm: &&ContainerVm| vm.endpoint() == endpoint;
    let changed = after
        .containers()
        .filter(of_endpoint)
        .filter(|vm| vm.meta.modified > before.index())
        .map(|vm| (vm.meta.modified, vm.id));
    let gone = before
        .containers()
        .filter(of_endpoint)
        .filter(|vm| after.container(vm.id).is_none())
        .map(|vm| (after.index(), vm.id));
    let ids: BTreeSet<(u64, ContainerId)> = changed.chain(gone).collect();
    ids.into_iter()
        .flat_map(|(_, id)| event::between(before.container(id), after.container(id), after.time()))
        .collect()
}
