//! What is measured: every scheduler and node serves well-formed metrics, a real Prometheus
//! scrapes all six, and the dashboard asks for nothing that does not exist.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use berth_tests::cell::{Cell, fetch};
use berth_tests::exposition::Targets;
use berth_tests::{from_environment, wait};
use serde_json::Value;

const PROMETHEUS: &str = "127.0.0.1:17490";

/// What must be there once a container VM runs, by part.
const WANTED: &[&str] = &[
    "berth_raft_role",
    "berth_raft_term",
    "berth_raft_commit_index",
    "berth_raft_applied_index",
    "berth_raft_proposals_total",
    "berth_raft_fsync_seconds_bucket",
    "berth_raft_log_bytes",
    "berth_scheduler_placements_total",
    "berth_scheduler_refusals_total",
    "berth_scheduler_decision_seconds_bucket",
    "berth_scheduler_commit_seconds_bucket",
    "berth_scheduler_pending",
    "berth_node_vm_states",
    "berth_node_vm_start_seconds_bucket",
    "berth_node_hypervisor_processes",
    "berth_node_vm_cpu_seconds_total",
    "berth_node_vm_memory_bytes",
    "berth_node_vm_disk_bytes_total",
    "berth_node_vm_network_bytes_total",
    "berth_actor_mailbox_messages",
    "berth_node_mailbox_messages",
];

#[test]
fn prometheus_scrapes_all_six_processes_and_the_dashboard_finds_its_series() {
    let cell = Cell::up("mt", 17400);
    let docker = cell.docker(1);
    let archive = Cell::image_archive("busybox");
    docker.ok(&["load", "-i", archive.to_str().expect("a text path")]);
    let id = docker.ok(&["run", "-d", "-m", "64m", "busybox", "sleep", "3600"]);
    let refused = docker.run(&["run", "-m", "900g", "busybox", "true"]);
    assert_ne!(refused.code, Some(0), "{refused:?}");

    let targets = Targets::of(&cell);
    for url in targets.schedulers.iter().chain(&targets.nodes) {
        let text = targets.fetch(url).unwrap_or_else(|e| panic!("{url}: {e}"));
        check_with_promtool(url, &text);
    }
    for url in &targets.schedulers {
        let text = targets.fetch(url).expect("a scheduler's metrics");
        assert!(!text.contains(&id[..12]), "{url} has a series for one container");
    }
    // Once it was sampled.
    wait::until(Duration::from_secs(30), "one node has series of the one container VM", || {
        let label = format!("container=\"{id}\"");
        let mut holders = Vec::new();
        for url in &targets.nodes {
            if targets.fetch(url)?.contains(&label) {
                holders.push(url);
            }
        }
        if holders.len() == 1 { Ok(()) } else { Err(format!("{label}: {holders:?}")) }
    });
    // On loopback, where hosts are plain processes, metrics are plain too.
    for url in targets.nodes.iter().filter(|url| url.starts_with("https")) {
        let bare = fetch(url);
        assert!(bare.is_err(), "{url} answers without a certificate");
    }

    let directory = tempfile::tempdir().expect("a directory for Prometheus");
    let _prometheus = Prometheus::start(directory.path(), &targets);
    wait::until(Duration::from_secs(60), "all six targets are up", || {
        let up = query("up")?;
        let values: Vec<&str> =
            up.iter().filter_map(|series| series["value"][1].as_str()).collect();
        if values.len() == 6 && values.iter().all(|v| *v == "1") {
            Ok(())
        } else {
            Err(format!("{up:?}"))
        }
    });
    let missing = |names: &BTreeSet<String>| -> Result<(), String> {
        let known = names_known()?;
        let missing: Vec<&String> = names.difference(&known).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("missing: {missing:?}")) }
    };
    let wanted = WANTED.iter().map(|name| (*name).to_owned()).collect();
    wait::until(Duration::from_secs(30), "every wanted series exists", || missing(&wanted));
    let asked = names_in_dashboard();
    assert!(asked.len() > 20, "the dashboard was read: {asked:?}");
    wait::until(Duration::from_secs(30), "every series of the dashboard exists", || {
        missing(&asked)
    });
    // Labels too: an expression may name a metric that exists and still select nothing of it.
    wait::until(Duration::from_secs(30), "every expression of the dashboard has an answer", || {
        for expression in expressions_in_dashboard() {
            let found = query(&expression.replace("$__rate_interval", "1m"))?;
            if found.is_empty() {
                return Err(format!("{expression} selects nothing"));
            }
        }
        Ok(())
    });
}

