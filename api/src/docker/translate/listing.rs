//! Container VMs as `docker ps` lists them: which ones, in which order, and one line each.

use super::container::{self, Surroundings};
use super::filter::Filters;
use super::{Invalid, time};
use berth_model::{ContainerVm, Timestamp, VmState};
use serde_json::{Value, json};

/// Names that `GET /containers/json` can filter by.
pub const FILTERS: &[&str] = &[
    "ancestor", "before", "exited", "id", "label", "name", "network", "since", "status", "volume",
];

/// What `GET /containers/json` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    pub all: bool,
    /// The latest so many, whatever their state.
    pub limit: Option<usize>,
    pub filters: Filters,
}

/// Words that `status` can be filtered by.
const STATUSES: [&str; 7] =
    ["created", "running", "paused", "restarting", "removing", "exited", "dead"];

impl Listing {
    /// Checks the values of the filters.
    pub fn checked(self) -> Result<Self, Invalid> {
        for status in self.filters.values("status") {
            if !STATUSES.contains(&status.as_str()) {
                return Err(Invalid::bad(format!("invalid filter 'status={status}'")));
            }
        }
        for code in self.filters.values("exited") {
            if code.parse::<i32>().is_err() {
                return Err(Invalid::bad(format!("invalid filter 'exited={code}'")));
            }
        }
        Ok(self)
    }

    /// Whether the list has those that do not run, too.
    fn takes_all(&self) -> bool {
        self.all
            || self.limit.is_some()
            || ["status", "exited", "before", "since"].iter().any(|n| self.filters.is_given(n))
    }

    /// The container VMs to show, newest first. `named` finds the one that a `before` or `since`
    /// names; `is_ancestor` says whether a name or id means the container VM's image.
    pub fn select<'a>(
        &self,
        vms: impl Iterator<Item = &'a ContainerVm>,
        named: impl Fn(&str) -> Option<&'a ContainerVm>,
        is_ancestor: impl Fn(&str, &ContainerVm) -> bool,
    ) -> Result<Vec<&'a ContainerVm>, Invalid> {
        let bound = |name: &str| match self.filters.values(name).last() {
            None => Ok(None),
            Some(wanted) => match named(wanted) {
                Some(vm) => Ok(Some(age(vm))),
                None => Err(Invalid::NotFound(format!("No such container: {wanted}"))),
            },
        };
        let (before, since) = (bound("before")?, bound("since")?);
        let all = self.takes_all();
        let mut shown: Vec<&ContainerVm> = vms
            .filter(|vm| all || matches!(vm.state, VmState::Running { .. }))
            .filter(|vm| before.is_none_or(|bound| age(vm) < bound))
            .filter(|vm| since.is_none_or(|bound| age(vm) > bound))
            .filter(|vm| self.fits(vm))
            .filter(|vm| self.filters.pass("ancestor", |wanted| is_ancestor(wanted, vm)))
            .collect();
        shown.sort_unstable_by_key(|vm| std::cmp::Reverse(age(vm)));
        shown.truncate(self.limit.unwrap_or(usize::MAX));
        Ok(shown)
    }

    fn fits(&self, vm: &ContainerVm) -> bool {
        let filters = &self.filters;
        let exit = container::last_end(&vm.state).map(|(exit, ..)| exit.code);
        let id = vm.id.to_string();
        filters.pass("id", |wanted| id.starts_with(wanted))
            && filters.pass("name", |wanted| name_fits(&vm.name, wanted))
            && filters.pass("status", |wanted| wanted == container::status(&vm.state))
            && filters.pass("exited", |code| code.parse().ok() == exit && exit.is_some())
            && filters.pass("network", |wanted| wanted == container::network_mode(vm.spec.network))
            && filters.pass("volume", |wanted| vm.spec.volumes.iter().any(|path| path == wanted))
            && filters.pass_labels(&vm.spec.labels)
    }
}

/// A part of the name, with `^` and `$` for its ends; the engine takes regular expressions, of
/// which these two are what clients use.
fn name_fits(name: &str, wanted: &str) -> bool {
    let (start, wanted) = match wanted.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, wanted),
    };
    let (end, wanted) = match wanted.strip_suffix('$') {
        Some(rest) => (true, rest),
        None => (false, wanted),
    };
    let wanted = wanted.strip_prefix('/').unwrap_or(wanted);
    match (start, end) {
        (true, true) => name == wanted,
        (true, false) => name.starts_with(wanted),
        (false, true) => name.ends_with(wanted),
        (false, false) => name.contains(wanted),
    }
}

/// Where a container VM stands in the order of creation; several may share an index.
fn age(vm: &ContainerVm) -> (u64, berth_model::ContainerId) {
    (vm.meta.created, vm.id)
}

