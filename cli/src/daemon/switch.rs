//! `berth switch`.

use super::{Arguments, EndSignal};
use crate::config::{self, SwitchConfig};
use anyhow::Result;

pub async fn run(arguments: Arguments) -> Result<()> {
    let mut end = EndSignal::listen()?;
    let config: SwitchConfig = config::load(&arguments.config, &arguments.set)?;
    tracing::info!("switch {config:?}");
    end.received().await;
    Ok(())
}
