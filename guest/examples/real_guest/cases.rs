//! What is tried, one guest each.
#![expect(clippy::wildcard_enum_match_arm, reason = "a case looks for the message that it needs")]

use crate::machine::{Machine, Parts, bytes_of, text_of};
use crate::{Outcome, now};
use berth_model::guest::{
    BASE_SERIAL, Capabilities, DELTA_SERIAL, ExitCause, ExitStatus, GuestNetwork, GuestSpec,
    GuestToHost, HostToGuest, LOG_RESERVE, ProcessSpec, STDIN_WINDOW, Standing, StartFailure,
    Stdio,
};
use berth_model::ids::ContainerId;
use berth_model::units::Bytes;
use berth_wire::codec;
use berth_wire::record::Stream;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

type Case = fn(&Parts) -> Outcome<String>;

pub const CASES: &[(&str, Case)] = &[
    ("exit_code", exit_code),
    ("surroundings", surroundings),
    ("user", user),
    ("stdin", stdin),
    ("terminal", terminal),
    ("missing_programs", missing_programs),
    ("signals", signals),
    ("much_output", much_output),
    ("reconnects", reconnects),
    ("node_restart", node_restart),
    ("log_credit", log_credit),
    ("power_off_while_running", power_off_while_running),
    ("isolation", isolation),
    ("out_of_memory", out_of_memory),
    ("network", network),
    ("read_only_root", read_only_root),
    ("missing_disk", missing_disk),
    ("bare_machine", bare_machine),
    ("broken_agent", broken_agent),
    ("late_disk", late_disk),
    ("zombies", zombies),
    ("idle_cost", idle_cost),
];

fn spec(arguments: &[&str]) -> GuestSpec {
    GuestSpec {
        container: ContainerId::from_bytes([7; 32]),
        hostname: "box".to_string(),
        domain_name: String::new(),
        base_serial: BASE_SERIAL.to_string(),
        delta_serial: DELTA_SERIAL.to_string(),
        process: ProcessSpec {
            arguments: arguments.iter().map(ToString::to_string).collect(),
            environment: Vec::new(),
            working_directory: String::new(),
            user: String::new(),
            capabilities: Capabilities::DOCKER_DEFAULT,
            stdio: Stdio::Pipes { stdin: false },
            groups: Vec::new(),
        },
        network: None,
        extra_hosts: Vec::new(),
        memory_limit: None,
        pids_limit: None,
        cpu_limit: None,
        volumes: Vec::new(),
        tmpfs: Vec::new(),
        shm_size: Bytes::mib(64),
        read_only_root: false,
        log_credit: 100 << 20,
    }
}

fn shell(script: &str) -> GuestSpec {
    spec(&["sh", "-c", script])
}

/// Boots, says what a node says first, and hands over the spec.
fn boot(parts: &Parts, name: &str, spec: &GuestSpec) -> Outcome<Machine> {
    let mut machine = Machine::boot(parts, name, 256)?;
    ready(&mut machine)?;
    set_up(&mut machine, spec)?;
    Ok(machine)
}

fn ready(machine: &mut Machine) -> Outcome<Standing> {
    machine.expect("ready", |message| match message {
        GuestToHost::Ready { standing, .. } => Some(standing.clone()),
        _ => None,
    })
}

fn set_up(machine: &mut Machine, spec: &GuestSpec) -> Outcome<()> {
    machine.send(&HostToGuest::Clock { unix_ns: wall_ns()? })?;
    machine.send(&HostToGuest::Entropy { bytes: entropy()? })?;
    machine.send(&HostToGuest::Setup(Box::new(spec.clone())))
}

#[expect(clippy::disallowed_methods, reason = "a node gives its guests the time")]
fn wall_ns() -> Outcome<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?)
}

