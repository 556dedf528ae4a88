//! Container VMs that wait: which one is decided next, and what came of those that were.
//!
//! Promises: each plan is exact: its decisions were made on the fleet as it will be once those
//! before them, and those of plans that are still open, have been applied. By priority, then in
//! turn between endpoints, then by age. What was refused is decided again only when something of
//! the kind that refused it has changed, one of each class at a time; its refusal is proposed only
//! if it reads differently from the recorded one. Everything here can be lost at any time: a fresh
//! planner decides the same.

use super::displacing::Displacing;
use super::draft::{
    Class, Draft, Open, OpenItem, Order, class_of, is_unplaced, order_of, recorded_refusal, shows,
};
use super::fair::FairQueue;
use super::hopes::{Hopes, Kinds};
use super::parked::{Parked, Refused};
use super::{Plan, Share};
use crate::fleet::Fleet;
use crate::placement::{Ask, Mirror, Ticket};
use berth_model::command::{Decision, PlaceItem};
use berth_model::{ContainerId, ContainerVm, Rejection};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most decisions of one plan: one command must stay small, and others want the log too.
pub const ITEMS_MAX: usize = 256;
/// Classes explained in one plan: each explanation looks at every host.
const EXPLANATIONS_MAX: usize = 8;

/// One that waits for a decision: since when, and whether on behalf of its class.
#[derive(Clone, Debug)]
struct Waiting {
    /// Of the caller's clock.
    since: u64,
    class: Option<Arc<Class>>,
}

