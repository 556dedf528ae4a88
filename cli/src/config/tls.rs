//! Which certificate a process speaks with.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// PEM files of the cell's authority; `berth pki issue` makes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSection {
    /// Certificate of the cell's authority.
    pub ca: PathBuf,
    /// Certificate of this process; role and id are in its `berth://` name.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl TlsSection {
    pub fn files(&self) -> berth_wire::tls::TlsFiles {
        berth_wire::tls::TlsFiles {
            ca: self.ca.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone(),
        }
    }
}

impl From<berth_wire::tls::TlsFiles> for TlsSection {
    fn from(files: berth_wire::tls::TlsFiles) -> Self {
        Self { ca: files.ca, certificate: files.certificate, key: files.key }
    }
}
