//! Runs one program to its end and reads what it says.

use super::tools;
use anyhow::{Context, Result, bail};
use std::io::Write;
use std::process::{Command, Stdio};

/// Standard output of a program that must succeed; its error text is in the error.
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    run_with_input(program, arguments, "")
}

/// As [`run`], with `input` on standard input.
pub fn run_with_input(program: &str, arguments: &[&str], input: &str) -> Result<String> {
    let path = tools::find(program).with_context(|| format!("{program} is not installed"))?;
    let shown = || format!("{program} {}", arguments.join(" "));
    let mut child = Command::new(path)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{}`", shown()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ended without reading says why on its own.
        let _closed = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().with_context(|| format!("cannot run `{}`", shown()))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed: {}", shown(), error.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
