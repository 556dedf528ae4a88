//! `berth get`: what there is.

use super::connection::Connection;
use super::output::{self, Format};
use super::{pages, units};
use anyhow::Result;
use berth_client::view::{CellView, ContainerView, StateView};
use berth_client::{Client, ListQuery};

/// Show objects of the cell.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[arg(value_enum)]
    kind: Kind,
    /// Id, start of an id, or name: only this one, in full (containers only).
    object: Option<String>,
    /// Only those with this label (`name` or `name=value`); may be given several times.
    #[arg(long = "label", short = 'l', value_name = "LABEL")]
    labels: Vec<String>,
    /// Only what belongs to this endpoint (containers and images).
    #[arg(long)]
    endpoint: Option<String>,
    /// Take the answer of any replica as it is, even while the cell has no leader.
    #[arg(long)]
    stale: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    Cell,
    #[value(alias = "cluster")]
    Clusters,
    #[value(alias = "host")]
    Hosts,
    #[value(alias = "datastore")]
    Datastores,
    #[value(alias = "endpoint")]
    Endpoints,
    #[value(alias = "image")]
    Images,
    #[value(alias = "container")]
    Containers,
}

pub async fn run(arguments: Arguments) -> Result<()> {
    let client = arguments.connection.client()?;
    let format = arguments.connection.output;
    let query = ListQuery {
        labels: arguments.labels,
        endpoint: arguments.endpoint,
        stale: arguments.stale,
        ..ListQuery::default()
    };
    match (arguments.kind, arguments.object) {
        (Kind::Containers, Some(container)) => {
            let view = client.container(&container).await?;
            show(format, &view, CONTAINER_HEADER, std::slice::from_ref(&view), container_row)
        }
        (
            Kind::Cell
            | Kind::Clusters
            | Kind::Hosts
            | Kind::Datastores
            | Kind::Endpoints
            | Kind::Images,
            Some(object),
        ) => anyhow::bail!("`{object}`: a single object can be asked for of containers only"),
        (Kind::Cell, None) => {
            let view = client.cell().await?;
            match format {
                Format::Json => output::json(&view),
                Format::Table => output::table(&["what", "value"], cell_rows(&view)),
            }
        }
        (kind, None) => list(&client, kind, query, format).await,
    }
}

const CONTAINER_HEADER: &[&str] =
    &["id", "name", "endpoint", "image", "state", "host", "datastore", "cpu", "memory"];

async fn list(client: &Client, kind: Kind, query: ListQuery, format: Format) -> Result<()> {
    match kind {
        Kind::Cell => Ok(()),
        Kind::Clusters => {
            let mut items =
                pages::all_of(query, async |query| client.clusters(&query).await).await?;
            items.sort_by(|a, b| a.name.cmp(&b.name));
            let header =
                &["name", "strategy", "hosts", "containers", "cpu charged", "memory charged"];
            show(format, &items, header, &items, |cluster| {
                let [cpu, memory] = units::of(&cluster.charged, &cluster.capacity);
                vec![
                    cluster.name.clone(),
                    format!("{:?}", cluster.policy.strategy).to_lowercase(),
                    cluster.hosts.to_string(),
                    cluster.placed.to_string(),
                    cpu,
                    memory,
                ]
            })
        }
        Kind::Hosts => {
            let mut items = pages::all_of(query, async |query| client.hosts(&query).await).await?;
            items.sort_by(|a, b| a.name.cmp(&b.name));
            let header = &[
                "name",
                "cluster",
                "state",
                "accelerator",
                "containers",
                "cpu charged",
                "memory charged",
                "datastores",
            ];
            show(format, &items, header, &items, |host| {
                let [cpu, memory] = units::of(&host.charged, &host.capacity);
                let state = match host.maintenance {
                    true => format!("{}, maintenance", host.state),
                    false => host.state.clone(),
                };
                vec![
                    host.name.clone(),
                    host.cluster.clone(),
                    state,
                    units::accelerator(host.accelerator).to_owned(),
                    host.placed.to_string(),
                    cpu,
                    memory,
                    host.datastores.join(","),
                ]
            })
        }
        Kind::Datastores => {
            let mut items =
                pages::all_of(query, async |query| client.datastores(&query).await).await?;
            items.sort_by(|a, b| a.name.cmp(&b.name));
            show(
                format,
                &items,
                &["name", "free", "capacity", "charged", "hosts"],
                &items,
                |store| {
                    vec![
                        store.name.clone(),
                        units::bytes(store.free_bytes),
                        units::bytes(store.capacity_bytes),
                        units::bytes(store.charged_bytes),
                        store.hosts.join(","),
                    ]
                },
            )
        }
        Kind::Endpoints => {
            let mut items =
                pages::all_of(query, async |query| client.endpoints(&query).await).await?;
            items.sort_by(|a, b| a.name.cmp(&b.name));
            let header =
                &["name", "image store", "default cpu", "default memory", "containers", "images"];
            show(format, &items, header, &items, |endpoint| {
                vec![
                    endpoint.name.clone(),
                    endpoint.image_store.clone().unwrap_or_default(),
                    units::cpus(endpoint.default_cpu_millis),
                    units::bytes(endpoint.default_memory_bytes),
                    endpoint.containers.to_string(),
                    endpoint.images.to_string(),
                ]
            })
        }
        Kind::Images => {
            let mut items = pages::all_of(query, async |query| client.images(&query).await).await?;
            items.sort_by(|a, b| a.references.cmp(&b.references));
            let header = &["id", "references", "endpoint", "size", "datastores"];
            show(format, &items, header, &items, |image| {
                vec![
                    short(&image.id),
                    image.references.join(","),
                    image.meta.endpoint.clone(),
                    units::bytes(image.size_bytes),
                    image.datastores.join(","),
                ]
            })
        }
        Kind::Containers => {
            let mut items =
                pages::all_of(query, async |query| client.containers(&query).await).await?;
            items.sort_by(|a, b| a.name.cmp(&b.name));
            show(format, &items, CONTAINER_HEADER, &items, container_row)
        }
    }
}

