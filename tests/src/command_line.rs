//! The `berth` command line against one replica of a cell.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::cell::Cell;
use crate::docker::{Outcome, finish};
use crate::from_environment;

/// Runs to its end, at most 120 s.
pub fn run(cell: &Cell, replica: u16, arguments: &[&str]) -> Outcome {
    let child = Command::new(from_environment("BERTH_BIN"))
        .args(arguments)
        .env("BERTH_API", cell.api(replica))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("BERTH_BIN names the berth binary");
    finish(child, &format!("berth {}", arguments.join(" ")))
}

/// Runs and gives the trimmed standard output.
///
/// # Panics
/// If it fails.
pub fn ok(cell: &Cell, replica: u16, arguments: &[&str]) -> String {
    run(cell, replica, arguments).expect_success(&format!("berth {}", arguments.join(" ")))
}

/// Runs with `-o json` and gives the answer.
///
/// # Panics
/// If it fails or answers with something else.
pub fn json(cell: &Cell, replica: u16, arguments: &[&str]) -> Value {
    let mut all = arguments.to_vec();
    // What stands behind the image of a create is its command.
    let end = if arguments[0] == "create" { 1 } else { all.len() };
    all.splice(end..end, ["-o", "json"]);
    let text = ok(cell, replica, &all);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{all:?}: {error}: {text}"))
}
