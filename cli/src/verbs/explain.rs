//! `berth explain`: where a container VM would go, or why it goes nowhere.

use super::connection::Connection;
use super::demand::{DemandArguments, described};
use super::output::{self, Format};
use anyhow::{Context, Result};
use berth_client::view::{
    ContainerVmRequest, ContainerVmView, DemandView, ExplanationView, StateView, TrialView,
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

pub async fn run(arguments: Arguments) -> Result<()> {
    let client = arguments.connection.client()?;
    let format = arguments.connection.output;
    match arguments.container {
        Some(container) => {
            anyhow::ensure!(
                arguments.demand.is_empty() && arguments.image.is_none(),
                "name a container, or a demand to try; not both"
            );
            existing(&client.container_vm(&container).await?, format)
        }
        None => {
            let image = match arguments.image {
                Some(image) => image,
                None => any_image(&client).await?,
            };
            let request = ContainerVmRequest {
                image,
                demand: arguments.demand.request(),
                ..ContainerVmRequest::default()
            };
            let placement = client.try_container_vm(&request).await?;
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

fn existing(container: &ContainerVmView, format: Format) -> Result<()> {
    let refused = match &container.state {
        StateView::Pending { refused } | StateView::Waiting { refused } => refused.as_ref(),
        StateView::Created
        | StateView::Starting { .. }
        | StateView::Running { .. }
        | StateView::Exited { .. }
        | StateView::Removing => None,
    };
    match (format, refused) {
        (Format::Json | Format::Yaml, _) => output::structured(format, &container.state),
        (Format::Table, Some(refused)) => {
            output::text(&refusal(&container.name, Some(&container.demand), refused))
        }
        (Format::Table, None) => output::line(&format!(
            "{} ({}) is {}{}{}",
            container.name,
            described(&container.demand),
            container.state.phase(),
            container.host.as_ref().map_or(String::new(), |host| format!(", host {host}")),
            container
                .datastore
                .as_ref()
                .map_or(String::new(), |datastore| format!(", datastore {datastore}")),
        )),
    }
}

fn wish(trial: &TrialView, format: Format) -> Result<()> {
    if format != Format::Table {
        return output::structured(format, trial);
    }
    match (&trial.place, &trial.explanation) {
        (Some(place), _) => {
            let datastore = place.datastore.as_deref().unwrap_or("none");
            output::line(&format!(
                "{} would go to host {}, datastore {datastore}, in cluster {}",
                described(&trial.demand),
                place.host,
                place.cluster
            ))?;
            trial.victims.iter().try_for_each(|victim| {
                output::line(&format!("{} {} would give way", victim.kind, victim.id))
            })
        }
        (None, Some(explanation)) => {
            output::text(&refusal("this", Some(&trial.demand), explanation))
        }
        (None, None) => output::line("there is no host to place it on"),
    }
}

/// Everything that is known of a refusal: the count by filter, each host's own reason, and what
/// would help.
pub fn refusal(what: &str, asked: Option<&DemandView>, explanation: &ExplanationView) -> String {
    let asked = asked.map_or(String::new(), |asked| format!(" ({})", described(asked)));
    let mut text = format!("{what} fits nowhere{asked}: {}\n", explanation.summary);
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
            host: Some("h1".to_owned()),
            ..DemandView::default()
        };
        assert_eq!(
            refusal("this", Some(&asked), &explanation),
            "this fits nowhere (8 cpu, 512 MiB memory, 8 GiB disk, host h1): 0 of 2 hosts fit\n\n\
             capacity refuses 1 of 2\n  h1: 8 cpu needed, 2 cpu free\n\n\
             rules refuses 1 of 2\n  h2: another host is asked for\n\n\
             it would fit with 6 cpu less\n"
        );
    }
}
