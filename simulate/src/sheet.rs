//! What a benchmark found: figures, and checks that say whether the figures count.

use serde::Serialize;

/// One number. `value` is in `unit`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    pub bench: &'static str,
    pub case: &'static str,
    pub figure: &'static str,
    pub value: f64,
    pub unit: &'static str,
}

/// One thing that must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    pub bench: &'static str,
    pub case: &'static str,
    pub check: &'static str,
    pub ok: bool,
    pub detail: String,
}

/// One line of the answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Line {
    Figure(Figure),
    Check(Check),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sheet {
    bench: &'static str,
    /// What was run, in words, and what of it was not real. Not part of the JSON.
    about: String,
    lines: Vec<Line>,
}

impl Sheet {
    pub fn new(bench: &'static str, about: String) -> Self {
        Self { bench, about, lines: Vec::new() }
    }

    pub fn figure(
        &mut self,
        case: &'static str,
        figure: &'static str,
        value: f64,
        unit: &'static str,
    ) {
        let bench = self.bench;
        self.lines.push(Line::Figure(Figure { bench, case, figure, value, unit }));
    }

    /// `found` is what was seen, or what was seen that must not be.
    pub fn check(
        &mut self,
        case: &'static str,
        check: &'static str,
        found: Result<String, String>,
    ) {
        let ok = found.is_ok();
        let (Ok(detail) | Err(detail)) = found;
        self.lines.push(Line::Check(Check { bench: self.bench, case, check, ok, detail }));
    }

    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// How many checks failed.
    pub fn failed(&self) -> usize {
        let failed = |line: &&Line| match line {
            Line::Figure(_) => false,
            Line::Check(check) => !check.ok,
        };
        self.lines.iter().filter(failed).count()
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!("{}: {}\n", self.bench, self.about);
        for line in &self.lines {
            text.push_str(&match line {
                Line::Figure(figure) => format!(
                    "  {:<10} {:<24} {:>12} {}\n",
                    figure.case,
                    figure.figure,
                    readable(figure.value),
                    figure.unit
                ),
                Line::Check(check) => {
                    let word = if check.ok { "ok" } else { "FAILED" };
                    format!("  {:<10} {:<24} {word}: {}\n", check.case, check.check, check.detail)
                }
            });
        }
        text
    }

    /// For programs: one object a line.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        let mut text = String::new();
        for line in &self.lines {
            text.push_str(&serde_json::to_string(line)?);
            text.push('\n');
        }
        Ok(text)
    }
}

/// As many decimals as say something.
fn readable(value: f64) -> String {
    if value.fract() == 0.0 || value.abs() >= 1000.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet() -> Sheet {
        let mut sheet = Sheet::new("plan", "nothing much".to_owned());
        sheet.figure("churn", "cpu_us_per_decision", 12.5, "us");
        sheet.check("churn", "nothing_over_capacity", Err("host-1".to_owned()));
        sheet
    }

    #[test]
    fn each_line_for_programs_is_one_object_with_the_agreed_keys() {
        let figure = r#"{"bench":"plan","case":"churn","figure":"cpu_us_per_decision","value":12.5,"unit":"us"}"#;
        let check = r#"{"bench":"plan","case":"churn","check":"nothing_over_capacity","ok":false,"detail":"host-1"}"#;
        assert_eq!(sheet().json().unwrap(), format!("{figure}\n{check}\n"));
    }

    #[test]
    fn a_check_that_failed_counts_and_is_shouted() {
        assert_eq!(sheet().failed(), 1);
        assert!(sheet().text().contains("FAILED: host-1"));
    }
}
