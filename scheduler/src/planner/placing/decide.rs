//! One decision, or all of one job together, on the mirror; and what follows where there is no
//! place.

use super::commands::{Builder, Decided};
use super::desk::{Desk, Now};
use super::explaining::{Before, Question, Target};
use super::job::{Attempt, Class, Job, Shape, Unit};
use super::request::{PlaceMode, PlaceTrouble, PlaceWish, Placed};
use super::slab::Key;
use crate::placement::{Ask, Mirror, Ticket};
use crate::planner::hopes::Kinds;
use crate::planner::parked::Refused;
use berth_model::{EndpointId, Place, PlacementWish, Victim};
use std::sync::Arc;

/// How often one is decided again because others were under way when it was refused.
const REFUSALS_MAX: u8 = 2;

/// A place that was found and is counted in the mirror.
struct Found {
    item: u32,
    place: Place,
    victims: Vec<Victim>,
    ticket: Ticket,
}

/// One item without a place, beside those that were found before it.
struct Nowhere {
    item: u32,
    found_before: usize,
}

pub(super) fn class_of<R>(job: &Job<R>, item: &PlaceWish) -> Class {
    Class::Shape(item.endpoint, Shape(Arc::clone(job.wish(item.wish))))
}

/// Looks for a place and counts it; `item` is only noted. Nobody gives way on a host in `busy`:
/// whose room that would be is not known any more.
fn find(
    mirror: &mut Mirror,
    wanted: &PlaceWish,
    wish: &PlacementWish,
    item: u32,
    busy: &[Found],
) -> Option<Found> {
    let ask = Ask::hold(wanted.endpoint, wish).with_id(wanted.id.as_bytes());
    let (place, victims) = match mirror.decide(&ask) {
        Some(place) => (place, Vec::new()),
        None => mirror.displace(&ask).filter(|(place, _)| {
            let same = |found: &Found| found.place.host == place.host && !found.victims.is_empty();
            !busy.iter().any(same)
        })?,
    };
    let ticket = mirror.take(&ask, &place);
    Some(Found { item, place, victims, ticket })
}

impl<R> Desk<R> {
    pub(super) fn decide_item(
        &mut self,
        attempt: Attempt,
        item: u32,
        builder: &mut Builder,
        now: Now,
    ) {
        let Some(job) = self.jobs.get(attempt.key).filter(|job| job.is_open(item)) else { return };
        let wanted = job.wanted.items[item as usize];
        let wish = Arc::clone(job.wish(wanted.wish));
        if job.doubt && self.already_held(attempt.key, item, &wanted) {
            return;
        }
        self.refresh();
        let Some(mirror) = &mut self.mirror else { return };
        self.counts.decided += 1;
        match find(mirror, &wanted, &wish, item, &[]) {
            Some(Found { place, victims, ticket, .. }) => {
                builder.push(&mut self.jobs, Decided { attempt, item, place, victims, ticket });
                if attempt.first_of_class {
                    self.ask_next(&Class::Shape(wanted.endpoint, Shape(wish)));
                }
            }
            None if self.already_held(attempt.key, item, &wanted) => {}
            None => self.no_place(attempt, builder.len() > 0, now),
        }
    }

    /// A request that is repeated finds what the first one got.
    fn already_held(&mut self, key: Key, item: u32, wanted: &PlaceWish) -> bool {
        let Some(fleet) = self.mirror.as_ref().map(|mirror| mirror.fleet()) else { return false };
        let Some(held) = fleet.reservation(wanted.id) else { return false };
        if held.meta.endpoint != wanted.endpoint {
            return false;
        }
        let revision = fleet.index();
        let (place, reservation) = (held.place.clone(), Some(wanted.id));
        let placed = Placed { place, reservation, victims: Vec::new() };
        self.answer_item(key, item, Ok(placed), revision);
        true
    }

