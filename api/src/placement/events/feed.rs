//! Events of a fleet after an index: filtered, shown, and kept together by revision.

use super::id_of;
use crate::placement::errors::{Kind, Problem};
use crate::placement::page::revision;
use crate::placement::show;
use berth_model::view::{EventView, RevisionView};
use berth_model::{EndpointId, Event, Subject, What};
use berth_scheduler::Fleet;

/// What a client asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub owner: Option<EndpointId>,
    pub kind: Option<&'static str>,
}

impl Filter {
    fn wants(&self, event: &Event) -> bool {
        self.owner.is_none_or(|owner| owner == event.endpoint)
            && self.kind.is_none_or(|kind| kind == event.subject.kind())
    }
}

const COMPACTED: &str = "not everything after that revision is kept any more";

pub fn gone(why: &str) -> Problem {
    Problem::new(Kind::Gone, format!("{why}; list the objects anew and watch from there"))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub events: Vec<EventView>,
    /// Everything up to this index has been looked at.
    pub after: u64,
    pub more: bool,
}

/// The first events after `after`: whole revisions, so that a page may be a little longer than
/// `limit`.
pub fn page(fleet: &Fleet, after: u64, limit: usize, filter: &Filter) -> Result<Page, Problem> {
    let events = fleet.events_after(after).map_err(|_| gone(COMPACTED))?;
    let mut page = Page { events: Vec::new(), after: fleet.index().max(after), more: false };
    let mut last = after;
    for event in events.filter(|event| filter.wants(event)) {
        if page.events.len() >= limit && event.index != last {
            page.after = last;
            page.more = true;
            break;
        }
        last = event.index;
        page.events.push(shown(fleet, event));
    }
    Ok(page)
}

/// The next revisions after `after`, `most` at most, with their indexes.
pub fn revisions(
    fleet: &Fleet,
    after: u64,
    most: usize,
    filter: &Filter,
) -> Result<Vec<(u64, RevisionView)>, Problem> {
    let events = fleet.events_after(after).map_err(|_| gone(COMPACTED))?;
    let mut revisions: Vec<(u64, RevisionView)> = Vec::new();
    for event in events.filter(|event| filter.wants(event)) {
        match revisions.last_mut() {
            Some((index, view)) if *index == event.index => view.events.push(shown(fleet, event)),
            Some(_) | None => {
                if revisions.len() == most {
                    break;
                }
                let events = vec![shown(fleet, event)];
                let view = RevisionView { revision: revision(fleet, event.index), events };
                revisions.push((event.index, view));
            }
        }
    }
    Ok(revisions)
}

fn shown(fleet: &Fleet, event: &Event) -> EventView {
    let (what, phase) = match event.what {
        What::Created => ("created", None),
        What::Changed => ("changed", None),
        What::Removed => ("removed", None),
        What::State(state) => ("state", show::state_name(state)),
        What::Refused => ("refused", None),
        What::Displaced => ("displaced", None),
        What::Expired => ("expired", None),
        What::HostConnected => ("connected", None),
        What::HostSilent => ("silent", None),
        What::MaintenanceBegan => ("maintenance-began", None),
        What::MaintenanceEnded => ("maintenance-ended", None),
    };
    EventView {
        revision: revision(fleet, event.index),
        at_ms: event.at.0,
        endpoint: show::endpoint_name(fleet, event.endpoint),
        kind: event.subject.kind().to_owned(),
        id: id_of(&event.subject),
        name: name(fleet, &event.subject),
        what: what.to_owned(),
        phase,
    }
}

fn name(fleet: &Fleet, subject: &Subject) -> Option<String> {
    match subject {
        Subject::Cluster(id) => fleet.cluster(*id).map(|cluster| cluster.name.clone()),
        Subject::Host(id) => fleet.host(*id).map(|host| host.facts.name.clone()),
        Subject::Datastore(id) => fleet.datastore(*id).map(|datastore| datastore.name.clone()),
        Subject::Endpoint(id) => fleet.endpoint(*id).map(|endpoint| endpoint.name.clone()),
        Subject::ContainerVm(id) => fleet.container(*id).map(|vm| vm.name.clone()),
        Subject::Rule(id) => fleet.rule(*id).map(|rule| rule.name.clone()),
        Subject::Image(_) | Subject::Reservation(_) => None,
    }
}
