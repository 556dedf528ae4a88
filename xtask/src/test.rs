//! `cargo xtask test`: everything that must pass, real guests included, in one command.
//!
//! The tests that start processes and guests learn by environment variables where things are:
//! `BERTH_BIN` the binary, `BERTH_ASSETS` kernel and initramfs, `BERTH_IMAGES` the directory of image
//! archives, `PROMETHEUS` and `PROMTOOL` these two programs, `PATH` with a docker command line, and
//! `BERTH_LONG=1` with `--long`.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::arguments::TestOptions;
use crate::assets;
use crate::cache::Cache;
use crate::cargo::{Profile, Workspace};
use crate::images;
use crate::packages::Apt;
use crate::process::{find, search_path};
use crate::steps::{Steps, say};
use crate::tools;

pub fn test(install: bool, options: &TestOptions) -> Result<()> {
    let mut steps = Steps::new();
    let outcome = all(&mut steps, install, options);
    eprintln!("\n{}", steps.table());
    if outcome.is_ok() {
        say("everything passed");
    }
    outcome
}

/// Prints what [`test`] would set, for running single tests by hand.
pub fn print_environment(install: bool) -> Result<()> {
    let workspace = Workspace::find()?;
    let environment = prepare(&mut Steps::new(), &workspace, install, || Ok(()))?;
    for (name, value) in environment {
        println!("export {name}='{}'", value.to_string_lossy().replace('\'', r"'\''"));
    }
    Ok(())
}

fn all(steps: &mut Steps, install: bool, options: &TestOptions) -> Result<()> {
    let workspace = Workspace::find()?;
    steps.step("format", "`cargo fmt` mends it", || workspace.check_format())?;
    let mut environment = prepare(steps, &workspace, install, || workspace.check_lints())?;
    if options.long {
        environment.push(("BERTH_LONG".to_owned(), "1".into()));
    }
    steps.step("tests", "`cargo xtask test NAME` runs the failed one alone", || {
        workspace.test(options, &environment)
    })
}

fn prepare(
    steps: &mut Steps,
    workspace: &Workspace,
    install: bool,
    check: impl FnOnce() -> Result<()>,
) -> Result<Vec<(String, OsString)>> {
    let apt = Apt::new(install);
    let cache = Cache::open()?;
    steps.step("programs", "install what is named below and try again", || {
        apt.ensure(&tools::to_test())
    })?;
    let borrowed = steps.step("borrowed programs", "Debian's archive must be reachable", || {
        Borrowed::prepare(&cache, &apt)
    })?;
    let assets = assets::prepare(steps, workspace, &cache, &apt, false)?;
    let images = steps.step("images", "see the log named below", || images::prepare(&cache, &apt))?;
    steps.step("lints", "see the messages above", check)?;
    let berth =
        steps.step("berth", "see Cargo's messages above", || workspace.build_berth(Profile::Dev))?;
    Ok(vec![
        ("BERTH_BIN".to_owned(), berth.into()),
        ("BERTH_ASSETS".to_owned(), assets.into()),
        ("BERTH_IMAGES".to_owned(), images.into()),
        ("PROMETHEUS".to_owned(), borrowed.prometheus.into()),
        ("PROMTOOL".to_owned(), borrowed.promtool.into()),
        ("PATH".to_owned(), borrowed.path),
    ])
}

/// Programs that only tests call. Their Debian packages would start services, so where the machine
/// does not have them already they are unpacked into the cache and not installed.
struct Borrowed {
    prometheus: PathBuf,
    promtool: PathBuf,
    path: OsString,
}

impl Borrowed {
    fn prepare(cache: &Cache, apt: &Apt) -> Result<Borrowed> {
        let borrow = |program: &str, package: &str| match find(program) {
            Some(there) => Ok(there),
            None => {
                let file = apt.unpacked(cache, package, false)?.join("usr/bin").join(program);
                file.exists()
                    .then_some(file)
                    .with_context(|| format!("the package {package} brings no {program}"))
            }
        };
        let prometheus = borrow("prometheus", "prometheus")?;
        let promtool = borrow("promtool", "prometheus")?;
        // Newer releases of Debian have the client in a package of its own.
        let docker = borrow("docker", "docker-cli")
            .or_else(|_| borrow("docker", "docker.io"))
            .context("no docker command line; install one, at best version 28")?;
        let folders = docker.parent().map(PathBuf::from).into_iter();
        let path = std::env::join_paths(std::env::split_paths(&search_path()).chain(folders))?;
        Ok(Borrowed { prometheus, promtool, path })
    }
}
