//! The node process: makes every part, in an order in which each finds what it needs, and waits.
//!
//! Promises: what runs is adopted before anybody is obeyed; whatever is wrong with the
//! configuration or the host is said before the first session. At the end container VMs go on; the
//! next node adopts them.

use crate::agent::{self, Agent, Introduce, Locate};
use crate::datastore::{Reached, ReachedReader, Registrar};
use crate::facts::{FactsError, Gatherer, Machine};
use crate::hypervisor::qemu::command_line::UserNetwork;
use crate::hypervisor::qemu::confinement::{Confiner, Gauges, Groups, GroupsOptions};
use crate::hypervisor::qemu::{Qemu, QemuOptions};
use crate::hypervisor::simulated::Simulated;
use crate::hypervisor::{Hypervisor, LaunchError};
use crate::images::{self, Loader};
use crate::mailbox::Mailbox;
use crate::metrics_server::{self, MetricsServerError};
use crate::options::{GuestEgress, HypervisorKind, Options, OptionsError, Settings};
use crate::session::{self, FactsGathered, Session};
use crate::{keeper, streams, switch, vm};
use berth_metrics::Registry;
use berth_metrics::node::NodeMetrics;
use berth_metrics::vm::VmMetrics;
use berth_model::{Bytes, HostId};
use berth_wire::identity::{Identity, Role};
use berth_wire::tls::{Tls, TlsError};
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often the host is looked at anew.
const FACTS_PERIOD: Duration = Duration::from_secs(10);

