//! One request while it is under way: what of it is answered, and what is known of the rest.

use super::request::{PlaceAnswer, PlaceMode, PlaceTrouble, Placed, Wanted};
use super::slab::Key;
use berth_model::{EndpointId, Explanation, PlacementWish, Rejection};
use std::cmp::Ordering;
use std::sync::Arc;

/// A request, and who wants to know. `R` is where the answer goes.
#[derive(Debug)]
pub(super) struct Job<R> {
    pub wanted: Wanted,
    pub reply: R,
    /// Milliseconds of the caller's clock.
    pub deadline: u64,
    /// Until then what is refused stays in the queue; zero for not at all.
    pub wait_until: u64,
    /// Order of arrival.
    pub arrival: u64,
    answers: Vec<Option<Result<Placed, Box<Explanation>>>>,
    left: usize,
    revision: u64,
    blocker: Option<u32>,
    /// A commit of it had no known outcome.
    pub doubt: bool,
    /// Items in commands that were sent and not answered.
    pub sent: u32,
    /// The last reason why it is not done yet.
    pub trouble: PlaceTrouble,
}

/// What of a job is decided in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Item(u32),
    /// All of it: a gang, or a dry run.
    Whole,
}

/// One try to decide.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub key: Key,
    pub unit: Unit,
    /// How often apply said no.
    pub tries: u8,
    /// How often it was refused while decisions were under way that might come to nothing.
    pub refusals: u8,
    /// Asked again on behalf of its class.
    pub first_of_class: bool,
}

/// Attempts of one endpoint go by arrival, then by place in their request.
pub(super) type Order = (u64, u32);

impl Attempt {
    pub fn new(key: Key, unit: Unit) -> Self {
        Self { key, unit, tries: 0, refusals: 0, first_of_class: false }
    }
}

/// Requests that get the same answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    Shape(EndpointId, Shape),
    /// A gang is like no other.
    Whole(Key),
}

/// A wish in an order, whichever: the same fields are the same shape, wherever they stand.
#[derive(Clone, Debug)]
pub(super) struct Shape(pub Arc<PlacementWish>);

impl Ord for Shape {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) {
            return Ordering::Equal;
        }
        let PlacementWish { demand, labels } = &*self.0;
        demand.cmp(&other.0.demand).then_with(|| labels.cmp(&other.0.labels))
    }
}

impl PartialOrd for Shape {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Shape {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Shape {}

impl<R> Job<R> {
    pub fn new(wanted: Wanted, reply: R, deadline: u64, wait_until: u64, arrival: u64) -> Self {
        let left = wanted.items.len();
        Self {
            wanted,
            reply,
            deadline,
            wait_until,
            arrival,
            answers: vec![None; left],
            left,
            revision: 0,
            blocker: None,
            doubt: false,
            sent: 0,
            trouble: PlaceTrouble::Full,
        }
    }

    /// Whether it is decided in one step.
    pub fn is_whole(&self) -> bool {
        self.wanted.gang.is_some() || self.wanted.mode == PlaceMode::Decide
    }

    /// The highest priority of its wishes.
    pub fn priority(&self) -> i16 {
        let items = self.wanted.items.iter();
        items.map(|item| self.wish(item.wish).demand.priority).max().unwrap_or_default()
    }

    /// A wish by its position, which was checked when the job came in.
    pub fn wish(&self, position: u32) -> &Arc<PlacementWish> {
        &self.wanted.wishes[position as usize]
    }

    /// Until when it waits for room.
    pub fn waits(&self, now: u64) -> bool {
        now < self.wait_until
    }

    pub fn is_open(&self, item: u32) -> bool {
        self.answers.get(item as usize).is_some_and(Option::is_none)
    }

    /// Answers one item; whether that was the last.
    pub fn answer(&mut self, item: u32, answer: Result<Placed, Box<Explanation>>) -> bool {
        if let Some(open @ None) = self.answers.get_mut(item as usize) {
            *open = Some(answer);
            self.left -= 1;
        }
        self.left == 0
    }

    /// Every item that is open, with the explanation of the one that stops them all.
    pub fn refuse_all(&mut self, blocker: u32, explanation: &Explanation) {
        self.blocker = Some(blocker);
        for open in self.answers.iter_mut().filter(|answer| answer.is_none()) {
            *open = Some(Err(Box::new(explanation.clone())));
        }
        self.left = 0;
    }

    pub fn true_at(&mut self, revision: u64) {
        self.revision = self.revision.max(revision);
    }

    /// The whole answer, once nothing is open.
    pub fn finish(self) -> (R, Result<PlaceAnswer, PlaceTrouble>) {
        let answer = PlaceAnswer {
            revision_index: self.revision,
            items: self.answers.into_iter().flatten().collect(),
            blocker: self.blocker,
        };
        (self.reply, Ok(answer))
    }

    /// What to say when its time is up.
    pub fn given_up(self) -> (R, Result<PlaceAnswer, PlaceTrouble>) {
        let held = |answer: &Option<Result<Placed, _>>| matches!(answer, Some(Ok(_)));
        let holds = self.wanted.mode != PlaceMode::Decide && self.answers.iter().any(held);
        let unsure = self.doubt || self.sent > 0 || holds;
        (self.reply, Err(if unsure { PlaceTrouble::Unknown } else { self.trouble }))
    }
}

/// Whether a rejected decision may come out differently when it is made again.
pub(super) fn may_differ(rejection: &Rejection) -> bool {
    match rejection {
        Rejection::HostRefuses { .. }
        | Rejection::DatastoreRefuses(_)
        | Rejection::NoSuchHost
        | Rejection::NoSuchDatastore(_)
        | Rejection::QuotaExceeded { .. }
        | Rejection::GangBroken(_)
        | Rejection::NotDisplaceable(_)
        | Rejection::NoSuchReservation(_)
        | Rejection::DeadlinePassed => true,
        Rejection::NotBootstrapped
        | Rejection::NoSuchCluster(_)
        | Rejection::NoSuchEndpoint
        | Rejection::NoSuchContainer(_)
        | Rejection::NoSuchImage(_)
        | Rejection::NameTaken { .. }
        | Rejection::Invalid { .. }
        | Rejection::AlreadyRunning(_)
        | Rejection::NotRunning(_)
        | Rejection::StillRunning(_)
        | Rejection::BeingRemoved(_)
        | Rejection::NotWaiting(_)
        | Rejection::NotPlaced(_)
        | Rejection::StaleEpoch { .. }
        | Rejection::NoSuchRule(_)
        | Rejection::ConditionFailed { .. }
        | Rejection::InUse { .. }
        | Rejection::OtherReservation(_)
        | Rejection::KeyReused => false,
    }
}
