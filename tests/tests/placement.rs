//! Placement as an operator sees it: rules, reservations, gangs, quotas, preemption and failover
//! capacity on a cell of real processes, through the command line, docker and curl.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use berth_tests::cell::Cell;
use berth_tests::docker::{Docker, Outcome};
use berth_tests::{command_line, wait};
use serde_json::Value;

fn claim(what: &str) {
    eprintln!("-- {what}");
}

#[test]
fn an_operator_rules_where_container_vms_go_and_hears_why_not() {
    let cell = Cell::up("pl", 18300);
    let docker = cell.docker(1);
    let archive = Cell::image_archive("busybox");
    docker.ok(&["load", "-i", archive.to_str().expect("a text path")]);

    rules(&cell, &docker);
    reservations(&cell);
    quotas(&cell, &docker);
    preemption(&cell);
    failover_capacity(&cell);
    questions(&cell);
    events(&cell);
}

fn rules(cell: &Cell, docker: &Docker) {
    claim("a required rule keeps them apart, and the refusal names it");
    command_line::ok(
        cell,
        2,
        &["rule", "create", "web-apart", "--select", "app=web", "apart", "host"],
    );
    for name in ["web-1", "web-2", "web-3"] {
        let run = ["run", "-d", "--name", name, "-l", "app=web", "-m", "64m", "busybox"];
        docker.ok(&[&run[..], &["sleep", "3600"]].concat());
    }
    assert_eq!(hosts_of(cell, "web-").len(), 3, "each on a host of its own");
    let run = ["run", "-d", "--name", "web-4", "-l", "app=web", "-m", "64m", "busybox", "true"];
    let outcome = docker.run(&run);
    refused(&outcome, &["0 of 3 hosts fit", "rules", "web-apart"]);
    let rule = command_line::json(cell, 3, &["get", "rule", "web-apart"]);
    assert_eq!(rule["status"]["kept"], true, "{rule}");
    assert_eq!(rule["status"]["subjects"], 3, "{rule}");

    claim("a rule that comes later is reported as broken, not carried out");
    let together = ["rule", "create", "web-together", "--select", "app=web", "together", "host"];
    command_line::ok(cell, 1, &together);
    let rule = command_line::json(cell, 1, &["get", "rule", "web-together"]);
    assert_eq!(rule["status"]["kept"], false, "{rule}");
    command_line::ok(cell, 1, &["rule", "delete", "web-together"]);
    docker.ok(&["rm", "-f", "web-1", "web-2", "web-3", "web-4"]);
    command_line::ok(cell, 1, &["rule", "delete", "web-apart"]);
}

fn reservations(cell: &Cell) {
    claim("a place is held, and a container VM is made on it");
    let hold = ["place", "--cpus", "1", "-m", "64m", "--disk", "64m", "--reserve"];
    let held = command_line::json(cell, 1, &[&hold[..], &["--hold", "1h"]].concat());
    let id = text(&held["items"][0]["id"]);
    let host = text(&held["items"][0]["place"]["host"]);
    let shown = command_line::json(cell, 2, &["get", "placements"]);
    assert_eq!(shown.as_array().map(Vec::len), Some(1), "{shown}");
    let create = ["create", "--reservation", &id, "--name", "on-hold", "--cpus", "1", "-m", "64m"];
    let rest = ["--disk", "64m", "--start", "busybox", "sleep", "3600"];
    let made = command_line::json(cell, 2, &[&create[..], &rest[..]].concat());
    assert_eq!(made["host"], host.as_str(), "{made}");
    assert_eq!(made["state"]["phase"], "running", "{made}");
    assert_eq!(command_line::json(cell, 3, &["get", "placements"]), Value::Array(Vec::new()));
    command_line::ok(cell, 1, &["delete", "--force", "on-hold"]);

    claim("a gang is placed whole or not at all");
    let gang = ["place", "--gang", "--count", "400", "--cpus", "8", "-m", "64m", "--reserve"];
    let outcome = command_line::run(cell, 1, &gang);
    refused(&outcome, &["0 of 3 hosts fit", "capacity"]);
    assert_eq!(command_line::json(cell, 1, &["get", "placements"]), Value::Array(Vec::new()));

    claim("a dry run holds nothing, the same key holds once");
    command_line::ok(cell, 1, &["place", "--count", "3", "--cpus", "1", "-m", "64m"]);
    assert_eq!(command_line::json(cell, 1, &["get", "placements"]), Value::Array(Vec::new()));
    let once = ["place", "--cpus", "1", "-m", "64m", "--reserve", "--idempotency-key"];
    let key = "key-0123456789abcdef0123456789abcdef";
    let first = command_line::json(cell, 1, &[&once[..], &[key]].concat());
    let second = command_line::json(cell, 2, &[&once[..], &[key]].concat());
    assert_eq!(first["items"][0]["id"], second["items"][0]["id"]);
    command_line::ok(cell, 3, &["release", &text(&first["items"][0]["id"])]);

    claim("a hold ends with its time");
    command_line::ok(cell, 1, &["place", "-m", "64m", "--reserve", "--hold", "1s"]);
    wait::until(Duration::from_secs(30), "the reservation has expired", || {
        let left = command_line::json(cell, 1, &["get", "placements"]);
        if left == Value::Array(Vec::new()) { Ok(()) } else { Err(left.to_string()) }
    });
}

