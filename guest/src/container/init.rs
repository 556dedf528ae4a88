//! The child's way from fork to exec: PID 1 of the container, not yet its program.

use super::{Given, mounts, terminal, verdict};
use crate::account::{self, Account};
use crate::trouble::{Trouble, While as _};
use crate::{calls, capabilities, cgroup, environment, program};
use berth_model::guest::{GuestSpec, StartFailure, Stdio};
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::fs::{Gid, Uid, fchown};
use rustix::process::{Resource, Rlimit, setrlimit, umask};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use std::ffi::CString;

/// Exit code of a program that was found but could not be executed, as Docker has it.
const EXEC_FAILED: i32 = 255;
/// What Docker's daemon gives its containers.
const OPEN_FILES: u64 = 1_048_576;

struct Program {
    path: String,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

/// Becomes the container's program, or says why not and ends.
pub fn run(spec: &GuestSpec, given: Given) -> ! {
    let program = match prepare(spec, &given) {
        Ok(program) => program,
        Err(failure) => {
            verdict::tell_failed(&given.verdicts, &failure);
            calls::exit_now(1);
        }
    };
    let path = CString::new(program.path.as_bytes()).unwrap_or_default();
    calls::reset_signals();
    if verdict::tell_ready(&given.verdicts).is_err() {
        calls::exit_now(1);
    }
    let error = calls::execute(&path, &program.arguments, &program.environment);
    // The container counts as started; like Docker's, it says itself why it ends.
    let text = program::exec_failure(&program.path, &error);
    let _nobody_may_listen = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
    calls::exit_now(EXEC_FAILED)
}

impl From<Trouble> for StartFailure {
    fn from(trouble: Trouble) -> StartFailure {
        StartFailure { code: 128, text: trouble.text() }
    }
}

fn prepare(spec: &GuestSpec, given: &Given) -> Result<Program, StartFailure> {
    cgroup::join()?;
    // The container sees its own group as the root of all.
    calls::unshare_cgroup().during(|| "enter a cgroup namespace")?;
    rustix::system::sethostname(spec.hostname.as_bytes()).during(|| "set the host name")?;
    let domain = if spec.domain_name.is_empty() { "(none)" } else { &spec.domain_name };
    rustix::system::setdomainname(domain.as_bytes()).during(|| "set the domain name")?;
    umask(rustix::fs::Mode::from_raw_mode(0o022));
    mounts::enter(spec)?;
    rustix::process::setsid().during(|| "start a session")?;
    let account = account::look_up(&spec.process.user, &spec.process.groups)
        .map_err(|text| StartFailure { code: 128, text })?;
    connect_stdio(spec, given, &account)?;
    let directory = match spec.process.working_directory.as_str() {
        "" => "/",
        directory => directory,
    };
    mounts::make_directory(directory)?;
    mounts::protect(spec)?;
    std::env::set_current_dir(directory).during(|| format!("chdir to cwd ({directory:?})"))?;
    limit()?;
    calls::close_others_at_exec().during(|| "close descriptors")?;
    become_user(spec, &account)?;

    let terminal = matches!(spec.process.stdio, Stdio::Terminal { .. });
    let environment = environment::environment(
        &spec.process.environment,
        &spec.hostname,
        terminal,
        &account.home,
    );
    let Some(name) = spec.process.arguments.first() else {
        return Err(StartFailure { code: 128, text: "no command specified".to_string() });
    };
    Ok(Program {
        path: program::find(name, &environment)?,
        arguments: c_strings(&spec.process.arguments)?,
        environment: c_strings(&environment)?,
    })
}

fn connect_stdio(spec: &GuestSpec, given: &Given, account: &Account) -> Result<(), Trouble> {
    let terminal = match spec.process.stdio {
        Stdio::Pipes { .. } => None,
        Stdio::Terminal { rows, columns, .. } => Some(terminal::make(given, rows, columns)?),
    };
    let ends: [&OwnedFd; 3] = match (&terminal, &given.stdio) {
        (Some(terminal), _) => [terminal; 3],
        (None, Some(ends)) => ends.each_ref(),
        (None, None) => return Err(Trouble::new("the process has no stdio")),
    };
    if let Some(terminal) = &terminal {
        rustix::process::ioctl_tiocsctty(terminal).during(|| "take the terminal")?;
    }
    // The user must be able to open /dev/stdout and the like again.
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    let group = if terminal.is_some() { None } else { Some(gid) };
    for end in ends {
        if is_null(end)? {
            continue;
        }
        fchown(end, Some(uid), group).during(|| "give stdio to the user")?;
    }
    rustix::stdio::dup2_stdin(ends[0]).during(|| "connect stdin")?;
    rustix::stdio::dup2_stdout(ends[1]).during(|| "connect stdout")?;
    rustix::stdio::dup2_stderr(ends[2]).during(|| "connect stderr")
}

/// Whether this is /dev/null, which belongs to nobody.
fn is_null(fd: &OwnedFd) -> Result<bool, Trouble> {
    let status = rustix::fs::fstat(fd.as_fd()).during(|| "look at stdio")?;
    Ok(status.st_rdev == rustix::fs::makedev(1, 3))
}

fn limit() -> Result<(), Trouble> {
    let limit = Rlimit { current: Some(OPEN_FILES), maximum: Some(OPEN_FILES) };
    setrlimit(Resource::Nofile, limit).during(|| "set the limit of open files")?;
    let limit = Rlimit { current: None, maximum: None };
    for (resource, name) in [(Resource::Nproc, "processes"), (Resource::Core, "core files")] {
        setrlimit(resource, limit).during(|| format!("set the limit of {name}"))?;
    }
    std::fs::write("/proc/self/oom_score_adj", "0").during(|| "set the OOM score")
}

fn become_user(spec: &GuestSpec, account: &Account) -> Result<(), Trouble> {
    let allowed = spec.process.capabilities;
    capabilities::bound(allowed)?;
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    let groups: Vec<Gid> = account.groups.iter().map(|group| Gid::from_raw(*group)).collect();
    set_thread_groups(&groups).during(|| "set groups")?;
    set_thread_res_gid(gid, gid, gid).during(|| format!("set group {}", account.gid))?;
    set_thread_res_uid(uid, uid, uid).during(|| format!("set user {}", account.uid))?;
    if account.uid == 0 {
        capabilities::restrict(allowed)?;
    }
    Ok(())
}

fn c_strings(strings: &[String]) -> Result<Vec<CString>, StartFailure> {
    strings
        .iter()
        .map(|string| {
            CString::new(string.as_bytes()).map_err(|_| StartFailure {
                code: 128,
                text: "an argument or variable holds a zero byte".to_string(),
            })
        })
        .collect()
}
