//! The authority of the cell and the certificates of its processes.
//!
//! The authority is made once and kept; the certificates are issued anew at each start, so that
//! none expires and each names the addresses of today.

use super::cell_file::{CellFile, Kind};
use anyhow::{Context, Result};
use berth_wire::pki::Authority;
use berth_wire::tls::{Identity, Role, TlsFiles};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Opens the cell's authority, or makes it.
pub fn authority(state: &Path, cell: &str) -> Result<Authority> {
    let folder = state.join("pki");
    let authority = if folder.join("ca.pem").exists() {
        Authority::load(&folder)
    } else {
        Authority::create(cell, &folder)
    };
    let authority = authority.context("cannot open the cell's certificate authority")?;
    anyhow::ensure!(
        authority.cell() == cell,
        "{} is the authority of another cell ({}); choose another --state",
        folder.display(),
        authority.cell()
    );
    Ok(authority)
}

/// Issues for schedulers and nodes that do not run, and for a client.
pub fn issue(state: &Path, authority: &Authority, cell: &CellFile) -> Result<()> {
    for process in cell.processes.iter().filter(|process| process.running().is_none()) {
        let role = match process.kind {
            Kind::Scheduler => Role::Scheduler,
            Kind::Node => Role::Node,
            // They speak to their node alone, over a socket that only its user can open.
            Kind::Keeper | Kind::Switch => continue,
        };
        let mut names: BTreeSet<String> =
            process.addresses.values().map(|address| address.ip().to_string()).collect();
        names.insert("localhost".to_owned());
        names.insert("127.0.0.1".to_owned());
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let identity = Identity::new(authority.cell(), role, &process.id);
        let stem = stem(&process.config);
        authority
            .issue_files(&identity, &names, &folder(state), &stem)
            .with_context(|| format!("cannot issue a certificate for {}", process.label()))?;
    }
    let client = Identity::new(authority.cell(), Role::Client, "operator");
    authority
        .issue_files(&client, &[], &folder(state), "client")
        .context("cannot issue a certificate for clients")?;
    Ok(())
}

/// The files of the process with this configuration.
pub fn files(state: &Path, cell: &CellFile, config: &Path) -> TlsFiles {
    let stem = stem(config);
    TlsFiles {
        ca: cell.ca.clone(),
        certificate: folder(state).join(format!("{stem}.pem")),
        key: folder(state).join(format!("{stem}.key")),
    }
}

fn folder(state: &Path) -> PathBuf {
    state.join("certificates")
}

fn stem(config: &Path) -> String {
    config.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