    pub(super) fn decide_whole(&mut self, attempt: Attempt, builder_open: bool, now: Now) {
        let key = attempt.key;
        let Some(job) = self.jobs.get(key) else { return };
        let (mode, gang) = (job.wanted.mode, job.wanted.gang);
        if job.doubt && self.all_held(key) {
            return;
        }
        let (found, nowhere) = self.find_all(key);
        match (mode, gang) {
            (PlaceMode::Decide, None) => self.tell(key, found, &nowhere),
            (PlaceMode::Decide, Some(_)) if nowhere.is_empty() => self.tell(key, found, &nowhere),
            (PlaceMode::Hold { .. }, _) if nowhere.is_empty() => {
                let mut builder = Builder::default();
                for Found { item, place, victims, ticket } in found {
                    let decided = Decided { attempt, item, place, victims, ticket };
                    builder.push(&mut self.jobs, decided);
                }
                let fits = builder.bytes() <= self.limits.command_bytes;
                if fits {
                    self.dispatch(builder, gang, now);
                } else {
                    self.withdraw(builder);
                    self.fail(key, PlaceTrouble::TooLarge);
                }
            }
            (PlaceMode::Decide, Some(_)) => self.refuse_gang(key, found, &nowhere),
            (PlaceMode::Hold { .. }, _) => {
                if self.all_held(key) {
                    self.drop_found(found);
                } else if self.is_final(attempt, builder_open)
                    && self.jobs.get(key).is_some_and(|job| !job.waits(now.ms))
                {
                    self.refuse_gang(key, found, &nowhere);
                } else {
                    self.drop_found(found);
                    self.no_place(attempt, builder_open, now);
                }
            }
        }
    }

    /// Looks for places for all open items of a job, one after the other; a gang stops at the
    /// first without one.
    fn find_all(&mut self, key: Key) -> (Vec<Found>, Vec<Nowhere>) {
        self.refresh();
        let (mut found, mut nowhere) = (Vec::new(), Vec::new());
        let (Some(job), Some(mirror)) = (self.jobs.get(key), &mut self.mirror) else {
            return (found, nowhere);
        };
        for (item, wanted) in (0..).zip(&job.wanted.items) {
            self.counts.decided += 1;
            match find(mirror, wanted, job.wish(wanted.wish), item, &found) {
                Some(place) => found.push(place),
                None => {
                    nowhere.push(Nowhere { item, found_before: found.len() });
                    if job.wanted.gang.is_some() {
                        break;
                    }
                }
            }
        }
        (found, nowhere)
    }

    /// Whether a reservation stands for every item: an earlier command of the gang was applied.
    fn all_held(&mut self, key: Key) -> bool {
        let (Some(job), Some(mirror)) = (self.jobs.get(key), &self.mirror) else { return false };
        let items = job.wanted.items.clone();
        let fleet = mirror.fleet();
        let held = items.iter().all(|item| {
            fleet.reservation(item.id).is_some_and(|held| held.meta.endpoint == item.endpoint)
        });
        if held {
            for (position, item) in (0..).zip(&items) {
                self.already_held(key, position, item);
            }
        }
        held
    }

    /// Answers a dry run; what was counted for it is given back.
    fn tell(&mut self, key: Key, found: Vec<Found>, nowhere: &[Nowhere]) {
        let revision = self.mirror.as_ref().map_or(0, |mirror| mirror.fleet().index());
        // One explanation a shape: the first of it says why for the rest.
        let mut explained: Vec<(Class, u64)> = Vec::new();
        for Nowhere { item, found_before } in nowhere {
            self.counts.refused += 1;
            let Some(job) = self.jobs.get(key) else { break };
            let class = class_of(job, &job.wanted.items[*item as usize]);
            let target = Target::Item(key, *item);
            match explained.iter().find(|(known, _)| *known == class) {
                Some((_, number)) => self.explaining.join(*number, target),
                None => {
                    let number = self.ask_why(key, *item, &found[..*found_before], target);
                    explained.push((class, number));
                }
            }
        }
        if let Some(job) = self.jobs.get_mut(key) {
            job.true_at(revision);
        }
        for Found { item, place, victims, ticket } in found {
            self.counts.told += 1;
            self.drop_ticket(ticket);
            let placed = Placed { place, reservation: None, victims };
            self.answer_item(key, item, Ok(placed), revision);
        }
    }

