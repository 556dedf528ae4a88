//! A cell of the test's own: `berth up` with its own name, ports and state directory, taken down
//! when the test ends.

use std::path::PathBuf;
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
        let state = tempfile::Builder::new().prefix("berth-").tempdir().expect("a state directory");
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

    /// The archive of one of the images that `cargo xtask images` makes.
    pub fn image_archive(name: &str) -> PathBuf {
        PathBuf::from(from_environment("BERTH_IMAGES")).join(format!("{name}.tar"))
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        let down = Command::new(from_environment("BERTH_BIN"))
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
