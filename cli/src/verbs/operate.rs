//! `berth maintenance`, `cluster`, `endpoint`, `host`: what an operator changes of the cell.

use super::connection::Connection;
use super::refused::told;
use super::units::{parse_bytes, parse_cpus};
use super::{get, output};
use anyhow::{Context, Result};
use berth_client::WriteOptions;
use berth_client::view::{
    ClusterRequest, EndpointPatch, EndpointRequest, HostPatch, PolicyRequest, QuotaPatch, QuotaView,
};

/// Take a host out of placing, or put it back.
#[derive(Clone, Debug, clap::Args)]
pub struct MaintenanceArguments {
    /// Name or id.
    host: String,
    /// Put it back.
    #[arg(long)]
    off: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Debug, clap::Subcommand)]
pub enum HostVerb {
    /// Forget a host that is silent and holds nothing.
    Delete {
        /// Name or id.
        host: String,
        #[command(flatten)]
        connection: Connection,
    },
}

#[derive(Clone, Debug, clap::Subcommand)]
pub enum ClusterVerb {
    /// Make a cluster; `berth policy set` changes its policy.
    Create {
        /// Unique in the cell.
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Delete a cluster without hosts.
    Delete {
        /// Name or id.
        cluster: String,
        #[command(flatten)]
        connection: Connection,
    },
}

#[derive(Clone, Debug, clap::Subcommand)]
pub enum EndpointVerb {
    /// Make an endpoint.
    Create {
        /// Unique in the cell.
        name: String,
        #[command(flatten)]
        quota: Quota,
        #[command(flatten)]
        connection: Connection,
    },
    /// Change what the flags name; the rest stays.
    Set {
        /// Name or id.
        endpoint: String,
        #[command(flatten)]
        quota: Quota,
        /// Take every limit away first.
        #[arg(long)]
        unlimited: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Delete an endpoint that owns nothing.
    Delete {
        /// Name or id.
        endpoint: String,
        #[command(flatten)]
        connection: Connection,
    },
}

/// The most that an endpoint may hold.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Quota {
    #[arg(long, value_name = "CPUS", value_parser = parse_cpus)]
    max_cpus: Option<u64>,
    #[arg(long, value_name = "MEMORY", value_parser = parse_bytes)]
    max_memory: Option<u64>,
    #[arg(long, value_name = "DISK", value_parser = parse_bytes)]
    max_disk: Option<u64>,
    /// Container VMs, stopped ones too, and reservations.
    #[arg(long, value_name = "COUNT")]
    max_containers: Option<u32>,
}

impl Quota {
    fn view(self) -> QuotaView {
        QuotaView {
            cpu_millis: self.max_cpus,
            memory_bytes: self.max_memory,
            disk_bytes: self.max_disk,
            container_vms: self.max_containers,
        }
    }

    fn patch(self, unlimited: bool) -> QuotaPatch {
        let none = unlimited.then_some(None);
        QuotaPatch {
            cpu_millis: self.max_cpus.map(Some).or(none),
            memory_bytes: self.max_memory.map(Some).or(none),
            disk_bytes: self.max_disk.map(Some).or(none),
            container_vms: self.max_containers.map(Some).or(unlimited.then_some(None)),
        }
    }
}

const OPTIONS: WriteOptions = WriteOptions::NONE;

pub async fn maintenance(arguments: MaintenanceArguments) -> Result<()> {
    let MaintenanceArguments { host, off, connection } = arguments;
    let patch = HostPatch { maintenance: !off };
    let answer = connection.client()?.patch_host(&host, &patch, &OPTIONS).await;
    let view = told(answer).with_context(|| format!("`{host}` was not changed"))?;
    get::print(&get::HOSTS, &view, connection.output)
}

pub async fn host(verb: HostVerb) -> Result<()> {
    match verb {
        HostVerb::Delete { host, connection } => {
            told(connection.client()?.delete_host(&host, &OPTIONS).await)
                .with_context(|| format!("`{host}` was not deleted"))?;
            output::line(&format!("{host} deleted"))
        }
    }
}

pub async fn cluster(verb: ClusterVerb) -> Result<()> {
    match verb {
        ClusterVerb::Create { name, connection } => {
            let request = ClusterRequest { name, policy: PolicyRequest::default() };
            let answer = connection.client()?.create_cluster(&request, &OPTIONS).await;
            let view = told(answer).context("the cluster was not created")?;
            get::print(&get::CLUSTERS, &view, connection.output)
        }
        ClusterVerb::Delete { cluster, connection } => {
            told(connection.client()?.delete_cluster(&cluster, &OPTIONS).await)
                .with_context(|| format!("`{cluster}` was not deleted"))?;
            output::line(&format!("{cluster} deleted"))
        }
    }
}

pub async fn endpoint(verb: EndpointVerb) -> Result<()> {
    match verb {
        EndpointVerb::Create { name, quota, connection } => {
            let quota = quota.view();
            let request = EndpointRequest { name, quota, ..EndpointRequest::default() };
            let answer = connection.client()?.create_endpoint(&request, &OPTIONS).await;
            let view = told(answer).context("the endpoint was not created")?;
            get::print(&get::ENDPOINTS, &view, connection.output)
        }
        EndpointVerb::Set { endpoint, quota, unlimited, connection } => {
            let patch = EndpointPatch { quota: quota.patch(unlimited), ..EndpointPatch::default() };
            let answer = connection.client()?.patch_endpoint(&endpoint, &patch, &OPTIONS).await;
            let view = told(answer).with_context(|| format!("`{endpoint}` was not changed"))?;
            get::print(&get::ENDPOINTS, &view, connection.output)
        }
        EndpointVerb::Delete { endpoint, connection } => {
            told(connection.client()?.delete_endpoint(&endpoint, &OPTIONS).await)
                .with_context(|| format!("`{endpoint}` was not deleted"))?;
            output::line(&format!("{endpoint} deleted"))
        }
    }
}