fn entropy() -> Outcome<Vec<u8>> {
    let mut bytes = vec![0; 64];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn started(machine: &mut Machine) -> Outcome<()> {
    machine.expect("start", |message| match message {
        GuestToHost::Started { .. } => Some(()),
        _ => None,
    })
}

fn exited(machine: &mut Machine) -> Outcome<ExitStatus> {
    machine.expect("exit", |message| match message {
        GuestToHost::Exited(exit) => Some(*exit),
        _ => None,
    })
}

fn start_failed(parts: &Parts, name: &str, spec: &GuestSpec) -> Outcome<StartFailure> {
    let mut machine = boot(parts, name, spec)?;
    let failure = machine.expect("start failure", |message| match message {
        GuestToHost::StartFailed(failure) => Some(failure.clone()),
        _ => None,
    })?;
    machine.power_off()?;
    Ok(failure)
}

/// Runs to the end: exit, stdout, stderr.
fn run(parts: &Parts, name: &str, spec: &GuestSpec) -> Outcome<(ExitStatus, String, String)> {
    let mut machine = boot(parts, name, spec)?;
    let exit = exited(&mut machine)?;
    let log = machine.log()?;
    machine.power_off()?;
    Ok((exit, text_of(&log, Stream::Stdout), text_of(&log, Stream::Stderr)))
}

fn check<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Outcome<()> {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what}: {found:?}, expected {expected:?}").into())
    }
}

fn exit_code(parts: &Parts) -> Outcome<String> {
    let mut machine = Machine::boot(parts, "exit_code", 256)?;
    let kernel = machine.expect("ready", |message| match message {
        GuestToHost::Ready { kernel, uptime_ns, .. } => Some((kernel.clone(), *uptime_ns)),
        _ => None,
    })?;
    let is_ready = machine.booted.elapsed();
    let ready_cpu = machine.cpu_seconds()?;
    set_up(&mut machine, &shell("echo first; exit 7"))?;
    started(&mut machine)?;
    let is_started = machine.booted.elapsed();
    machine.log_until("output", |log| !log.is_empty())?;
    let has_output = machine.booted.elapsed();
    let exit = exited(&mut machine)?;
    let is_over = machine.booted.elapsed();
    check("cause", exit.cause, ExitCause::Code(7))?;
    let log = machine.log()?;
    check("log length", exit.log_bytes + LOG_RESERVE >= machine.log_length()?, true)?;
    let last = log.last().ok_or("empty log")?;
    check("exit record", codec::decode::<ExitStatus>(&last.payload, 100)?, exit)?;
    let ended = machine.power_off()?;
    let (text, clean) = ended.delta("/exit")?;
    check("exit on the delta disk", text.starts_with("code=7\noom=false\n"), true)?;
    check("delta disk is clean", clean, true)?;
    let console = ended.console()?;
    check("console names the reason", console.contains("power off: the node said so"), true)?;
    Ok(format!(
        "{}: ready {:.2} s (guest uptime {:.2}, {ready_cpu:.2} s of CPU), started {:.2}, \
         first output {:.2}, exited {:.2}, off {:.2} later",
        kernel.0,
        is_ready.as_secs_f64(),
        kernel.1 as f64 / 1e9,
        is_started.as_secs_f64(),
        has_output.as_secs_f64(),
        is_over.as_secs_f64(),
        ended.took.as_secs_f64()
    ))
}

