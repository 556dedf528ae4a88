//! Who is at the other end of a connection, and whether they are still there.

use berth_model::command::Principal;
use std::net::TcpStream as StdStream;
use std::os::fd::{AsFd, OwnedFd};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

/// The client of one connection.
#[derive(Debug)]
pub struct Peer {
    pub principal: Principal,
    /// A second handle of the socket, to hear of its end while HTTP holds the first.
    socket: Option<OwnedFd>,
    /// Among the connections that may be open; held as long as anything serves this client, also
    /// once its connection is out of HTTP.
    _place: Option<OwnedSemaphorePermit>,
}

impl Peer {
    pub fn new(
        principal: Principal,
        socket: &TcpStream,
        place: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self { principal, socket: socket.as_fd().try_clone_to_owned().ok(), _place: place }
    }

    /// Resolves once the client has closed its side, which one that waits for an answer of
    /// unknown length does only when it goes. HTTP half-close stays possible elsewhere: only
    /// answers that may take for ever look at this.
    pub async fn hung_up(&self) {
        if self.watch_socket().await.is_err() {
            // The socket cannot be watched; a write that fails will tell instead.
            std::future::pending::<()>().await;
        }
    }

    async fn watch_socket(&self) -> std::io::Result<()> {
        let Some(socket) = &self.socket else { return Err(std::io::ErrorKind::Unsupported.into()) };
        let socket = TcpStream::from_std(StdStream::from(socket.try_clone()?))?;
        loop {
            let ready = socket.ready(Interest::READABLE | Interest::ERROR).await?;
            if ready.is_read_closed() || ready.is_error() {
                return Ok(());
            }
            // What there is to read is HTTP's; look again only when something new comes.
            let nothing = || Err::<(), _>(std::io::ErrorKind::WouldBlock.into());
            if let Err(error) = socket.try_io(Interest::READABLE, nothing)
                && error.kind() != std::io::ErrorKind::WouldBlock
            {
                return Err(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Poll;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_client_that_sends_is_there_and_one_that_closed_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let peer = Peer::new(Principal::Local, &socket, None);
        client.write_all(b"x").await.unwrap();
        socket.readable().await.unwrap();
        let mut hung_up = std::pin::pin!(peer.hung_up());
        let first_look = std::future::poll_fn(|cx| Poll::Ready(hung_up.as_mut().poll(cx))).await;
        assert!(first_look.is_pending());
        drop(client);
        hung_up.await;
    }
}
