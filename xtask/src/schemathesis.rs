//! Schemathesis, the program that tests the placement API from its OpenAPI document: a Python package
//! in an environment of its own in the cache, so that nothing is installed into the system's Python.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::process::{command, find, succeed};
use crate::steps::say;

/// Another version finds other things, so it is raised on purpose.
const VERSION: &str = "4.32.5";

/// The program; the first time it is fetched from the Python index.
pub fn prepare(cache: &Cache) -> Result<PathBuf> {
    if let Some(there) = find("schemathesis") {
        return Ok(there);
    }
    let environment = cache.path(Path::new("schemathesis").join(VERSION));
    let program = environment.join("bin/schemathesis");
    if !program.is_file() {
        say(&format!("fetching schemathesis {VERSION} (into the cache, not installed)"));
        // Not published under another name: such an environment holds its own path.
        install(&environment).with_context(|| {
            format!("cannot make {}; is the Python index reachable?", environment.display())
        })?;
    }
    Ok(program)
}

/// Made anew whatever an interrupted run left there.
fn install(environment: &Path) -> Result<()> {
    let mut make = command("virtualenv");
    make.args(["--quiet", "--clear"]).arg(environment).stdout(Stdio::from(std::io::stderr()));
    succeed(&mut make)?;
    let mut pip = command(environment.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check"]);
    pip.arg(format!("schemathesis=={VERSION}")).stdout(Stdio::from(std::io::stderr()));
    succeed(&mut pip)
}
