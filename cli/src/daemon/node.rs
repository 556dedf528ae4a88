//! `berth node`.

use super::{Arguments, EndSignal};
use crate::config::{self, NodeConfig};
use anyhow::Result;

pub async fn run(arguments: Arguments) -> Result<()> {
    let mut end = EndSignal::listen()?;
    let config: NodeConfig = config::load(&arguments.config, &arguments.set)?;
    tracing::info!("node {config:?}");
    end.received().await;
    Ok(())
}
