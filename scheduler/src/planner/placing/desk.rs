//! The desk of one planner: its jobs, its mirror, and one turn after the other.

use super::commands::{Batch, Builder, Proposal};
use super::explaining::Explaining;
use super::job::{Attempt, Class, Job, Order, Unit};
use super::request::{PlaceAnswer, PlaceMode, PlaceTrouble, Placed, Wanted};
use super::slab::{Key, Slab};
use crate::fleet::Fleet;
use crate::placement::Mirror;
use crate::planner::fair::FairQueue;
use crate::planner::hopes::Hopes;
use crate::planner::parked::Parked;
use berth_model::{EndpointId, Explanation, Rejection, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Bounds of a desk.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Speaks for commands of several clients.
    pub replica: u64,
    /// Decisions of one turn.
    pub turn_items: usize,
    /// Items of one command.
    pub batch_items: usize,
    /// Bytes at which a command is full; a gang may need more, up to `command_bytes`.
    pub batch_bytes: usize,
    pub command_bytes: usize,
    /// Commands under way.
    pub batches: usize,
    /// Longest time for which a place may be held, in milliseconds.
    pub max_hold_ms: Option<u64>,
}

impl Limits {
    /// For a log whose commands hold `command_bytes` at most.
    pub fn new(replica: u64, command_bytes: usize, max_hold_ms: Option<u64>) -> Self {
        // What an entry of the log holds beside other commands.
        const ENTRY_BYTES: usize = 224 << 10;
        // Envelope and command around the items.
        let command_bytes = command_bytes.saturating_sub(1 << 10);
        Self {
            replica,
            turn_items: 4096,
            batch_items: 2048,
            batch_bytes: command_bytes.min(ENTRY_BYTES),
            command_bytes,
            batches: 16,
            max_hold_ms,
        }
    }
}

/// What time it is.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Milliseconds of a clock that never goes back.
    pub ms: u64,
    /// The leader's time as far as it is known, for deadlines that apply looks at.
    pub leader: Timestamp,
}

/// What was done since it was last asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Decisions made, those made again too.
    pub decided: u64,
    /// Places held: applied.
    pub held: u64,
    /// Places told in a dry run.
    pub told: u64,
    /// Refused for good.
    pub refused: u64,
    /// Decisions that apply rejected because something else was quicker.
    pub conflicts: u64,
}

/// An answer, and where it goes.
pub type Done<R> = (R, Result<PlaceAnswer, PlaceTrouble>);

/// See the module.
#[derive(Debug)]
pub struct Desk<R> {
    pub(super) limits: Limits,
    pub(super) mirror: Option<Mirror>,
    /// Tickets were given back that the mirror still counts.
    pub(super) stale: bool,
    pub(super) jobs: Slab<Job<R>>,
    arrivals: u64,
    queue: FairQueue<Order, Attempt>,
    /// Refused while commands before this number were under way.
    pub(super) doubtful: Vec<(u64, Attempt)>,
    pub(super) parked: Parked<Class, Order, Attempt>,
    pub(super) hopes: Hopes,
    /// When a job's wait or time ends.
    deadlines: BTreeSet<(u64, Key)>,
    pub(super) batches: BTreeMap<u64, Batch>,
    pub(super) next_batch: u64,
    pub(super) paused_until: u64,
    pub(super) explaining: Explaining,
    pub(super) proposals: Vec<Proposal>,
    done: Vec<Done<R>>,
    pub(super) counts: Counts,
}

impl<R> Desk<R> {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            mirror: None,
            stale: false,
            jobs: Slab::default(),
            arrivals: 0,
            queue: FairQueue::default(),
            doubtful: Vec::new(),
            parked: Parked::default(),
            hopes: Hopes::default(),
            deadlines: BTreeSet::new(),
            batches: BTreeMap::new(),
            next_batch: 0,
            paused_until: 0,
            explaining: Explaining::default(),
            proposals: Vec::new(),
            done: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Takes a job. It is answered by `deadline`; until `wait_until`, what is refused stays in the
    /// queue. Both in milliseconds of `Now::ms`.
    pub fn submit(&mut self, wanted: Wanted, reply: R, deadline: u64, wait_until: u64) {
        if let Some(trouble) = self.cannot_stand(&wanted) {
            self.done.push((reply, Err(trouble)));
            return;
        }
        if wanted.items.is_empty() {
            let revision_index = self.mirror.as_ref().map_or(0, |mirror| mirror.fleet().index());
            let answer = PlaceAnswer { revision_index, items: Vec::new(), blocker: None };
            self.done.push((reply, Ok(answer)));
            return;
        }
        self.arrivals += 1;
        let job = Job::new(wanted, reply, deadline, wait_until.min(deadline), self.arrivals);
        let (whole, items) = (job.is_whole(), job.wanted.items.len());
        let first_end = if wait_until > 0 { job.wait_until } else { deadline };
        let key = self.jobs.insert(job);
        self.deadlines.insert((first_end, key));
        if whole {
            self.queue(Attempt::new(key, Unit::Whole));
            return;
        }
        for item in (0..).take(items) {
            self.queue(Attempt::new(key, Unit::Item(item)));
        }
    }

