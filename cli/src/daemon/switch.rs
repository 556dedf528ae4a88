//! `berth switch`.

use super::{Arguments, EndSignal};
use crate::config::{self, SwitchConfig};
use anyhow::{Context, Result};

pub async fn run(arguments: Arguments) -> Result<()> {
    let mut end = EndSignal::listen()?;
    let config: SwitchConfig = config::load(&arguments.config, &arguments.set)?;
    berth_node::switch::run(config, async move { end.received().await })
        .await
        .context("the switch cannot go on")
}
