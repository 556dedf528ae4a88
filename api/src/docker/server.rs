//! Connections: accept, TLS where it is demanded, HTTP/1 with upgrades.
//!
//! hyper and not actix-web, because attach takes the connection out of HTTP, which actix-web does
//! not allow.

use super::Docker;
use super::call;
use super::peer::Peer;
use crate::listener::{Listener, ServeError, Serving, stopped};
use berth_model::command::Principal;
use berth_wire::tls::{Role, Tls};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Open connections of one endpoint, attached ones too; those beyond are closed at once.
const CONNECTIONS_MAX: usize = 8192;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest that a connection may be idle, or a request's head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(300);
/// Longest head of a request, in bytes.
const HEAD_MAX: usize = 64 << 10;

pub(super) async fn start(
    listener: Listener,
    docker: Arc<Docker>,
    tls: Tls,
    stop: watch::Sender<bool>,
) -> Result<Serving, ServeError> {
    listener.validate()?;
    let acceptor = if listener.tls {
        let config = tls.server_config_for(&[Role::Client]).map_err(ServeError::Tls)?;
        Some(tokio_rustls::TlsAcceptor::from(config))
    } else {
        None
    };
    let bind = |source| ServeError::Bind { address: listener.address, source };
    let socket = TcpListener::bind(listener.address).await.map_err(bind)?;
    let address = socket.local_addr().map_err(bind)?;
    let stopping = stop.subscribe();
    let task = tokio::spawn(async move {
        tokio::select! {
            () = stopped(stopping) => {}
            () = accept(socket, acceptor, tls, docker) => {}
        }
    });
    Ok(Serving::new(address, stop, task))
}

async fn accept(
    listener: TcpListener,
    acceptor: Option<tokio_rustls::TlsAcceptor>,
    tls: Tls,
    docker: Arc<Docker>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let tcp = match listener.accept().await {
            Ok((tcp, _)) => tcp,
            Err(error) => {
                // Too many open files, mostly: give those that are open time to end.
                tracing::warn!(%error, "the Docker endpoint cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            docker.metrics.connections_refused.inc();
            continue;
        };
        let (acceptor, tls, docker) = (acceptor.clone(), tls.clone(), docker.clone());
        tokio::spawn(async move {
            docker.metrics.connections.inc();
            tokio::select! {
                () = stopped(docker.stop.clone()) => {}
                () = connection(tcp, place, acceptor, tls, docker.clone()) => {}
            }
            docker.metrics.connections.dec();
        });
    }
}

async fn connection(
    tcp: TcpStream,
    place: OwnedSemaphorePermit,
    acceptor: Option<tokio_rustls::TlsAcceptor>,
    tls: Tls,
    docker: Arc<Docker>,
) {
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "a connection was gone before it was served");
        return;
    }
    let mut peer = Peer::new(Principal::Local, &tcp, Some(place));
    let Some(acceptor) = acceptor else { return serve(tcp, peer, docker).await };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(tcp)).await {
        Ok(Ok(stream)) => match tls.peer_identity(stream.get_ref().1.peer_certificates()) {
            Ok(identity) => {
                peer.principal = Principal::Client(identity.id);
                serve(stream, peer, docker).await;
            }
            Err(error) => {
                docker.metrics.connections_refused.inc();
                tracing::info!(%error, "a client's certificate was refused");
            }
        },
        Ok(Err(error)) => {
            docker.metrics.connections_refused.inc();
            tracing::info!(%error, "a client failed the TLS handshake");
        }
        Err(_) => docker.metrics.connections_refused.inc(),
    }
}

async fn serve<S>(stream: S, peer: Peer, docker: Arc<Docker>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let peer = Arc::new(peer);
    let service = service_fn(move |request| {
        let (docker, peer) = (docker.clone(), peer.clone());
        async move { Ok::<_, std::convert::Infallible>(call::answer(docker, peer, request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_MAX)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the Docker endpoint ended in disorder");
    }
}