    fn cannot_stand(&self, wanted: &Wanted) -> Option<PlaceTrouble> {
        let invalid = |what: &str, value: String, rule: String| {
            let what = what.to_owned();
            Some(PlaceTrouble::Rejected(Rejection::Invalid { what, value, rule }))
        };
        let shapes = wanted.wishes.len();
        if let Some(item) = wanted.items.iter().find(|item| item.wish as usize >= shapes) {
            let rule = format!("the request has {shapes} shapes, counted from 0");
            return invalid("shape of an item", item.wish.to_string(), rule);
        }
        let PlaceMode::Hold { hold_ms } = wanted.mode else { return None };
        let most = self.limits.max_hold_ms?;
        if hold_ms.is_some_and(|hold_ms| hold_ms <= most) {
            return None;
        }
        let value = hold_ms.map_or("without end".to_owned(), |hold_ms| format!("{hold_ms} ms"));
        invalid("time to hold a place", value, format!("at most {most} ms in this cell"))
    }

    /// Follows `fleet` and decides what can be decided: see [`Self::take_proposals`],
    /// [`Self::take_done`] and [`Self::next_explanation`] for what came of it.
    pub fn turn(&mut self, fleet: &Arc<Fleet>, now: Now) {
        self.follow(fleet);
        self.end_waits(now);
        self.settle_doubts();
        self.hope();
        if now.ms >= self.paused_until {
            self.decide(now);
        }
    }

    /// Commands to propose.
    pub fn take_proposals(&mut self) -> Vec<Proposal> {
        std::mem::take(&mut self.proposals)
    }

