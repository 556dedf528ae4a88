//! A cell of the test's own: `berth up` with its own name, ports and state directory, taken down
//! when the test ends.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::docker::Docker;
use crate::{from_environment, wait};

pub struct Cell {
    pub state: tempfile::TempDir,
    name: String,
    port_base: u16,
    up: Option<Child>,
}

impl Cell {
    /// Brings up three schedulers and three hosts and waits until all are connected.
    ///
    /// `port_base` must differ between tests that may run at once.
    pub fn up(name: &str, port_base: u16) -> Cell {
        Cell::up_prepared(name, port_base, |_| ())
    }

    /// As `up`, after `prepare` has put into the state directory what is to be there beforehand.
    pub fn up_prepared(name: &str, port_base: u16, prepare: impl FnOnce(&Path)) -> Cell {
        let state = tempfile::Builder::new().prefix("berth-").tempdir().expect("a state directory");
        prepare(state.path());
        let mut cell = Cell { state, name: name.to_owned(), port_base, up: None };
        cell.start();
        cell
    }

    /// Runs `berth up` again on the same state, as after a loss of processes.
    pub fn start(&mut self) {
        let log = std::fs::File::create(self.state.path().join("up.out")).expect("a log file");
        let child = Command::new(from_environment("BERTH_BIN"))
            .args(["up", "--assets", &from_environment("BERTH_ASSETS")])
            .args(["--name", &self.name, "--port-base", &self.port_base.to_string()])
            .arg("--state")
            .arg(self.state.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("BERTH_BIN names the berth binary");
        self.up = Some(child);
        wait::until(Duration::from_secs(180), "berth up is ready", || {
            let out = self.up_output();
            if let Some(child) = &mut self.up
                && let Some(status) = child.try_wait().map_err(|e| e.to_string())?
            {
                panic!("berth up ended with {status}:\n{out}");
            }
            if out.contains("DOCKER_HOST=") { Ok(()) } else { Err(out) }
        });
    }

    /// What `berth up` has printed so far.
    pub fn up_output(&self) -> String {
        std::fs::read_to_string(self.state.path().join("up.out")).unwrap_or_default()
    }

    /// kill -9 of `berth up` itself, so that it restarts nothing that the test ends.
    pub fn kill_up(&mut self) {
        if let Some(mut child) = self.up.take() {
            child.kill().expect("a child of ours can be killed");
            child.wait().expect("a killed child ends");
        }
    }

    /// The file that says which processes the cell has.
    pub fn description(&self) -> Value {
        let path = self.state.path().join("cell.json");
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        serde_json::from_str(&text).expect("cell.json is JSON")
    }

    /// The Docker client against replica `replica`, counted from 1.
    pub fn docker(&self, replica: u16) -> Docker {
        let config = self.state.path().join("docker-config");
        std::fs::create_dir_all(&config).expect("a directory for the client's configuration");
        Docker { host: format!("tcp://127.0.0.1:{}", self.port_base + 10 + replica), config }
    }

    /// `http://127.0.0.1:port` of the API of replica `replica`, counted from 1.
    pub fn api(&self, replica: u16) -> String {
        format!("http://127.0.0.1:{}", self.port_base + replica)
    }

    /// The number of the replica that leads.
    pub fn leader(&self) -> u16 {
        wait::until(Duration::from_secs(30), "one replica leads", || {
            for replica in 1..=3 {
                let metrics = fetch(&format!("{}/metrics", self.api(replica)))?;
                if metrics.lines().any(|line| line == "berth_raft_role{role=\"leader\"} 1") {
                    return Ok(replica);
                }
            }
            Err("no replica says that it leads".to_owned())
        })
    }

    /// kill -9 of one scheduler; `berth up` starts it again.
    pub fn kill_scheduler(&self, replica: u16) {
        let pid = self.pids("scheduler", Some(replica))[0];
        kill(pid);
        wait::until(Duration::from_secs(10), "the killed scheduler is gone", || {
            if alive(pid) { Err(format!("pid {pid} is there")) } else { Ok(()) }
        });
    }

    /// Waits until replica `replica` runs again and knows a leader.
    pub fn await_scheduler(&self, replica: u16) {
        wait::until(Duration::from_secs(60), "the scheduler is back and ready", || {
            fetch(&format!("{}/readyz", self.api(replica))).map(|_| ())
        });
    }

    /// kill -9 of every process of ours, hypervisors apart. `berth up` must be gone before.
    pub fn kill_all_processes(&self) {
        for kind in ["scheduler", "node", "keeper", "switch"] {
            for pid in self.pids(kind, None) {
                kill(pid);
                wait::until(Duration::from_secs(10), "a killed process is gone", || {
                    if alive(pid) { Err(format!("pid {pid} is there")) } else { Ok(()) }
                });
            }
        }
    }

    /// Pids of the cell's processes of one kind, of one number if given.
    pub fn pids(&self, kind: &str, number: Option<u16>) -> Vec<u32> {
        let description = self.description();
        let processes = description["processes"].as_array().expect("a list of processes");
        let pids: Vec<u32> = processes
            .iter()
            .filter(|p| p["kind"] == kind && number.is_none_or(|n| p["number"] == n))
            .map(|p| p["pid"].as_u64().expect("a started process has a pid"))
            .map(|pid| u32::try_from(pid).expect("a pid"))
            .collect();
        assert!(!pids.is_empty(), "no {kind} {number:?} in {description}");
        pids
    }

    /// Pids of the hypervisors that run, from the hosts' run directories.
    pub fn hypervisors(&self) -> BTreeSet<u32> {
        let description = self.description();
        let mut found = BTreeSet::new();
        for host in description["hosts"].as_array().expect("a list of hosts") {
            let run = PathBuf::from(host["run"].as_str().expect("a path"));
            for file in files_named(&run, "hypervisor.pid") {
                let text = std::fs::read_to_string(&file).unwrap_or_default();
                let pid = text.lines().nth(1).and_then(|line| line.trim().parse().ok());
                found.extend(pid.filter(|pid| alive(*pid)));
            }
        }
        found
    }

    /// Bytes that container VMs have written as output so far, over all datastores.
    pub fn output_bytes(&self) -> u64 {
        let description = self.description();
        let mut bytes = 0;
        for datastore in description["datastores"].as_array().expect("a list of datastores") {
            let path = PathBuf::from(datastore["path"].as_str().expect("a path"));
            for file in files_below(&path.join("containers")) {
                let name = file.file_name().and_then(|n| n.to_str()).unwrap_or_default();
                if name.starts_with("log.") {
                    bytes += std::fs::metadata(&file).map_or(0, |m| m.len());
                }
            }
        }
        bytes
    }

    /// The archive of one of the images that `cargo xtask images` makes.
    pub fn image_archive(name: &str) -> PathBuf {
        PathBuf::from(from_environment("BERTH_IMAGES")).join(format!("{name}.tar"))
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        // Not from_environment: a destructor must not panic.
        let berth = std::env::var("BERTH_BIN").unwrap_or_default();
        let down = Command::new(berth)
            .arg("down")
            .arg("--state")
            .arg(self.state.path())
            .stdin(Stdio::null())
            .output();
        if let Some(mut child) = self.up.take() {
            // `berth down` ends it; if it did not, the test must not leave it behind.
            if let Ok(None) = child.try_wait()
                && let Err(error) = child.kill()
            {
                eprintln!("berth up could not be ended: {error}");
            }
            if let Err(error) = child.wait() {
                eprintln!("berth up could not be waited for: {error}");
            }
        }
        match down {
            Ok(output) if output.status.success() => {}
            Ok(output) => eprintln!("berth down: {}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => eprintln!("berth down: {error}"),
        }
    }
}

/// What `url` answers, if it answers with success.
pub fn fetch(url: &str) -> Result<String, String> {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--fail", "--max-time", "5", url])
        .output()
        .map_err(|e| format!("curl: {e}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn kill(pid: u32) {
    let status = Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(status.expect("`kill` is on PATH").success(), "kill -9 {pid}");
}

/// Whether a process runs; a zombie does not.
fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(") ").next().unwrap_or_default().starts_with('Z'))
}

fn files_named(folder: &Path, name: &str) -> Vec<PathBuf> {
    let mut files = files_below(folder);
    files.retain(|file| file.file_name().is_some_and(|n| n == name));
    files
}

/// All files below `folder`; what vanishes while it is read is left out.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found
}
