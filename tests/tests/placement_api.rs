//! The placement API as its OpenAPI document promises it: schemathesis makes requests up from the
//! document, valid and invalid ones, and holds every answer against it. It asks a real scheduler whose
//! hosts play their part (`api/examples/serve.rs`), so that hosts can be lost and forgotten, too.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use berth_tests::cell::{Cell, fetch};
use berth_tests::{from_environment, wait};
use serde_json::{Value, json};

/// Requests made up for one operation and phase; more with `--long`.
const EXAMPLES: &str = "15";
const EXAMPLES_LONG: &str = "200";
/// The same requests each time, so that a failure can be looked into.
const SEED: &str = "1";

const ADDRESS: &str = "127.0.0.1:18101";

#[test]
fn every_answer_is_what_the_document_promises_and_every_operation_can_succeed() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start(directory.path());
    let document = fetch(&format!("http://{ADDRESS}/v1/openapi.json")).expect("the document");
    let document: Value = serde_json::from_str(&document).expect("the document is JSON");
    let operations = operations(&document);
    assert!(operations.len() > 40, "only {} operations: {operations:?}", operations.len());

    let outcome = schemathesis(directory.path());
    assert!(outcome.is_ok(), "{}", outcome.unwrap_err());

    let metrics = fetch(&format!("http://{ADDRESS}/metrics")).expect("the server's metrics");
    let broken: Vec<&str> = metrics
        .lines()
        .filter(|line| line.starts_with("berth_api_requests_total{"))
        .filter(|line| line.contains("status=\"500\""))
        .collect();
    assert!(broken.is_empty(), "{broken:?}");
    let reached = successes(&metrics);
    let missed: Vec<_> = operations.difference(&reached).collect();
    assert!(missed.is_empty(), "operations that never succeeded: {missed:?}");
    drop(server);
}

/// The example, built with the tests beside the binary.
struct Server(Child);

impl Server {
    /// Waits for the line that it writes once every object is there, a lost host among them.
    fn start(directory: &Path) -> Server {
        let said = directory.join("serve.out");
        let beside = PathBuf::from(from_environment("BERTH_BIN"));
        let program = beside.parent().expect("a directory").join("examples/serve");
        let child = Command::new(&program)
            .arg(ADDRESS)
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&said).expect("a file"))
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let server = Server(child);
        wait::until(Duration::from_secs(60), "the example serves", || {
            let said = std::fs::read_to_string(&said).map_err(|error| error.to_string())?;
            if said.ends_with('\n') { Ok(()) } else { Err(said) }
        });
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait().map(|_| ())) {
            eprintln!("the example could not be ended: {error}");
        }
    }
}

/// Method and path of each operation.
fn operations(document: &Value) -> BTreeSet<(String, String)> {
    let paths = document["paths"].as_object().expect("paths");
    let mut found = BTreeSet::new();
    for (path, methods) in paths {
        for method in methods.as_object().expect("methods").keys() {
            if ["get", "put", "post", "delete", "patch"].contains(&method.as_str()) {
                found.insert((method.to_uppercase(), path.clone()));
            }
        }
    }
    found
}

/// Operations that were answered with a status from 200 to 299.
fn successes(metrics: &str) -> BTreeSet<(String, String)> {
    let label = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=\""))?;
        Some(rest.split('"').next()?.to_owned())
    };
    metrics
        .lines()
        .filter(|line| line.starts_with("berth_api_requests_total{"))
        .filter(|line| label(line, "api").as_deref() == Some("placement"))
        .filter(|line| label(line, "status").is_some_and(|status| status.starts_with('2')))
        .filter_map(|line| Some((label(line, "method")?, label(line, "route")?)))
        .collect()
}

/// What a reference in the document refers to.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(reference) => {
            document.pointer(reference.trim_start_matches('#')).expect("what a reference names")
        }
        None => value,
    }
}

fn schemathesis(directory: &Path) -> Result<(), String> {
    let configuration =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../api/tests/schemathesis.toml");
    let examples = match std::env::var("BERTH_LONG") {
        Ok(_) => EXAMPLES_LONG,
        Err(_) => EXAMPLES,
    };
    let output = Command::new(from_environment("SCHEMATHESIS"))
        .args(["--config-file", configuration.to_str().expect("a text path")])
        .args(["run", &format!("http://{ADDRESS}/v1/openapi.json")])
        .args(["--checks", "all", "--max-examples", examples, "--seed", SEED, "--no-color"])
        .args(["--workers", "1", "--generation-database", "none"])
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("schemathesis: {error}"))?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    eprintln!("{said}");
    if output.status.success() { Ok(()) } else { Err(said) }
}

/// The document in the form that other programs take it.
#[test]
fn the_document_names_its_version_and_the_problem_of_every_refusal() {
    let cell = Cell::up("ad", 18200);
    let document = fetch(&format!("{}/v1/openapi.json", cell.api(2))).expect("the document");
    let document: Value = serde_json::from_str(&document).expect("the document is JSON");
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            if operation.get("operationId").is_none() {
                continue;
            }
            let responses = operation["responses"].as_object().expect("responses");
            for (status, response) in responses {
                if status.starts_with('4') || status.starts_with('5') {
                    let response = resolved(&document, response);
                    let problem = &response["content"]["application/problem+json"];
                    assert_ne!(*problem, json!(null), "{method} {path} {status}: {response}");
                }
            }
        }
    }
}
