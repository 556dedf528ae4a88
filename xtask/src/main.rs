//! `cargo xtask`: the steps around building berth that Cargo has no word for.
//!
//! It installs what is missing on the machine, unpacks the guest's kernel, builds the guest agent and
//! its initramfs, makes real images to try and test with, and runs everything that must pass.
//! Progress goes to standard error; only an answer that a script may want goes to standard output.
//! It knows none of berth's own crates, so that it is quick to build and works while they do not.

#![allow(clippy::print_stdout, reason = "a command line program answers on standard output")]

mod arguments;
mod assets;
mod cache;
mod cargo;
mod elf;
mod images;
mod initramfs;
mod kernel;
mod kernel_modules;
mod packages;
mod process;
mod schemathesis;
mod steps;
mod test;
mod tools;
mod up;

use std::process::ExitCode;

use anyhow::Result;

use crate::arguments::{Command, USAGE};
use crate::cache::Cache;
use crate::cargo::Workspace;
use crate::packages::Apt;
use crate::steps::Steps;

fn main() -> ExitCode {
    match Command::parse(std::env::args_os().skip(1)).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error}");
            for cause in error.chain().skip(1) {
                eprintln!("  because: {cause}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Help => print!("{USAGE}"),
        Command::Up { install, arguments } => up::up(install, arguments)?,
        Command::Test { install, options } => test::test(install, &options)?,
        Command::Env { install } => test::print_environment(install)?,
        Command::Assets { install, refresh } => {
            let apt = Apt::new(install);
            apt.ensure(&tools::to_make_assets())?;
            let workspace = Workspace::find()?;
            let directory =
                assets::prepare(&mut Steps::new(), &workspace, &Cache::open()?, &apt, refresh)?;
            println!("{}", directory.display());
        }
        Command::Images { install } => {
            let apt = Apt::new(install);
            apt.ensure(&tools::to_make_images())?;
            println!("{}", images::prepare(&Cache::open()?, &apt)?.display());
        }
    }
    Ok(())
}
