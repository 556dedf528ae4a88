//! Control groups of hypervisors: one each, all inside one group of this host's own.
//!
//! ```text
//! <parent>/berth-<host name>-<id>/                        cgroup_parent of the configuration
//!     berth-<container>-<epoch>/                          one hypervisor process
//! ```
//! Whenever one comes or goes, what each is entitled to of the host's memory is reckoned anew and
//! written where it changed.
//!
//! Promises: [`Groups::open`] has really made a group, put a process into it and removed it again; a
//! group is removed when its process has ended; what a killed node left empty is removed by the next
//! one. Does not: limit anything, only weigh and protect. Blocks on the kernel, for moments.

use super::entitlement::{Claim, entitlements};
use super::hierarchy::{Hierarchy, Value};
use berth_model::{Bytes, HostId};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

/// Names of groups that are ours begin so.
const OURS: [&str; 2] = ["berth-", "probe-"];
const CONTROLLERS: [&str; 2] = ["cpu", "memory"];

/// Why there are no control groups for container VMs.
#[derive(Debug, thiserror::Error)]
pub enum GroupsError {
    #[error("no control groups with the controllers cpu and memory are mounted")]
    NoHierarchy,
    #[error("cannot {what} {}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("a process that was put into {} is not there", .0.display())]
    NotJoined(PathBuf),
}

/// Where the groups are to be, and what is dealt out among them.
#[derive(Clone, Debug)]
pub struct GroupsOptions {
    /// Absolute, within the trees of control groups.
    pub parent: PathBuf,
    pub host_name: String,
    pub host: HostId,
    /// What container VMs may use of the host.
    pub memory: Bytes,
}

#[derive(Debug)]
pub struct Groups {
    hierarchy: Hierarchy,
    /// The host's own group.
    base: PathBuf,
    memory: Bytes,
    members: Mutex<Members>,
}

#[derive(Debug, Default)]
struct Members {
    claims: BTreeMap<String, Claim>,
    /// What stands in files, as far as we wrote it.
    written: BTreeMap<PathBuf, String>,
}

/// The group of one hypervisor process.
#[derive(Debug)]
pub struct Group {
    name: String,
    pub directories: Vec<PathBuf>,
    /// `None` if it was made where this node makes none any more.
    within: Option<Arc<Groups>>,
}

impl Groups {
    /// Finds out whether groups can be made here, and removes those that are left over.
    pub fn open(options: &GroupsOptions) -> Result<Groups, GroupsError> {
        let mountinfo = Path::new("/proc/self/mountinfo");
        let mounts = fs::read_to_string(mountinfo).map_err(failed("read", mountinfo))?;
        let hierarchy = Hierarchy::find(&mounts).ok_or(GroupsError::NoHierarchy)?;
        // Two cells on one machine may have hosts of one name.
        let id: String = options.host.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let name = format!("berth-{}-{id}", options.host_name);
        let base = options.parent.join(name);
        let members = Mutex::default();
        let groups = Groups { hierarchy, base, memory: options.memory, members };
        if let Err(error) = groups.make_base().and_then(|()| groups.probe()) {
            groups.close();
            return Err(error);
        }
        let removed = groups.sweep();
        tracing::info!(group = %groups.base.display(), removed, "container VMs get control groups");
        Ok(groups)
    }

    /// Makes the group of the hypervisor called `name`, ready for its process.
    pub fn make(self: &Arc<Self>, name: &str, claim: Claim) -> Result<Group, GroupsError> {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let group = self.base.join(name);
        // Someone may have tidied up behind our back.
        self.make_base()?;
        let directories = self.make_directories(&group)?;
        let made = Group { name: name.to_owned(), directories, within: Some(self.clone()) };
        let written =
            (self.hierarchy.member(&group, &claim, claim.size).iter()).try_for_each(write);
        if let Err(error) = written {
            remove_all(&made.directories);
            return Err(error);
        }
        members.claims.insert(name.to_owned(), claim);
        self.deal(&mut members);
        Ok(made)
    }

    /// Takes over the group that an earlier node made.
    pub fn resume(self: &Arc<Self>, name: &str, claim: Claim, directories: Vec<PathBuf>) -> Group {
        let ours = self.directories(name) == directories;
        if ours {
            let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
            members.claims.insert(name.to_owned(), claim);
            self.deal(&mut members);
        }
        Group { name: name.to_owned(), directories, within: ours.then(|| self.clone()) }
    }

    /// Of the group of the hypervisor called `name`, whether it is there or not.
    pub fn directories(&self, name: &str) -> Vec<PathBuf> {
        self.hierarchy.directories(&self.base.join(name))
    }

    /// Removes the host's own group if nothing runs in it; for a node that ends.
    pub fn close(&self) {
        for directory in self.hierarchy.directories(&self.base) {
            // The kernel refuses while one of ours is inside, and then the next node goes on with it.
            let _ = fs::remove_dir(directory);
        }
    }

