//! `berth keeper`.

use super::{Arguments, EndSignal};
use crate::config::{self, KeeperConfig};
use anyhow::{Context, Result};

pub async fn run(arguments: Arguments) -> Result<()> {
    let mut end = EndSignal::listen()?;
    let config: KeeperConfig = config::load(&arguments.config, &arguments.set)?;
    berth_node::keeper::run(config, async move { end.received().await })
        .await
        .context("the keeper cannot go on")
}
