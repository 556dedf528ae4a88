//! One replica in a process of its own: the scheduler that ships, without its HTTP listeners, and
//! orders over standard input.
//!
//! Promises: it ends when the orders end, so that none outlives the benchmark.

use super::load::Load;
use super::orders::{Checked, Configuration, Order, Told};
use super::{ENDPOINT, PlaceError};
use crate::checks::over_capacity;
use berth_metrics::Registry;
use berth_model::VmState;
use berth_scheduler::{BootstrapOptions, Scheduler};
use berth_wire::tls::Tls;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;

/// For a leader, for all nodes, for a replica that lags.
const WAIT: Duration = Duration::from_secs(300);
/// The longest that a scheduler waits for a node.
const SILENT_AFTER_MAX: Duration = Duration::from_secs(600);

/// Runs until standard input ends. Must be called inside an actix system.
pub async fn run(configuration: &Path) -> Result<(), PlaceError> {
    let text =
        std::fs::read_to_string(configuration).map_err(PlaceError::file("read", configuration))?;
    let configuration: Configuration =
        serde_json::from_str(&text).map_err(PlaceError::Configuration)?;
    let tls = Tls::load(&configuration.tls_files())?;
    let Configuration { options, replica, peers, nodes_listen, data, .. } = configuration;
    let listen = peers.get(&replica).copied().ok_or(PlaceError::Replicas(options.replicas))?;
    let made_up = options.made_up();
    let bootstrap = BootstrapOptions {
        clusters: made_up.clusters(),
        endpoints: vec![(ENDPOINT.to_owned(), Default::default())],
    };
    let raft = berth_raft::Options::new(replica, peers, listen, data);
    let mut settings = berth_scheduler::Options::new(raft, nodes_listen, bootstrap);
    settings.planners = usize::try_from(options.planners).unwrap_or(1);
    if !options.has_sessions() {
        // Nobody speaks for the hosts, so nobody may be missed while this runs.
        settings.silent_after = SILENT_AFTER_MAX;
    }
    let scheduler = berth_scheduler::start(settings, tls, &Registry::new()).await?;
    let load = Load { scheduler: scheduler.clone(), made_up, options };

    let mut orders = orders();
    let ended = loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            reason = scheduler.stopped() => break Err(PlaceError::Stopped(format!("{reason:?}"))),
        };
        let Some(order) = order else { break Ok(()) };
        let told = tokio::select! {
            told = carry_out(&load, order?) => told,
            reason = scheduler.stopped() => break Err(PlaceError::Stopped(format!("{reason:?}"))),
            // The next order comes after the answer, so this can only be the end of them.
            _ = orders.recv() => break Ok(()),
        };
        answer(&told)?;
    };
    scheduler.shutdown().await;
    ended
}

/// Standard input, read on a thread of its own: a read of it cannot be cancelled.
fn orders() -> mpsc::UnboundedReceiver<Result<Order, PlaceError>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            let order = serde_json::from_str(&line).map_err(PlaceError::Order);
            if sender.send(order).is_err() {
                return;
            }
        }
    });
    receiver
}

fn answer(told: &Told) -> Result<(), PlaceError> {
    let mut line = serde_json::to_string(told).map_err(PlaceError::Order)?;
    line.push('\n');
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes())
        .and_then(|()| out.flush())
        .map_err(PlaceError::file("write to", Path::new("standard output")))
}

async fn carry_out(load: &Load, order: Order) -> Told {
    let outcome = match order {
        Order::Ready => ready(&load.scheduler).await,
        Order::AwaitHosts(count) => hosts_connected(&load.scheduler, count).await,
        Order::RecordImages => load.record_images().await.map(|()| Told::Done),
        Order::RegisterHosts => load.register_hosts().await.map(|()| Told::Done),
        Order::Place(wave) => Ok(Told::Placed(load.place(wave).await)),
        Order::Release { from, to } => load.release(from, to).await.map(|()| Told::Done),
        Order::Create { from, to } => Ok(Told::Stepped(load.create(from, to).await)),
        Order::Start { from, to } => Ok(Told::Stepped(load.start(from, to).await)),
        Order::OneAtATime { from, to } => Ok(Told::WentAlone(load.one_at_a_time(from, to).await)),
        Order::Check { index } => checked(&load.scheduler, index).await,
    };
    outcome.unwrap_or_else(Told::Failed)
}

async fn ready(scheduler: &Scheduler) -> Result<Told, String> {
    let mut fleets = scheduler.watch();
    let set_up = fleets.wait_for(|fleet| fleet.cell().is_some());
    in_time("the cell is not set up", set_up).await?;
    let status = scheduler.replica();
    let leader = status.leader.ok_or("no leader is known")?;
    Ok(Told::Ready { leader, term: status.term })
}

async fn hosts_connected(scheduler: &Scheduler, count: u64) -> Result<Told, String> {
    let mut fleets = scheduler.watch();
    let connected = fleets.wait_for(|fleet| fleet.host_counts().connected >= count);
    in_time("not all hosts are connected", connected).await?;
    Ok(Told::Done)
}

async fn checked(scheduler: &Scheduler, index: u64) -> Result<Told, String> {
    let mut fleets = scheduler.watch();
    let applied = fleets.wait_for(|fleet| fleet.index() >= index);
    in_time("the replica lags behind", applied).await?;
    let fleet = fleets.borrow().clone();
    let counts = VmState::NAMES.iter().zip(fleet.counts());
    Ok(Told::Checked(Checked {
        index: fleet.index(),
        term: scheduler.replica().term,
        state_hash: fleet.state_hash(),
        broken: fleet.check_invariants().err(),
        over_capacity: over_capacity(&fleet),
        silent_hosts: fleet.host_counts().silent,
        running: counts.filter(|(name, _)| **name == "running").map(|(_, count)| count).sum(),
        reservations: fleet.reservations().count() as u64,
    }))
}

async fn in_time<T, E>(
    otherwise: &str,
    waiting: impl Future<Output = Result<T, E>>,
) -> Result<(), String> {
    match tokio::time::timeout(WAIT, waiting).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err("the replica stopped".to_owned()),
        Err(_) => Err(otherwise.to_owned()),
    }
}