fn surroundings(parts: &Parts) -> Outcome<String> {
    let mut spec = shell(
        "echo out; echo err >&2; pwd; hostname; echo $HOME $HOSTNAME $A $PATH; tty; \
         cat /proc/1/comm; ls /dev; cat /etc/hosts /etc/hostname /etc/resolv.conf; \
         stat -c %a /dev/shm /data /work; \
         readlink /dev/stdout; echo again > /dev/stdout; ulimit -n; cat /proc/self/cgroup; \
         wc -c < /proc/kcore; \
         grep -c . /proc/self/mountinfo; cat /proc/sys/kernel/hostname; umask; date +%s; \
         ls /proc/acpi",
    );
    spec.process.environment = vec!["A=b".to_string()];
    spec.process.working_directory = "/work/here".to_string();
    spec.volumes = vec!["/data".to_string()];
    spec.extra_hosts = vec![("other".to_string(), "10.0.0.9".to_string())];
    spec.network = Some(user_network());
    let (exit, out, err) = run(parts, "surroundings", &spec)?;
    let out_lines: Vec<&str> = out.lines().collect();
    check(
        "head",
        &out_lines[..7],
        &[
            "out",
            "/work/here",
            "box",
            "/root box b /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "not a tty",
            "sh",
            "core",
        ],
    )?;
    for expected in [
        "console",
        "10.0.0.9\tother",
        "10.0.2.15\tbox",
        "nameserver 10.0.2.3",
        "1777\n755\n755",
        "again",
        "1048576",
        "0::/\n",
        "0022",
    ] {
        let wanted = expected != "console";
        check(&format!("{expected} in {out}"), out.contains(expected), wanted)?;
    }
    check("stderr", err.starts_with("err\n"), true)?;
    check("cause", exit.cause, ExitCause::Code(0))?;
    Ok(String::new())
}

fn user_network() -> GuestNetwork {
    GuestNetwork {
        mac: [0x52, 0x54, 0, 0, 0, 0x50],
        address: Ipv4Addr::new(10, 0, 2, 15),
        prefix: 24,
        gateway: Some(Ipv4Addr::new(10, 0, 2, 2)),
        mtu: 0,
        dns: vec![Ipv4Addr::new(10, 0, 2, 3).into()],
        dns_search: vec!["example.org".to_string()],
        dns_options: Vec::new(),
    }
}

fn user(parts: &Parts) -> Outcome<String> {
    let script = "id; echo $HOME; grep Cap /proc/self/status; \
     cat /proc/self/attr/current 2>/dev/null; echo x > /dev/stderr";
    let mut spec = shell(script);
    spec.process.user = "nobody".to_string();
    let (_, out, err) = run(parts, "user-nobody", &spec)?;
    check(
        "id",
        out.lines().next(),
        Some("uid=65534(nobody) gid=65534(nogroup) groups=65534(nogroup)"),
    )?;
    check("home", out.lines().nth(1), Some("/home"))?;
    check("no capabilities", out.contains("CapEff:\t0000000000000000"), true)?;
    check("bounding set", out.contains("CapBnd:\t00000000a80425fb"), true)?;
    check("stderr can be opened", err.as_str(), "x\n")?;
    let (_, out, _) = run(parts, "user-root", &shell(script))?;
    check("id", out.lines().next(), Some("uid=0(root) gid=0(root) groups=0(root),10(wheel)"))?;
    check("capabilities", out.contains("CapEff:\t00000000a80425fb"), true)?;
    spec.process.user = "nope".to_string();
    let failure = start_failed(parts, "user-unknown", &spec)?;
    check(
        "failure",
        failure,
        StartFailure {
            code: 128,
            text: "unable to find user nope: no matching entries in passwd file".to_string(),
        },
    )?;
    Ok(String::new())
}

fn stdin(parts: &Parts) -> Outcome<String> {
    let mut spec = shell("md5sum; echo over");
    spec.process.stdio = Stdio::Pipes { stdin: true };
    let mut machine = boot(parts, "stdin", &spec)?;
    let data: Vec<u8> = (0..1_500_000u32).map(|number| ((number * 7) >> 3) as u8).collect();
    let sum = String::from_utf8(
        std::process::Command::new("md5sum")
            .arg("/dev/stdin")
            .stdin({
                let path = parts.work.join("stdin.bin");
                std::fs::write(&path, &data)?;
                std::fs::File::open(path)?
            })
            .output()?
            .stdout,
    )?;
    send_stdin(&mut machine, &data)?;
    let exit = exited(&mut machine)?;
    let out = text_of(&machine.log()?, Stream::Stdout);
    machine.power_off()?;
    check("cause", exit.cause, ExitCause::Code(0))?;
    check("sum", out.split_whitespace().next(), sum.split_whitespace().next())?;
    check("end", out.ends_with("over\n"), true)?;
    Ok(String::new())
}

