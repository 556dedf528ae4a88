//! `berth explain`: where a container VM would go, or why it goes nowhere.

use super::connection::Connection;
use super::output::{self, Format};
use super::units::{self, parse_bytes, parse_cpus};
use anyhow::{Context, Result};
use berth_client::view::{
    ContainerRequest, ContainerView, DemandView, ExplanationView, PlacementView, StateView,
};
use berth_client::{Client, ListQuery};

/// Say where a container VM would be placed, or which filter refuses which host and what smaller
/// wish would fit. Nothing is created. Ends non-zero if a wish fits nowhere.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// An existing container VM (id or name): why it is where it is, or waits.
    container: Option<String>,
    #[command(flatten)]
    demand: DemandArguments,
    /// Where this image can be reached [default: any image that the cell has].
    #[arg(long)]
    image: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

/// What a container VM asks of its place.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct DemandArguments {
    /// CPUs: 2, 0.5.
    #[arg(long, value_parser = parse_cpus)]
    pub cpus: Option<u64>,
    /// Memory limit: 512m, 2g.
    #[arg(long, short, value_parser = parse_bytes)]
    pub memory: Option<u64>,
    /// Size of its own disk: 8g.
    #[arg(long, value_parser = parse_bytes)]
    pub disk: Option<u64>,
    /// Only in this cluster.
    #[arg(long)]
    pub cluster: Option<String>,
    /// Only on this host.
    #[arg(long)]
    pub host: Option<String>,
    /// Only on this datastore.
    #[arg(long)]
    pub datastore: Option<String>,
}

impl DemandArguments {
    /// A request that asks for this and nothing else.
    pub fn request(self, image: String) -> ContainerRequest {
        ContainerRequest {
            image,
            cpu_millis: self.cpus,
            memory_bytes: self.memory,
            disk_bytes: self.disk,
            cluster: self.cluster,
            host: self.host,
            datastore: self.datastore,
            ..ContainerRequest::default()
        }
    }

    fn is_empty(&self) -> bool {
        self.cpus.is_none()
            && self.memory.is_none()
            && self.disk.is_none()
            && self.cluster.is_none()
            && self.host.is_none()
            && self.datastore.is_none()
    }
}

pub async fn run(arguments: Arguments) -> Result<()> {
    let client = arguments.connection.client()?;
    let format = arguments.connection.output;
    match arguments.container {
        Some(container) => {
            anyhow::ensure!(
                arguments.demand.is_empty() && arguments.image.is_none(),
                "name a container, or a demand to try; not both"
            );
            existing(&client.container(&container).await?, format)
        }
        None => {
            let image = match arguments.image {
                Some(image) => image,
                None => any_image(&client).await?,
            };
            let request = arguments.demand.request(image);
            let placement = client.explain(&request).await?;
            wish(&placement, format)?;
            // A script must be able to tell by the exit code.
            anyhow::ensure!(placement.place.is_some(), "no host will take it, as said above");
            Ok(())
        }
    }
}

/// A place depends on who reaches the image; without a wish, the first will do.
async fn any_image(client: &Client) -> Result<String> {
    let query = ListQuery { limit: Some(1), ..ListQuery::default() };
    let images = client.images(&query).await?.items;
    let image = images.into_iter().next();
    image.map(|image| image.id).context("the cell has no image yet; load one with `docker load`")
}

fn existing(container: &ContainerView, format: Format) -> Result<()> {
    let refused = match &container.state {
        StateView::Pending { refused } | StateView::Waiting { refused } => refused.as_ref(),
        StateView::Created
        | StateView::Starting { .. }
        | StateView::Running { .. }
        | StateView::Exited { .. }
        | StateView::Removing => None,
    };
    match (format, refused) {
        (Format::Json, _) => output::json(&container.state),
        (Format::Table, Some(refused)) => {
            output::text(&refusal(&container.name, &container.demand, refused))
        }
        (Format::Table, None) => output::line(&format!(
            "{} ({}) is {}{}{}",
            container.name,
            demand(&container.demand),
            container.state.phase(),
            container.host.as_ref().map_or(String::new(), |host| format!(", host {host}")),
            container
                .datastore
                .as_ref()
                .map_or(String::new(), |datastore| format!(", datastore {datastore}")),
        )),
    }
}

fn wish(placement: &PlacementView, format: Format) -> Result<()> {
    match (format, &placement.place, &placement.explanation) {
        (Format::Json, _, _) => output::json(placement),
        (Format::Table, Some(place), _) => output::line(&format!(
            "{} would go to host {}, datastore {}, in cluster {}",
            demand(&placement.demand),
            place.host,
            place.datastore,
            place.cluster
        )),
        (Format::Table, None, Some(explanation)) => {
            output::text(&refusal("this", &placement.demand, explanation))
        }
        (Format::Table, None, None) => output::line("there is no host to place it on"),
    }
}

fn demand(demand: &DemandView) -> String {
    let mut text = format!(
        "{} cpu, {} memory, {} disk",
        units::cpus(demand.cpu_millis),
        units::bytes(demand.memory_bytes),
        units::bytes(demand.disk_bytes)
    );
    for (kind, name) in
        [("cluster", &demand.cluster), ("host", &demand.host), ("datastore", &demand.datastore)]
    {
        if let Some(name) = name {
            text.push_str(&format!(", {kind} {name}"));
        }
    }
    text
}

/// Everything that is known of a refusal: the count by filter, each host's own reason, and what
/// would help.
fn refusal(what: &str, asked: &DemandView, explanation: &ExplanationView) -> String {
    let mut text = format!("{what} fits nowhere ({}): {}\n", demand(asked), explanation.summary);
    for (filter, count) in &explanation.refused {
        text.push_str(&format!("\n{filter} refuses {count} of {}\n", explanation.considered));
        for host in explanation.hosts.iter().filter(|host| host.filter == *filter) {
            text.push_str(&format!("  {}: {}\n", host.host, host.reason));
        }
    }
    if let Some(relaxation) = &explanation.relaxation {
        text.push_str(&format!("\nit would fit with {relaxation}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_client::view::HostRefusalView;

    #[test]
    fn a_refusal_names_filter_host_and_what_would_help() {
        let explanation = ExplanationView {
            summary: "0 of 2 hosts fit".to_owned(),
            considered: 2,
            refused: [("capacity".to_owned(), 1), ("rules".to_owned(), 1)].into(),
            hosts: vec![
                HostRefusalView {
                    host: "h1".to_owned(),
                    filter: "capacity".to_owned(),
                    reason: "8 cpu needed, 2 cpu free".to_owned(),
                },
                HostRefusalView {
                    host: "h2".to_owned(),
                    filter: "rules".to_owned(),
                    reason: "another host is asked for".to_owned(),
                },
            ],
            relaxation: Some("6 cpu less".to_owned()),
        };
        let asked = DemandView {
            cpu_millis: 8000,
            memory_bytes: 512 << 20,
            disk_bytes: 8 << 30,
            cluster: None,
            host: Some("h1".to_owned()),
            datastore: None,
        };
        assert_eq!(
            refusal("this", &asked, &explanation),
            "this fits nowhere (8 cpu, 512 MiB memory, 8 GiB disk, host h1): 0 of 2 hosts fit\n\n\
             capacity refuses 1 of 2\n  h1: 8 cpu needed, 2 cpu free\n\n\
             rules refuses 1 of 2\n  h2: another host is asked for\n\n\
             it would fit with 6 cpu less\n"
        );
    }
}
