//! Explanations that are to be made. They look at every host, so they are made beside the desk,
//! one after the other; requests of one shape that are refused meanwhile share one.

use super::desk::Desk;
use super::job::{Class, Shape};
use super::slab::Key;
use crate::fleet::Fleet;
use crate::placement::{Ask, explain};
use berth_model::command::{Command, CommandBody, Principal, Reserve, ReserveItem};
use berth_model::{
    EndpointId, Explanation, Place, PlacementWish, RequestId, ReservationId, Victim,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Why there is no place for one item.
#[derive(Debug)]
pub(super) struct Question {
    pub fleet: Arc<Fleet>,
    /// Decided before it in the same request.
    pub before: Vec<Before>,
    pub endpoint: EndpointId,
    pub wish: Arc<PlacementWish>,
    pub hosts: usize,
}

/// A place that counts as held while the question is answered.
#[derive(Debug)]
pub(super) struct Before {
    pub id: ReservationId,
    pub endpoint: EndpointId,
    pub wish: Arc<PlacementWish>,
    pub place: Place,
    pub victims: Vec<Victim>,
}

/// Whom an explanation answers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    Item(Key, u32),
    /// A whole gang, by the item that stops it.
    Whole(Key, u32),
}

impl Target {
    fn key(self) -> Key {
        match self {
            Target::Item(key, _) | Target::Whole(key, _) => key,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Explaining {
    last: u64,
    /// Not begun yet.
    queue: VecDeque<(u64, Question)>,
    /// Those in the queue that others of the shape may join.
    open: BTreeMap<(Class, usize), u64>,
    targets: BTreeMap<u64, Vec<Target>>,
}

impl Explaining {
    /// Answers the number under which others may join.
    pub fn ask(&mut self, question: Question, target: Target) -> u64 {
        let class = Class::Shape(question.endpoint, Shape(Arc::clone(&question.wish)));
        let known = (class, question.hosts);
        let alone = !question.before.is_empty();
        if !alone && let Some(number) = self.open.get(&known) {
            let number = *number;
            self.join(number, target);
            return number;
        }
        self.last += 1;
        if !alone {
            self.open.insert(known, self.last);
        }
        self.queue.push_back((self.last, question));
        self.targets.insert(self.last, vec![target]);
        self.last
    }

    pub fn join(&mut self, number: u64, target: Target) {
        self.targets.entry(number).or_default().push(target);
    }
}

/// An explanation to be made, on whichever thread.
#[derive(Debug)]
pub struct ExplainTask {
    number: u64,
    question: Question,
}

/// An explanation that was made.
#[derive(Debug)]
pub struct Explained {
    number: u64,
    index: u64,
    pub explanation: Explanation,
}

impl ExplainTask {
    /// Looks at every host.
    pub fn run(self) -> Explained {
        let Question { fleet, before, endpoint, wish, hosts } = self.question;
        let index = fleet.index();
        let ask = Ask::hold(endpoint, &wish);
        let explanation = if before.is_empty() {
            explain(&fleet, &ask, hosts)
        } else {
            explain(&with_held(&fleet, before), &ask, hosts)
        };
        Explained { number: self.number, index, explanation }
    }
}

/// The fleet as it would be with these held.
fn with_held(fleet: &Fleet, before: Vec<Before>) -> Fleet {
    let mut fleet = fleet.clone();
    let reservation = |victim: &Victim| match victim {
        Victim::Reservation(_) => true,
        Victim::ContainerVm(_) => false,
    };
    let mut reserve = Reserve {
        planned_at: fleet.index(),
        wishes: Vec::with_capacity(before.len()),
        items: Vec::with_capacity(before.len()),
        gang: None,
    };
    for (wish, held) in (0..).zip(before) {
        let Before { id, endpoint, wish: shape, place, mut victims } = held;
        victims.retain(reservation);
        reserve.wishes.push(shape);
        reserve.items.push(ReserveItem { id, wish, endpoint, place, hold_ms: None, victims });
    }
    let command = Command {
        principal: Principal::Local,
        endpoint: EndpointId::SYSTEM,
        request: RequestId::from_bytes([0; 16]),
        traceparent: None,
        key: None,
        deadline: None,
        condition: None,
        body: CommandBody::Reserve(Box::new(reserve)),
    };
    // What is rejected leaves its room free; the explanation is then of that state.
    let _ = fleet.apply(fleet.index(), fleet.time(), command);
    fleet
}

impl<R> Desk<R> {
    /// An explanation to be made, if somebody still waits for one. As many may be under way as the
    /// caller likes.
    pub fn next_explanation(&mut self) -> Option<ExplainTask> {
        loop {
            let (number, question) = self.explaining.queue.pop_front()?;
            let class = Class::Shape(question.endpoint, Shape(Arc::clone(&question.wish)));
            let known = (class, question.hosts);
            if self.explaining.open.get(&known) == Some(&number) {
                self.explaining.open.remove(&known);
            }
            let waits = |target: &Target| self.jobs.get(target.key()).is_some();
            if self.explaining.targets.get(&number).is_some_and(|all| all.iter().any(waits)) {
                return Some(ExplainTask { number, question });
            }
            self.explaining.targets.remove(&number);
        }
    }

    /// Answers those who wait for an explanation.
    pub fn explained(&mut self, explained: &Explained) {
        let Explained { number, index, explanation } = explained;
        for target in self.explaining.targets.remove(number).unwrap_or_default() {
            match target {
                Target::Item(key, item) => {
                    self.answer_item(key, item, Err(Box::new(explanation.clone())), *index);
                }
                Target::Whole(key, blocker) => {
                    let Some(job) = self.jobs.get_mut(key) else { continue };
                    job.true_at(*index);
                    job.refuse_all(blocker, explanation);
                    self.finish(key);
                }
            }
        }
    }
}
