//! Puts a scheduler together: replica, machine, planner, dispatcher, nodes listener.

use super::bootstrap;
use super::clock::millis;
use super::dispatcher::{Dispatcher, Dissolve};
use super::handle::{Parts, Scheduler};
use super::listener::{self, Door};
use super::machine::SchedulerMachine;
use super::node_session::Surroundings;
use super::placer::{Around, Placer, Placers};
use super::planner::PlannerActor;
use super::proposer::Proposer;
use crate::fleet::format::COMMAND_MAX;
use crate::options::{Options, OptionsError};
use crate::planner::Share;
use crate::planner::placing::Limits;
use actix::{Actor, Addr, Arbiter};
use berth_metrics::Registry;
use berth_metrics::raft::RaftMetrics;
use berth_metrics::scheduler::SchedulerMetrics;
use berth_model::CellId;
use berth_raft::Replica;
use berth_wire::tls::{Role, Tls};
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// Threads that drive node sessions.
const SESSION_ARBITERS: usize = 2;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Options(#[from] OptionsError),
    #[error("certificate is for role {0}, a scheduler needs one for role scheduler")]
    NotAScheduler(Role),
    #[error("certificate names the cell `{0}`, which is not a cell id; issue one for cell-…")]
    NotACell(String),
    #[error("nodes listener cannot use {address}; free the port or set another")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("metrics cannot be registered")]
    Metrics(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Raft(#[from] berth_raft::StartError),
}

/// Starts a scheduler. Must be called inside an actix system, and once a process or registry.
pub async fn start(
    options: Options,
    tls: Tls,
    registry: &Registry,
) -> Result<Scheduler, StartError> {
    options.validate()?;
    let identity = tls.identity();
    if identity.role != Role::Scheduler {
        return Err(StartError::NotAScheduler(identity.role));
    }
    let cell: CellId =
        identity.cell.parse().map_err(|_| StartError::NotACell(identity.cell.clone()))?;
    let raft_metrics =
        RaftMetrics::register(registry).map_err(|error| StartError::Metrics(Box::new(error)))?;
    let metrics = SchedulerMetrics::register(registry)
        .map_err(|error| StartError::Metrics(Box::new(error)))?;

    let address = options.nodes_listen;
    let listen = |source| StartError::Listen { address, source };
    let nodes = TcpListener::bind(address).await.map_err(listen)?;
    let nodes_address = nodes.local_addr().map_err(listen)?;

    let (id, command_limit) = (options.raft.id, options.raft.command_limit);
    let (machine, published) = SchedulerMachine::new(metrics.clone());
    let replica = Replica::start(options.raft, tls.clone(), machine, raft_metrics).await?;
    let proposer = Proposer::new(replica.clone(), options.propose_timeout, metrics.clone());

    let mut arbiters = Vec::new();
    for number in 0..options.planners {
        let planner = PlannerActor::new(
            id,
            Share::new(number, options.planners),
            published.clone(),
            proposer.with_origin("planner"),
            metrics.clone(),
        );
        let planning = Arbiter::new();
        PlannerActor::start_in_arbiter(&planning.handle(), |_| planner);
        arbiters.push(planning);
    }
    let max_hold_ms = options.max_hold.map(millis);
    let limits = Limits::new(id, command_limit.min(COMMAND_MAX), max_hold_ms);
    let (placers, inboxes) = Placers::new(options.planners, options.placement_queue);
    for inbox in inboxes {
        let around = Around {
            inbox,
            published: published.clone(),
            proposer: proposer.with_origin("placer"),
            timeout: options.propose_timeout,
            metrics: metrics.clone(),
        };
        let placing = Arbiter::new();
        placing.spawn(Placer::new(limits, around).run());
        arbiters.push(placing);
    }

    let dispatching = Arbiter::new();
    let dispatcher = Dispatcher::new(
        id,
        published.clone(),
        proposer.clone(),
        metrics.clone(),
        options.silent_after,
    );
    let dispatcher = Dispatcher::start_in_arbiter(&dispatching.handle(), |_| dispatcher);

    let sessions: Vec<Arbiter> = (0..SESSION_ARBITERS).map(|_| Arbiter::new()).collect();
    let around = Surroundings {
        published: published.clone(),
        proposer: proposer.clone(),
        metrics: metrics.clone(),
        dispatcher: dispatcher.clone(),
        silent_after: options.silent_after,
    };
    let door = Door { tls, around };
    let handles = sessions.iter().map(Arbiter::handle).collect();
    let listening = tokio::spawn(listener::run(nodes, door, handles)).abort_handle();
    let bootstrapping = tokio::spawn(bootstrap::run(
        cell,
        id,
        options.bootstrap,
        published.clone(),
        proposer.with_origin("bootstrap"),
    ))
    .abort_handle();

    arbiters.push(dispatching);
    arbiters.extend(sessions);
    let running = Running { dispatcher, tasks: vec![listening, bootstrapping], arbiters };
    let parts = Parts { cell, replica, published, placers, metrics, nodes_address, running };
    Ok(Scheduler::new(parts))
}

/// What has to end with the scheduler.
pub(super) struct Running {
    dispatcher: Addr<Dispatcher>,
    tasks: Vec<AbortHandle>,
    arbiters: Vec<Arbiter>,
}

impl Running {
    /// No new sessions, and the present ones are told to go elsewhere.
    pub async fn dissolve(&self) {
        for task in &self.tasks {
            task.abort();
        }
        // An error means that the dispatcher is gone already.
        let _ = self.dispatcher.send(Dissolve).await;
    }

    pub fn stop(self) {
        for task in &self.tasks {
            task.abort();
        }
        for arbiter in &self.arbiters {
            arbiter.stop();
        }
    }
}
