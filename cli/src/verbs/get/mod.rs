//! `berth get`: what there is, and with `--watch` what becomes of it.

mod columns;
mod watch;

pub use columns::{
    CLUSTERS, CONTAINER_VMS, Columns, DATASTORES, ENDPOINTS, HOSTS, IMAGES, NETWORKS, PLACEMENTS,
    POLICIES, RULES,
};

use super::connection::Connection;
use super::output::{self, Format};
use super::pages;
use anyhow::{Result, bail};
use berth_client::view::{CellView, ListView};
use berth_client::{Client, ClientError, ListQuery};
use serde::Serialize;

/// Show objects of the cell.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[arg(value_enum)]
    kind: Kind,
    /// Id, start of an id, or name: only this one.
    object: Option<String>,
    /// Only those with this label (`name` or `name=value`); may be given several times.
    #[arg(long = "label", short = 'l', value_name = "LABEL")]
    labels: Vec<String>,
    /// Only what belongs to this endpoint (container VMs, placements, rules and images).
    #[arg(long)]
    endpoint: Option<String>,
    /// Take the answer of any replica as it is, even while the cell has no leader.
    #[arg(long)]
    stale: bool,
    /// Go on and show each that changes, until interrupted.
    #[arg(long, short)]
    watch: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    Cell,
    #[value(alias = "cluster")]
    Clusters,
    #[value(alias = "policy")]
    Policies,
    #[value(alias = "host")]
    Hosts,
    #[value(alias = "datastore")]
    Datastores,
    #[value(alias = "network")]
    Networks,
    #[value(alias = "endpoint")]
    Endpoints,
    #[value(alias = "image")]
    Images,
    #[value(aliases = ["container-vm", "containers", "container", "vms", "vm"])]
    ContainerVms,
    #[value(alias = "placement")]
    Placements,
    #[value(alias = "rule")]
    Rules,
}

impl Kind {
    /// As events name it; of policies, the cluster that has it.
    fn event(self) -> Option<&'static str> {
        match self {
            Kind::Cell | Kind::Networks => None,
            Kind::Clusters | Kind::Policies => Some("cluster"),
            Kind::Hosts => Some("host"),
            Kind::Datastores => Some("datastore"),
            Kind::Endpoints => Some("endpoint"),
            Kind::Images => Some("image"),
            Kind::ContainerVms => Some("container-vm"),
            Kind::Placements => Some("placement"),
            Kind::Rules => Some("rule"),
        }
    }
}

pub async fn run(arguments: Arguments) -> Result<()> {
    let client = arguments.connection.client()?;
    let format = arguments.connection.output;
    let shown = Shown { client: &client, format, object: arguments.object };
    let query = ListQuery {
        labels: arguments.labels,
        endpoint: arguments.endpoint,
        stale: arguments.stale,
        status: arguments.kind == Kind::Rules,
        ..ListQuery::default()
    };
    if !arguments.watch {
        return shown.once(arguments.kind, &query).await;
    }
    let Some(kind) = arguments.kind.event() else {
        bail!("--watch: the cell and networks tell no changes; look again instead");
    };
    let from = client.newest().await?;
    shown.once(arguments.kind, &query).await?;
    watch::follow(&client, kind, from, async || shown.once(arguments.kind, &query).await).await
}

struct Shown<'a> {
    client: &'a Client,
    format: Format,
    object: Option<String>,
}