    fn make_base(&self) -> Result<(), GroupsError> {
        for directory in self.hierarchy.directories(&self.base) {
            fs::create_dir_all(&directory).map_err(failed("make", &directory))?;
        }
        for file in self.hierarchy.switches(&self.base) {
            let on = fs::read_to_string(&file).map_err(failed("read", &file))?;
            let missing: Vec<String> = CONTROLLERS
                .iter()
                .filter(|name| !on.split_whitespace().any(|word| word == **name))
                .map(|name| format!("+{name}"))
                .collect();
            if !missing.is_empty() {
                write(&(file, missing.join(" ")))?;
            }
        }
        Ok(())
    }

    fn make_directories(&self, group: &Path) -> Result<Vec<PathBuf>, GroupsError> {
        let directories = self.hierarchy.directories(group);
        for directory in &directories {
            let made = match fs::create_dir(directory) {
                // Left by a start that a killed node did not finish.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                made => made,
            };
            if let Err(source) = made {
                remove_all(&directories);
                return Err(failed("make", directory)(source));
            }
        }
        Ok(directories)
    }

    /// Makes a group, puts a process into it, and removes both.
    fn probe(&self) -> Result<(), GroupsError> {
        let name = format!("probe-{}", crate::randomness::word());
        let group = self.base.join(&name);
        let directories = self.make_directories(&group)?;
        let tried = self.try_out(&group, &name, &directories);
        remove_all(&directories);
        tried
    }

    fn try_out(&self, group: &Path, name: &str, made: &[PathBuf]) -> Result<(), GroupsError> {
        let size = Bytes::mib(64);
        let claim = Claim { size, reservation: size, cpu_weight: 200, memory_weight: 200 };
        self.hierarchy.member(group, &claim, size).iter().try_for_each(write)?;
        // It lives until its input ends, which is ours to end.
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed("run", Path::new("cat")))?;
        let joined = made.iter().try_for_each(|directory| {
            write(&(directory.join("cgroup.procs"), child.id().to_string()))
        });
        let shown = PathBuf::from(format!("/proc/{}/cgroup", child.id()));
        let seen = fs::read_to_string(&shown).map_err(failed("read", &shown));
        drop(child.stdin.take());
        child.wait().map_err(failed("wait for", Path::new("cat")))?;
        joined?;
        if seen?.matches(name).count() < made.len() {
            return Err(GroupsError::NotJoined(group.to_owned()));
        }
        Ok(())
    }

    /// Removes groups whose process is gone; one that is in use cannot be removed.
    fn sweep(&self) -> usize {
        let mut removed = 0;
        for directory in self.hierarchy.directories(&self.base) {
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let ours = OURS.iter().any(|start| name.to_string_lossy().starts_with(start));
                if ours && fs::remove_dir(entry.path()).is_ok() {
                    removed += 1;
                }
            }
        }
        removed
    }

    /// Writes down what each is entitled to, where that changed.
    fn deal(&self, members: &mut Members) {
        let claims: Vec<Claim> = members.claims.values().copied().collect();
        let shares = entitlements(self.memory, &claims);
        let mut values = self.hierarchy.around(&self.base, &claims, &shares);
        for (name, (claim, share)) in members.claims.keys().zip(claims.iter().zip(&shares)) {
            values.extend(self.hierarchy.member(&self.base.join(name), claim, *share));
        }
        let mut written = BTreeMap::new();
        for value in values {
            if members.written.get(&value.0) != Some(&value.1)
                && let Err(error) = write(&value)
            {
                let error = crate::causes::with_causes(&error);
                tracing::warn!(error, "container VMs are weighed by what was written before");
                continue;
            }
            written.insert(value.0, value.1);
        }
        members.written = written;
    }
}

impl Group {
    /// One that this node would not make now.
    pub fn of_another_node(name: &str, directories: Vec<PathBuf>) -> Group {
        Group { name: name.to_owned(), directories, within: None }
    }

    /// What a process writes `0` to, to be in the group.
    pub fn doors(&self) -> Result<Vec<File>, GroupsError> {
        let open = |directory: &PathBuf| {
            let path = directory.join("cgroup.procs");
            File::options().write(true).open(&path).map_err(failed("open", &path))
        };
        self.directories.iter().map(open).collect()
    }

    /// Removes it once its process is gone.
    pub fn remove(self) {
        match &self.within {
            None => remove_all(&self.directories),
            Some(groups) => {
                let mut members = groups.members.lock().unwrap_or_else(PoisonError::into_inner);
                remove_all(&self.directories);
                members.claims.remove(&self.name);
                groups.deal(&mut members);
            }
        }
    }
}

/// Removes what an earlier node made for a process that is gone.
pub fn remove_all(directories: &[PathBuf]) {
    for directory in directories {
        match fs::remove_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                // The next node of this host tries again.
                tracing::warn!(group = %directory.display(), %error, "cannot remove control group");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

fn write((path, text): &Value) -> Result<(), GroupsError> {
    // Never created: a file that the kernel does not show is one that it does not know.
    let opened = File::options().write(true).open(path);
    opened.and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed("write", path))
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> GroupsError + use<> {
    let path = path.to_owned();
    move |source| GroupsError::Io { what, path, source }
}
