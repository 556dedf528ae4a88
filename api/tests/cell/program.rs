//! What the played nodes can run: a few programs with output, input and an end.

use berth_model::stream::OutputStream;
use std::sync::Mutex;
use tokio::sync::watch;

/// One run of a container VM.
pub struct Run {
    pub records: Mutex<Vec<(OutputStream, u64, Vec<u8>)>>,
    /// Counts what changed: output, or the end.
    pub changed: watch::Sender<u64>,
    pub ended: Mutex<bool>,
    pub words: Vec<String>,
}

/// What a program does at its start.
pub enum First {
    /// It ends at once, with this code.
    Exit(i32),
    /// It goes on until it is stopped, or its stdin ends.
    GoOn,
    /// There is no such program.
    Missing(String),
}

impl Run {
    pub fn new(words: Vec<String>) -> Run {
        let changed = watch::channel(0).0;
        Run { records: Mutex::default(), changed, ended: Mutex::new(false), words }
    }

    pub fn write(&self, stream: OutputStream, text: impl AsRef<[u8]>) {
        let mut records = self.records.lock().unwrap();
        // Nanoseconds from a time of its own, so that nothing depends on a clock.
        let time = 1_700_000_000_000_000_000 + records.len() as u64;
        records.push((stream, time, text.as_ref().to_vec()));
        drop(records);
        self.changed.send_modify(|count| *count += 1);
    }

    pub fn end(&self) {
        *self.ended.lock().unwrap() = true;
        self.changed.send_modify(|count| *count += 1);
    }

    pub fn begin(&self) -> First {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["true"] => First::Exit(0),
            ["exit", code] => First::Exit(code.parse().unwrap()),
            ["echo", rest @ ..] => {
                self.write(OutputStream::Stdout, format!("{}\n", rest.join(" ")));
                First::Exit(0)
            }
            ["both"] => {
                self.write(OutputStream::Stdout, "out\n");
                self.write(OutputStream::Stderr, "err\n");
                First::Exit(0)
            }
            ["say-and-sleep"] => {
                self.write(OutputStream::Stdout, "up\n");
                First::GoOn
            }
            ["cat" | "sleep" | "terminal", ..] => First::GoOn,
            [program, ..] => {
                First::Missing(format!("exec: \"{program}\": executable file not found in $PATH"))
            }
            [] => First::Missing("nothing to run".to_owned()),
        }
    }
}
