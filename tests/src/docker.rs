//! The stock `docker` command line against one Docker endpoint.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::wait;

/// A Docker client with a configuration directory of its own.
#[derive(Clone)]
pub struct Docker {
    pub host: String,
    pub config: PathBuf,
}

/// How a command of the client ended.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// The standard output without surrounding white space.
    ///
    /// # Panics
    /// If the command failed.
    pub fn expect_success(self, what: &str) -> String {
        assert_eq!(self.code, Some(0), "{what}: {self:?}");
        self.stdout.trim().to_owned()
    }
}

impl Docker {
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command
            .args(arguments)
            .env("DOCKER_HOST", &self.host)
            .env("DOCKER_CONFIG", &self.config)
            .env_remove("DOCKER_CONTEXT")
            .env_remove("DOCKER_TLS_VERIFY");
        command
    }

    /// Runs to its end, at most 120 s.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        self.run_with_input(arguments, None)
    }

    /// As `run`, with `input` on standard input.
    pub fn run_with_input(&self, arguments: &[&str], input: Option<&[u8]>) -> Outcome {
        let mut child = self
            .command(arguments)
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the `docker` client is on PATH");
        if let Some(input) = input {
            let mut pipe = child.stdin.take().expect("stdin is piped");
            pipe.write_all(input).expect("the client reads its input");
        }
        finish(child, &format!("docker {}", arguments.join(" ")))
    }

    /// Runs and gives the trimmed standard output.
    ///
    /// # Panics
    /// If it fails.
    pub fn ok(&self, arguments: &[&str]) -> String {
        self.run(arguments).expect_success(&format!("docker {}", arguments.join(" ")))
    }
}

/// Collects both outputs of `child` while it runs, and kills it after 120 s.
pub fn finish(mut child: Child, what: &str) -> Outcome {
    let stdout = child.stdout.take().map(collect);
    let stderr = child.stderr.take().map(collect);
    let deadline = wait::now() + Duration::from_secs(120);
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child of ours can be waited for") {
            break Some(status);
        }
        if wait::now() >= deadline {
            child.kill().expect("a child of ours can be killed");
            child.wait().expect("a killed child ends");
            break None;
        }
        wait::pause();
    };
    let text = |reader: Option<std::thread::JoinHandle<Vec<u8>>>| {
        let bytes = reader.map(|r| r.join().expect("a reader ends with its pipe"));
        String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
    };
    let outcome =
        Outcome { code: status.and_then(|s| s.code()), stdout: text(stdout), stderr: text(stderr) };
    assert!(status.is_some(), "{what}: still running after 120 s: {outcome:?}");
    outcome
}

fn collect(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("a pipe of a child can be read");
        bytes
    })
}
