//! `cargo xtask up`: from a fresh clone to a running cell in one command.
//!
//! It prepares and builds, then becomes `berth up`. Whether that makes network namespaces or plain
//! processes is decided there.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;

use anyhow::{Context, Result};

use crate::assets;
use crate::cache::Cache;
use crate::cargo::{Profile, Workspace};
use crate::packages::Apt;
use crate::process::command;
use crate::steps::{Steps, say};
use crate::tools;

pub fn up(install: bool, arguments: Vec<OsString>) -> Result<()> {
    let mut steps = Steps::new();
    let apt = Apt::new(install);
    let workspace = Workspace::find()?;
    let cache = Cache::open()?;
    steps.step("programs", "install what is named below and try again", || {
        apt.ensure(&tools::to_run())
    })?;
    let assets = assets::prepare(&mut steps, &workspace, &cache, &apt, false)?;
    let berth = steps
        .step("berth", "see Cargo's messages above", || workspace.build_berth(Profile::Release))?;
    say(&format!("starting {} up", berth.display()));
    let mut run = command(&berth);
    run.arg("up").arg("--assets").arg(assets).args(arguments);
    Err(run.exec()).with_context(|| format!("cannot run {}", berth.display()))
}