/// Why a node cannot run.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error(transparent)]
    Options(#[from] OptionsError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("certificate is of {found}, but `host_id` makes this node {expected}; issue another")]
    Identity { found: Identity, expected: String },
    #[error("cannot make {}", path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("another node runs with {}; end it first", .0.display())]
    Running(PathBuf),
    #[error(
        "cannot read what was kept in {}; repair the disk, or delete `obeyed` there",
        path.display()
    )]
    State {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot look for what runs in {}", path.display())]
    Adopt {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot listen for streams on {address}; another process may have the port")]
    Streams {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Metrics(#[from] MetricsServerError),
    #[error("metrics cannot be registered")]
    Registry(#[source] berth_metrics::Error),
    #[error("hypervisor is not usable")]
    Hypervisor(#[source] LaunchError),
    #[error(transparent)]
    Facts(#[from] FactsError),
}

/// Runs until `shutdown` answers. Call it inside an actix system.
pub async fn run(options: Options, shutdown: impl Future<Output = ()>) -> Result<(), NodeError> {
    let settings = options.validate()?;
    let tls = Tls::load(&settings.tls)?;
    check_identity(tls.identity(), settings.host)?;
    for path in [&settings.run_directory, &settings.state_directory] {
        fs::create_dir_all(path)
            .map_err(|source| NodeError::Directory { path: path.clone(), source })?;
    }
    let _lock = lock(&settings.run_directory)?;
    let registry = Registry::new();
    let metrics = NodeMetrics::register(&registry).map_err(NodeError::Registry)?;
    let vm_metrics = VmMetrics::register(&registry).map_err(NodeError::Registry)?;
    let (server, address) = metrics_server::serve(settings.metrics_listen, Some(&tls), registry)?;
    let server_handle = server.handle();
    actix_rt::spawn(server);
    let name = &settings.host_name;
    tracing::info!(host = %settings.host, name, metrics = %address, "node starts");

    let (mut registrar, datastores) = Registrar::new(&settings);
    // Before anything is adopted: runs lie on datastores.
    let registrar = blocking(move || {
        registrar.survey();
        registrar
    })
    .await;
    let confiner = confiner(&settings, &metrics).await?;
    let hypervisor =
        hypervisor(&settings, confiner.clone()).await.map_err(NodeError::Hypervisor)?;
    metrics.shares.set(i64::from(hypervisor.weighs()));
    let left = vm::saved_settings(&settings.run_directory)
        .await
        .map_err(|source| NodeError::Adopt { path: settings.run_directory.clone(), source })?;
    let around = agent::Surroundings {
        run_directory: settings.run_directory.clone(),
        datastores: datastores.clone(),
        hypervisor: hypervisor.clone(),
        vm_metrics,
        metrics: metrics.clone(),
    };
    let (agent, changes) = Agent::start(around, left);
    sweep(&datastores, settings.host).await;

    let (listener, stream_address) = listen(&settings)?;
    let loader =
        Loader::new(settings.host, settings.sqfstar.clone(), &settings.limits, metrics.clone());
    let around = streams::Surroundings {
        tls: tls.clone(),
        agent: Mailbox::<Locate>::new(&agent, metrics.mailbox("agent")),
        changes,
        datastores,
        loader,
        metrics: metrics.clone(),
        limit: settings.limits.streams,
    };
    // A thread of their own: what encrypts an archive must not keep a heartbeat waiting.
    let streams = actix_rt::Arbiter::new();
    streams.spawn(streams::serve(listener, around));

    let machine = Machine {
        accelerator: hypervisor.accelerator(),
        hypervisor: hypervisor.description(),
        stream_address,
        shares: hypervisor.weighs(),
    };
    let gatherer = Gatherer::new(settings.clone(), machine, registrar, metrics.clone());
    let (gatherer, facts) = gather(gatherer).await;
    let session = Session::start(
        session::Surroundings {
            tls,
            schedulers: settings.schedulers.clone(),
            floor: session::load_floor(&settings.state_directory).map_err(|source| {
                NodeError::State { path: settings.state_directory.clone(), source }
            })?,
            state_directory: settings.state_directory.clone(),
            agent: Mailbox::new(&agent, metrics.mailbox("agent")),
            metrics: metrics.clone(),
        },
        facts?,
    );
    let reports = Mailbox::new(&session, metrics.mailbox("session"));
    Mailbox::new(&agent, metrics.mailbox("agent")).ask(Introduce(reports)).await;
    let told = Mailbox::new(&session, metrics.mailbox("session"));
    actix_rt::spawn(keep_gathering(gatherer, told));
    actix_rt::spawn(keeper::attend(settings.run_directory.clone(), metrics.clone()));
    actix_rt::spawn(switch::attend(settings.run_directory.clone(), metrics));

    shutdown.await;
    tracing::info!("node ends; what runs goes on");
    streams.stop();
    server_handle.stop(false).await;
    blocking(move || confiner.close()).await;
    Ok(())
}

fn check_identity(found: &Identity, host: HostId) -> Result<(), NodeError> {
    let expected = host.to_string();
    if found.role == Role::Node && found.id == expected {
        return Ok(());
    }
    Err(NodeError::Identity { found: found.clone(), expected })
}

/// Two nodes with one run directory would both adopt what runs.
fn lock(run_directory: &Path) -> Result<fs::File, NodeError> {
    let path = run_directory.join("node.lock");
    let failed = |source| NodeError::Directory { path: path.clone(), source };
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(NodeError::Running(run_directory.to_owned())),
        Err(error) => Err(failed(error.into())),
    }
}

/// What confines hypervisors here; a simulated one has no process to confine.
async fn confiner(settings: &Settings, metrics: &NodeMetrics) -> Result<Confiner, FactsError> {
    match settings.hypervisor {
        HypervisorKind::Simulated => Ok(Confiner::without_groups()),
        HypervisorKind::Qemu => {
            let options = GroupsOptions {
                parent: settings.cgroup_parent.clone(),
                host_name: settings.host_name.clone(),
                host: settings.host,
                memory: crate::facts::capacity(settings)?.memory,
            };
            let groups = blocking(move || Groups::open(&options)).await;
            let gauges =
                Gauges { bound: metrics.vms_bound.clone(), grouped: metrics.vms_grouped.clone() };
            Ok(Confiner::new(groups.map(Arc::new), Some(gauges)))
        }
    }
}

async fn hypervisor(
    settings: &Settings,
    confiner: Confiner,
) -> Result<Arc<dyn Hypervisor>, LaunchError> {
    let log_limit = Bytes::mib(settings.limits.log_mib);
    match settings.hypervisor {
        HypervisorKind::Simulated => Ok(Arc::new(Simulated::new(settings.deadlines, log_limit))),
        HypervisorKind::Qemu => {
            let options = QemuOptions {
                program: settings.qemu.clone(),
                image_tool: settings.qemu_img.clone(),
                format_tool: settings.mkfs.clone(),
                assets: settings.assets_directory.clone(),
                state_directory: settings.state_directory.clone(),
                accelerator: settings.accelerator,
                user_network: match settings.guest_egress {
                    GuestEgress::Allow => UserNetwork::Open,
                    GuestEgress::LoopbackProtected => UserNetwork::Restricted,
                },
                deadlines: settings.deadlines,
                log_limit,
                confiner,
            };
            let hypervisor: Arc<dyn Hypervisor> = Qemu::open(options).await?;
            Ok(hypervisor)
        }
    }
}

/// What a killed node of this host left half made or half deleted.
async fn sweep(datastores: &ReachedReader, host: HostId) {
    let reached: Arc<Reached> = datastores.borrow().clone();
    blocking(move || {
        for datastore in reached.values() {
            let swept = images::sweep(datastore, host)
                .and_then(|drafts| Ok((drafts, agent::sweep(datastore)?)));
            match swept {
                Ok((0, 0)) => {}
                Ok((drafts, discarded)) => {
                    tracing::info!(datastore = datastore.name, drafts, discarded, "swept");
                }
                Err(error) => {
                    tracing::warn!(datastore = datastore.name, %error, "could not be swept");
                }
            }
        }
    })
    .await;
}

/// The listener, and what schedulers are told to dial.
fn listen(settings: &Settings) -> Result<(TcpListener, String), NodeError> {
    let address = settings.stream_listen;
    let failed = |source| NodeError::Streams { address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, settings.stream_advertise.clone().unwrap_or_else(|| bound.to_string())))
}

async fn gather(mut gatherer: Gatherer) -> (Gatherer, Result<berth_model::HostFacts, FactsError>) {
    blocking(move || {
        let facts = gatherer.gather();
        (gatherer, facts)
    })
    .await
}

async fn keep_gathering(mut gatherer: Gatherer, session: Mailbox<FactsGathered>) {
    let mut clock = tokio::time::interval(FACTS_PERIOD);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        clock.tick().await;
        let facts;
        (gatherer, facts) = gather(gatherer).await;
        match facts {
            Ok(facts) => {
                // A full mailbox is emptied long before the next look.
                session.post(FactsGathered(Box::new(facts)));
            }
            Err(error) => tracing::error!(%error, "facts of this host cannot be gathered"),
        }
    }
}

/// Off the actors' threads. What panics there is a bug that must not be passed over.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that is shutting down cancels, and it drops us too.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_node_with_one_run_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let first = lock(directory.path()).unwrap();
        assert!(matches!(lock(directory.path()), Err(NodeError::Running(_))));
        drop(first);
        lock(directory.path()).unwrap();
    }

    #[test]
    fn a_certificate_of_another_host_or_role_is_refused() {
        let host = HostId::from_bytes([1; 16]);
        let check = |role, id: HostId| {
            check_identity(&Identity::new("cell", role, id.to_string()), host).is_ok()
        };
        assert!(check(Role::Node, host));
        assert!(!check(Role::Keeper, host));
        assert!(!check(Role::Node, HostId::from_bytes([2; 16])));
    }
}
