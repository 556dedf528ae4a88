//! `cargo xtask test`: everything that must pass, real guests included, in one command.
//!
//! The tests that start processes and guests learn by environment variables where things are:
//! `BERTH_BIN` the binary, `BERTH_ASSETS` kernel and initramfs, `BERTH_IMAGES` the directory of image
//! archives, `PROMETHEUS`, `PROMTOOL` and
//! `SCHEMATHESIS` these programs, `PATH` with a docker command line, and
//! `BERTH_LONG=1` with `--long`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::arguments::TestOptions;
use crate::assets;
use crate::cache::Cache;
use crate::cargo::{Profile, Workspace};
use crate::images;
use crate::packages::{self, Apt};
use crate::process::{find, search_path};
use crate::schemathesis;
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
    let mut steps = Steps::new();
    let workspace = Workspace::find()?;
    let mut environment = surroundings(&mut steps, &workspace, install)?;
    environment.push(berth(&mut steps, &workspace)?);
    for (name, value) in environment {
        println!("export {name}='{}'", value.to_string_lossy().replace('\'', r"'\''"));
    }
    Ok(())
}

fn all(steps: &mut Steps, install: bool, options: &TestOptions) -> Result<()> {
    let workspace = Workspace::find()?;
    steps.step("format", "`cargo fmt --all` mends it", || workspace.check_format())?;
    let mut environment = surroundings(steps, &workspace, install)?;
    if options.long {
        environment.push(("BERTH_LONG".to_owned(), "1".into()));
    }
    steps.step("lints", "see the messages above", || workspace.check_lints())?;
    environment.push(berth(steps, &workspace)?);
    steps.step("tests", "`cargo xtask test NAME` runs a failed one alone", || {
        workspace.test(options, &environment)
    })
}

/// All that tests need beside the code that they test.
fn surroundings(
    steps: &mut Steps,
    workspace: &Workspace,
    install: bool,
) -> Result<Vec<(String, OsString)>> {
    let apt = Apt::new(install);
    let cache = Cache::open()?;
    steps.step("programs", "install what is named below and try again", || {
        apt.ensure(&tools::to_test())
    })?;
    let borrowed = steps.step("borrowed programs", "Debian's archive must be reachable", || {
        Borrowed::prepare(&cache, &apt)
    })?;
    let schemathesis =
        steps.step("schemathesis", "the Python index must be reachable the first time", || {
            schemathesis::prepare(&cache)
        })?;
    let assets = assets::prepare(steps, workspace, &cache, &apt, false)?;
    let images =
        steps.step("images", "Debian's archive must be reachable the first time", || {
            images::prepare(&cache, &apt)
        })?;
    Ok(vec![
        ("BERTH_ASSETS".to_owned(), assets.into()),
        ("BERTH_IMAGES".to_owned(), images.into()),
        ("PROMETHEUS".to_owned(), borrowed.prometheus.into()),
        ("PROMTOOL".to_owned(), borrowed.promtool.into()),
        ("SCHEMATHESIS".to_owned(), schemathesis.into()),
        ("PATH".to_owned(), borrowed.path),
    ])
}

fn berth(steps: &mut Steps, workspace: &Workspace) -> Result<(String, OsString)> {
    let berth = steps
        .step("berth", "see Cargo's messages above", || workspace.build_berth(Profile::Dev))?;
    Ok(("BERTH_BIN".to_owned(), berth.into()))
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
        let docker = match find("docker") {
            Some(there) => there,
            None if packages::is_known("docker-cli") => borrow("docker", "docker-cli")?,
            None => borrow("docker", "docker.io")?,
        };
        let mut folders: Vec<PathBuf> = std::env::split_paths(&search_path()).collect();
        folders.extend(docker.parent().map(PathBuf::from));
        let mut seen = BTreeSet::new();
        folders.retain(|folder| seen.insert(folder.clone()));
        Ok(Borrowed { prometheus, promtool, path: std::env::join_paths(folders)? })
    }
}
