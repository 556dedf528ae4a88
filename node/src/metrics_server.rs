//! `/metrics` and `/healthz` over HTTP.
//!
//! Promises: plain on loopback; on any other address only mutual TLS with a certificate of the
//! cell, of any role. Does not: serve anything that changes the node.

use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::{Data, get};
use actix_web::{App, HttpResponse, HttpServer};
use berth_metrics::{Registry, exposition};
use berth_wire::tls::Tls;
use std::io;
use std::net::SocketAddr;

/// Requests served at once.
const CONNECTIONS: usize = 64;

/// Why metrics are not served.
#[derive(Debug, thiserror::Error)]
pub enum MetricsServerError {
    #[error(
        "metrics would be served in the clear on {0}; give it certificates, or listen on loopback"
    )]
    InTheClear(SocketAddr),
    #[error("cannot serve metrics on {address}; another process may have the port")]
    Bind {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
}

/// A server that runs once it is awaited or spawned; its handle stops it.
pub fn serve(
    listen: SocketAddr,
    tls: Option<&Tls>,
    registry: Registry,
) -> Result<(actix_web::dev::Server, SocketAddr), MetricsServerError> {
    let registry = Data::new(registry);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(registry.clone())
            .route("/metrics", get().to(metrics))
            .route("/healthz", get().to(healthz))
    })
    .workers(1)
    .max_connections(CONNECTIONS)
    .disable_signals();
    let bound = if listen.ip().is_loopback() {
        server.bind(listen)
    } else {
        let tls = tls.ok_or(MetricsServerError::InTheClear(listen))?;
        let config = tls.server_config();
        server.bind_rustls_0_23(listen, rustls_config(&config))
    };
    let failed = |source| MetricsServerError::Bind { address: listen, source };
    let server = bound.map_err(failed)?;
    let address = server.addrs().first().copied().unwrap_or(listen);
    Ok((server.run(), address))
}

/// actix-web sets the protocols of HTTP in a configuration of its own.
fn rustls_config<C: Clone>(shared: &std::sync::Arc<C>) -> C {
    shared.as_ref().clone()
}

async fn metrics(registry: Data<Registry>) -> HttpResponse {
    match exposition::text(&registry) {
        Ok(text) => {
            HttpResponse::Ok().insert_header((CONTENT_TYPE, exposition::CONTENT_TYPE)).body(text)
        }
        Err(error) => {
            tracing::error!(%error, "metrics cannot be shown");
            HttpResponse::InternalServerError().body(format!("{error}\n"))
        }
    }
}

/// The node answers: that is all it says. Whether it has a session is a metric.
async fn healthz() -> HttpResponse {
    HttpResponse::Ok().body("ok\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_metrics::node::NodeMetrics;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    #[actix_rt::test]
    async fn metrics_are_served_on_loopback() {
        let registry = Registry::new();
        NodeMetrics::register(&registry).unwrap();
        let (server, address) = serve("127.0.0.1:0".parse().unwrap(), None, registry).unwrap();
        let handle = server.handle();
        actix_rt::spawn(server);
        for (path, expected) in [("/metrics", "berth_node_session_state"), ("/healthz", "ok")] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(expected), "{answer}");
        }
        handle.stop(false).await;
    }

    #[test]
    fn without_certificates_nothing_is_served_beyond_loopback() {
        let refused = serve("192.0.2.1:1".parse().unwrap(), None, Registry::new()).err().unwrap();
        assert!(matches!(refused, MetricsServerError::InTheClear(_)));
    }
}
