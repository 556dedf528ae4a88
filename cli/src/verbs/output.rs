//! What commands print: tables for people, JSON and YAML for programs. A pipe that was closed early, as by
//! `head`, is no error.

use anyhow::{Context, Result};
use comfy_table::{ContentArrangement, Table, presets};
use std::io::{ErrorKind, Write};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    #[default]
    Table,
    Json,
    Yaml,
}

pub fn text(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

pub fn line(line: &str) -> Result<()> {
    text(&format!("{line}\n"))
}

/// Whole, in a form for programs; a table has no such form and is shown as JSON.
pub fn structured(format: Format, value: &impl serde::Serialize) -> Result<()> {
    match format {
        Format::Yaml => {
            text(&serde_yaml_ng::to_string(value).context("cannot write the answer as YAML")?)
        }
        Format::Json | Format::Table => json(value),
    }
}

fn json(value: &impl serde::Serialize) -> Result<()> {
    line(&serde_json::to_string_pretty(value).context("cannot write the answer as JSON")?)
}

/// A table without lines, as `docker ps` and `kubectl get` draw it.
pub fn table(header: &[&str], rows: Vec<Vec<String>>) -> Result<()> {
    line(&drawn(header, rows))
}

fn drawn(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(|name| name.to_uppercase()));
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_no_lines_and_no_blanks_at_the_end() {
        let rows = vec![vec!["h1".to_owned(), "connected".to_owned()]];
        assert_eq!(drawn(&["name", "state"], rows), "NAME  STATE\nh1    connected");
    }
}
