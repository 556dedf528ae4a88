//! One container VM: its QEMU, its disks, and the node's end of its ports.

use crate::qemu::{self, Devices};
use crate::{Outcome, now};
use berth_model::guest::{DELTA_SERIAL, GuestToHost, HostToGuest, PROTOCOL_MAX, PROTOCOL_MIN};
use berth_wire::channel::{Endpoint, TO_HOST_MESSAGE_MAX};
use berth_wire::codec;
use berth_wire::record::{Record, RecordReader, Stream};
use std::collections::VecDeque;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Nothing in a guest should take longer, however loaded this machine is.
const PATIENCE: Duration = Duration::from_secs(90);

/// What all machines share.
#[derive(Clone)]
pub struct Parts {
    pub work: PathBuf,
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
    pub agent: PathBuf,
    pub base: PathBuf,
    pub blank: PathBuf,
}

pub struct Machine {
    directory: PathBuf,
    qemu: Child,
    pub booted: Instant,
    socket: Option<UnixStream>,
    endpoint: Endpoint,
    nonce: u64,
    heard: VecDeque<GuestToHost>,
}

impl Machine {
    pub fn boot(parts: &Parts, name: &str, memory_mib: u32) -> Outcome<Machine> {
        Machine::boot_with(parts, name, memory_mib, Devices::All)
    }

    /// Boots with a delta disk that will be plugged later.
    pub fn boot_without_delta(parts: &Parts, name: &str) -> Outcome<Machine> {
        Machine::boot_with(parts, name, 256, Devices::AllButDelta)
    }

    /// Boots with nothing but the agent port.
    pub fn boot_bare(parts: &Parts, name: &str) -> Outcome<Machine> {
        Machine::boot_with(parts, name, 128, Devices::AgentPort)
    }

    fn boot_with(parts: &Parts, name: &str, memory_mib: u32, devices: Devices) -> Outcome<Machine> {
        let directory = parts.work.join(name);
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        run(Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
            .arg(&parts.blank)
            .arg(directory.join("delta.qcow2")))?;
        let mut qemu = qemu::command(parts, &directory, memory_mib, devices)?;
        let booted = now();
        let qemu = qemu.spawn()?;
        let mut machine = Machine {
            directory,
            qemu,
            booted,
            socket: None,
            endpoint: Endpoint::host(PROTOCOL_MIN..=PROTOCOL_MAX),
            nonce: 1,
            heard: VecDeque::new(),
        };
        machine.connect()?;
        Ok(machine)
    }

