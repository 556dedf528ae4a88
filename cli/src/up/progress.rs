//! What `berth up` and `berth down` tell while they work: one line a step, on stderr, with a
//! spinner where a person watches.
//!
//! Writing must never end the work: a terminal that went away is ignored.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::time::Duration;

#[derive(Debug)]
pub struct Progress {
    spinner: Option<ProgressBar>,
    step: &'static str,
}

impl Progress {
    pub fn new() -> Self {
        Self { spinner: None, step: "" }
    }

    /// Begins a step.
    pub fn begin(&mut self, step: &'static str) {
        self.finish();
        self.step = step;
        if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{prefix:>13} {spinner} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            bar.set_style(style);
            bar.set_prefix(step);
            bar.enable_steady_tick(Duration::from_millis(120));
            self.spinner = Some(bar);
        }
    }

    /// Says what the step waits for; shown only where a person watches.
    pub fn waiting(&self, text: &str) {
        if let Some(spinner) = &self.spinner {
            spinner.set_message(text.to_owned());
        }
    }

    /// Ends the step with its outcome.
    pub fn done(&mut self, outcome: impl std::fmt::Display) {
        self.finish();
        line(&format!("{:>13}  {outcome}", self.step));
    }

    /// One more line about the step that was just done.
    pub fn note(&self, text: impl std::fmt::Display) {
        let text = format!("{:>13}  {text}", "");
        match &self.spinner {
            Some(spinner) => spinner.suspend(|| line(&text)),
            None => line(&text),
        }
    }

    fn finish(&mut self) {
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

/// One line to stderr, come what may.
pub fn line(text: &str) {
    let _gone = writeln!(std::io::stderr(), "{text}");
}
