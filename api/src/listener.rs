//! Where an API listens: plain on loopback, mutual TLS everywhere else.

use std::net::SocketAddr;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The address of an API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    pub address: SocketAddr,
    /// Demand mutual TLS. Beyond loopback it must be set.
    pub tls: bool,
}

/// Why an API does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("{0} is not loopback: plain HTTP is for loopback only; switch TLS on")]
    PlainBeyondLoopback(SocketAddr),
    #[error("cannot listen on {address}; is the port taken?")]
    Bind {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("TLS was refused")]
    Tls(#[source] berth_wire::link::LinkError),
    #[error("the API's table contradicts itself: {0}")]
    Table(String),
    #[error("the HTTP server failed")]
    Server(#[source] std::io::Error),
}

impl Listener {
    pub fn validate(&self) -> Result<(), ServeError> {
        if self.tls || self.address.ip().is_loopback() {
            Ok(())
        } else {
            Err(ServeError::PlainBeyondLoopback(self.address))
        }
    }
}

/// An API that serves. Dropped, it goes on serving until the runtime ends.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Serving {
    pub(crate) fn new(
        address: SocketAddr,
        stop: watch::Sender<bool>,
        task: JoinHandle<()>,
    ) -> Self {
        Self { address, stop, task }
    }

    /// Where it listens, the port filled in if it was 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops listening and cuts what is open: a client hears an error rather than a false end.
    pub async fn shutdown(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await
            && error.is_panic()
        {
            tracing::error!(%error, "an API server panicked");
        }
    }
}

/// Resolves once `stop` says so, or its sender is gone... which it never is while it serves.
pub(crate) async fn stopped(mut stop: watch::Receiver<bool>) {
    if stop.wait_for(|stopped| *stopped).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_stays_on_loopback() {
        let at = |address: &str, tls| Listener { address: address.parse().unwrap(), tls };
        assert!(at("127.0.0.1:1", false).validate().is_ok());
        assert!(at("[::1]:1", false).validate().is_ok());
        assert!(at("0.0.0.0:1", true).validate().is_ok());
        assert!(at("0.0.0.0:1", false).validate().is_err());
        assert!(at("10.0.0.1:1", false).validate().is_err());
    }
}
