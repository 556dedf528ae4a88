//! `docker wait`: the head at once, for clients start nothing before they have it; the exit code
//! when it is known.

use crate::docker::answer::{self, Answer};
use crate::docker::call::Call;
use crate::docker::error::DockerError;
use crate::listener::stopped;
use crate::outcome::{self, Awaited, End};
use berth_model::{ContainerVm, Exit};
use berth_scheduler::Fleet;
use bytes::Bytes;
use serde_json::{Value, json};
use std::io;

/// The code of a run whose end nobody could tell.
const LOST: i32 = 255;

pub async fn wait(call: Call) -> Result<Answer, DockerError> {
    let view = call.view().await?;
    let vm = view.container(&call.name)?;
    let condition = call.query.text("condition");
    let (id, awaited) = (vm.id, awaited(condition, vm)?);
    let index = view.fleet.index();
    // An end that has been and is not awaited any more.
    let at_once = match awaited {
        Some(_) => None,
        None => Some(outcome::last_exit(vm).map_or(End::NeverRan, |exit| End::Exit(exit.clone()))),
    };
    let (answer, sender) = answer::stream("application/json");
    tokio::spawn(async move {
        let mut fleets = call.docker.scheduler.watch();
        let end = async {
            match (awaited, at_once) {
                (Some(awaited), _) => {
                    let question = |fleet: &Fleet| outcome::ended(fleet, id, awaited);
                    outcome::settled(&mut fleets, index, question).await
                }
                (None, end) => Ok(end.unwrap_or(End::Unseen)),
            }
        };
        let end = tokio::select! {
            end = end => end,
            () = call.peer.hung_up() => return,
            () = sender.closed() => return,
            () = stopped(call.docker.stop.clone()) => Err(outcome::Ending),
        };
        let piece = match end {
            Ok(end) => Ok(Bytes::from(format!("{}\n", told(&end)))),
            // Cut off, so that no exit code is read out of nothing.
            Err(ending) => Err(io::Error::other(ending)),
        };
        if sender.send(piece).await.is_err() {
            tracing::debug!(container = %id.short(), "a client left before it heard the exit code");
        }
    });
    Ok(answer)
}

/// What is to be waited for; `None` if it is so already.
fn awaited(condition: &str, vm: &ContainerVm) -> Result<Option<Awaited>, DockerError> {
    let up = outcome::is_up(&vm.state);
    match condition {
        "" | "not-running" => Ok(up.then_some(Awaited::Run(vm.epoch))),
        "next-exit" => Ok(Some(Awaited::Run(if up { vm.epoch } else { vm.epoch.next() }))),
        "removed" => Ok(Some(Awaited::Removal)),
        other => Err(DockerError::bad(format!("invalid condition: {other:?}"))),
    }
}

fn told(end: &End) -> Value {
    match end {
        // The machine was lost under the process: no exit status of its own exists.
        End::Exit(Exit { code: LOST, error, .. }) if !error.is_empty() => {
            json!({"StatusCode": LOST, "Error": {"Message": error}})
        }
        // Why a process did not start has been told by the start.
        End::Exit(Exit { code, .. }) => json!({"StatusCode": code}),
        End::NeverRan => json!({"StatusCode": 0}),
        End::Unseen => json!({
            "StatusCode": 125,
            "Error": {"Message": "the container ended, but its exit status was not seen"},
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::translate::container::tests::{exited, running, vm};
    use crate::docker::translate::spec::Wanted;
    use berth_model::{Epoch, VmState};

    #[test]
    fn each_condition_waits_for_its_own() {
        let check = |condition, state| awaited(condition, &vm(state, Wanted::default())).unwrap();
        assert_eq!(check("", running()), Some(Awaited::Run(Epoch(1))));
        assert_eq!(check("not-running", exited(0)), None);
        assert_eq!(check("next-exit", exited(0)), Some(Awaited::Run(Epoch(2))));
        assert_eq!(check("next-exit", running()), Some(Awaited::Run(Epoch(1))));
        assert_eq!(check("removed", VmState::Created), Some(Awaited::Removal));
        assert!(awaited("frob", &vm(running(), Wanted::default())).is_err());
    }

    #[test]
    fn an_end_that_was_not_seen_is_no_success() {
        assert_eq!(told(&End::Unseen)["StatusCode"], 125);
        let exit = Exit { code: 3, oom_killed: false, error: String::new() };
        assert_eq!(told(&End::Exit(exit)), json!({"StatusCode": 3}));
    }
}
