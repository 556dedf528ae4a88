//! Steps with names and durations, told as they run and once more as a table.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// The steps taken so far, in order.
pub struct Steps {
    taken: Vec<Taken>,
}

struct Taken {
    name: String,
    took: Duration,
    failed: bool,
}

impl Steps {
    pub fn new() -> Steps {
        Steps { taken: Vec::new() }
    }

    /// Runs one step; `advice` says what to do should it fail.
    pub fn step<T>(
        &mut self,
        name: &str,
        advice: &str,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        say(&format!("{name} ..."));
        let start = now();
        let outcome = work();
        let took = start.elapsed();
        let failed = outcome.is_err();
        say(&format!("{name}: {} after {}", if failed { "FAILED" } else { "done" }, seconds(took)));
        self.taken.push(Taken { name: name.to_owned(), took, failed });
        outcome.with_context(|| format!("{name} failed; {advice}"))
    }

    /// The table of durations.
    pub fn table(&self) -> String {
        let width = self.taken.iter().map(|taken| taken.name.len()).max().unwrap_or(0).max(5);
        let mut text = String::new();
        for taken in &self.taken {
            let mark = if taken.failed { "  FAILED" } else { "" };
            text += &format!("{:width$}  {:>9}{mark}\n", taken.name, seconds(taken.took));
        }
        let total = self.taken.iter().map(|taken| taken.took).sum();
        text + &format!("{:width$}  {:>9}\n", "total", seconds(total))
    }
}

/// A line about progress, set apart from the output of the programs that run in between.
pub fn say(text: &str) {
    if std::io::stderr().is_terminal() {
        eprintln!("\x1b[1m== {text}\x1b[0m");
    } else {
        eprintln!("== {text}");
    }
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

#[expect(clippy::disallowed_methods, reason = "durations of build steps are shown to a person")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_says_what_to_do_and_is_marked_in_the_table() {
        let mut steps = Steps::new();
        steps.step("first", "", || Ok(())).unwrap();
        let error = steps.step("second", "try again", || anyhow::bail!("it broke") as Result<()>);
        assert_eq!(error.unwrap_err().to_string(), "second failed; try again");
        let table = steps.table();
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].starts_with("first ") && !lines[0].contains("FAILED"), "{table}");
        assert!(lines[1].starts_with("second") && lines[1].ends_with("FAILED"), "{table}");
        assert!(lines[2].starts_with("total"), "{table}");
    }
}