/// All of it within the credit, then the end.
fn send_stdin(machine: &mut Machine, data: &[u8]) -> Outcome<()> {
    let mut credit = STDIN_WINDOW as usize;
    let mut sent = 0;
    while sent < data.len() {
        let end = data.len().min(credit).min(sent + (32 << 10));
        if end > sent {
            machine.send(&HostToGuest::StdinData { bytes: data[sent..end].to_vec() })?;
            sent = end;
        } else {
            credit = machine.expect("stdin credit", |message| match message {
                GuestToHost::StdinCredit { upto } => Some(*upto as usize),
                _ => None,
            })?;
        }
    }
    machine.send(&HostToGuest::StdinEof)
}

fn terminal(parts: &Parts) -> Outcome<String> {
    let mut spec = shell(
        "stty size; tty; echo $TERM; trap 'stty size' WINCH; echo err >&2; read line; \
         echo got $line; \
         until [ \"$line\" = quit ]; do read line && echo and $line; done; \
         cat > /dev/null; exit 6",
    );
    // busybox's `read` fails alike when a trap interrupts it and at the end of input, so the loop
    // ends by a word, and control-D is shown to `cat`.
    spec.process.stdio = Stdio::Terminal { stdin: true, rows: 40, columns: 100 };
    let mut machine = boot(parts, "terminal", &spec)?;
    let has = |text: &'static str| {
        move |log: &[berth_wire::record::Record]| text_of(log, Stream::Stdout).contains(text)
    };
    machine.log_until("40 100", has("40 100\r\n/dev/pts/0\r\nxterm\r\n"))?;
    machine.log_until("err", has("err"))?;
    machine.send(&HostToGuest::StdinData { bytes: b"hello\n".to_vec() })?;
    machine.log_until("got hello", has("got hello"))?;
    machine.send(&HostToGuest::Resize { rows: 50, columns: 120 })?;
    machine.send(&HostToGuest::StdinData { bytes: b"more\n".to_vec() })?;
    machine.log_until("and more", has("and more"))?;
    machine.log_until("50 120", has("50 120"))?;
    machine.send(&HostToGuest::StdinData { bytes: b"quit\n".to_vec() })?;
    machine.log_until("and quit", has("and quit"))?;
    // With a terminal the end of stdin has no effect, control-D on an empty line has.
    machine.send(&HostToGuest::StdinEof)?;
    machine.send(&HostToGuest::StdinData { bytes: vec![4] })?;
    check("cause", exited(&mut machine)?.cause, ExitCause::Code(6))?;
    machine.power_off()?;
    Ok(String::new())
}

