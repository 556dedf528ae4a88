//! `berth create`: a container VM through `/v1`.

use super::connection::Connection;
use super::demand::{DemandArguments, parse_label};
use super::get;
use super::refused::told;
use anyhow::{Context, Result};
use berth_client::WriteOptions;
use berth_client::view::ContainerVmRequest;
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
    /// Id of a reservation that it is made on: with its host and its datastore.
    #[arg(long, value_name = "ID")]
    reservation: Option<String>,
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

pub async fn run(arguments: Arguments) -> Result<()> {
    let client = arguments.connection.client()?;
    let request = ContainerVmRequest {
        image: arguments.image,
        demand: arguments.demand.request(),
        reservation: arguments.reservation,
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
        ..ContainerVmRequest::default()
    };
    let options = WriteOptions {
        wait: !arguments.no_wait,
        key: arguments.idempotency_key,
        ..WriteOptions::default()
    };
    let created = told(client.create_container_vm(&request, &options).await)
        .context("the container VM was not created")?;
    get::print(&get::CONTAINER_VMS, &created, arguments.connection.output)
}
