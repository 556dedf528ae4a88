//! Decisions become `Reserve` commands, and their answers find the way back.

use super::desk::{Desk, Now};
use super::job::{Attempt, Job, Shape, Unit, may_differ};
use super::request::{PlaceMode, PlaceTrouble, Placed};
use super::slab::{Key, Slab};
use crate::fleet::{Fleet, format};
use crate::placement::Ticket;
use berth_model::change::Answer;
use berth_model::command::{Command, CommandBody, Principal, Reserve, ReserveItem};
use berth_model::{
    Change, EndpointId, GangId, Place, PlacementWish, Rejection, RequestId, ReservationId,
    Timestamp, Victim,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A command that is to be proposed.
#[derive(Debug)]
pub struct Proposal {
    /// Names it when its outcome is told.
    pub number: u64,
    pub bytes: Vec<u8>,
    /// How long a try may take, in milliseconds: the longest deadline in it.
    pub left: u64,
}

/// A command that is under way.
#[derive(Debug)]
pub(super) struct Batch {
    reserve: Box<Reserve>,
    held: Vec<Taken>,
    gang: bool,
    /// The mirror's fleet has it: what it took is counted there.
    shown: bool,
}

/// One item of a batch: whose it is, and what it takes until it is settled.
#[derive(Debug)]
struct Taken {
    key: Key,
    item: u32,
    tries: u8,
    /// `None` once the fleet shows it.
    ticket: Option<Ticket>,
}

/// A batch in the making.
#[derive(Default)]
pub(super) struct Builder {
    wishes: Vec<Arc<PlacementWish>>,
    positions: BTreeMap<Shape, u32>,
    /// The wish of the item before: most have the same.
    last: Option<(Arc<PlacementWish>, u32)>,
    items: Vec<ReserveItem>,
    held: Vec<Taken>,
    bytes: usize,
    deadline: u64,
}

/// A decision that is to be held.
pub(super) struct Decided {
    pub attempt: Attempt,
    pub item: u32,
    pub place: Place,
    pub victims: Vec<Victim>,
    pub ticket: Ticket,
}

/// Bytes of an item without disks and victims, and of one id, at most.
const ITEM_BYTES: usize = 112;
const ID_BYTES: usize = 36;

impl Builder {
    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn push<R>(&mut self, jobs: &mut Slab<Job<R>>, decided: Decided) {
        let Decided { attempt, item, place, victims, ticket } = decided;
        let Some(job) = jobs.get_mut(attempt.key) else { return };
        let wanted = job.wanted.items[item as usize];
        let wish = self.position(job.wish(wanted.wish));
        let hold_ms = match job.wanted.mode {
            PlaceMode::Hold { hold_ms } => hold_ms,
            PlaceMode::Decide => return,
        };
        job.sent += 1;
        self.deadline = self.deadline.max(job.deadline);
        self.bytes += ITEM_BYTES + ID_BYTES * (place.disks.len() + victims.len());
        let (id, endpoint) = (wanted.id, wanted.endpoint);
        self.items.push(ReserveItem { id, wish, endpoint, place, hold_ms, victims });
        self.held.push(Taken {
            key: attempt.key,
            item,
            tries: attempt.tries,
            ticket: Some(ticket),
        });
    }

    fn position(&mut self, wish: &Arc<PlacementWish>) -> u32 {
        if let Some((last, position)) = &self.last
            && Arc::ptr_eq(last, wish)
        {
            return *position;
        }
        let next = u32::try_from(self.wishes.len()).expect("a batch is small");
        let position = *self.positions.entry(Shape(Arc::clone(wish))).or_insert(next);
        if position == next {
            self.bytes += berth_wire::codec::encode(wish).len();
            self.wishes.push(Arc::clone(wish));
        }
        self.last = Some((Arc::clone(wish), position));
        position
    }
}

/// What became of a command.
#[derive(Debug)]
pub enum Outcome {
    /// It was applied, at this index.
    Answered { index: u64, answer: Answer },
    /// It certainly was not and will not be applied.
    Refused(PlaceTrouble),
    /// Nobody knows.
    Unknown,
}

/// Tries of one item at most; each means that somebody else took what was decided.
const TRIES_MAX: u8 = 32;
/// Pause after a command that found no leader or no room, in milliseconds.
const PAUSE_MS: u64 = 50;

impl<R> Desk<R> {
    /// Makes a command of what was decided and remembers it until its outcome is told.
    pub(super) fn dispatch(&mut self, builder: Builder, gang: Option<GangId>, now: Now) {
        let Some(first) = builder.held.first().map(|taken| taken.key) else { return };
        let same = builder.held.iter().all(|taken| taken.key == first);
        let Some(job) = self.jobs.get(first) else { return };
        let wanted = &job.wanted;
        let (principal, traceparent) = if same {
            (wanted.principal.clone(), wanted.traceparent.clone())
        } else {
            (Principal::Scheduler(self.limits.replica), None)
        };
        let left = builder.deadline.saturating_sub(now.ms);
        let reserve = Reserve {
            planned_at: self.mirror.as_ref().map_or(0, |mirror| mirror.fleet().index()),
            wishes: builder.wishes,
            items: builder.items,
            gang,
        };
        let command = Command {
            principal,
            // The listener has checked whose places may be asked for.
            endpoint: EndpointId::SYSTEM,
            request: RequestId::from_bytes(*wanted.request_id.as_bytes()),
            traceparent,
            // Each item's id is its key.
            key: None,
            deadline: Some(Timestamp(now.leader.0.saturating_add(left))),
            condition: None,
            body: CommandBody::Reserve(Box::new(reserve)),
        };
        let bytes = format::encode_command(&command);
        let CommandBody::Reserve(reserve) = command.body else { return };
        let number = self.next_batch;
        self.next_batch += 1;
        let gang = gang.is_some();
        self.batches.insert(number, Batch { reserve, held: builder.held, gang, shown: false });
        self.proposals.push(Proposal { number, bytes, left });
    }

    /// Tells what became of a command. `fleet` shows it, if it was applied.
    pub fn settle(&mut self, number: u64, outcome: Outcome, fleet: &Arc<Fleet>, now: Now) {
        let Some(batch) = self.batches.remove(&number) else { return };
        let Batch { reserve, mut held, gang, .. } = batch;
        for ticket in held.iter_mut().filter_map(|taken| taken.ticket.take()) {
            self.drop_ticket(ticket);
        }
        self.follow(fleet);
        match outcome {
            Outcome::Answered { index, answer: Ok(Change::Reserved { items }) }
                if items.len() == held.len() =>
            {
                if gang && items.iter().any(Result::is_err) {
                    let why = items.into_iter().find_map(Result::err);
                    self.gang_rejected(held, why);
                } else {
                    self.answered(held, *reserve, items, index);
                }
            }
            Outcome::Answered { answer: Err(rejection), .. } => self.rejected(held, &rejection),
            Outcome::Answered { .. } | Outcome::Unknown => {
                self.again(held, |job| {
                    job.doubt = true;
                    job.trouble = PlaceTrouble::Unknown;
                });
            }
            Outcome::Refused(trouble @ (PlaceTrouble::TooLarge | PlaceTrouble::Stopped)) => {
                for key in self.give_back(held) {
                    self.fail(key, trouble.clone());
                }
            }
            Outcome::Refused(trouble) => {
                self.paused_until = now.ms + PAUSE_MS;
                self.again(held, |job| job.trouble = trouble.clone());
            }
        }
    }

    fn answered(
        &mut self,
        held: Vec<Taken>,
        reserve: Reserve,
        items: Vec<Result<ReservationId, Rejection>>,
        index: u64,
    ) {
        let mut conflicts = false;
        for ((taken, item), answer) in held.into_iter().zip(reserve.items).zip(items) {
            let Taken { key, item: position, tries, ticket: _ } = taken;
            match answer {
                Ok(id) => {
                    self.counts.held += 1;
                    self.sent_back(key);
                    let placed = self.as_held(id, item.place, item.victims);
                    self.answer_item(key, position, Ok(placed), index);
                }
                Err(rejection) if may_differ(&rejection) && tries < TRIES_MAX => {
                    conflicts = true;
                    self.counts.conflicts += 1;
                    self.sent_back(key);
                    let tries = tries + 1;
                    self.queue(Attempt { tries, ..Attempt::new(key, Unit::Item(position)) });
                }
                Err(rejection) => {
                    self.sent_back(key);
                    self.fail(key, PlaceTrouble::Rejected(rejection));
                }
            }
        }
        if conflicts {
            self.hopes.note_dropped();
        }
    }

    /// Where the reservation really is: the first of two requests with its id has decided that.
    pub(super) fn as_held(&self, id: ReservationId, place: Place, victims: Vec<Victim>) -> Placed {
        let found = self.mirror.as_ref().and_then(|mirror| mirror.fleet().reservation(id));
        match found {
            Some(held) if held.place != place => {
                Placed { place: held.place.clone(), reservation: Some(id), victims: Vec::new() }
            }
            Some(_) | None => Placed { place, reservation: Some(id), victims },
        }
    }

    /// Takes back what was decided and never sent.
    pub(super) fn withdraw(&mut self, mut builder: Builder) {
        for ticket in builder.held.iter_mut().filter_map(|taken| taken.ticket.take()) {
            self.drop_ticket(ticket);
        }
        self.give_back(builder.held);
    }

    /// Commands that `fleet` shows count there from now on. Their answers come a moment later; what
    /// they took must not count twice until then, or a request would be refused that has room.
    pub(super) fn let_shown_go(&mut self, fleet: &Fleet) {
        let Some(mirror) = &mut self.mirror else { return };
        for batch in self.batches.values_mut().filter(|batch| !batch.shown) {
            let mut items = batch.reserve.items.iter();
            let shows = |item: Option<&ReserveItem>| {
                item.is_some_and(|item| fleet.reservation(item.id).is_some())
            };
            // Of a command with rejected items some may be missing.
            batch.shown = shows(items.next()) || shows(items.next_back());
            if batch.shown {
                for ticket in batch.held.iter_mut().filter_map(|taken| taken.ticket.take()) {
                    mirror.settle(ticket);
                }
            }
        }
    }

    fn gang_rejected(&mut self, held: Vec<Taken>, why: Option<Rejection>) {
        self.counts.conflicts += held.len() as u64;
        let differs = why.as_ref().is_none_or(may_differ);
        let tries = held.iter().map(|taken| taken.tries).max().unwrap_or_default();
        let keys = self.give_back(held);
        self.hopes.note_dropped();
        for key in keys {
            match &why {
                Some(rejection) if !differs || tries >= TRIES_MAX => {
                    self.fail(key, PlaceTrouble::Rejected(rejection.clone()));
                }
                Some(_) | None => {
                    let tries = tries + 1;
                    self.queue(Attempt { tries, ..Attempt::new(key, Unit::Whole) });
                }
            }
        }
    }

    /// The whole command was rejected: for its time, or for what it says.
    fn rejected(&mut self, held: Vec<Taken>, rejection: &Rejection) {
        if may_differ(rejection) {
            self.again(held, |job| job.trouble = PlaceTrouble::Full);
            return;
        }
        for key in self.give_back(held) {
            self.fail(key, PlaceTrouble::Rejected(rejection.clone()));
        }
    }

    /// Back into the queue with everything, after `note` of its jobs.
    fn again(&mut self, held: Vec<Taken>, note: impl Fn(&mut Job<R>)) {
        let attempts: Vec<_> =
            held.iter().map(|taken| (taken.key, taken.item, taken.tries)).collect();
        for key in self.give_back(held) {
            if let Some(job) = self.jobs.get_mut(key) {
                note(job);
            }
        }
        let mut last_whole = None;
        for (key, item, tries) in attempts {
            let Some(job) = self.jobs.get(key) else { continue };
            let unit = if job.is_whole() { Unit::Whole } else { Unit::Item(item) };
            if unit == Unit::Whole && last_whole.replace(key) == Some(key) {
                continue;
            }
            self.queue(Attempt { tries, ..Attempt::new(key, unit) });
        }
        self.hopes.note_dropped();
    }

    /// The jobs, each once.
    fn give_back(&mut self, held: Vec<Taken>) -> Vec<Key> {
        let mut keys = Vec::new();
        for taken in held {
            self.sent_back(taken.key);
            keys.push(taken.key);
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    fn sent_back(&mut self, key: Key) {
        if let Some(job) = self.jobs.get_mut(key) {
            job.sent -= 1;
        }
    }
}