fn missing_programs(parts: &Parts) -> Outcome<String> {
    let cases = [
        ("nope", 127, r#"exec: "nope": executable file not found in $PATH"#),
        ("/nope", 127, r#"exec: "/nope": stat /nope: no such file or directory"#),
        ("/etc/plain", 126, r#"exec: "/etc/plain": permission denied"#),
        ("/etc", 126, r#"exec: "/etc": is a directory"#),
    ];
    for (number, (program, code, text)) in cases.into_iter().enumerate() {
        let failure = start_failed(parts, &format!("missing-{number}"), &spec(&[program]))?;
        check(program, failure, StartFailure { code, text: text.to_string() })?;
    }
    let (exit, _, err) = run(parts, "garbage", &spec(&["garbage"]))?;
    check("garbage", exit.cause, ExitCause::Code(255))?;
    check("garbage", err.as_str(), "exec /bin/garbage: exec format error\n")?;
    Ok(String::new())
}

fn signals(parts: &Parts) -> Outcome<String> {
    let mut machine = boot(parts, "signals-kill", &spec(&["sleep", "1000"]))?;
    started(&mut machine)?;
    // PID 1 of its namespace: without a handler nothing but SIGKILL is heard.
    machine.send(&HostToGuest::Signal { number: 15 })?;
    machine.send(&HostToGuest::SampleStats)?;
    let stats = machine.expect("stats", |message| match message {
        GuestToHost::Stats(stats) => Some(stats.clone()),
        _ => None,
    })?;
    check("processes", stats.processes, 1)?;
    check("memory is counted", stats.memory > Bytes(0), true)?;
    machine.send(&HostToGuest::Signal { number: 9 })?;
    check("killed", exited(&mut machine)?.cause, ExitCause::Signal(9))?;
    machine.power_off()?;

    let mut machine = boot(
        parts,
        "signals-trap",
        &shell("trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 1; done"),
    )?;
    machine.log_until("up", |log| !log.is_empty())?;
    machine.send(&HostToGuest::Signal { number: 15 })?;
    check("trapped", exited(&mut machine)?.cause, ExitCause::Code(3))?;
    check("output", text_of(&machine.log()?, Stream::Stdout).as_str(), "up\nbye\n")?;
    machine.power_off()?;
    Ok(String::new())
}

fn much_output(parts: &Parts) -> Outcome<String> {
    let script = "seq 1 750000; echo end >&2";
    let mut machine = boot(parts, "much_output", &shell(script))?;
    started(&mut machine)?;
    let (begun, before) = (now(), machine.cpu_seconds()?);
    let exit = exited(&mut machine)?;
    let (took, cpu) = (begun.elapsed(), machine.cpu_seconds()? - before);
    let log = machine.log()?;
    machine.power_off()?;
    let out = bytes_of(&log, Stream::Stdout);
    let expected: String = (1..=750_000).map(|number| format!("{number}\n")).collect();
    check("bytes", out.len(), expected.len())?;
    check("content", out == expected.as_bytes(), true)?;
    check("stderr", text_of(&log, Stream::Stderr).as_str(), "end\n")?;
    check("cause", exit.cause, ExitCause::Code(0))?;
    Ok(format!("{} bytes in {:.2} s, {cpu:.2} s of CPU", out.len(), took.as_secs_f64()))
}

fn reconnects(parts: &Parts) -> Outcome<String> {
    let mut spec = shell("cat; echo over >&2");
    spec.process.stdio = Stdio::Pipes { stdin: true };
    let mut machine = boot(parts, "reconnects", &spec)?;
    started(&mut machine)?;
    let data: Vec<u8> =
        (0..2_000_000u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut credit = STDIN_WINDOW as usize;
    let (mut sent, mut cuts, mut stats) = (0, 0, 0);
    while sent < data.len() {
        let end = data.len().min(credit).min(sent + 50_000);
        if end > sent {
            machine.send(&HostToGuest::StdinData { bytes: data[sent..end].to_vec() })?;
            sent = end;
            machine.send(&HostToGuest::SampleStats)?;
            stats += 1;
            if cuts < sent / 100_000 {
                cuts += 1;
                machine.connect()?;
            }
        } else {
            match machine.hear()? {
                Some(GuestToHost::StdinCredit { upto }) => credit = upto as usize,
                Some(GuestToHost::Stats(_)) => stats -= 1,
                _ => {}
            }
        }
    }
    machine.send(&HostToGuest::StdinEof)?;
    let exit = machine.expect("exit", |message| match message {
        GuestToHost::Exited(exit) => Some(*exit),
        GuestToHost::Stats(_) => {
            stats -= 1;
            None
        }
        _ => None,
    })?;
    let log = machine.log()?;
    machine.power_off()?;
    check("cause", exit.cause, ExitCause::Code(0))?;
    check("bytes", bytes_of(&log, Stream::Stdout) == data, true)?;
    check("answers still due", stats, 0)?;
    check("stderr", text_of(&log, Stream::Stderr).as_str(), "over\n")?;
    Ok(format!("{cuts} cuts"))
}

fn node_restart(parts: &Parts) -> Outcome<String> {
    let mut spec = shell("seq 1 20000; read line; echo got $line; exit 4");
    spec.process.stdio = Stdio::Pipes { stdin: true };
    let mut machine = boot(parts, "node_restart", &spec)?;
    started(&mut machine)?;
    machine.send(&HostToGuest::StdinData { bytes: b"hel".to_vec() })?;
    machine.log_until("20000", |log| text_of(log, Stream::Stdout).ends_with("20000\n"))?;
    machine.restart_node()?;
    let standing = ready(&mut machine)?;
    let Standing::Running { stdin_received, stdin_upto, .. } = standing else {
        return Err(format!("standing {standing:?}").into());
    };
    check("stdin received", stdin_received, 3)?;
    check("stdin credit", stdin_upto >= STDIN_WINDOW, true)?;
    machine.send(&HostToGuest::StdinData { bytes: b"lo\n".to_vec() })?;
    // The end comes while no node is there.
    machine
        .log_until("got", |log| log.last().is_some_and(|record| record.stream == Stream::Exit))?;
    machine.restart_node()?;
    let standing = ready(&mut machine)?;
    let Standing::Exited(exit) = standing else {
        return Err(format!("standing {standing:?}").into());
    };
    check("cause", exit.cause, ExitCause::Code(4))?;
    check(
        "output",
        text_of(&machine.log()?, Stream::Stdout).ends_with("20000\ngot hello\n"),
        true,
    )?;
    machine.power_off()?;
    Ok(String::new())
}

fn log_credit(parts: &Parts) -> Outcome<String> {
    let mut spec = shell("seq 1 100000; echo all >&2; exit 5");
    spec.log_credit = 100_000;
    let mut machine = boot(parts, "log_credit", &spec)?;
    started(&mut machine)?;
    machine.log_until("its credit", |log| {
        log.iter().map(|r| r.payload.len()).sum::<usize>() > 99_000
    })?;
    // The agent answers though the process is blocked.
    for _ in 0..20 {
        machine.send(&HostToGuest::SampleStats)?;
        machine
            .expect("stats", |message| matches!(message, GuestToHost::Stats(_)).then_some(()))?;
    }
    check("log within its credit", machine.log_length()? <= 100_000, true)?;
    machine.send(&HostToGuest::LogCredit { upto: 10 << 20 })?;
    check("cause", exited(&mut machine)?.cause, ExitCause::Code(5))?;
    let log = machine.log()?;
    let expected: String = (1..=100_000).map(|number| format!("{number}\n")).collect();
    check("output", text_of(&log, Stream::Stdout) == expected, true)?;
    machine.power_off()?;
    Ok(String::new())
}

fn power_off_while_running(parts: &Parts) -> Outcome<String> {
    let mut machine = boot(parts, "power_off", &shell("echo up; touch /mark; sleep 1000"))?;
    machine.log_until("up", |log| !log.is_empty())?;
    let ended = machine.power_off()?;
    let (exit, clean) = ended.delta("/exit")?;
    check("exit on the delta disk", exit.starts_with("signal=9\n"), true)?;
    check("delta disk is clean", clean, true)?;
    Ok(format!("off after {:.2} s", ended.took.as_secs_f64()))
}

fn isolation(parts: &Parts) -> Outcome<String> {
    let script = "ls -d /modules /base /delta /container /init /modules/order 2>/dev/null; \
        mkdir /n; \
        mknod /n/agent c $(cat /sys/class/virtio-ports/vport*p1/dev | tr : ' ') && cat /n/agent; \
        mknod /n/disk b $(cat /sys/block/vdb/dev | tr : ' ') && dd if=/n/disk of=/dev/null count=1; \
        mknod /n/kmsg c 1 11 && echo x > /n/kmsg; \
        mknod /n/null c 1 3 && echo fine > /n/null && echo null works; \
        mount -t tmpfs x /n; ls /proc/1/root/ | tr '\n' ' '; ls -d /proc/[0-9]*; \
        hostname other; date -s 2000-01-01; insmod /bin/garbage; \
        echo x > /proc/sys/kernel/domainname; echo x > /sys/kernel/mm/ksm/run; \
        echo 1 > /sys/fs/cgroup/cgroup.procs; echo b > /proc/sysrq-trigger; \
        wc -c < /proc/kcore; ls /sys/firmware | wc -l; echo done";
    let (_, out, err) = run(parts, "isolation", &shell(script))?;
    check("null works", out.contains("null works"), true)?;
    check("hidden files are empty", out.ends_with("0\n0\ndone\n"), true)?;
    for hidden in ["/modules", "/base", "/delta", "/container", "/init"] {
        check(&format!("{hidden} in {out}"), out.contains(hidden), false)?;
    }
    // Each for its own reason: a line that is missing for another one shows nothing.
    for refused in [
        "cat: can't open '/n/agent': Operation not permitted",
        "dd: can't open '/n/disk': Operation not permitted",
        "can't create /n/kmsg: Operation not permitted",
        "mount: permission denied (are you root?)",
        "sethostname: Operation not permitted",
        "can't set date: Operation not permitted",
        "insmod: can't insert '/bin/garbage': Operation not permitted",
        "can't create /proc/sys/kernel/domainname: Read-only file system",
        "can't create /sys/kernel/mm/ksm/run: Read-only file system",
        "can't create /sys/fs/cgroup/cgroup.procs: Read-only file system",
        "can't create /proc/sysrq-trigger: Read-only file system",
    ] {
        check(&format!("{refused} in {err}"), err.contains(refused), true)?;
    }
    check("pid 1 is the shell, and nobody else is there", out.matches("/proc/").count(), 1)?;
    Ok(String::new())
}

fn out_of_memory(parts: &Parts) -> Outcome<String> {
    let mut spec = spec(&["awk", "BEGIN { s = \"x\"; while (1) s = s s }"]);
    spec.memory_limit = Some(Bytes::mib(32));
    let mut machine = boot(parts, "out_of_memory", &spec)?;
    let exit = exited(&mut machine)?;
    check("cause", exit.cause, ExitCause::Signal(9))?;
    check("oom", exit.oom_killed, true)?;
    machine.power_off()?;
    Ok(String::new())
}

fn network(parts: &Parts) -> Outcome<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    let mut spec = shell(&format!(
        "ip -4 addr show eth0; ip route; ping -c 1 10.0.2.2 | grep loss; \
         echo hello | nc 10.0.2.2 {port}; id -u; \
         cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6; ip addr show lo | grep inet"
    ));
    spec.network = Some(user_network());
    let mut machine = boot(parts, "network", &spec)?;
    let server = std::thread::spawn(move || -> std::io::Result<String> {
        let (mut stream, _) = listener.accept()?;
        let mut line = [0; 6];
        stream.read_exact(&mut line)?;
        stream.write_all(b"welcome\n")?;
        Ok(String::from_utf8_lossy(&line).into_owned())
    });
    exited(&mut machine)?;
    let log = machine.log()?;
    let (out, err) = (text_of(&log, Stream::Stdout), text_of(&log, Stream::Stderr));
    machine.power_off()?;
    for expected in [
        "inet 10.0.2.15/24",
        "default via 10.0.2.2",
        "welcome",
        "127.0.0.1/8",
        "::1/128",
        " 0% packet loss",
    ] {
        check(&format!("{expected} in {out} {err}"), out.contains(expected), true)?;
    }
    let heard = server.join().map_err(|_| "the server panicked")??;
    check("heard", heard.as_str(), "hello\n")?;
    Ok(String::new())
}

fn read_only_root(parts: &Parts) -> Outcome<String> {
    let mut spec = shell(
        "touch /x; touch /scratch/x && df -k /scratch | tail -1; touch /dev/shm/x && echo shm",
    );
    spec.read_only_root = true;
    spec.tmpfs = vec![berth_model::guest::TmpfsMount {
        path: "/scratch".to_string(),
        size: Some(Bytes::mib(3)),
        mode: 0o1777,
    }];
    let (_, out, err) = run(parts, "read_only_root", &spec)?;
    check(&err, err.contains("Read-only file system"), true)?;
    check(&out, out.contains("3072") && out.contains("shm"), true)?;
    Ok(String::new())
}

fn missing_disk(parts: &Parts) -> Outcome<String> {
    let mut spec = shell("true");
    spec.delta_serial = "absent".to_string();
    let mut machine = boot(parts, "missing_disk", &spec)?;
    let text = machine.expect("setup failure", |message| match message {
        GuestToHost::SetupFailed { text } => Some(text.clone()),
        _ => None,
    })?;
    check("text", text.as_str(), "disk with serial absent did not appear")?;
    machine.power_off()?;
    Ok(String::new())
}

fn bare_machine(parts: &Parts) -> Outcome<String> {
    // As a node probes whether guests come up: an agent port and nothing else.
    let mut machine = Machine::boot_bare(parts, "bare_machine")?;
    check("standing", ready(&mut machine)?, Standing::Idle)?;
    let took = machine.booted.elapsed();
    machine.power_off()?;
    Ok(format!("ready {:.2} s", took.as_secs_f64()))
}

fn broken_agent(parts: &Parts) -> Outcome<String> {
    // An initramfs without modules: the agent cannot even find its ports.
    let initramfs = parts.work.join("broken");
    crate::initramfs::write_agent_alone(&initramfs, &parts.agent)?;
    let parts = Parts { initramfs, ..parts.clone() };
    let mut machine = Machine::boot(&parts, "broken_agent", 256)?;
    let console = machine.wait_off()?.console()?;
    let reason = "power off: read /modules/order: no such file or directory";
    check(&console, console.contains(reason), true)?;
    Ok(String::new())
}

fn late_disk(parts: &Parts) -> Outcome<String> {
    let mut machine = Machine::boot_without_delta(parts, "late_disk")?;
    ready(&mut machine)?;
    set_up(&mut machine, &shell("echo late"))?;
    let plugged = now();
    machine.plug_delta()?;
    started(&mut machine)?;
    let took = plugged.elapsed();
    check("cause", exited(&mut machine)?.cause, ExitCause::Code(0))?;
    machine.power_off()?;
    Ok(format!("started {:.2} s after the plug", took.as_secs_f64()))
}

fn idle_cost(parts: &Parts) -> Outcome<String> {
    let mut machine = Machine::boot(parts, "idle_cost", 128)?;
    ready(&mut machine)?;
    set_up(&mut machine, &spec(&["sleep", "1000"]))?;
    started(&mut machine)?;
    let settled = now() + Duration::from_secs(2);
    while now() < settled {
        machine.turn()?;
    }
    let (begun, before) = (now(), machine.cpu_seconds()?);
    while begun.elapsed() < Duration::from_secs(10) {
        machine.turn()?;
    }
    let share = (machine.cpu_seconds()? - before) / begun.elapsed().as_secs_f64();
    let private = machine.private_mib()?;
    machine.power_off()?;
    Ok(format!("{:.2} % of a CPU, {private} MiB private, 128 MiB guest", share * 100.0))
}

fn zombies(parts: &Parts) -> Outcome<String> {
    // Orphans go to the container's init; when that ends, everything else is killed and output
    // closes.
    let script = "(sleep 1000 &) ; (while :; do echo tick; sleep 0.1; done &) ; sleep 0.5; \
     exit 9";
    let (exit, out, _) = run(parts, "zombies", &shell(script))?;
    check("cause", exit.cause, ExitCause::Code(9))?;
    check("ticks", out.contains("tick"), true)?;
    Ok(String::new())
}
