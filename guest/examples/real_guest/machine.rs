//! One container VM: its QEMU, its disks, and the node's end of its ports.

use crate::{Outcome, now, tsc_khz};
use berth_model::guest::{
    AGENT_PORT, BASE_SERIAL, DELTA_SERIAL, GuestToHost, HostToGuest, LOG_PORT, PROTOCOL_MAX,
    PROTOCOL_MIN,
};
use berth_wire::channel::{Endpoint, TO_HOST_MESSAGE_MAX};
use berth_wire::codec;
use berth_wire::record::{Record, RecordReader, Stream};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Nothing in a guest should take longer, however loaded this machine is.
const PATIENCE: Duration = Duration::from_secs(90);

/// What all machines share.
pub struct Parts {
    pub work: PathBuf,
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
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
    /// Bytes that went each way, to cut at a given one.
    pub received: usize,
}

impl Machine {
    pub fn boot(parts: &Parts, name: &str, memory_mib: u32) -> Outcome<Machine> {
        let directory = parts.work.join(name);
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        let at = |file: &str| directory.join(file).display().to_string();
        let delta = at("delta.qcow2");
        let backing = parts.blank.display().to_string();
        run(Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", &backing, &delta]))?;

        let khz = tsc_khz();
        let command_line = std::env::var("REAL_GUEST_APPEND").unwrap_or_else(|_| format!(
            "console=ttyS0 quiet panic=-1 no_timer_check tsc=reliable tsc_early_khz={khz} lpj={} \
             random.trust_cpu=on mitigations=off nokaslr 8250.nr_uarts=1 i8042.noaux i8042.nokbd \
             cryptomgr.notests audit=0 init_on_alloc=0",
            khz * 4
        ));
        let cpu = std::env::var("REAL_GUEST_CPU").unwrap_or_else(|_| "qemu64".to_string());
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-name", name, "-accel", "tcg", "-M", "q35", "-cpu", &cpu]);
        qemu.args(["-m", &memory_mib.to_string(), "-smp", "1"]);
        qemu.args(["-nodefaults", "-nographic", "-no-reboot"]);
        qemu.args(["-chardev", &format!("file,id=console,path={},append=on", at("console.log"))]);
        qemu.args(["-serial", "chardev:console"]);
        qemu.args(["-qmp", &format!("unix:{},server=on,wait=off", at("qmp"))]);
        for port in 0..4 {
            let (chassis, address) = (port + 1, port + 2);
            qemu.args(["-device", &format!(
                "pcie-root-port,id=rp{port},bus=pcie.0,addr={address:x},chassis={chassis},slot={chassis}"
            )]);
        }
        qemu.args(["-device", "virtio-serial-pci,id=serial,bus=pcie.0,addr=1e,max_ports=4"]);
        qemu.args([
            "-chardev",
            &format!("socket,id=agent,path={},server=on,wait=off", at("agent")),
        ]);
        qemu.args([
            "-device",
            &format!("virtserialport,bus=serial.0,nr=1,chardev=agent,name={AGENT_PORT}"),
        ]);
        qemu.args(["-chardev", &format!("file,id=log,path={},append=on", at("log"))]);
        qemu.args([
            "-device",
            &format!("virtserialport,bus=serial.0,nr=2,chardev=log,name={LOG_PORT}"),
        ]);
        qemu.args([
            "-blockdev",
            &format!(
                "driver=raw,node-name=base,read-only=on,file.driver=file,file.filename={}",
                parts.base.display()
            ),
        ]);
        qemu.args(["-device", &format!("virtio-blk-pci,bus=rp0,drive=base,serial={BASE_SERIAL}")]);
        qemu.args([
            "-blockdev",
            &format!(
                "driver=qcow2,node-name=delta,discard=unmap,file.driver=file,file.filename={delta}"
            ),
        ]);
        qemu.args([
            "-device",
            &format!("virtio-blk-pci,bus=rp1,drive=delta,serial={DELTA_SERIAL}"),
        ]);
        qemu.args(["-netdev", "user,id=net"]);
        qemu.args(["-device", "virtio-net-pci,bus=rp2,netdev=net,mac=52:54:00:00:00:50,romfile="]);
        qemu.arg("-kernel").arg(&parts.kernel).arg("-initrd").arg(&parts.initramfs);
        qemu.args(["-append", &command_line]);
        qemu.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(at("qemu.err"))?);
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
            received: 0,
        };
        machine.connect()?;
        Ok(machine)
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
                self.received += count;
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
            if let Some(message) = self.hear()? {
                if let Some(found) = wanted(&message) {
                    return Ok(found);
                }
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

/// A base disk with busybox, and a blank delta disk.
pub fn disks(work: &Path) -> Outcome<(PathBuf, PathBuf)> {
    let (root, base) = (work.join("root"), work.join("base.squashfs"));
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    for directory in ["bin", "etc", "tmp", "home/app"] {
        fs::create_dir_all(root.join(directory))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    let list = Command::new("/bin/busybox").arg("--list").output()?;
    for applet in String::from_utf8(list.stdout)?.lines().filter(|name| *name != "busybox") {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet))?;
    }
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\napp:x:1000:1000::/home/app:/bin/sh\n",
    )?;
    fs::write(
        root.join("etc/group"),
        "root:x:0:\nwheel:x:10:root,app\nnogroup:x:65534:\napp:x:1000:\n",
    )?;
    fs::write(root.join("etc/plain"), "not a program\n")?;
    fs::write(root.join("bin/garbage"), [0xff; 100])?;
    std::os::unix::fs::symlink("/run/somewhere/resolv.conf", root.join("etc/resolv.conf"))?;
    run(Command::new("chmod").arg("755").arg(root.join("bin/garbage")))?;
    if base.exists() {
        fs::remove_file(&base)?;
    }
    run(Command::new("mksquashfs").arg(&root).arg(&base).args([
        "-comp",
        "lz4",
        "-noappend",
        "-quiet",
        "-all-root",
    ]))?;
    let (raw, blank) = (work.join("blank.raw"), work.join("blank.qcow2"));
    File::create(&raw)?.set_len(1 << 30)?;
    run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&raw))?;
    run(Command::new("qemu-img").args(["convert", "-O", "qcow2"]).arg(&raw).arg(&blank))?;
    fs::remove_file(&raw)?;
    Ok((base, blank))
}
