//! `berth pki`: the cell's certificate authority, for cells that `berth up` did not make.

use anyhow::{Context, Result};
use berth_model::CellId;
use berth_wire::pki::Authority;
use berth_wire::tls::{Identity, Role};
use clap::{Subcommand, ValueEnum};
use std::path::PathBuf;

/// Make a cell's certificate authority and issue certificates.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a new authority for a new cell.
    Init {
        /// Where ca.pem and ca.key are kept.
        #[arg(long, value_name = "DIR", default_value = "pki")]
        directory: PathBuf,
        /// Id of the cell [default: a fresh one].
        #[arg(long)]
        cell: Option<CellId>,
    },
    /// Issue a certificate as NAME.pem and NAME.key.
    Issue {
        /// The directory that `berth pki init` made.
        #[arg(long, value_name = "DIR", default_value = "pki")]
        directory: PathBuf,
        #[arg(long, value_enum)]
        role: RoleName,
        /// Replica number of a scheduler; id of a host (host-…); any name for a client.
        #[arg(long)]
        id: String,
        /// DNS names and addresses that curl or Prometheus will use; may be given several times.
        #[arg(long = "name", value_name = "NAME")]
        names: Vec<String>,
        /// Where the files go [default: the directory of the authority].
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RoleName {
    Scheduler,
    Node,
    Keeper,
    Switch,
    Client,
}

impl RoleName {
    const fn role(self) -> Role {
        match self {
            RoleName::Scheduler => Role::Scheduler,
            RoleName::Node => Role::Node,
            RoleName::Keeper => Role::Keeper,
            RoleName::Switch => Role::Switch,
            RoleName::Client => Role::Client,
        }
    }
}

pub fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::Init { directory, cell } => {
            let cell = cell.unwrap_or_else(|| CellId::random(&mut rand::rng()));
            let authority = Authority::create(&cell.to_string(), &directory)?;
            crate::verbs::output::line(&format!(
                "made the authority of {} in {}; keep ca.key secret",
                authority.cell(),
                directory.display()
            ))
        }
        Verb::Issue { directory, role, id, names, out } => {
            let authority = Authority::load(&directory)?;
            check_id(role, &id)?;
            let identity = Identity::new(authority.cell(), role.role(), id.as_str());
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let stem = format!("{}-{id}", role.role());
            let files = authority.issue_files(
                &identity,
                &names,
                out.as_ref().unwrap_or(&directory),
                &stem,
            )?;
            crate::verbs::output::line(&format!(
                "issued {identity}: {} and {}",
                files.certificate.display(),
                files.key.display()
            ))
        }
    }
}

/// The other end reads the id as a number or a host id; better refused here than there.
fn check_id(role: RoleName, id: &str) -> Result<()> {
    match role {
        RoleName::Scheduler => id
            .parse::<u64>()
            .map(drop)
            .with_context(|| format!("--id {id}: a scheduler's id is its replica number")),
        RoleName::Node | RoleName::Keeper | RoleName::Switch => id
            .parse::<berth_model::HostId>()
            .map(drop)
            .context("--id: a process of a host has that host's id"),
        RoleName::Client => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_issues_for_each_role_and_refuses_ids_that_nobody_could_read() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("pki");
        run(Verb::Init { directory: directory.clone(), cell: None }).unwrap();
        let issue = |role, id: &str| {
            run(Verb::Issue {
                directory: directory.clone(),
                role,
                id: id.to_owned(),
                names: vec!["127.0.0.1".to_owned()],
                out: None,
            })
        };
        issue(RoleName::Scheduler, "1").unwrap();
        issue(RoleName::Client, "alice").unwrap();
        issue(RoleName::Node, "h1").unwrap_err();
        issue(RoleName::Scheduler, "first").unwrap_err();
        assert!(directory.join("scheduler-1.pem").exists());
        run(Verb::Init { directory, cell: None }).unwrap_err();
    }
}