/// What became of a plan.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// It was applied, and the fleet shows it.
    Applied(&'a [Result<ContainerId, Rejection>]),
    /// It was not, or nobody knows.
    Lost,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Planner {
    share: Share,
    mirror: Option<Mirror>,
    /// Tickets were given back that the mirror still counts.
    stale: bool,
    queue: FairQueue<Order, Waiting>,
    parked: Parked<Arc<Class>, Order, Waiting>,
    /// Where each refused one is parked.
    parked_in: BTreeMap<ContainerId, Arc<Class>>,
    hopes: Hopes,
    open: BTreeMap<u64, Open>,
    last_number: u64,
    /// In an open plan: nothing else is decided about them.
    busy: BTreeMap<ContainerId, u64>,
    displacing: Displacing,
}

impl Planner {
    /// A planner for its share of what waits.
    pub fn new(share: Share) -> Self {
        Self { share, ..Self::default() }
    }

    /// Follows `fleet`, and decides for what waits in it, at most `ITEMS_MAX` decisions. `now` is
    /// any clock that does not go back; it comes back as `Plan::since`. The outcome is to be told
    /// to [`Planner::settle`], unless there are no items.
    pub fn plan(&mut self, fleet: &Arc<Fleet>, now: u64) -> Plan {
        self.follow(fleet, now);
        let mut draft = Draft::new(self.last_number + 1, fleet);
        while draft.items.len() < ITEMS_MAX {
            let Some((order, waiting)) = self.queue.pop() else { break };
            let fleet = Arc::clone(fleet);
            match fleet.container(order.1) {
                Some(vm) if is_unplaced(vm) && !self.busy.contains_key(&vm.id) => {
                    if !self.decide(vm, waiting, &mut draft) {
                        break;
                    }
                }
                // Gone, or decided meanwhile: the next of its class has its turn.
                Some(_) | None => self.ask_next(waiting.class.as_ref()),
            }
        }
        self.finish(draft)
    }

    /// How many wait for a decision, refused ones apart.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    pub fn open_plans(&self) -> usize {
        self.open.len()
    }

    /// Tells what became of a plan. Says how many of its decisions others had overtaken.
    pub fn settle(
        &mut self,
        number: u64,
        outcome: &Outcome<'_>,
        fleet: &Arc<Fleet>,
        now: u64,
    ) -> u64 {
        let Some(mut open) = self.open.remove(&number) else { return 0 };
        let applied = matches!(outcome, Outcome::Applied(_));
        for item in &mut open.items {
            let displaces = matches!(item.item.decision, Decision::Displace { .. });
            if let Some(ticket) = item.ticket.take_if(|_| !(applied && displaces)) {
                self.drop_ticket(ticket);
            }
        }
        self.follow(fleet, now);
        let mut conflicts = 0;
        for (position, OpenItem { item, ticket, since }) in open.items.into_iter().enumerate() {
            let answer = match outcome {
                Outcome::Applied(answers) => answers.get(position),
                Outcome::Lost => None,
            };
            self.busy.remove(&item.container);
            let taken = matches!(answer, Some(Ok(_)));
            conflicts += u64::from(matches!(answer, Some(Err(_))));
            if let Some(ticket) = ticket {
                // Only a displacement that was applied has its ticket still.
                if taken {
                    self.displacing.confirm(item, ticket);
                    continue;
                }
                self.drop_ticket(ticket);
            }
            if !taken {
                self.hopes.note_dropped();
                self.unpark(item.container);
            }
            // Whatever it is now: it may wait for its next step already.
            if let Some(vm) = fleet.container(item.container) {
                self.consider(vm, since);
            }
        }
        conflicts
    }

    /// Brings the mirror and the queue up to `fleet`.
    pub fn follow(&mut self, fleet: &Arc<Fleet>, now: u64) {
        let Some(mirror) = &mut self.mirror else {
            self.mirror = Some(Mirror::new(Arc::clone(fleet)));
            for vm in fleet.unplaced() {
                self.consider(vm, now);
            }
            self.displacing.find(fleet);
            return;
        };
        if mirror.fleet().index() >= fleet.index() {
            self.refresh();
            return;
        }
        let before = Arc::clone(mirror.fleet());
        // What the fleet shows must not count twice until its answer comes.
        for item in self.open.values_mut().flat_map(|open| &mut open.items) {
            if let Some(ticket) = item.ticket.take_if(|_| shows(fleet, &item.item)) {
                mirror.settle(ticket);
            }
        }
        mirror.sync(fleet);
        self.stale = false;
        self.hopes.note(&before, fleet);
        for (id, vm) in fleet.containers_changed(&before) {
            match vm {
                Some(vm) => self.consider(vm, now),
                None => self.forget(id, &before),
            }
        }
        for (container, ticket) in self.displacing.follow(fleet) {
            self.drop_ticket(ticket);
            if let Some(vm) = fleet.container(container) {
                self.consider(vm, now);
            }
        }
        for (order, waiting) in self.parked.hopeful(&self.hopes) {
            let class = self.parked_in.remove(&order.1);
            if let Some(vm) = fleet.container(order.1) {
                self.push(vm, Waiting { class, ..waiting });
            } else {
                self.ask_next(class.as_ref());
            }
        }
    }

    /// Forgets what was given back.
    fn refresh(&mut self) {
        if std::mem::take(&mut self.stale)
            && let Some(mirror) = &mut self.mirror
        {
            let fleet = Arc::clone(mirror.fleet());
            mirror.sync(&fleet);
        }
    }

    /// A container VM as it is now: into the queue if it waits and nothing is decided about it.
    fn consider(&mut self, vm: &ContainerVm, since: u64) {
        let id = vm.id;
        if !self.share.holds(id) || self.busy.contains_key(&id) || self.displacing.waits(id) {
            return;
        }
        let parked = self.parked_in.contains_key(&id);
        if !is_unplaced(vm) || (parked && recorded_refusal(vm).is_none()) {
            self.unpark(id);
        } else if parked {
            return;
        }
        if is_unplaced(vm) {
            self.push(vm, Waiting { since, class: None });
        }
    }

    fn push(&mut self, vm: &ContainerVm, waiting: Waiting) {
        let priority = vm.spec.demand.priority;
        self.queue.push(priority, vm.endpoint(), order_of(vm), waiting);
    }

    fn unpark(&mut self, id: ContainerId) {
        let Some(class) = self.parked_in.remove(&id) else { return };
        let created = self.mirror.as_ref().and_then(|mirror| mirror.fleet().container(id));
        if let Some(vm) = created {
            self.parked.remove(&class, &order_of(vm));
        }
    }

    /// It is gone; what waits for the same has its place in the line.
    fn forget(&mut self, id: ContainerId, before: &Fleet) {
        let Some(class) = self.parked_in.remove(&id) else { return };
        if let Some(vm) = before.container(id) {
            self.parked.remove(&class, &order_of(vm));
        }
    }

    fn ask_next(&mut self, class: Option<&Arc<Class>>) {
        let Some(class) = class else { return };
        let Some((order, waiting)) = self.parked.next(class) else { return };
        self.parked_in.remove(&order.1);
        let fleet = self.mirror.as_ref().map(|mirror| Arc::clone(mirror.fleet()));
        match fleet.as_ref().and_then(|fleet| fleet.container(order.1)) {
            Some(vm) => self.push(vm, Waiting { class: Some(Arc::clone(class)), ..waiting }),
            None => self.ask_next(Some(class)),
        }
    }

    /// Decides about one. False if this plan is full in another way than by items.
    fn decide(&mut self, vm: &ContainerVm, waiting: Waiting, draft: &mut Draft) -> bool {
        self.refresh();
        let Some(mirror) = &mut self.mirror else { return false };
        let image = draft.fleet.image(vm.endpoint(), vm.spec.image).map(|image| &image.datastores);
        let (demand, labels) = (&vm.spec.demand, vm.labels());
        let decided = match vm.datastore {
            None => {
                let ask = Ask::create(vm.endpoint(), demand, labels, image);
                let ask = Ask { instead_of: vm.reservation, ..ask }.with_id(vm.id.as_bytes());
                mirror.decide_datastore(&ask).map(|datastore| {
                    let ticket = mirror.take_datastore(&ask, datastore);
                    (Decision::Datastore(datastore), ticket)
                })
            }
            Some(datastore) => {
                let ask = Ask::start(vm.endpoint(), demand, labels, image, datastore);
                let ask = Ask { instead_of: vm.reservation, ..ask }.with_id(vm.id.as_bytes());
                if let Some(place) = mirror.decide(&ask) {
                    let (host, epoch, numa) = (place.host, vm.epoch.next(), place.numa);
                    let decision = if numa.is_empty() {
                        Decision::Host { host, epoch }
                    } else {
                        Decision::Bound { host, epoch, numa }
                    };
                    Some((decision, mirror.take(&ask, &place)))
                } else {
                    let displaced = mirror.displace(&ask).filter(|(place, _)| {
                        self.displacing.may_begin(place.host) && !draft.displaces_on(place.host)
                    });
                    displaced.map(|(place, victims)| {
                        let decision = Decision::Displace { host: place.host, victims };
                        (decision, mirror.take(&ask, &place))
                    })
                }
            }
        };
        match decided {
            Some((decision, ticket)) => {
                let class = waiting.class.clone();
                self.add(draft, vm, decision, Some(ticket), waiting.since);
                self.ask_next(class.as_ref());
                true
            }
            None => self.refuse(vm, waiting, draft),
        }
    }

    fn refuse(&mut self, vm: &ContainerVm, waiting: Waiting, draft: &mut Draft) -> bool {
        let class = waiting.class.clone().unwrap_or_else(|| Arc::new(class_of(vm)));
        let explanation = match draft.explained.get(&class) {
            Some(explanation) => explanation.clone(),
            None if draft.explained.len() == EXPLANATIONS_MAX => {
                self.push(vm, waiting);
                draft.more = true;
                return false;
            }
            None => {
                let explanation = draft.explain(&self.open, vm);
                draft.explained.insert(Arc::clone(&class), explanation.clone());
                explanation
            }
        };
        let kinds = Kinds::that_help(&explanation);
        let refused = Refused { endpoint: vm.endpoint(), kinds, at: self.hopes.now() };
        let parked = Waiting { since: waiting.since, class: None };
        self.parked.park(Arc::clone(&class), refused, order_of(vm), parked);
        self.parked_in.insert(vm.id, class);
        draft.refusals.push(explanation.clone());
        if recorded_refusal(vm) != Some(&explanation) {
            self.add(draft, vm, Decision::Nowhere(explanation), None, waiting.since);
        }
        true
    }

    fn add(
        &mut self,
        draft: &mut Draft,
        vm: &ContainerVm,
        decision: Decision,
        ticket: Option<Ticket>,
        since: u64,
    ) {
        let item = PlaceItem { container: vm.id, decision };
        draft.note(&item);
        self.busy.insert(vm.id, draft.number);
        draft.items.push(OpenItem { item, ticket, since });
    }

    fn finish(&mut self, draft: Draft) -> Plan {
        let Draft { number, fleet, items, refusals, more, .. } = draft;
        let plan = Plan {
            number,
            planned_at: fleet.index(),
            since: items.iter().map(|open| open.since).collect(),
            items: items.iter().map(|open| open.item.clone()).collect(),
            refusals,
            more: more || !self.queue.is_empty(),
        };
        if !items.is_empty() {
            self.last_number = number;
            self.open.insert(number, Open { items });
        }
        plan
    }

    fn drop_ticket(&mut self, ticket: Ticket) {
        if let Some(mirror) = &mut self.mirror {
            mirror.settle(ticket);
            self.stale = true;
        }
    }
}
