//! The replicated half: one fleet, and commands applied to it one after the other.

use super::{EngineError, Held};
use crate::cell::{Cell, ENDPOINT};
use berth_model::change::Answer;
use berth_model::command::{Command, CommandBody, NewRule, Principal, Reserve, ReserveItem};
use berth_model::{
    Change, PlacementWish, Rejection, RequestId, ReservationId, RuleId, RuleSpec, Timestamp,
};
use berth_scheduler::Fleet;
use berth_scheduler::fleet::format::{FormatError, decode_command};
use std::collections::BTreeMap;
use std::sync::Arc;

pub struct Commits {
    fleet: Fleet,
    index: u64,
}

impl Commits {
    /// The fleet of a cell that was just set up.
    pub fn new(cell: Cell) -> Result<Commits, EngineError> {
        let mut commits = Commits { fleet: Fleet::default(), index: 0 };
        for body in cell.commands() {
            commits.apply(body)?;
        }
        Ok(commits)
    }

    /// Goes on from a fleet that stands.
    pub fn from_fleet(fleet: Fleet) -> Commits {
        let index = fleet.index();
        Commits { fleet, index }
    }

    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// Immutable; apply goes on beside it.
    pub fn snapshot(&self) -> Arc<Fleet> {
        Arc::new(self.fleet.clone())
    }

    pub fn apply(&mut self, body: CommandBody) -> Result<Change, Rejection> {
        self.index += 1;
        let command = Command {
            principal: Principal::Scheduler(1),
            endpoint: ENDPOINT,
            request: RequestId::from_bytes([0; 16]),
            traceparent: None,
            key: None,
            deadline: None,
            condition: None,
            body,
        };
        // A millisecond an entry: what is kept for a while only is forgotten in the end.
        self.fleet.apply(self.index, Timestamp(self.index), command)
    }

    /// What a desk proposed, as the log would carry it.
    pub fn apply_bytes(&mut self, bytes: &[u8]) -> Result<(u64, Answer), FormatError> {
        let command = decode_command(bytes)?;
        self.index += 1;
        Ok((self.index, self.fleet.apply(self.index, Timestamp(self.index), command)))
    }

    /// Each item's answer, in order.
    pub fn reserve(
        &mut self,
        reserve: Reserve,
    ) -> Result<Vec<Result<ReservationId, Rejection>>, EngineError> {
        if reserve.items.is_empty() {
            return Ok(Vec::new());
        }
        let change = self.apply(CommandBody::Reserve(Box::new(reserve)))?;
        if let Change::Reserved { items } = change {
            return Ok(items);
        }
        Err(EngineError::OddAnswer(Box::new(change)))
    }

    /// Holds one place that was decided elsewhere.
    pub fn hold(&mut self, wish: &Arc<PlacementWish>, held: &Held) -> Result<(), EngineError> {
        let item = ReserveItem {
            id: held.id,
            wish: 0,
            endpoint: ENDPOINT,
            place: held.place.clone(),
            hold_ms: None,
            victims: Vec::new(),
        };
        let wishes = vec![Arc::clone(wish)];
        let planned_at = self.fleet.index();
        let answers =
            self.reserve(Reserve { planned_at, wishes, items: vec![item], gang: None })?;
        for answer in answers {
            answer?;
        }
        Ok(())
    }

    pub fn release(&mut self, ids: Vec<ReservationId>) -> Result<(), EngineError> {
        self.apply(CommandBody::Release { ids })?;
        Ok(())
    }

    /// Rules are numbered by what stands before them.
    pub fn add_rule(&mut self, name: &str, spec: RuleSpec) -> Result<RuleId, EngineError> {
        let id = RuleId::from_bytes(u128::from(self.index + 1).to_be_bytes());
        let rule = NewRule { id, name: name.to_owned(), spec, labels: BTreeMap::new() };
        self.apply(CommandBody::CreateRule(Box::new(rule)))?;
        Ok(id)
    }
}
