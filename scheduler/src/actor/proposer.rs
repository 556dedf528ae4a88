//! Commands that the scheduler proposes on its own account: planner, dispatcher, bootstrap.

use super::clock;
use crate::fleet::format;
use berth_metrics::scheduler::SchedulerMetrics;
use berth_model::change::{Answer, Change};
use berth_model::command::{Command, CommandBody, Principal};
use berth_model::{EndpointId, Rejection, RequestId};
use berth_raft::{ProposeError, ReplicaHandle};
use berth_wire::codec;
use std::time::Duration;

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Proposer {
    replica: ReplicaHandle,
    timeout: Duration,
    metrics: SchedulerMetrics,
    origin: &'static str,
}

/// Why a command of ours did nothing, or may have.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProposeFailure {
    #[error(transparent)]
    Rejected(Rejection),
    #[error(transparent)]
    Trouble(#[from] ProposeError),
}

/// A command of ours that was applied.
#[derive(Debug)]
pub(super) struct Done {
    pub index: u64,
    pub change: Change,
}

impl Proposer {
    pub fn new(replica: ReplicaHandle, timeout: Duration, metrics: SchedulerMetrics) -> Self {
        Self { replica, timeout, metrics, origin: "dispatcher" }
    }

    pub fn with_origin(&self, origin: &'static str) -> Self {
        Self { origin, ..self.clone() }
    }

    /// Before clients' commands: what nodes saw makes room and must not wait behind new wishes.
    pub async fn propose_urgent(
        &self,
        principal: Principal,
        body: CommandBody,
    ) -> Result<Done, ProposeFailure> {
        let command = format::encode_command(&command(principal, body));
        let began = clock::now();
        let applied = self.replica.propose_urgent(command, self.timeout).await?;
        self.metrics.committed(self.origin, began.elapsed().as_secs_f64());
        finish(applied)
    }

    pub async fn propose(
        &self,
        principal: Principal,
        body: CommandBody,
    ) -> Result<Done, ProposeFailure> {
        let command = format::encode_command(&command(principal, body));
        let began = clock::now();
        let applied = self.replica.propose(command, self.timeout).await?;
        self.metrics.committed(self.origin, began.elapsed().as_secs_f64());
        finish(applied)
    }

    /// A command that is encoded already; its answer may be a rejection.
    pub async fn propose_encoded(
        &self,
        command: Vec<u8>,
        timeout: Duration,
    ) -> Result<(u64, Answer), ProposeError> {
        let began = clock::now();
        let applied = self.replica.propose(command, timeout).await?;
        self.metrics.committed(self.origin, began.elapsed().as_secs_f64());
        Ok((applied.index, decode_answer(&applied.answer)))
    }
}

fn finish(applied: berth_raft::Applied) -> Result<Done, ProposeFailure> {
    match decode_answer(&applied.answer) {
        Ok(change) => Ok(Done { index: applied.index, change }),
        Err(rejection) => Err(ProposeFailure::Rejected(rejection)),
    }
}

pub(super) fn decode_answer(bytes: &[u8]) -> Answer {
    codec::decode(bytes, bytes.len()).expect("our own state machine encoded the answer")
}

/// Such commands need no idempotency key: each says what is so, and is harmless twice.
fn command(principal: Principal, body: CommandBody) -> Command {
    Command {
        principal,
        endpoint: EndpointId::SYSTEM,
        request: RequestId::random(&mut rand::rng()),
        traceparent: None,
        key: None,
        deadline: None,
        condition: None,
        body,
    }
}
