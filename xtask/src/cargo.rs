//! What is asked of Cargo: where the workspace and its target directory are, and to build, check and
//! test. The same Cargo that runs us is used, with the user's own settings.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::arguments::TestOptions;
use crate::process::{self, capture, succeed};

/// The one target of the guest agent. It is named even though it is the machine's own, because the
/// flags for static linking must not reach build scripts and procedural macros.
const GUEST_TARGET: &str = "x86_64-unknown-linux-gnu";
const GUEST_FLAGS: &str = "-C target-feature=+crt-static -C relocation-model=static";

/// The package with tests over processes and guests, which must not run side by side.
const GUEST_TESTS: &str = "berth-tests";

pub struct Workspace {
    pub root: PathBuf,
    target: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    Dev,
    Release,
}

impl Workspace {
    pub fn find() -> Result<Workspace> {
        let mut cargo = process::command(program());
        cargo.args(["metadata", "--no-deps", "--format-version", "1"]);
        cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
        let answer: Value = serde_json::from_str(&capture(&mut cargo)?)
            .context("cargo metadata answered with something else than JSON")?;
        let path = |key: &str| {
            let text = answer.get(key).and_then(Value::as_str);
            text.map(PathBuf::from).with_context(|| format!("cargo metadata lacks {key}"))
        };
        Ok(Workspace { root: path("workspace_root")?, target: path("target_directory")? })
    }

    /// Builds the static agent and returns the file.
    pub fn build_guest(&self) -> Result<PathBuf> {
        let theirs = env::var("RUSTFLAGS").unwrap_or_default();
        let mut cargo = self.cargo(["build", "--profile", "guest", "--target", GUEST_TARGET]);
        cargo.args(["--package", "berth-guest"]);
        cargo.env("RUSTFLAGS", format!("{theirs} {GUEST_FLAGS}").trim_start());
        succeed(cargo.env_remove("CARGO_ENCODED_RUSTFLAGS"))?;
        Ok(self.target.join(GUEST_TARGET).join("guest/berth-guest"))
    }

    /// Builds the binary and returns the file.
    pub fn build_berth(&self, profile: Profile) -> Result<PathBuf> {
        let (arguments, folder) = match profile {
            // With the features that the whole workspace gives to dependencies, as the tests that
            // follow have them, so that nothing is compiled twice.
            Profile::Dev => (["build", "--workspace", "--bin=berth"], "debug"),
            Profile::Release => (["build", "--release", "--package=berth"], "release"),
        };
        succeed(&mut self.cargo(arguments))?;
        Ok(self.target.join(folder).join("berth"))
    }

    pub fn check_format(&self) -> Result<()> {
        succeed(&mut self.cargo(["fmt", "--all", "--check"]))
    }

    pub fn check_lints(&self) -> Result<()> {
        let mut cargo = self.cargo(["clippy", "--workspace", "--all-targets"]);
        succeed(cargo.args(["--", "-D", "warnings"]))
    }

    /// Runs the tests, with nextest where it is installed.
    pub fn test(&self, options: &TestOptions, environment: &[(String, OsString)]) -> Result<()> {
        for arguments in test_runs(process::find("cargo-nextest").is_some(), options) {
            let mut cargo = self.cargo(arguments);
            succeed(cargo.envs(environment.iter().map(|(name, value)| (name, value))))?;
        }
        Ok(())
    }

    /// Standard output of ours is for answers alone, so Cargo's goes elsewhere.
    fn cargo<I: IntoIterator<Item: AsRef<std::ffi::OsStr>>>(&self, arguments: I) -> Command {
        let mut cargo = process::command(program());
        cargo.args(arguments).current_dir(&self.root).stdout(Stdio::from(std::io::stderr()));
        cargo
    }
}

fn program() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// The command lines that together run every test once. Nextest reads from `.config/nextest.toml`
/// which tests must not run side by side; plain Cargo is told by hand.
fn test_runs(nextest: bool, options: &TestOptions) -> Vec<Vec<String>> {
    let words = |line: String| line.split(' ').map(str::to_owned).collect::<Vec<String>>();
    let mut runs = if nextest {
        let profile = if options.long { "long" } else { "default" };
        vec![words(format!("nextest run --workspace --profile {profile}"))]
    } else {
        vec![
            words(format!("test --workspace --exclude {GUEST_TESTS} --no-fail-fast --")),
            words(format!("test --package {GUEST_TESTS} --no-fail-fast -- --test-threads=1")),
        ]
    };
    for run in &mut runs {
        run.extend(options.filters.iter().cloned());
    }
    if nextest && options.filters.is_empty() {
        // Nextest does not run the examples in documentation.
        runs.push(words("test --workspace --doc --quiet".to_owned()));
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(nextest: bool, long: bool, filters: &[&str]) -> Vec<String> {
        let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
        let runs = test_runs(nextest, &TestOptions { long, filters });
        runs.into_iter().map(|run| run.join(" ")).collect()
    }

    #[test]
    fn with_nextest_one_run_and_the_examples_of_the_documentation() {
        assert_eq!(
            check(true, false, &[]),
            ["nextest run --workspace --profile default", "test --workspace --doc --quiet"]
        );
        assert_eq!(check(true, true, &["redis"]), ["nextest run --workspace --profile long redis"]);
    }

    #[test]
    fn without_nextest_guests_run_one_at_a_time() {
        assert_eq!(
            check(false, false, &["redis", "attach"]),
            [
                "test --workspace --exclude berth-tests --no-fail-fast -- redis attach",
                "test --package berth-tests --no-fail-fast -- --test-threads=1 redis attach"
            ]
        );
    }
}
