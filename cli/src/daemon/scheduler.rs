//! `berth scheduler`.

use super::{Arguments, EndSignal};
use crate::config::{self, SchedulerConfig};
use anyhow::Result;

pub async fn run(arguments: Arguments) -> Result<()> {
    let mut end = EndSignal::listen()?;
    let config: SchedulerConfig = config::load(&arguments.config, &arguments.set)?;
    tracing::info!("scheduler {config:?}");
    end.received().await;
    Ok(())
}
