//! `berth start`, `stop` and `delete`.

use super::connection::Connection;
use super::refused::told;
use super::{get, output};
use anyhow::{Context, Result};
use berth_client::WriteOptions;
use berth_client::view::StopRequest;

/// Start a container VM.
#[derive(Clone, Debug, clap::Args)]
pub struct StartArguments {
    /// Id, start of an id, or name.
    container: String,
    /// Answer at once, not only when its process runs.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Stop a container VM: a signal, then after the grace SIGKILL.
#[derive(Clone, Debug, clap::Args)]
pub struct StopArguments {
    /// Id, start of an id, or name.
    container: String,
    /// Name or number [default: the container's own].
    #[arg(long, short)]
    signal: Option<String>,
    /// Seconds until SIGKILL [default: the container's own].
    #[arg(long, short = 't')]
    grace: Option<u32>,
    /// Answer at once, not only when it has exited.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Delete a container VM and its disk.
#[derive(Clone, Debug, clap::Args)]
pub struct DeleteArguments {
    /// Id, start of an id, or name.
    container: String,
    /// End it if it runs.
    #[arg(long, short)]
    force: bool,
    /// Answer at once, not only when its disk is gone.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    connection: Connection,
}

fn options(no_wait: bool) -> WriteOptions {
    WriteOptions { wait: !no_wait, ..WriteOptions::default() }
}

pub async fn start(arguments: StartArguments) -> Result<()> {
    let client = arguments.connection.client()?;
    let answer = client.start_container_vm(&arguments.container, &options(arguments.no_wait)).await;
    let started =
        told(answer).with_context(|| format!("`{}` was not started", arguments.container))?;
    get::print(&get::CONTAINER_VMS, &started, arguments.connection.output)
}

pub async fn stop(arguments: StopArguments) -> Result<()> {
    let client = arguments.connection.client()?;
    let request = StopRequest { signal: arguments.signal, grace_seconds: arguments.grace };
    let answer =
        client.stop_container_vm(&arguments.container, &request, &options(arguments.no_wait)).await;
    let stopped =
        told(answer).with_context(|| format!("`{}` was not stopped", arguments.container))?;
    get::print(&get::CONTAINER_VMS, &stopped, arguments.connection.output)
}

pub async fn delete(arguments: DeleteArguments) -> Result<()> {
    let client = arguments.connection.client()?;
    let options = WriteOptions { force: arguments.force, ..options(arguments.no_wait) };
    told(client.delete_container_vm(&arguments.container, &options).await)
        .with_context(|| format!("`{}` was not deleted", arguments.container))?;
    output::line(&format!("{} deleted", arguments.container))
}
