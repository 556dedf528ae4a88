//! `berth node`: the agent of a host. At its end the container VMs go on.

use super::{Arguments, EndSignal};
use crate::config::{self, NodeConfig};
use anyhow::{Context, Result};

pub async fn run(arguments: Arguments) -> Result<()> {
    let mut end = EndSignal::listen()?;
    let config: NodeConfig = config::load(&arguments.config, &arguments.set)?;
    berth_node::run(config, async move { end.received().await })
        .await
        .context("the node cannot go on")
}