    pub fn take_done(&mut self) -> Vec<Done<R>> {
        std::mem::take(&mut self.done)
    }

    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// Jobs without an answer.
    pub fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// Items that wait for a decision now.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    pub fn commands_under_way(&self) -> usize {
        self.batches.len()
    }

    /// Whether a change of the fleet is worth a turn.
    pub fn hopes_for_change(&self) -> bool {
        !self.parked.is_empty()
    }

    /// When there is something to do even if nothing happens, in milliseconds.
    pub fn next_turn(&self, now: Now) -> Option<u64> {
        let end = self.deadlines.first().map(|(end, _)| *end);
        let may_decide = !self.queue.is_empty() && self.batches.len() < self.limits.batches;
        let decide = may_decide.then(|| self.paused_until.max(now.ms));
        end.into_iter().chain(decide).min()
    }

    /// Answers everything, for this scheduler ends.
    pub fn stop(&mut self) {
        for key in self.jobs.keys().collect::<Vec<_>>() {
            if let Some(job) = self.jobs.get_mut(key) {
                job.trouble = PlaceTrouble::Stopped;
            }
            self.give_up(key);
        }
    }

    /// Forgets the mirror, which is as large as the fleet, if nobody needs it at the moment.
    pub fn rest(&mut self) {
        if self.jobs.len() == 0 && self.batches.is_empty() {
            self.mirror = None;
        }
    }

    /// Forgets the jobs of those who do not wait any more.
    pub fn retain(&mut self, alive: impl Fn(&R) -> bool) {
        for key in self.jobs.keys().collect::<Vec<_>>() {
            if self.jobs.get(key).is_some_and(|job| !alive(&job.reply)) {
                self.unpark(key);
                self.remove(key);
            }
        }
    }

    /// Brings the mirror up to `fleet`; one who has jobs makes one.
    pub fn follow(&mut self, fleet: &Arc<Fleet>) {
        if self.jobs.len() == 0 && self.mirror.is_none() {
            return;
        }
        if self.mirror.as_ref().is_some_and(|mirror| mirror.fleet().index() >= fleet.index()) {
            self.refresh();
            return;
        }
        self.let_shown_go(fleet);
        match &mut self.mirror {
            Some(mirror) => {
                // Nobody who is parked, nothing to hope for.
                if !self.parked.is_empty() || !self.doubtful.is_empty() {
                    self.hopes.note(mirror.fleet(), fleet);
                }
                mirror.sync(fleet);
            }
            none @ None => *none = Some(Mirror::new(Arc::clone(fleet))),
        }
        self.stale = false;
    }

    /// Forgets what was given back.
    pub(super) fn refresh(&mut self) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        if let Some(mirror) = &mut self.mirror {
            let fleet = Arc::clone(mirror.fleet());
            mirror.sync(&fleet);
        }
    }

    /// Waits that are over become refusals, and jobs whose time is up are given up.
    fn end_waits(&mut self, now: Now) {
        while let Some((end, key)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now.ms)
        {
            self.deadlines.remove(&(end, key));
            let Some(job) = self.jobs.get(key) else { continue };
            if job.deadline <= now.ms {
                self.give_up(key);
                continue;
            }
            self.deadlines.insert((job.deadline, key));
            for attempt in self.unpark(key) {
                self.refuse(attempt);
            }
        }
    }

    /// What was refused while others were under way is decided again once these are settled.
    fn settle_doubts(&mut self) {
        let oldest = self.batches.keys().next().copied().unwrap_or(u64::MAX);
        let ready: Vec<Attempt> = self
            .doubtful
            .extract_if(.., |(before, _)| *before <= oldest)
            .map(|(_, attempt)| attempt)
            .collect();
        for attempt in ready {
            self.queue(Attempt { refusals: attempt.refusals + 1, ..attempt });
        }
    }

    fn hope(&mut self) {
        if self.parked.is_empty() {
            return;
        }
        for (_, attempt) in self.parked.hopeful(&self.hopes) {
            self.queue(Attempt { first_of_class: true, refusals: 0, ..attempt });
        }
    }

    fn decide(&mut self, now: Now) {
        let mut left = self.limits.turn_items;
        let mut builder = Builder::default();
        while left > 0 && self.batches.len() < self.limits.batches {
            let Some((_, attempt)) = self.queue.pop() else { break };
            match attempt.unit {
                Unit::Item(item) => {
                    left -= 1;
                    self.decide_item(attempt, item, &mut builder, now);
                    if builder.len() >= self.limits.batch_items
                        || builder.bytes() >= self.limits.batch_bytes
                    {
                        self.dispatch(std::mem::take(&mut builder), None, now);
                    }
                }
                Unit::Whole => {
                    let items = self.jobs.get(attempt.key).map_or(0, |job| job.wanted.items.len());
                    left = left.saturating_sub(items.max(1));
                    self.decide_whole(attempt, builder.len() > 0, now);
                }
            }
        }
        self.dispatch(builder, None, now);
    }

    /// Puts an attempt into the queue, where its job's age and its priority say.
    pub(super) fn queue(&mut self, attempt: Attempt) {
        let Some(job) = self.jobs.get(attempt.key) else { return };
        let (priority, endpoint, position) = match attempt.unit {
            Unit::Item(item) => {
                let wanted = job.wanted.items[item as usize];
                (job.wish(wanted.wish).demand.priority, wanted.endpoint, item)
            }
            Unit::Whole => {
                let first = job.wanted.items.first();
                (job.priority(), first.map_or(EndpointId::SYSTEM, |item| item.endpoint), 0)
            }
        };
        self.queue.push(priority, endpoint, (job.arrival, position), attempt);
    }

    /// Takes what is parked of one job out.
    fn unpark(&mut self, key: Key) -> Vec<Attempt> {
        let Some(job) = self.jobs.get(key) else { return Vec::new() };
        let arrival = job.arrival;
        if job.is_whole() {
            return self.parked.remove(&Class::Whole(key), &(arrival, 0)).into_iter().collect();
        }
        let mut found = Vec::new();
        for (position, item) in (0..).zip(&job.wanted.items) {
            if job.is_open(position) {
                let class = super::decide::class_of(job, item);
                found.extend(self.parked.remove(&class, &(arrival, position)));
            }
        }
        found
    }

    pub(super) fn answer_item(
        &mut self,
        key: Key,
        item: u32,
        answer: Result<Placed, Box<Explanation>>,
        revision: u64,
    ) {
        let Some(job) = self.jobs.get_mut(key) else { return };
        job.true_at(revision);
        if job.answer(item, answer) {
            self.finish(key);
        }
    }

    /// The job has all its answers.
    pub(super) fn finish(&mut self, key: Key) {
        if let Some(job) = self.remove(key) {
            self.done.push(job.finish());
        }
    }

    pub(super) fn fail(&mut self, key: Key, trouble: PlaceTrouble) {
        self.unpark(key);
        if let Some(job) = self.remove(key) {
            self.done.push((job.reply, Err(trouble)));
        }
    }

    fn give_up(&mut self, key: Key) {
        self.unpark(key);
        if let Some(job) = self.remove(key) {
            self.done.push(job.given_up());
        }
    }

    fn remove(&mut self, key: Key) -> Option<Job<R>> {
        let job = self.jobs.remove(key)?;
        self.deadlines.remove(&(job.deadline, key));
        self.deadlines.remove(&(job.wait_until, key));
        Some(job)
    }
}
