//! x
pub mod output;
pub mod get { #[derive(Debug, clap::Args)] pub struct Arguments {} pub async fn run(_: Arguments) -> anyhow::Result<()> { Ok(()) } }
pub mod explain { #[derive(Debug, clap::Args)] pub struct Arguments {} pub async fn run(_: Arguments) -> anyhow::Result<()> { Ok(()) } }
pub mod create { #[derive(Debug, clap::Args)] pub struct Arguments {} pub async fn run(_: Arguments) -> anyhow::Result<()> { Ok(()) } }
pub mod change { 
#[derive(Debug, clap::Args)] pub struct StartArguments {} pub async fn start(_: StartArguments) -> anyhow::Result<()> { Ok(()) } 
#[derive(Debug, clap::Args)] pub struct StopArguments {} pub async fn stop(_: StopArguments) -> anyhow::Result<()> { Ok(()) } 
#[derive(Debug, clap::Args)] pub struct DeleteArguments {} pub async fn delete(_: DeleteArguments) -> anyhow::Result<()> { Ok(()) } 
}
