//! The raft listener: lets peers in and hears them.

use std::sync::Arc;
use std::time::Duration;

use berth_wire::link::Link;
use berth_wire::tls::Role;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::{Context, FRAME_LIMIT, PULSE, PeerError, SILENCE, hello, snapshot};
use crate::core::Input;
use crate::handle::Refused;
use crate::message::{Open, PeerMessage, Purpose};
use crate::options::ReplicaId;

/// Connections that may be in their handshake at once.
const HANDSHAKES: usize = 64;
/// How long the listener rests when the process has no file handle left.
const REST: Duration = Duration::from_millis(100);

pub(super) async fn run(context: Context, listener: TcpListener) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(permit) = handshakes.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((tcp, address)) => {
                let context = context.clone();
                tokio::spawn(async move {
                    let opened = open(&context, tcp).await;
                    drop(permit);
                    let served = match opened {
                        Ok((link, peer, Purpose::Messages)) => hear(&context, link, peer).await,
                        Ok((link, peer, Purpose::Snapshot)) => {
                            snapshot::receive(&context, link, peer).await
                        }
                        Err(error) => {
                            let error = &error as &dyn std::error::Error;
                            tracing::warn!(%address, error, "connection was turned away");
                            return;
                        }
                    };
                    if let Err(error) = served {
                        let error = &error as &dyn std::error::Error;
                        tracing::debug!(%address, error, "link of a replica ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "raft listener cannot accept");
                sleep(REST).await;
            }
        }
    }
}

/// Handshake, Hello, and who wants what.
async fn open(context: &Context, tcp: TcpStream) -> Result<(Link, ReplicaId, Purpose), PeerError> {
    let (mut link, identity) = context.tls.accept(tcp, &[Role::Scheduler]).await?;
    link.set_limit(FRAME_LIMIT);
    link.hello(&hello()).await?;
    let opened = timeout(SILENCE, link.receive::<Open>()).await;
    let Open { from, purpose } =
        opened.map_err(|_| PeerError::Silent)??.ok_or(PeerError::Closed)?;
    if identity.id != from.to_string() {
        return Err(PeerError::NotItself { named: from, identity });
    }
    if from == context.id || !context.peers.contains_key(&from) {
        return Err(PeerError::Stranger(from));
    }
    Ok((link, from, purpose))
}

/// Passes a peer's messages on until its link ends.
async fn hear(context: &Context, link: Link, from: ReplicaId) -> Result<(), PeerError> {
    let (mut sender, mut receiver) = link.split();
    let mut pulse = interval(PULSE);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    loop {
        tokio::select! {
            received = receiver.receive::<Vec<PeerMessage>>() => {
                let messages = received?.ok_or(PeerError::Closed)?;
                heard = Instant::now();
                for message in messages {
                    take(context, from, message)?;
                }
            }
            _ = pulse.tick() => {
                if heard.elapsed() > SILENCE {
                    return Err(PeerError::Silent);
                }
                let sent = timeout(SILENCE, sender.send(&PeerMessage::Pulse)).await;
                sent.map_err(|_| PeerError::Silent)??;
            }
        }
    }
}

fn take(context: &Context, from: ReplicaId, message: PeerMessage) -> Result<(), PeerError> {
    if matches!(message, PeerMessage::Pulse) {
        return Ok(());
    }
    context.metrics.messages_received.inc();
    match context.inbox.offer(Input::Peer { from, message }) {
        Ok(()) => Ok(()),
        Err(Refused::Full) => {
            context.metrics.messages_dropped.inc();
            Ok(())
        }
        Err(Refused::Gone) => Err(PeerError::Ending),
    }
}