/// One container VM of the answer.
pub fn summary(vm: &ContainerVm, around: &Surroundings<'_>, now: Timestamp) -> Value {
    json!({
        "Id": vm.id.to_string(),
        "Names": [format!("/{}", vm.name)],
        "Image": vm.spec.image_reference,
        "ImageID": format!("sha256:{}", vm.spec.image),
        "Command": command(vm),
        "Created": time::seconds(vm.meta.created_at),
        "Ports": [],
        "Labels": container::labels(vm, around),
        "State": container::status(&vm.state),
        "Status": told(&vm.state, now),
        "HostConfig": {"NetworkMode": container::network_mode(vm.spec.network)},
        "NetworkSettings": {"Networks": {container::network_mode(vm.spec.network): {}}},
        "Mounts": [],
    })
}

fn command(vm: &ContainerVm) -> String {
    let words = container::command_line(vm);
    let quoted = words.iter().enumerate().map(|(position, word)| {
        if position > 0 && word.contains(' ') { format!("'{word}'") } else { word.clone() }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// `Up 5 seconds`, `Exited (0) 3 minutes ago`.
fn told(state: &VmState, now: Timestamp) -> String {
    let since = |then: Timestamp| time::span(now.0.saturating_sub(then.0));
    if let Some((exit, _, finished_at)) = container::last_end(state) {
        return format!("Exited ({}) {} ago", exit.code, since(finished_at));
    }
    match state {
        VmState::Running { started_at, .. } => format!("Up {}", since(*started_at)),
        VmState::Starting { .. } => "Starting".to_owned(),
        VmState::Removing { .. } => "Removal In Progress".to_owned(),
        VmState::Pending { .. }
        | VmState::Created
        | VmState::Waiting { .. }
        | VmState::Exited { .. } => "Created".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::container::tests::{exited, running, vm};
    use super::super::spec::Wanted;
    use super::*;
    use berth_model::ContainerId;

    fn fleet() -> Vec<ContainerVm> {
        let states = [running(), exited(0), exited(3), VmState::Created];
        let vms = states.into_iter().zip(["web", "db", "db-2", "new"]).zip(1..);
        vms.map(|((state, name), number)| {
            let mut vm = vm(state, Wanted::default());
            vm.id = ContainerId::from_bytes([number; 32]);
            vm.name = name.to_owned();
            vm.meta.created = u64::from(number);
            std::sync::Arc::make_mut(&mut vm.spec).labels.insert("app".to_owned(), name.to_owned());
            vm
        })
        .collect()
    }

    fn check(all: bool, limit: Option<usize>, filters: &str) -> String {
        let vms = fleet();
        let list = || -> Result<String, Invalid> {
            let filters = Filters::parse(filters, FILTERS)?;
            let listing = Listing { all, limit, filters }.checked()?;
            let named = |name: &str| vms.iter().find(|vm| vm.name == name);
            let found = listing.select(vms.iter(), named, |wanted, _| wanted == "busybox")?;
            Ok(found.iter().map(|vm| vm.name.as_str()).collect::<Vec<_>>().join(" "))
        };
        list().unwrap_or_else(|invalid| invalid.to_string())
    }

    #[test]
    fn without_all_only_those_that_run_are_listed() {
        assert_eq!(check(false, None, ""), "web");
        assert_eq!(check(true, None, ""), "new db-2 db web");
        assert_eq!(check(false, Some(2), ""), "new db-2");
    }

    #[test]
    fn filters_select_and_unknown_ones_are_refused() {
        assert_eq!(check(true, None, r#"{"name":["db"]}"#), "db-2 db");
        assert_eq!(check(true, None, r#"{"name":["^/db$"]}"#), "db");
        assert_eq!(check(false, None, r#"{"exited":["3"]}"#), "db-2");
        assert_eq!(check(false, None, r#"{"status":["created","exited"]}"#), "new db-2 db");
        assert_eq!(check(false, None, r#"{"since":["db"]}"#), "new db-2");
        assert_eq!(check(false, None, r#"{"before":["db"]}"#), "web");
        assert_eq!(check(false, None, r#"{"before":["x"]}"#), "No such container: x");
        assert_eq!(check(true, None, r#"{"label":["app=db"]}"#), "db");
        assert_eq!(check(true, None, r#"{"id":["0101"]}"#), "web");
        assert_eq!(check(true, None, r#"{"ancestor":["redis"]}"#), "");
        assert_eq!(check(true, None, r#"{"status":["up"]}"#), "invalid filter 'status=up'");
        assert!(check(true, None, r#"{"health":["x"]}"#).starts_with("invalid filter 'health'"));
    }

    #[test]
    fn a_line_tells_state_and_span() {
        let now = Timestamp(1_700_000_061_000);
        let line = |state| summary(&vm(state, Wanted::default()), &Surroundings::default(), now);
        assert_eq!(line(running())["Status"], "Up About a minute");
        assert_eq!(line(exited(3))["Status"], "Exited (3) 59 seconds ago");
        assert_eq!(line(VmState::Created)["Status"], "Created");
        assert_eq!(line(running())["Command"], "sh");
    }
}