fn show<T>(
    format: Format,
    json: &impl serde::Serialize,
    header: &[&str],
    items: &[T],
    row: impl Fn(&T) -> Vec<String>,
) -> Result<()> {
    match format {
        Format::Json => output::json(json),
        Format::Table => output::table(header, items.iter().map(row).collect()),
    }
}

/// One container as a row under its header.
pub fn print_container(view: &ContainerView, format: Format) -> Result<()> {
    show(format, view, CONTAINER_HEADER, std::slice::from_ref(view), container_row)
}

fn container_row(container: &ContainerView) -> Vec<String> {
    vec![
        short(&container.id),
        container.name.clone(),
        container.meta.endpoint.clone(),
        container.image_reference.clone(),
        state(&container.state),
        container.host.clone().unwrap_or_default(),
        container.datastore.clone().unwrap_or_default(),
        units::cpus(container.demand.cpu_millis),
        units::bytes(container.demand.memory_bytes),
    ]
}

fn state(state: &StateView) -> String {
    match state {
        StateView::Pending { refused: Some(_) } | StateView::Waiting { refused: Some(_) } => {
            format!("{}, refused", state.phase())
        }
        StateView::Starting { stopping: true } | StateView::Running { stopping: true, .. } => {
            "stopping".to_owned()
        }
        StateView::Exited { exit_code, oom_killed, .. } => match oom_killed {
            true => format!("exited ({exit_code}, out of memory)"),
            false => format!("exited ({exit_code})"),
        },
        StateView::Pending { refused: None }
        | StateView::Created
        | StateView::Waiting { refused: None }
        | StateView::Starting { stopping: false }
        | StateView::Running { stopping: false, .. }
        | StateView::Removing => state.phase().to_owned(),
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
        cell.containers.iter().map(|(phase, count)| format!("{count} {phase}")).collect();
    rows.push(("containers", containers.join(", ")));
    rows.into_iter().map(|(what, value)| vec![what.to_owned(), value]).collect()
}

/// The first twelve digits of an id, its kind left out.
fn short(id: &str) -> String {
    id.strip_prefix("sha256:").unwrap_or(id).chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_says_what_a_person_asks_next() {
        let exited = StateView::Exited {
            exit_code: 137,
            oom_killed: true,
            error: String::new(),
            started_at_ms: None,
            finished_at_ms: 0,
        };
        assert_eq!(state(&exited), "exited (137, out of memory)");
        assert_eq!(
            state(&StateView::Waiting { refused: Some(Default::default()) }),
            "waiting, refused"
        );
        assert_eq!(state(&StateView::Running { started_at_ms: 0, stopping: true }), "stopping");
        assert_eq!(state(&StateView::Created), "created");
    }
}