    fn refuse_gang(&mut self, key: Key, found: Vec<Found>, nowhere: &[Nowhere]) {
        if let Some(Nowhere { item, found_before }) = nowhere.first() {
            self.counts.refused += 1;
            self.ask_why(key, *item, &found[..*found_before], Target::Whole(key, *item));
        }
        self.drop_found(found);
    }

    /// Asks for an explanation of one item, as if `found` were held.
    fn ask_why(&mut self, key: Key, item: u32, found: &[Found], target: Target) -> u64 {
        let (Some(job), Some(mirror)) = (self.jobs.get(key), &self.mirror) else { return 0 };
        let before = found.iter().map(|found| {
            let wanted = job.wanted.items[found.item as usize];
            Before {
                id: wanted.id,
                endpoint: wanted.endpoint,
                wish: Arc::clone(job.wish(wanted.wish)),
                place: found.place.clone(),
                victims: found.victims.clone(),
            }
        });
        let wanted = job.wanted.items[item as usize];
        let question = Question {
            fleet: Arc::clone(mirror.fleet()),
            before: before.collect(),
            endpoint: wanted.endpoint,
            wish: Arc::clone(job.wish(wanted.wish)),
            hosts: job.wanted.explain_hosts,
        };
        self.explaining.ask(question, target)
    }

    /// Whether a refusal counts: nothing was under way that may have come to nothing since, or that
    /// was so often enough for a desk that is never idle.
    fn is_final(&self, attempt: Attempt, builder_open: bool) -> bool {
        attempt.refusals >= REFUSALS_MAX || (self.batches.is_empty() && !builder_open)
    }

    /// Nowhere, for now or for good.
    fn no_place(&mut self, attempt: Attempt, builder_open: bool, now: Now) {
        if !self.is_final(attempt, builder_open) {
            self.doubtful.push((self.next_batch + u64::from(builder_open), attempt));
            return;
        }
        let Some(job) = self.jobs.get(attempt.key) else { return };
        if !job.waits(now.ms) {
            self.refuse(attempt);
            return;
        }
        let (class, endpoint, position) = match attempt.unit {
            Unit::Item(item) => {
                let wanted = &job.wanted.items[item as usize];
                (class_of(job, wanted), wanted.endpoint, item)
            }
            Unit::Whole => {
                let first = job.wanted.items.first();
                let endpoint = first.map_or(EndpointId::SYSTEM, |item| item.endpoint);
                (Class::Whole(attempt.key), endpoint, 0)
            }
        };
        let refused = Refused { endpoint, kinds: Kinds::ALL, at: self.hopes.now() };
        self.parked.park(class, refused, (job.arrival, position), attempt);
    }

    /// Nowhere, for good: says why.
    pub(super) fn refuse(&mut self, attempt: Attempt) {
        match attempt.unit {
            Unit::Item(item) => {
                self.counts.refused += 1;
                self.ask_why(attempt.key, item, &[], Target::Item(attempt.key, item));
            }
            Unit::Whole => {
                let (found, nowhere) = self.find_all(attempt.key);
                if nowhere.is_empty() {
                    // Room at the last moment: it is decided once more, and held.
                    self.drop_found(found);
                    self.queue(attempt);
                } else {
                    self.refuse_gang(attempt.key, found, &nowhere);
                }
            }
        }
    }

    fn ask_next(&mut self, class: &Class) {
        if let Some((_, next)) = self.parked.next(class) {
            self.queue(Attempt { first_of_class: true, refusals: 0, ..next });
        }
    }

    fn drop_found(&mut self, found: Vec<Found>) {
        for found in found {
            self.drop_ticket(found.ticket);
        }
    }

    pub(super) fn drop_ticket(&mut self, ticket: Ticket) {
        if let Some(mirror) = &mut self.mirror {
            mirror.settle(ticket);
            self.stale = true;
        }
    }
}
