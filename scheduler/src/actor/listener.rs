//! Nodes dial in here: mutual TLS, Hello, `Register`; then a session actor has the link.
//!
//! Promises: at most [`HANDSHAKES`] strangers at a time, each for a bounded time; only
//! certificates of role node get as far as Hello, and the host is the one in the certificate.

use super::node_session::{NodeSession, Surroundings};
use actix::ArbiterHandle;
use berth_model::HostId;
use berth_model::session::{FromNode, MESSAGE_MAX, PROTOCOL_MAX, PROTOCOL_MIN};
use berth_wire::hello::Hello;
use berth_wire::link::LinkError;
use berth_wire::tls::{Role, Tls};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

const HANDSHAKES: usize = 256;
const REGISTER_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept: without file descriptors it fails at once, again and again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a connection needs on its way to a session.
#[derive(Clone)]
pub(super) struct Door {
    pub tls: Tls,
    pub around: Surroundings,
}

/// Why a connection did not become a registration.
#[derive(Debug, thiserror::Error)]
enum Turned {
    #[error("connection failed")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("peer closed the link before it registered")]
    ClosedEarly,
    #[error("peer did not register in time")]
    TimedOut,
    #[error("peer's first message was not a registration")]
    NotARegistration,
    #[error("id `{0}` in the certificate is not a host id; issue one for host-…")]
    NotAHost(String),
}

/// Accepts until the process ends. Sessions live on `arbiters`, in turn.
pub(super) async fn run(listener: TcpListener, door: Door, arbiters: Vec<ArbiterHandle>) {
    let slots = Arc::new(Semaphore::new(HANDSHAKES));
    for arbiter in arbiters.iter().cycle() {
        let (tcp, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "node connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            tracing::warn!(%peer, "too many nodes dial in at once, connection dropped");
            door.around.metrics.handshakes_failed.inc();
            continue;
        };
        // The socket moves to the thread that will drive it.
        let Ok(tcp) = tcp.into_std() else { continue };
        let door = door.clone();
        let spawned = arbiter.spawn(async move {
            if let Err(error) = welcome(tcp, &door).await {
                door.around.metrics.handshakes_failed.inc();
                tracing::warn!(%peer, %error, cause = ?error, "node was turned away");
            }
            drop(slot);
        });
        if !spawned {
            return;
        }
    }
}

async fn welcome(tcp: std::net::TcpStream, door: &Door) -> Result<(), Turned> {
    let tcp = TcpStream::from_std(tcp)?;
    tcp.set_nodelay(true)?;
    let (mut link, identity) = door.tls.accept(tcp, &[Role::Node]).await?;
    link.set_limit(MESSAGE_MAX);
    link.hello(&ours()).await?;
    let host: HostId = identity.id.parse().map_err(|_| Turned::NotAHost(identity.id.clone()))?;
    let first = tokio::time::timeout(REGISTER_TIMEOUT, link.receive::<FromNode>()).await;
    match first.map_err(|_| Turned::TimedOut)?? {
        // What the node holds does not matter: a session's first assignment is whole.
        Some(FromNode::Register { facts, held: _ }) => {
            NodeSession::open(host, link, *facts, door.around.clone());
            Ok(())
        }
        Some(
            FromNode::Heartbeat { .. }
            | FromNode::Facts(_)
            | FromNode::Report(_)
            | FromNode::Obeyed { .. }
            | FromNode::WholeWanted { .. },
        ) => Err(Turned::NotARegistration),
        None => Err(Turned::ClosedEarly),
    }
}

fn ours() -> Hello {
    Hello {
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        build: env!("CARGO_PKG_VERSION").to_owned(),
        features: Vec::new(),
    }
}