fn quotas(cell: &Cell, docker: &Docker) {
    claim("an endpoint's quota is kept and named");
    command_line::ok(cell, 1, &["endpoint", "set", "default", "--max-containers", "1"]);
    docker.ok(&["create", "--name", "first", "busybox", "true"]);
    let outcome = docker.run(&["create", "--name", "second", "busybox", "true"]);
    refused(&outcome, &["quota", "1 container VMs"]);
    docker.ok(&["rm", "first"]);
    command_line::ok(cell, 1, &["endpoint", "set", "default", "--unlimited"]);
}

/// Holds everything that is left in pieces of one CPU, at the priority.
fn fill(cell: &Cell, priority: &str) -> u64 {
    let shape = ["--cpus", "1", "-m", "64m", "--priority", priority];
    let room = command_line::json(cell, 1, &[&["capacity"][..], &shape[..]].concat());
    let fit = room["now"].as_u64().expect("a count");
    assert!((1..=4096).contains(&fit), "{room}");
    let count = fit.to_string();
    let hold = [&["place", "--reserve", "--count", &count][..], &shape[..]].concat();
    let held = command_line::json(cell, 1, &hold);
    assert_eq!(held["placed"], fit, "{held}");
    fit
}

fn release_all(cell: &Cell) {
    let held = command_line::json(cell, 1, &["get", "placements"]);
    let ids: Vec<String> =
        held.as_array().expect("a list").iter().map(|one| text(&one["id"])).collect();
    if !ids.is_empty() {
        let release: Vec<&str> =
            std::iter::once("release").chain(ids.iter().map(String::as_str)).collect();
        command_line::ok(cell, 1, &release);
    }
}

fn preemption(cell: &Cell) {
    claim("priority displaces only where the policy allows, and a dry run shows it first");
    fill(cell, "-100");
    let urgent = ["place", "--cpus", "1", "-m", "64m", "--priority", "100"];
    let outcome = command_line::run(cell, 1, &urgent);
    refused(&outcome, &["0 of 3 hosts fit"]);
    command_line::ok(cell, 1, &["policy", "set", "default", "--preemption", "true"]);
    let dry = command_line::json(cell, 1, &urgent);
    assert_eq!(dry["items"][0]["victims"].as_array().map(Vec::len), Some(1), "{dry}");
    let before = command_line::json(cell, 1, &["get", "placements"]);
    let held = command_line::json(cell, 1, &[&urgent[..], &["--reserve"]].concat());
    let victim = text(&held["items"][0]["victims"][0]["id"]);
    let after = command_line::json(cell, 2, &["get", "placements"]);
    let count = |list: &Value| list.as_array().map(Vec::len);
    assert_eq!(count(&before), count(&after), "one came, one went");
    let ids = |list: &Value| -> BTreeSet<String> {
        list.as_array().expect("a list").iter().map(|one| text(&one["id"])).collect()
    };
    assert!(ids(&before).contains(&victim) && !ids(&after).contains(&victim));
    command_line::ok(cell, 1, &["policy", "set", "default", "--preemption", "false"]);
    release_all(cell);
}

