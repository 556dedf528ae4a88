//! What a cell's processes serve at `/metrics`: where, how to get it, and single values of it.

use std::process::Command;

use serde_json::Value;

use crate::cell::Cell;

/// The addresses, and the certificate that opens the nodes'.
pub struct Targets {
    pub schedulers: Vec<String>,
    pub nodes: Vec<String>,
    pub ca: String,
    pub certificate: String,
    pub key: String,
}

impl Targets {
    pub fn of(cell: &Cell) -> Targets {
        let description = cell.description();
        let text = |value: &Value| value.as_str().expect("text in cell.json").to_owned();
        let mut targets = Targets {
            schedulers: Vec::new(),
            nodes: Vec::new(),
            ca: text(&description["ca"]),
            certificate: text(&description["client_certificate"]),
            key: text(&description["client_key"]),
        };
        for process in description["processes"].as_array().expect("a list of processes") {
            let addresses = &process["addresses"];
            match process["kind"].as_str() {
                Some("scheduler") => {
                    targets.schedulers.push(format!("http://{}/metrics", text(&addresses["api"])));
                }
                Some("node") => {
                    let address = text(&addresses["metrics"]);
                    let scheme = if address.starts_with("127.") { "http" } else { "https" };
                    targets.nodes.push(format!("{scheme}://{address}/metrics"));
                }
                Some(_) | None => {}
            }
        }
        assert_eq!((targets.schedulers.len(), targets.nodes.len()), (3, 3));
        targets
    }

    /// The whole text at `url`.
    pub fn fetch(&self, url: &str) -> Result<String, String> {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--max-time", "5"])
            .args(["--cacert", &self.ca, "--cert", &self.certificate, "--key", &self.key, url])
            .output()
            .map_err(|e| format!("curl: {e}"))?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// The sum of a metric without labels over all nodes.
    pub fn sum_over_nodes(&self, metric: &str) -> Result<f64, String> {
        let mut sum = 0.0;
        for url in &self.nodes {
            let text = self.fetch(url)?;
            let value =
                text.lines().find_map(|line| line.strip_prefix(metric)?.trim().parse().ok());
            let value: f64 = value.ok_or_else(|| format!("{url} has no {metric}"))?;
            sum += value;
        }
        Ok(sum)
    }
}