    /// Seconds of CPU that QEMU has used: unlike the time on the wall, not a matter of who else is
    /// busy.
    pub fn cpu_seconds(&self) -> Outcome<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.qemu.id()))?;
        let fields: Vec<&str> =
            stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
        // utime and stime, in hundredths.
        Ok((ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / 100.0)
    }

    /// Drops the connection wherever it stands, and says hello on a new one.
    pub fn connect(&mut self) -> Outcome<()> {
        self.socket = None;
        let path = self.directory.join("agent");
        let deadline = now() + PATIENCE;
        let socket = loop {
            match UnixStream::connect(&path) {
                Ok(socket) => break socket,
                Err(error) if now() > deadline => return Err(error.into()),
                Err(_) => {
                    if self.qemu.try_wait()?.is_some() {
                        return Err(format!("QEMU ended: {}", self.read("qemu.err")?).into());
                    }
                    std::thread::yield_now();
                }
            }
        };
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        socket.set_write_timeout(Some(Duration::from_millis(20)))?;
        self.socket = Some(socket);
        self.nonce = self
            .nonce
            .wrapping_mul(6364136223846793005)
            .wrapping_add(now().elapsed().as_nanos() as u64 | 1);
        self.endpoint.reconnected(self.nonce);
        Ok(())
    }

    /// Mebibytes of QEMU's memory that nobody shares.
    pub fn private_mib(&self) -> Outcome<u64> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.qemu.id()))?;
        let kib = |name: &str| {
            let line = rollup.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().ok()
        };
        Ok((kib("Private_Clean").unwrap_or(0) + kib("Private_Dirty").unwrap_or(0)) / 1024)
    }

    /// Plugs the delta disk into the running machine.
    pub fn plug_delta(&self) -> Outcome<()> {
        let mut control = UnixStream::connect(self.directory.join("qmp"))?;
        control.set_read_timeout(Some(PATIENCE))?;
        let device = format!(
            "{{\"driver\":\"virtio-blk-pci\",\"bus\":\"rp1\",\"drive\":\"delta\",\
             \"serial\":\"{DELTA_SERIAL}\",\"id\":\"delta\"}}"
        );
        writeln!(control, "{{\"execute\":\"qmp_capabilities\"}}")?;
        writeln!(control, "{{\"execute\":\"device_add\",\"arguments\":{device}}}")?;
        // The greeting and two answers; an error shows as the disk that never comes.
        let mut answers = String::new();
        let mut buffer = [0; 1024];
        while answers.matches("\"return\"").count() < 2 {
            let count = control.read(&mut buffer)?;
            answers.push_str(&String::from_utf8_lossy(&buffer[..count]));
            if count == 0 || answers.contains("\"error\"") {
                return Err(format!("hot-plug: {answers}").into());
            }
        }
        Ok(())
    }

    /// As a node process that was killed and comes back: nothing is remembered.
    pub fn restart_node(&mut self) -> Outcome<()> {
        self.endpoint = Endpoint::host(PROTOCOL_MIN..=PROTOCOL_MAX);
        self.heard.clear();
        self.connect()
    }

    pub fn send(&mut self, message: &HostToGuest) -> Outcome<()> {
        let bytes = codec::encode(message);
        let deadline = now() + PATIENCE;
        while self.endpoint.send(&bytes).is_err() {
            if now() > deadline {
                return Err("the guest does not take messages".into());
            }
            self.turn()?;
        }
        self.flush()
    }

    /// Writes what the socket takes now.
    pub fn flush(&mut self) -> Outcome<()> {
        let Some(socket) = &mut self.socket else { return Ok(()) };
        loop {
            let bytes = self.endpoint.outgoing();
            if bytes.is_empty() {
                return Ok(());
            }
            match socket.write(bytes) {
                Ok(count) => self.endpoint.written(count),
                Err(error) if would_block(&error) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads and writes once.
    pub fn turn(&mut self) -> Outcome<()> {
        self.flush()?;
        let Some(socket) = &mut self.socket else { return Err("not connected".into()) };
        let mut buffer = [0; 16 << 10];
        match socket.read(&mut buffer) {
            Ok(0) => return Err("the guest's port was closed".into()),
            Ok(count) => {
                self.endpoint.receive(&buffer[..count])?;
            }
            Err(error) if would_block(&error) => {}
            Err(error) => return Err(error.into()),
        }
        while let Some(message) = self.endpoint.pop() {
            self.heard.push_back(codec::decode(&message, TO_HOST_MESSAGE_MAX)?);
        }
        self.flush()
    }

    pub fn hear(&mut self) -> Outcome<Option<GuestToHost>> {
        if self.heard.is_empty() {
            self.turn()?;
        }
        Ok(self.heard.pop_front())
    }

    /// The first message that `wanted` makes something of; others are dropped.
    pub fn expect<T>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(&GuestToHost) -> Option<T>,
    ) -> Outcome<T> {
        let deadline = now() + PATIENCE;
        while now() < deadline {
            let Some(message) = self.hear()? else { continue };
            if let Some(found) = wanted(&message) {
                return Ok(found);
            }
            if matches!(message, GuestToHost::StartFailed(_) | GuestToHost::SetupFailed { .. }) {
                return Err(format!("no {what}, but {message:?}").into());
            }
        }
        Err(format!("no {what}; console: {}", self.read("console.log")?).into())
    }

    /// Waits until the log says so; everything in it so far.
    pub fn log_until(
        &mut self,
        what: &str,
        wanted: impl Fn(&[Record]) -> bool,
    ) -> Outcome<Vec<Record>> {
        let deadline = now() + PATIENCE;
        loop {
            let records = self.log()?;
            if wanted(&records) {
                return Ok(records);
            }
            if now() > deadline {
                return Err(format!(
                    "log never had {what}: {records:?}; console: {}",
                    self.read("console.log")?
                )
                .into());
            }
            self.turn()?;
        }
    }

    pub fn log(&self) -> Outcome<Vec<Record>> {
        let mut reader = RecordReader::starting_at(0);
        reader.push(&fs::read(self.directory.join("log"))?);
        let mut records = Vec::new();
        while let Some(record) = reader.next()? {
            records.push(record);
        }
        Ok(records)
    }

    pub fn log_length(&self) -> Outcome<u64> {
        Ok(fs::metadata(self.directory.join("log"))?.len())
    }

    /// Acknowledges the end and waits for QEMU's.
    pub fn power_off(mut self) -> Outcome<Ended> {
        self.send(&HostToGuest::PowerOff)?;
        self.wait_off()
    }

    pub fn wait_off(&mut self) -> Outcome<Ended> {
        let asked = now();
        while self.qemu.try_wait()?.is_none() {
            if now() > asked + PATIENCE {
                return Err(
                    format!("QEMU does not end; console: {}", self.read("console.log")?).into()
                );
            }
            // The end of the connection is the news.
            if self.turn().is_err() {
                self.qemu.wait()?;
            }
        }
        Ok(Ended { directory: self.directory.clone(), took: asked.elapsed() })
    }

    fn read(&self, file: &str) -> Outcome<String> {
        Ok(String::from_utf8_lossy(&fs::read(self.directory.join(file))?).into_owned())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _it_may_have_ended = self.qemu.kill();
        let _it_may_have_ended = self.qemu.wait();
    }
}

/// What is left of a machine.
pub struct Ended {
    directory: PathBuf,
    pub took: Duration,
}

impl Ended {
    pub fn console(&self) -> Outcome<String> {
        Ok(String::from_utf8_lossy(&fs::read(self.directory.join("console.log"))?).into_owned())
    }

    /// A file of the delta disk, and whether the disk is clean.
    pub fn delta(&self, file: &str) -> Outcome<(String, bool)> {
        let raw = self.directory.join("delta.raw");
        run(Command::new("qemu-img")
            .arg("convert")
            .args(["-O", "raw"])
            .arg(self.directory.join("delta.qcow2"))
            .arg(&raw))?;
        let text =
            Command::new("debugfs").args(["-R", &format!("cat {file}")]).arg(&raw).output()?;
        let check = Command::new("e2fsck").args(["-n", "-f"]).arg(&raw).output()?;
        let journal = Command::new("debugfs").args(["-R", "features"]).arg(&raw).output()?;
        let recovered = !String::from_utf8_lossy(&journal.stdout).contains("needs_recovery");
        fs::remove_file(&raw)?;
        Ok((
            String::from_utf8_lossy(&text.stdout).into_owned(),
            check.status.success() && recovered,
        ))
    }
}

/// The bytes of one stream, in order.
pub fn bytes_of(records: &[Record], stream: Stream) -> Vec<u8> {
    records
        .iter()
        .filter(|record| record.stream == stream)
        .flat_map(|record| record.payload.clone())
        .collect()
}

pub fn text_of(records: &[Record], stream: Stream) -> String {
    String::from_utf8_lossy(&bytes_of(records, stream)).into_owned()
}

pub fn run(command: &mut Command) -> Outcome<()> {
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(())
}

fn would_block(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