impl Shown<'_> {
    async fn once(&self, kind: Kind, query: &ListQuery) -> Result<()> {
        let client = self.client;
        let object = self.object.as_deref();
        match kind {
            Kind::Cell => match object {
                Some(object) => bail!("`{object}`: there is one cell, and it needs no name"),
                None => cell(&client.cell().await?, self.format),
            },
            Kind::Clusters => match object {
                Some(name) => print(&CLUSTERS, &client.cluster(name).await?, self.format),
                None => self.list(&CLUSTERS, query, async |q| client.clusters(&q).await).await,
            },
            Kind::Policies => match object {
                Some(name) => print(&POLICIES, &client.policy(name).await?, self.format),
                None => self.list(&POLICIES, query, async |q| client.policies(&q).await).await,
            },
            Kind::Hosts => match object {
                Some(name) => print(&HOSTS, &client.host(name).await?, self.format),
                None => self.list(&HOSTS, query, async |q| client.hosts(&q).await).await,
            },
            Kind::Datastores => match object {
                Some(name) => print(&DATASTORES, &client.datastore(name).await?, self.format),
                None => self.list(&DATASTORES, query, async |q| client.datastores(&q).await).await,
            },
            Kind::Networks => match object {
                Some(name) => print(&NETWORKS, &client.network(name).await?, self.format),
                None => self.list(&NETWORKS, query, async |q| client.networks(&q).await).await,
            },
            Kind::Endpoints => match object {
                Some(name) => print(&ENDPOINTS, &client.endpoint(name).await?, self.format),
                None => self.list(&ENDPOINTS, query, async |q| client.endpoints(&q).await).await,
            },
            Kind::Images => match object {
                Some(name) => print(&IMAGES, &client.image(name).await?, self.format),
                None => self.list(&IMAGES, query, async |q| client.images(&q).await).await,
            },
            Kind::ContainerVms => match object {
                Some(name) => print(&CONTAINER_VMS, &client.container_vm(name).await?, self.format),
                None => {
                    self.list(&CONTAINER_VMS, query, async |q| client.container_vms(&q).await).await
                }
            },
            Kind::Placements => match object {
                Some(name) => print(&PLACEMENTS, &client.placement(name).await?, self.format),
                None => self.list(&PLACEMENTS, query, async |q| client.placements(&q).await).await,
            },
            Kind::Rules => match object {
                Some(name) => print(&RULES, &client.rule(name).await?, self.format),
                None => self.list(&RULES, query, async |q| client.rules(&q).await).await,
            },
        }
    }

    async fn list<T: Serialize>(
        &self,
        columns: &Columns<T>,
        query: &ListQuery,
        page: impl AsyncFn(ListQuery) -> Result<ListView<T>, ClientError>,
    ) -> Result<()> {
        let mut items = pages::all_of(query.clone(), page).await?;
        items.sort_by(|a, b| (columns.name)(a).cmp((columns.name)(b)));
        match self.format {
            Format::Table => output::table(columns.header, items.iter().map(columns.row).collect()),
            Format::Json | Format::Yaml => output::structured(self.format, &items),
        }
    }
}

/// One object: as a row under its header, or whole.
pub fn print<T: Serialize>(columns: &Columns<T>, item: &T, format: Format) -> Result<()> {
    match format {
        Format::Table => output::table(columns.header, vec![(columns.row)(item)]),
        Format::Json | Format::Yaml => output::structured(format, item),
    }
}

fn cell(view: &CellView, format: Format) -> Result<()> {
    match format {
        Format::Table => output::table(&["what", "value"], cell_rows(view)),
        Format::Json | Format::Yaml => output::structured(format, view),
    }
}

fn cell_rows(cell: &CellView) -> Vec<Vec<String>> {
    let replica = &cell.replica;
    let leader = replica.leader.map_or("none".to_owned(), |leader| leader.to_string());
    let mut rows = vec![
        ("cell", cell.cell.clone()),
        ("answered by replica", format!("{} ({})", replica.id, replica.role)),
        ("leader", leader),
        ("term", replica.term.to_string()),
        ("applied", format!("{} of {}", replica.applied, replica.commit)),
        ("build", cell.build.clone()),
    ];
    let containers: Vec<String> =
        cell.container_vms.iter().map(|(phase, count)| format!("{count} {phase}")).collect();
    rows.push(("container VMs", containers.join(", ")));
    rows.into_iter().map(|(what, value)| vec![what.to_owned(), value]).collect()
}
