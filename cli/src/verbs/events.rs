//! `berth events`: what happened, in the order of the log.

use super::connection::Connection;
use super::output::{self, Format};
use anyhow::{Context, Result};
use berth_client::view::EventView;
use berth_model::revision::OpaqueRevision;
use futures_util::StreamExt;
use std::pin::pin;

/// Show what happened; with --follow, go on until interrupted.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Only what came after this revision [default: the oldest that is kept].
    #[arg(long, value_name = "REVISION")]
    after: Option<OpaqueRevision>,
    /// Go on with what happens, without a gap.
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    connection: Connection,
}

pub async fn run(arguments: Arguments) -> Result<()> {
    let client = arguments.connection.client()?;
    let format = arguments.connection.output;
    let mut after = arguments.after;
    loop {
        let page = client.events(after.as_ref()).await?;
        page.items.iter().try_for_each(|event| show(event, format))?;
        after = Some(page.after);
        if !page.more {
            break;
        }
    }
    if !arguments.follow {
        return Ok(());
    }
    let mut revisions = pin!(client.follow(after));
    while let Some(revision) = revisions.next().await {
        let revision = revision.context("the stream of events broke off")?;
        revision.events.iter().try_for_each(|event| show(event, format))?;
    }
    Ok(())
}

/// A line each, so that what follows can be read as it comes.
fn show(event: &EventView, format: Format) -> Result<()> {
    match format {
        Format::Table => output::line(&line(event)),
        Format::Json => {
            output::line(&serde_json::to_string(event).context("cannot write an event as JSON")?)
        }
        Format::Yaml => {
            output::line("---")?;
            output::structured(format, event)
        }
    }
}

fn line(event: &EventView) -> String {
    let what = event.phase.as_deref().unwrap_or(&event.what);
    let name = event.name.as_deref().unwrap_or(&event.id);
    format!("{}  {:12}  {:18}  {name}  ({})", event.at_ms, event.kind, what, event.endpoint)
}
