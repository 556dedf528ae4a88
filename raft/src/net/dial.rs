//! Our link to one peer: carries its queue, dials again when it breaks.

use std::sync::atomic::Ordering;
use std::time::Duration;

use berth_wire::link::{LinkError, LinkSender};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::{Context, PULSE, PeerError, SILENCE};
use crate::core::Input;
use crate::message::{PeerMessage, Purpose};
use crate::outbox::PeerQueue;

const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_LAST: Duration = Duration::from_secs(1);
/// Messages travel together up to about this many bytes.
const FRAME_BYTES: usize = 1 << 20;

pub(super) async fn run(context: Context, mut queue: PeerQueue) {
    let peer = queue.peer;
    let mut backoff = BACKOFF_FIRST;
    let mut told = false;
    loop {
        match context.connect(peer, Purpose::Messages).await {
            Ok(link) => {
                tracing::info!(id = context.id, peer, "linked to a replica");
                (backoff, told) = (BACKOFF_FIRST, false);
                // What still lies there was meant for the link before.
                while queue.queue.try_recv().is_ok() {}
                queue.connected.store(true, Ordering::Release);
                context.metrics.peers_connected.inc();
                // The loop may have ended; then this task soon does.
                let _ = context.inbox.push(Input::LinkUp);
                let (sender, receiver) = link.split();
                let error = carry(&mut queue, sender, receiver).await;
                queue.connected.store(false, Ordering::Release);
                context.metrics.peers_connected.dec();
                let _ = context.inbox.push(Input::LinkDown(peer));
                tracing::info!(id = context.id, peer, %error, "link to a replica ended");
            }
            Err(error) if told => tracing::debug!(id = context.id, peer, %error, "no link yet"),
            Err(error) => {
                told = true;
                let error = &error as &dyn std::error::Error;
                tracing::warn!(id = context.id, peer, error, "no link to a replica, trying on");
            }
        }
        sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_LAST);
    }
}

/// Carries messages until the link ends; answers why it did.
async fn carry(
    queue: &mut PeerQueue,
    mut sender: LinkSender,
    mut receiver: berth_wire::link::LinkReceiver,
) -> PeerError {
    let mut pulse = interval(PULSE);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    loop {
        let messages = tokio::select! {
            message = queue.queue.recv() => match message {
                Some(first) => gather(queue, first),
                None => return PeerError::Ending,
            },
            _ = pulse.tick() => {
                if heard.elapsed() > SILENCE {
                    return PeerError::Silent;
                }
                vec![PeerMessage::Pulse]
            }
            received = receiver.receive::<PeerMessage>() => match received {
                Ok(Some(_)) => {
                    heard = Instant::now();
                    continue;
                }
                Ok(None) => return PeerError::Closed,
                Err(error) => return error.into(),
            },
        };
        match timeout(SILENCE, sender.send(&messages)).await {
            Ok(Ok(())) => {}
            // Not the link's fault, and never raft's: entries are bounded far below the limit.
            Ok(Err(LinkError::TooLong { length, limit })) => {
                tracing::error!(length, limit, "messages to a replica are too long for a frame");
                return LinkError::TooLong { length, limit }.into();
            }
            Ok(Err(error)) => return error.into(),
            Err(_) => return PeerError::Silent,
        }
    }
}

fn gather(queue: &mut PeerQueue, first: PeerMessage) -> Vec<PeerMessage> {
    let mut bytes = first.weight();
    let mut messages = vec![first];
    while bytes < FRAME_BYTES {
        let Ok(next) = queue.queue.try_recv() else { break };
        bytes += next.weight();
        messages.push(next);
    }
    messages
}
