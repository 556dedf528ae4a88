//! `berth keeper`.

use super::{Arguments, EndSignal};
use crate::config::{self, KeeperConfig};
use anyhow::Result;

pub async fn run(arguments: Arguments) -> Result<()> {
    let mut end = EndSignal::listen()?;
    let config: KeeperConfig = config::load(&arguments.config, &arguments.set)?;
    tracing::info!("keeper {config:?}");
    end.received().await;
    Ok(())
}