fn failover_capacity(cell: &Cell) {
    claim("what the loss of a host would need is kept, and the refusal says so");
    command_line::ok(cell, 1, &["policy", "set", "default", "--tolerate", "1"]);
    let fit = fill(cell, "0");
    let outcome = command_line::run(cell, 1, &["place", "--cpus", "1", "-m", "64m"]);
    refused(&outcome, &["admission"]);
    let lost = command_line::json(cell, 1, &["what-if", "lose", &first_host(cell)]);
    assert_eq!(lost["refused"], 0, "{lost}");
    assert!(lost["placed"].as_u64().is_some_and(|placed| placed > 0), "{lost}");
    command_line::ok(cell, 1, &["policy", "set", "default", "--tolerate", "0"]);
    let room = command_line::json(cell, 1, &["capacity", "--cpus", "1", "-m", "64m"]);
    assert!(room["now"].as_u64() > Some(0), "nothing was kept: {room} after {fit}");
    release_all(cell);
}

fn questions(cell: &Cell) {
    claim("maintenance, what a drain would do, and every kind of list");
    let host = first_host(cell);
    command_line::ok(cell, 1, &["maintenance", &host]);
    let outcome = command_line::run(cell, 1, &["place", "-m", "64m", "--host", &host]);
    refused(&outcome, &["maintenance"]);
    command_line::ok(cell, 1, &["maintenance", &host, "--off"]);
    command_line::json(cell, 1, &["what-if", "drain", &host]);
    for kind in
        ["cell", "clusters", "policies", "hosts", "datastores", "networks", "endpoints", "images"]
    {
        command_line::ok(cell, 1, &["get", kind]);
        command_line::ok(cell, 1, &["get", kind, "-o", "yaml"]);
    }
}

fn events(cell: &Cell) {
    claim("the stream of events goes on after a break where it broke off, on any replica");
    let oldest = command_line::ok(cell, 1, &["events", "-o", "json"]);
    let oldest: Value =
        serde_json::from_str(oldest.lines().next().expect("an event")).expect("a line of JSON");
    let whole = stream(cell, 1, &text(&oldest["revision"]), 5);
    let ids: Vec<&str> = whole.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "a revision came twice");
    let rest = stream(cell, 3, ids[1], 3);
    assert_eq!(rest[..], whole[2..5], "after the second");
    let told = command_line::ok(cell, 2, &["events"]);
    for word in ["rule", "placement", "container-vm", "maintenance-began", "expired"] {
        assert!(told.contains(word), "`{word}` is not in {told}");
    }
}

/// The first messages of the stream: id and data.
fn stream(cell: &Cell, replica: u16, after: &str, count: usize) -> Vec<(String, String)> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--no-buffer", "--max-time", "5", "-H", "accept: text/event-stream"]);
    curl.args(["-H", &format!("last-event-id: {after}")]);
    curl.arg(format!("{}/v1/events", cell.api(replica)));
    // It ends by its time limit, for the stream does not.
    let output = curl.output().expect("curl is on PATH");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut messages = Vec::new();
    for block in text.split("\n\n") {
        let field = |name: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim().to_owned())
        };
        if let (Some(id), Some(data)) = (field("id:"), field("data:")) {
            messages.push((id, data));
        }
    }
    assert!(messages.len() >= count, "{count} messages are wanted: {text}");
    messages.truncate(count);
    messages
}

fn first_host(cell: &Cell) -> String {
    let hosts = command_line::json(cell, 1, &["get", "hosts"]);
    text(&hosts[0]["name"])
}

/// Hosts of the container VMs whose name starts so.
fn hosts_of(cell: &Cell, prefix: &str) -> BTreeSet<String> {
    let all = command_line::json(cell, 1, &["get", "container-vms"]);
    let mine = all.as_array().expect("a list").iter();
    mine.filter(|one| text(&one["name"]).starts_with(prefix))
        .map(|one| text(&one["host"]))
        .collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}

fn refused(outcome: &Outcome, words: &[&str]) {
    assert_ne!(outcome.code, Some(0), "{outcome:?}");
    let said = format!("{}{}", outcome.stdout, outcome.stderr);
    for word in words {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
}
