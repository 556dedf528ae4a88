//! A checked image into a base disk on a datastore: one squashfs beside the config, there whole or
//! not.
//!
//! Promises: what stands under an image's id is complete and on the disk; whoever else makes the
//! same image at the same time, on this host or another, one of them wins and both see a whole one;
//! a failure leaves nothing behind, a crash only a directory in the spool, which [`sweep`] takes
//! away.

use crate::datastore::{Datastore, sync_directory, write_durably};
use crate::images::config::Described;
use crate::images::flatten::Flattened;
use crate::images::{LoadError, Watcher};
use berth_model::{HostId, ImageId};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const RECORD: &str = "image.json";
const CONFIG: &str = "config.json";
const BASE: &str = "base.squashfs";
/// Version of [`Record`].
const FORMAT: u16 = 1;
/// What `sqfstar` may hold in memory, in MiB; its own default is a quarter of the host.
const MEMORY: &str = "256M";

/// Kept beside the base disk.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    format: u16,
    pub id: ImageId,
    /// Uncompressed bytes of all layers.
    pub size: u64,
}

/// What is known of an image whose base disk is on the datastore already.
pub fn find(datastore: &Datastore, image: ImageId) -> Option<Record> {
    let directory = datastore.image(image);
    let record: Record = serde_json::from_slice(&fs::read(directory.join(RECORD)).ok()?).ok()?;
    let whole = record.format == FORMAT && record.id == image && directory.join(BASE).is_file();
    whole.then_some(record)
}

/// Makes the base disk and puts it in place.
pub fn make(
    sqfstar: &Path,
    host: HostId,
    datastore: &Datastore,
    described: &Described,
    flattened: &Flattened,
    watcher: &Watcher,
) -> Result<(), LoadError> {
    let trouble = |error: io::Error| super::spool::trouble(&datastore.name, error);
    let draft = Draft::create(datastore, host).map_err(trouble)?;
    squash(sqfstar, datastore, &draft.path, flattened, watcher)?;
    let record = Record { format: FORMAT, id: described.id, size: flattened.size };
    let record = serde_json::to_vec_pretty(&record).unwrap_or_default();
    write_durably(&draft.path.join(CONFIG), described.document.as_bytes())
        .and_then(|()| write_durably(&draft.path.join(RECORD), &record))
        .and_then(|()| File::open(draft.path.join(BASE))?.sync_all())
        .and_then(|()| sync_directory(&draft.path))
        .map_err(trouble)?;
    publish(&draft.path, datastore, described.id).map_err(trouble)
}

/// Deletes what a node of this host left in the spool when it was killed.
pub fn sweep(datastore: &Datastore, host: HostId) -> io::Result<usize> {
    let mut swept = 0;
    for entry in fs::read_dir(datastore.spool())? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&draft_prefix(host)) {
            fs::remove_dir_all(entry.path())?;
            swept += 1;
        }
    }
    Ok(swept)
}

fn draft_prefix(host: HostId) -> String {
    format!("base-{host}-")
}

/// A directory that vanishes unless it was moved away.
struct Draft {
    path: PathBuf,
}

impl Draft {
    fn create(datastore: &Datastore, host: HostId) -> io::Result<Draft> {
        let name = format!("{}{}", draft_prefix(host), crate::randomness::word());
        let path = datastore.spool().join(name);
        fs::create_dir(&path)?;
        Ok(Draft { path })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path.display(), %error, "draft was left behind");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

fn publish(draft: &Path, datastore: &Datastore, image: ImageId) -> io::Result<()> {
    let place = datastore.image(image);
    let parent = place.parent().unwrap_or(&datastore.path);
    fs::create_dir_all(parent)?;
    let renamed = match fs::rename(draft, &place) {
        Err(error) if find(datastore, image).is_none() && is_occupied(&error) => {
            // Something incomplete stands there, from a time or tool that did not move whole ones.
            let aside = datastore.trash().join(crate::randomness::word());
            fs::rename(&place, &aside)?;
            let renamed = fs::rename(draft, &place);
            fs::remove_dir_all(&aside)?;
            renamed
        }
        renamed => renamed,
    };
    match renamed {
        // Another host was faster; its base disk has the same content.
        Err(error) if is_occupied(&error) && find(datastore, image).is_some() => {}
        renamed => renamed?,
    }
    sync_directory(parent)?;
    sync_directory(&datastore.path.join("images"))
}

fn is_occupied(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists)
}

/// Ends with its child, whichever way.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Both fail only if it has been waited for, and then there is nothing to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn squash(
    sqfstar: &Path,
    datastore: &Datastore,
    draft: &Path,
    flattened: &Flattened,
    watcher: &Watcher,
) -> Result<(), LoadError> {
    let trouble = |error: io::Error| super::spool::trouble(&datastore.name, error);
    // In memory: on a full datastore its last words could not be written either.
    let mut words: File = rustix::fs::memfd_create("sqfstar", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(|error| trouble(error.into()))?
        .into();
    let log = words.try_clone().map_err(trouble)?;
    let root = flattened.tree.root();
    let spawned = Command::new(sqfstar)
        .args(["-comp", "lz4", "-no-progress", "-quiet", "-exit-on-error", "-mkfs-time", "0"])
        .args(["-mem", MEMORY])
        .args(["-root-mode", &format!("{:o}", root.mode)])
        .args(["-root-uid", &root.uid.to_string(), "-root-gid", &root.gid.to_string()])
        .args(["-root-time", &u32::try_from(root.mtime).unwrap_or(u32::MAX).to_string()])
        .arg(draft.join(BASE))
        .stdin(Stdio::piped())
        .stdout(log.try_clone().map_err(trouble)?)
        .stderr(log)
        .spawn();
    let mut child = match spawned {
        Ok(child) => Killed(child),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(LoadError::ProgramMissing(sqfstar.to_owned()));
        }
        Err(error) => return Err(LoadError::Io { what: "start sqfstar".into(), source: error }),
    };
    let input = child.0.stdin.take().expect("stdin was asked for as a pipe");
    let written = flattened.write(BufWriter::with_capacity(1 << 20, input), watcher);
    match written {
        // The pipe breaks when the program gives up, and then its own words say why.
        Ok(()) | Err(LoadError::Io { .. }) => {}
        Err(error) => return Err(error),
    }
    let waiting = |error| LoadError::Io { what: "wait for sqfstar".into(), source: error };
    let status = child.0.wait().map_err(waiting)?;
    let mut said = Vec::new();
    words.rewind().and_then(|()| words.read_to_end(&mut said)).map_err(trouble)?;
    let said = String::from_utf8_lossy(&said[said.len().saturating_sub(2000)..]).into_owned();
    if status.success() && written.is_ok() {
        return Ok(());
    }
    if said.contains("No space left on device") || said.contains("Disk quota exceeded") {
        return Err(LoadError::DatastoreFull { datastore: datastore.name.clone() });
    }
    // A broken pipe only says that the program gave up; any other trouble is the cause itself.
    if let Err(error) = written
        && (status.success() || !broken_pipe(&error))
    {
        return Err(error);
    }
    Err(LoadError::ProgramFailed { status: status.to_string(), said: said.trim().to_owned() })
}

fn broken_pipe(error: &LoadError) -> bool {
    matches!(error, LoadError::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
}
