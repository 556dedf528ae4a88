//! Where an HTTP API listens, and the rule that plain text stays on loopback.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerSection {
    pub listen: SocketAddr,
    /// Demand mutual TLS. If absent: no on loopback, yes elsewhere; `false` elsewhere is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<bool>,
}

impl ListenerSection {
    pub fn at(listen: SocketAddr) -> Self {
        Self { listen, tls: None }
    }

    /// What the API takes; `key` is the section in the file, for the message.
    pub fn listener(&self, key: &str) -> Result<berth_api::Listener, String> {
        let tls = self.tls.unwrap_or(!self.listen.ip().is_loopback());
        let listener = berth_api::Listener { address: self.listen, tls };
        listener.validate().map_err(|error| format!("{key}: {error}"))?;
        Ok(listener)
    }
}
