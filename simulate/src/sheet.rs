//! What a benchmark found: figures, and checks that say whether the figures count.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// One number. `value` is in `unit`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    pub bench: Cow<'static, str>,
    pub case: String,
    pub figure: Cow<'static, str>,
    pub value: f64,
    pub unit: Cow<'static, str>,
}

/// One thing that must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub bench: Cow<'static, str>,
    pub case: String,
    pub check: Cow<'static, str>,
    pub ok: bool,
    pub detail: String,
}

/// One line of the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// Tables for people. Not part of the JSON.
    notes: String,
}

impl Sheet {
    pub fn new(bench: &'static str, about: String) -> Self {
        Self { bench, about, lines: Vec::new(), notes: String::new() }
    }

    pub fn figure(
        &mut self,
        case: &str,
        figure: impl Into<Cow<'static, str>>,
        value: f64,
        unit: &'static str,
    ) {
        let (bench, case) = (self.bench.into(), case.to_owned());
        let (figure, unit) = (figure.into(), unit.into());
        self.lines.push(Line::Figure(Figure { bench, case, figure, value, unit }));
    }

    /// `found` is what was seen, or what was seen that must not be.
    pub fn check(&mut self, case: &str, check: &'static str, found: Result<String, String>) {
        let ok = found.is_ok();
        let (Ok(detail) | Err(detail)) = found;
        let (bench, case) = (self.bench.into(), case.to_owned());
        let check = check.into();
        self.lines.push(Line::Check(Check { bench, case, check, ok, detail }));
    }

    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Takes over the lines of another process, as [`Sheet::json`] writes them, under `case`.
    pub fn append(&mut self, json: &str, case: &str) -> Result<(), serde_json::Error> {
        for line in json.lines() {
            let mut line: Line = serde_json::from_str(line)?;
            let (Line::Figure(Figure { case: old, .. }) | Line::Check(Check { case: old, .. })) =
                &mut line;
            case.clone_into(old);
            self.lines.push(line);
        }
        Ok(())
    }

    /// How many checks failed.
    pub fn failed(&self) -> usize {
        let failed = |line: &&Line| match line {
            Line::Figure(_) => false,
            Line::Check(check) => !check.ok,
        };
        self.lines.iter().filter(failed).count()
    }

    /// The figures of several cases, one case a row. Those that a case lacks stay empty.
    pub fn table(&self, cases: &[String], figures: &[&str]) -> String {
        let mut text = format!("  {:<16}", "case");
        for figure in figures {
            text.push_str(&format!("{figure:>22}"));
        }
        for case in cases {
            text.push_str(&format!("\n  {case:<16}"));
            for figure in figures {
                let value = self.value(case, figure).map_or_else(String::new, readable);
                text.push_str(&format!("{value:>22}"));
            }
        }
        text.push('\n');
        text
    }

    /// Shown to people after the lines.
    pub fn note(&mut self, text: &str) {
        self.notes.push_str(text);
    }

    pub fn value(&self, case: &str, figure: &str) -> Option<f64> {
        self.lines.iter().find_map(|line| match line {
            Line::Figure(found) if found.case == case && found.figure == figure => {
                Some(found.value)
            }
            Line::Figure(_) | Line::Check(_) => None,
        })
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!("{}: {}\n", self.bench, self.about);
        for line in &self.lines {
            text.push_str(&match line {
                Line::Figure(figure) => format!(
                    "  {:<16} {:<26} {:>14} {}\n",
                    figure.case,
                    figure.figure,
                    readable(figure.value),
                    figure.unit
                ),
                Line::Check(check) => {
                    let word = if check.ok { "ok" } else { "FAILED" };
                    format!("  {:<16} {:<26} {word}: {}\n", check.case, check.check, check.detail)
                }
            });
        }
        text.push_str(&self.notes);
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
    fn lines_of_another_process_come_under_the_case_given() {
        let mut whole = Sheet::new("plan", String::new());
        whole.append(&sheet().json().unwrap(), "hosts-100").unwrap();
        assert_eq!(whole.value("hosts-100", "cpu_us_per_decision"), Some(12.5));
        assert_eq!(whole.failed(), 1);
        assert!(whole.append("nonsense", "x").is_err());
    }

    #[test]
    fn a_table_has_a_row_for_each_case() {
        let table =
            sheet().table(&["churn".to_owned(), "none".to_owned()], &["cpu_us_per_decision"]);
        let rows: Vec<Vec<&str>> =
            table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            rows,
            [vec!["case", "cpu_us_per_decision"], vec!["churn", "12.50"], vec!["none"]]
        );
    }

    #[test]
    fn a_check_that_failed_counts_and_is_shouted() {
        assert_eq!(sheet().failed(), 1);
        assert!(sheet().text().contains("FAILED: host-1"));
    }
}
