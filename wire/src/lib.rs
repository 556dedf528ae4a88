//! Framing, versioned encoding, limits and TLS of every link between our processes.
//!
//! `codec`, `envelope`, `frame` and `hello` are pure. Feature `tls` adds sockets: `tls` and `link`
//! are mutual TLS with typed messages, `identity` is who stands behind a certificate, `pki` is the
//! cell's certificate authority. The guest agent builds without that feature.

pub mod channel;
pub mod codec;
pub mod envelope;
pub mod frame;
pub mod hello;
pub mod record;

#[cfg(feature = "tls")]
pub mod identity;
#[cfg(feature = "tls")]
pub mod link;
#[cfg(feature = "tls")]
pub mod pki;
#[cfg(feature = "tls")]
pub mod tls;
