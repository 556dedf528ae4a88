//! Until what was asked of a container VM is so, or cannot be, or the client's time is up.

use crate::outcome::{self, Created, Started};
use crate::placement::Api;
use crate::placement::errors::{Kind, Problem};
use crate::placement::wish::{Wish, newest};
use actix_web::http::StatusCode;
use berth_model::command::{CommandBody, Condition};
use berth_model::{ContainerId, EndpointId, Explanation, Filter};
use berth_scheduler::Fleet;
use std::time::Duration;

/// How long the planner may take to choose a datastore.
const PLACE_DEADLINE: Duration = Duration::from_secs(30);

/// Whether it is so by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    Yes,
    NotYet,
}

impl Reached {
    pub fn status(self) -> StatusCode {
        match self {
            Reached::Yes => StatusCode::OK,
            Reached::NotYet => StatusCode::ACCEPTED,
        }
    }
}

/// A refusal by quota is told as one.
pub fn refused(fleet: &Fleet, explanation: &Explanation) -> Problem {
    let mut problem = Problem::no_room(fleet, explanation);
    let by_quota = explanation.refused.get(&Filter::Quota).copied().unwrap_or(0);
    if by_quota > 0 && by_quota == explanation.considered {
        problem.kind = Kind::QuotaExceeded;
    }
    problem
}

/// Waits until a datastore is chosen. What has no place is removed again, and told why.
pub async fn placed(
    api: &Api,
    wish: &Wish,
    owner: EndpointId,
    id: ContainerId,
    index: u64,
) -> Result<(), Problem> {
    let mut fleets = api.scheduler.watch();
    let question = |fleet: &Fleet| outcome::created(fleet, id);
    let settled = outcome::settled(&mut fleets, index, question);
    let problem = match tokio::time::timeout(PLACE_DEADLINE, settled).await {
        Ok(Ok(Created::Placed)) => return Ok(()),
        Ok(Ok(Created::Removed)) => {
            return Err(Problem::new(Kind::Conflict, "it was removed while it was created"));
        }
        Ok(Ok(Created::Refused(explanation))) => refused(&newest(api), &explanation),
        Ok(Err(ending)) => ending.into(),
        Err(_) => Problem::new(Kind::TimedOut, "no datastore was chosen in time; try again"),
    };
    let remove = CommandBody::RemoveContainer { id, force: true };
    if let Err(failed) = wish.submit(api, owner, "remove", remove).await {
        tracing::warn!(%failed, container = %id.short(), "a container VM without a place stays");
    }
    Err(problem)
}

/// Starts it; with `wait`, until it runs or cannot.
pub async fn run(
    api: &Api,
    wish: &Wish,
    owner: EndpointId,
    id: ContainerId,
    condition: Option<Condition>,
    wait: Option<Duration>,
) -> Result<Reached, Problem> {
    let before = newest(api).container(id).map(|vm| vm.epoch).unwrap_or_default();
    let start = CommandBody::StartContainer { id };
    let index = wish.submit_if(api, owner, "start", condition, start).await?.revision.index;
    let Some(wait) = wait else { return Ok(Reached::NotYet) };
    let mut fleets = api.scheduler.watch();
    let question = |fleet: &Fleet| outcome::started(fleet, id, before);
    let settled = outcome::settled(&mut fleets, index, question);
    match tokio::time::timeout(wait, settled).await {
        Ok(Ok(Started::Ran)) => Ok(Reached::Yes),
        Ok(Ok(Started::Refused(explanation))) => {
            let problem = refused(&newest(api), &explanation);
            // Its client has heard no; it must not start by itself later.
            let stop = CommandBody::StopContainer { id, order: None };
            if let Err(failed) = wish.submit(api, owner, "take back", stop).await {
                let container = id.short();
                tracing::warn!(%failed, %container, "a refused start could not be taken back");
            }
            Err(problem)
        }
        Ok(Ok(Started::Failed(exit))) => Err(Problem::new(
            Kind::StartFailed,
            format!("it ended with {} before it ran: {}", exit.code, exit.error),
        )),
        Ok(Ok(Started::TakenBack)) => {
            Err(Problem::new(Kind::Conflict, "it was stopped before it started"))
        }
        Ok(Ok(Started::Removed)) => {
            Err(Problem::new(Kind::Conflict, "it was removed before it started"))
        }
        Ok(Err(ending)) => Err(ending.into()),
        Err(_) => Ok(Reached::NotYet),
    }
}

pub async fn await_stop(
    api: &Api,
    id: ContainerId,
    index: u64,
    wait: Option<Duration>,
) -> Result<Reached, Problem> {
    let Some(wait) = wait else { return Ok(Reached::NotYet) };
    until(api, index, wait, |fleet| outcome::stopped(fleet, id)).await
}

pub async fn await_removal(
    api: &Api,
    id: ContainerId,
    index: u64,
    wait: Duration,
) -> Result<Reached, Problem> {
    until(api, index, wait, |fleet| fleet.container(id).is_none().then_some(())).await
}

async fn until(
    api: &Api,
    index: u64,
    wait: Duration,
    question: impl FnMut(&Fleet) -> Option<()>,
) -> Result<Reached, Problem> {
    let mut fleets = api.scheduler.watch();
    match tokio::time::timeout(wait, outcome::settled(&mut fleets, index, question)).await {
        Ok(Ok(())) => Ok(Reached::Yes),
        Ok(Err(ending)) => Err(ending.into()),
        Err(_) => Ok(Reached::NotYet),
    }
}
