//! The tasks behind one connection to a scheduler: they dial, read and write; the session actor
//! thinks.
//!
//! Promises: the actor hears of the connection's end once; when the actor drops its sender,
//! everything is closed. Messages are read only as fast as the actor takes them.

use super::{Heard, Session, What};
use crate::causes::with_causes;
use actix::Addr;
use berth_model::session::{FromNode, FromScheduler, MESSAGE_MAX, PROTOCOL_MAX, PROTOCOL_MIN};
use berth_wire::hello::Hello;
use berth_wire::identity::Role;
use berth_wire::link::{Link, LinkError, LinkReceiver, LinkSender};
use berth_wire::tls::Tls;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc;

/// Messages on their way to the socket.
const QUEUE: usize = 64;
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);
/// A scheduler that takes nothing for so long is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) async fn serve(tls: Tls, to: SocketAddr, attempt: u64, session: Addr<Session>) {
    let reason = match open(&tls, to).await {
        Err(reason) => reason,
        Ok(link) => {
            let (sender, receiver) = link.split();
            let (queue, messages) = mpsc::channel(QUEUE);
            let opened = Heard { attempt, what: What::Opened(queue) };
            if session.send(opened).await.is_err() {
                return;
            }
            tokio::select! {
                reason = read(receiver, attempt, &session) => reason,
                reason = write(sender, messages) => reason,
            }
        }
    };
    // It fails only if the actor is gone, and then there is nobody to tell.
    let _ = session.send(Heard { attempt, what: What::Ended(reason) }).await;
}

async fn open(tls: &Tls, to: SocketAddr) -> Result<Link, String> {
    let opening = async {
        let (mut link, _) = tls.connect(to, Role::Scheduler).await?;
        link.set_limit(MESSAGE_MAX);
        link.hello(&hello()).await?;
        Ok::<Link, LinkError>(link)
    };
    match tokio::time::timeout(DIAL_TIMEOUT, opening).await {
        Ok(Ok(link)) => Ok(link),
        Ok(Err(error)) => Err(format!("scheduler at {to}: {}", with_causes(&error))),
        Err(_) => Err(format!("scheduler at {to} did not answer within {DIAL_TIMEOUT:?}")),
    }
}

pub(super) fn hello() -> Hello {
    Hello {
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        build: crate::BUILD.to_owned(),
        features: Vec::new(),
    }
}

async fn read(mut receiver: LinkReceiver, attempt: u64, session: &Addr<Session>) -> String {
    loop {
        match receiver.receive::<FromScheduler>().await {
            Ok(Some(message)) => {
                let what = What::Received(Box::new(message));
                if session.send(Heard { attempt, what }).await.is_err() {
                    return "the session actor is gone".into();
                }
            }
            Ok(None) => return "the scheduler closed the link".into(),
            Err(error) => return with_causes(&error),
        }
    }
}

async fn write(mut sender: LinkSender, mut messages: mpsc::Receiver<FromNode>) -> String {
    while let Some(message) = messages.recv().await {
        match tokio::time::timeout(WRITE_TIMEOUT, sender.send(&message)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return with_causes(&error),
            Err(_) => return "the scheduler takes no messages".into(),
        }
    }
    // The actor has moved on; whether the other side hears a proper end changes nothing.
    let _ = tokio::time::timeout(WRITE_TIMEOUT, sender.close()).await;
    "closed by this node".into()
}
