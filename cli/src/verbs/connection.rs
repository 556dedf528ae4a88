//! How a command reaches the API.

use super::output::Format;
use anyhow::{Context, Result, bail};
use berth_client::Client;
use berth_wire::tls::{Tls, TlsFiles};
use std::path::PathBuf;

/// Taken by every command that speaks to `/v1`.
#[derive(Clone, Debug, clap::Args)]
pub struct Connection {
    /// Schedulers to ask, one after the other until one can be reached.
    #[arg(
        long,
        env = "BERTH_API",
        value_name = "URL",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7101"
    )]
    pub api: Vec<String>,
    /// Certificate of the cell's authority, for https.
    #[arg(long, env = "BERTH_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Certificate to show, for https.
    #[arg(long, env = "BERTH_CERTIFICATE", value_name = "FILE")]
    pub certificate: Option<PathBuf>,
    /// Its key.
    #[arg(long, env = "BERTH_KEY", value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// How the answer is shown.
    #[arg(long, short, value_enum, default_value = "table")]
    pub output: Format,
}

impl Connection {
    pub fn client(&self) -> Result<Client> {
        let tls = match (&self.ca, &self.certificate, &self.key) {
            (Some(ca), Some(certificate), Some(key)) => {
                let files =
                    TlsFiles { ca: ca.clone(), certificate: certificate.clone(), key: key.clone() };
                Some(Tls::load(&files).context("cannot use the certificate")?)
            }
            (None, None, None) => None,
            (_, _, _) => bail!("--ca, --certificate and --key go together"),
        };
        Ok(Client::new(&self.api, tls.as_ref())?)
    }
}
