//! Events, read off two successive states of the fleet.
//!
//! Promises: each event happened, and those of one container VM come in the order in which they
//! happened. Does not: know what came and went between the two states, such as a container VM
//! that was created and removed at once.

use super::filter::Filters;
use super::time;
use berth_model::{ContainerId, ContainerVm, Timestamp, VmState};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Names that `GET /events` can filter by.
pub const FILTERS: &[&str] = &["container", "event", "image", "label", "type"];

/// One thing that happened to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub action: &'static str,
    pub id: ContainerId,
    pub time: Timestamp,
    pub attributes: BTreeMap<String, String>,
}

/// What happened to one container VM between `before` and `after`, either of which may be absent.
/// `now` is the time of the later state.
pub fn between(
    before: Option<&ContainerVm>,
    after: Option<&ContainerVm>,
    now: Timestamp,
) -> Vec<Event> {
    let mut events = Vec::new();
    let gone =
        |vm: Option<&ContainerVm>| vm.is_none_or(|vm| matches!(vm.state, VmState::Removing { .. }));
    let mut add = |vm: &ContainerVm, action, time, exit: Option<i32>| {
        let mut attributes = vm.spec.labels.clone();
        attributes.insert("name".to_owned(), vm.name.clone());
        attributes.insert("image".to_owned(), vm.spec.image_reference.clone());
        if let Some(code) = exit {
            attributes.insert("exitCode".to_owned(), code.to_string());
        }
        events.push(Event { action, id: vm.id, time, attributes });
    };
    if let Some(vm) = after {
        if before.is_none() && !gone(after) {
            add(vm, "create", vm.meta.created_at, None);
        }
        let ran = run(before.map(|vm| &vm.state));
        let runs = run(Some(&vm.state));
        let same_run = before.is_some_and(|old| old.epoch == vm.epoch);
        if let Some((started, ended)) = runs {
            let known = same_run && ran.is_some();
            if let Some(started) = started
                && !known
            {
                add(vm, "start", started, None);
            }
            let ended_before = same_run && ran.is_some_and(|(_, ended)| ended.is_some());
            if let Some((finished, code)) = ended
                && !ended_before
            {
                add(vm, "die", finished.unwrap_or(now), Some(code));
            }
        }
    }
    if let Some(vm) = after.or(before)
        && !gone(before)
        && gone(after)
    {
        add(vm, "destroy", now, None);
    }
    events
}

/// When the present run began, if it did, and when and how it ended, if it did.
type Run = (Option<Timestamp>, Option<(Option<Timestamp>, i32)>);

fn run(state: Option<&VmState>) -> Option<Run> {
    match state? {
        VmState::Running { started_at, .. } => Some((Some(*started_at), None)),
        VmState::Exited { exit, started_at, finished_at } => {
            Some((*started_at, Some((Some(*finished_at), exit.code))))
        }
        VmState::Removing { exit: Some(exit), .. } => Some((None, Some((None, exit.code)))),
        VmState::Removing { exit: None, .. }
        | VmState::Pending { .. }
        | VmState::Created
        | VmState::Waiting { .. }
        | VmState::Starting { .. } => None,
    }
}

/// Whether the client wants to hear of it.
pub fn passes(event: &Event, filters: &Filters) -> bool {
    let attribute = |name: &str| event.attributes.get(name).map_or("", String::as_str);
    let id = event.id.to_string();
    filters.pass("type", |wanted| wanted == "container")
        && filters.pass("event", |wanted| wanted == event.action)
        && filters.pass("container", |wanted| {
            wanted == attribute("name") || (!wanted.is_empty() && id.starts_with(wanted))
        })
        && filters.pass("image", |wanted| {
            let image = attribute("image");
            wanted == image || image.split(':').next() == Some(wanted)
        })
        && filters.pass_labels(&event.attributes)
}

/// The event as one line of `GET /events`.
pub fn message(event: &Event) -> Value {
    json!({
        "status": event.action,
        "id": event.id.to_string(),
        "from": event.attributes.get("image"),
        "Type": "container",
        "Action": event.action,
        "Actor": {"ID": event.id.to_string(), "Attributes": event.attributes},
        "scope": "local",
        "time": time::seconds(event.time),
        "timeNano": event.time.0.saturating_mul(1_000_000),
    })
}

#[cfg(test)]
mod tests {
    use super::super::container::tests::{exited, running, vm};
    use super::super::spec::Wanted;
    use super::*;
    use berth_model::Exit;

    fn check(before: Option<VmState>, after: Option<VmState>) -> String {
        let at = |state| vm(state, Wanted::default());
        let (before, after) = (before.map(at), after.map(at));
        let events = between(before.as_ref(), after.as_ref(), Timestamp(9));
        events.iter().map(|event| event.action).collect::<Vec<_>>().join(" ")
    }

    fn removing(exit: Option<i32>) -> VmState {
        let exit = exit.map(|code| Exit { code, oom_killed: false, error: String::new() });
        VmState::Removing { host: None, charge: None, exit }
    }

    #[test]
    fn a_life_is_told_in_order() {
        assert_eq!(check(None, Some(VmState::Created)), "create");
        assert_eq!(check(Some(VmState::Created), Some(running())), "start");
        assert_eq!(check(Some(running()), Some(running())), "");
        assert_eq!(check(Some(running()), Some(exited(1))), "die");
        assert_eq!(check(Some(exited(1)), Some(removing(Some(1)))), "destroy");
        assert_eq!(check(Some(removing(None)), None), "");
    }

    #[test]
    fn what_was_not_seen_is_told_from_what_is_known() {
        assert_eq!(check(None, Some(exited(1))), "create start die");
        assert_eq!(check(Some(running()), Some(removing(Some(0)))), "die destroy");
        assert_eq!(check(Some(running()), None), "destroy");
    }
}
