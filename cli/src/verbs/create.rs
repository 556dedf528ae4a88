//! `berth create`: a container VM through `/v1`.

use super::connection::Connection;
use super::explain::DemandArguments;
use super::get::print_container;
use super::refused::told;
use anyhow::{Context, Result};
use berth_client::WriteOptions;
use berth_client::view::ContainerRequest;
use berth_model::IdempotencyKey;
use std::collections::BTreeMap;

/// Create a container VM.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Reference or id of an image that is there.
    image: String,
    /// Arguments of its process, in place of the image's.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
    #[command(flatten)]
    demand: DemandArguments,
    /// Made up if absent.
    #[arg(long)]
    name: Option<String>,
    /// The endpoint that is to own it [default: system].
    #[arg(long)]
    endpoint: Option<String>,
    /// `NAME=value`; may be given several times.
    #[arg(long, short)]
    env: Vec<String>,
    /// `name=value`; may be given several times.
    #[arg(long, short, value_parser = parse_label)]
    label: Vec<(String, String)>,
    #[arg(long, short)]
    user: Option<String>,
    #[arg(long, short)]
    workdir: Option<String>,
    #[arg(long)]
    hostname: Option<String>,
    /// Remove it once it has exited.
    #[arg(long)]
    rm: bool,
    /// Start it, too.
    #[arg(long)]
    start: bool,
    /// Answer at once, not only when it is placed (and started).
    #[arg(long)]
    no_wait: bool,
    /// Two creations with the same key make one container VM.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<IdempotencyKey>,
    #[command(flatten)]
    connection: Connection,
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    match name.is_empty() {
        true => Err(format!("`{text}` is not a label; write it as name=value")),
        false => Ok((name.to_owned(), value.to_owned())),
    }
}

pub async fn run(arguments: Arguments) -> Result<()> {
    let client = arguments.connection.client()?;
    let request = ContainerRequest {
        name: arguments.name,
        endpoint: arguments.endpoint,
        command: arguments.command,
        environment: arguments.env,
        user: arguments.user,
        working_directory: arguments.workdir,
        hostname: arguments.hostname,
        auto_remove: arguments.rm,
        labels: arguments.label.into_iter().collect::<BTreeMap<_, _>>(),
        start: arguments.start,
        ..arguments.demand.request(arguments.image)
    };
    let options = WriteOptions {
        wait: !arguments.no_wait,
        key: arguments.idempotency_key,
        ..WriteOptions::default()
    };
    let created = told(client.create_container(&request, &options).await)
        .context("the container VM was not created")?;
    print_container(&created, arguments.connection.output)
}