#[test]
fn the_dashboard_can_be_imported_and_shows_every_part() {
    let dashboard = dashboard();
    assert!(dashboard["schemaVersion"].as_u64() >= Some(36), "{}", dashboard["schemaVersion"]);
    let variables = dashboard["templating"]["list"].as_array().expect("a list of variables");
    let source = variables.iter().find(|v| v["type"] == "datasource").expect("a data source");
    assert_eq!(source["query"], "prometheus");
    let uid = format!("${{{}}}", source["name"].as_str().expect("a name"));
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{} twice", panel["id"]);
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], uid, "{}", panel["title"]);
            assert_ne!(panel["targets"], Value::Null, "{}", panel["title"]);
        }
    }
    let names = names_in_dashboard();
    for part in ["berth_raft_", "berth_scheduler_", "berth_node_", "berth_node_vm_", "berth_api_"] {
        assert!(names.iter().any(|name| name.starts_with(part)), "no panel asks for {part}…");
    }
}

fn check_with_promtool(url: &str, text: &str) {
    let mut child = Command::new(from_environment("PROMTOOL"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("PROMTOOL names promtool");
    let mut input = child.stdin.take().expect("stdin is piped");
    input.write_all(text.as_bytes()).expect("promtool reads its input");
    drop(input);
    let output = child.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{url}: {said}");
}

/// A Prometheus of the test's own, ended with it.
struct Prometheus(Child);

impl Prometheus {
    fn start(directory: &Path, targets: &Targets) -> Prometheus {
        let list = |urls: &[String]| {
            let hosts = urls.iter().filter_map(|url| url.split('/').nth(2));
            hosts.map(|host| format!("'{host}'")).collect::<Vec<_>>().join(", ")
        };
        let scheme = if targets.nodes[0].starts_with("https") { "https" } else { "http" };
        let configuration = format!(
            "global: {{scrape_interval: 1s}}\n\
             scrape_configs:\n\
             - job_name: schedulers\n  static_configs: [{{targets: [{}]}}]\n\
             - job_name: nodes\n  scheme: {scheme}\n  static_configs: [{{targets: [{}]}}]\n  \
             tls_config: {{ca_file: '{}', cert_file: '{}', key_file: '{}'}}\n",
            list(&targets.schedulers),
            list(&targets.nodes),
            targets.ca,
            targets.certificate,
            targets.key,
        );
        let file = directory.join("prometheus.yml");
        std::fs::write(&file, configuration).expect("the configuration is written");
        let log = std::fs::File::create(directory.join("log")).expect("a log file");
        let child = Command::new(from_environment("PROMETHEUS"))
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
            .arg(format!("--web.listen-address={PROMETHEUS}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("PROMETHEUS names prometheus");
        Prometheus(child)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait()) {
            eprintln!("prometheus could not be ended: {error}");
        }
    }
}

/// The result of an instant query; an error if Prometheus does not take the expression.
fn query(expression: &str) -> Result<Vec<Value>, String> {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "5", "--get"])
        .args(["--data-urlencode", &format!("query={expression}")])
        .arg(format!("http://{PROMETHEUS}/api/v1/query"))
        .output()
        .map_err(|e| format!("curl: {e}"))?;
    let answer: Value = serde_json::from_slice(&output.stdout)
        .map_err(|e| format!("{e}: {}", String::from_utf8_lossy(&output.stderr)))?;
    if answer["status"] != "success" {
        return Err(answer.to_string());
    }
    Ok(answer["data"]["result"].as_array().cloned().unwrap_or_default())
}

fn names_known() -> Result<BTreeSet<String>, String> {
    let text = fetch(&format!("http://{PROMETHEUS}/api/v1/label/__name__/values"))?;
    let answer: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    let names = answer["data"].as_array().ok_or("no list of names")?;
    Ok(names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect())
}

fn dashboard() -> Value {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../metrics/dashboards/berth.json");
    let text = std::fs::read_to_string(&file).expect("the dashboard");
    serde_json::from_str(&text).expect("the dashboard is JSON")
}

fn expressions_in_dashboard() -> Vec<String> {
    let dashboard = dashboard();
    let mut expressions = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            expressions.push(target["expr"].as_str().expect("an expression").to_owned());
        }
    }
    expressions
}

/// All of our metrics that the dashboard's expressions name.
fn names_in_dashboard() -> BTreeSet<String> {
    expressions_in_dashboard()
        .iter()
        .flat_map(|expression| {
            expression
                .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .filter(|word| word.starts_with("berth_"))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect()
}
