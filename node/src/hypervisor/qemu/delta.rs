//! Delta disks: the writable layer of a container VM.
//!
//! ```text
//! <datastore>/blanks/ext4-<bytes>.qcow2      an empty file system, made once a size
//! <datastore>/blanks/delta-<bytes>.qcow2     an empty disk over it, made once a size
//! <datastore>/containers/<id>/delta.qcow2    a copy of that
//! ```
//! The copy is some 200 KiB, so making a delta runs no program. It names its backing file relative to
//! itself, so a datastore may be mounted anywhere.
//!
//! Promises: files appear whole or not at all, also on a datastore that other hosts use at the same
//! time; a delta that is there is never touched.
//! Does not: delete.

use super::program;
use crate::hypervisor::LaunchError;
use berth_model::Bytes;
use std::path::{Path, PathBuf};
use std::process::id as process_id;
use std::sync::atomic::{AtomicU64, Ordering};

/// Programs that make blanks.
#[derive(Clone, Debug)]
pub struct Makers {
    pub image_tool: PathBuf,
    pub format_tool: PathBuf,
}

/// Distinguishes temporary files of one process; those of others by process and boot.
static UNIQUE: AtomicU64 = AtomicU64::new(0);

/// Makes `delta` unless it is there.
pub async fn make(
    makers: &Makers,
    datastore: &Path,
    delta: &Path,
    size: Bytes,
) -> Result<(), LaunchError> {
    if is_there(delta)? {
        return Ok(());
    }
    let blanks = datastore.join("blanks");
    std::fs::create_dir_all(&blanks).map_err(LaunchError::io("make directory", &blanks))?;
    let template = blanks.join(format!("delta-{}.qcow2", size.0));
    if !is_there(&template)? {
        make_template(makers, &blanks, &template, size).await?;
    }
    let delta = delta.to_owned();
    // A copy reads and writes a disk: not on the thread of the actors.
    tokio::task::spawn_blocking(move || copy(&template, &delta)).await.unwrap_or_else(|error| {
        Err(LaunchError::ProgramFailed {
            program: "copy of the delta disk".to_owned(),
            last_words: error.to_string(),
        })
    })
}

async fn make_template(
    makers: &Makers,
    blanks: &Path,
    template: &Path,
    size: Bytes,
) -> Result<(), LaunchError> {
    let file_system = format!("ext4-{}.qcow2", size.0);
    let path = blanks.join(&file_system);
    if !is_there(&path)? {
        make_file_system(makers, &path, size).await?;
    }
    let making = Making::beside(template);
    // The backing file's name is kept as given and read relative to each delta. Its size and format
    // are given too, so that nobody has to open it from here, where that name leads nowhere.
    let backing = format!("../../blanks/{file_system}");
    let bytes = size.0.to_string();
    let words = ["create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", backing.as_str()];
    let mut words: Vec<&std::ffi::OsStr> = words.iter().map(std::ffi::OsStr::new).collect();
    words.push(making.path.as_os_str());
    words.push(std::ffi::OsStr::new(&bytes));
    program::output(&makers.image_tool, "qemu-utils", words)
        .await
        .map_err(|error| full(error, &making.path))?;
    making.done(template)
}

/// An empty file system as a disk of its own.
async fn make_file_system(makers: &Makers, path: &Path, size: Bytes) -> Result<(), LaunchError> {
    let raw = Making::beside(&path.with_extension("raw"));
    let file = std::fs::File::create(&raw.path).map_err(LaunchError::io("make", &raw.path))?;
    file.set_len(size.0).map_err(LaunchError::io("make", &raw.path))?;
    drop(file);
    // Tables are initialised now, else each guest's kernel would do it in the background. Nothing is
    // reserved for root, who is everybody in a container.
    let words = [
        "-q",
        "-F",
        "-m",
        "0",
        "-E",
        "lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0",
        "-L",
        "delta",
    ];
    let mut words: Vec<&std::ffi::OsStr> = words.iter().map(std::ffi::OsStr::new).collect();
    words.push(raw.path.as_os_str());
    program::output(&makers.format_tool, "e2fsprogs", words)
        .await
        .map_err(|error| full(error, &raw.path))?;

    let making = Making::beside(path);
    let mut words: Vec<&std::ffi::OsStr> =
        ["convert", "-q", "-f", "raw", "-O", "qcow2"].iter().map(std::ffi::OsStr::new).collect();
    words.push(raw.path.as_os_str());
    words.push(making.path.as_os_str());
    program::output(&makers.image_tool, "qemu-utils", words)
        .await
        .map_err(|error| full(error, &making.path))?;
    making.done(path)
}

/// A program tells of a full disk only in words.
fn full(error: LaunchError, path: &Path) -> LaunchError {
    if let LaunchError::ProgramFailed { last_words, .. } = &error
        && (last_words.contains("No space left") || last_words.contains("Disk quota"))
    {
        return LaunchError::DatastoreFull(path.to_owned());
    }
    error
}

fn copy(template: &Path, delta: &Path) -> Result<(), LaunchError> {
    let making = Making::beside(delta);
    std::fs::copy(template, &making.path).map_err(LaunchError::io("make", &making.path))?;
    making.done(delta)
}

/// An empty file is what a power loss may leave of one that was being made.
fn is_there(path: &Path) -> Result<bool, LaunchError> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len() > 0),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(LaunchError::io("look at", path)(error)),
    }
}

/// A file under a name that nobody else uses; removed unless it is done.
struct Making {
    path: PathBuf,
}

impl Making {
    fn beside(target: &Path) -> Making {
        let number = UNIQUE.fetch_add(1, Ordering::Relaxed);
        let boot = super::process::boot_id().unwrap_or_default();
        let boot = boot.get(..8).unwrap_or("no-boot");
        let name = target.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let name = format!(".{name}.{boot}.{}.{number}", process_id());
        Making { path: target.with_file_name(name) }
    }

    /// Gives it its name, once its bytes are on the disk.
    fn done(self, target: &Path) -> Result<(), LaunchError> {
        let file = std::fs::File::open(&self.path).map_err(LaunchError::io("open", &self.path))?;
        file.sync_data().map_err(LaunchError::io("write", &self.path))?;
        std::fs::rename(&self.path, target).map_err(LaunchError::io("name", target))
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        // Gone already where it got its name.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn makers() -> Makers {
        Makers { image_tool: "qemu-img".into(), format_tool: "mkfs.ext4".into() }
    }

    async fn check(root: &Path, container: &str) -> PathBuf {
        let directory = root.join("containers").join(container);
        std::fs::create_dir_all(&directory).unwrap();
        let delta = directory.join("delta.qcow2");
        make(&makers(), root, &delta, Bytes::mib(256)).await.unwrap();
        delta
    }

    #[tokio::test]
    async fn a_delta_is_a_small_disk_over_an_empty_file_system() {
        let root = tempfile::tempdir().unwrap();
        let delta = check(root.path(), "a").await;
        assert!(std::fs::metadata(&delta).unwrap().len() < 1 << 20);
        let info = program::output(
            Path::new("qemu-img"),
            "qemu-utils",
            [
                "info".as_ref(),
                "--output=json".as_ref(),
                "--backing-chain".as_ref(),
                delta.as_os_str(),
            ],
        );
        let info: serde_json::Value = serde_json::from_slice(&info.await.unwrap()).unwrap();
        assert_eq!(info[0]["virtual-size"], 256 << 20);
        assert_eq!(info[1]["backing-filename"], serde_json::Value::Null);

        let beside: Vec<_> = std::fs::read_dir(root.path().join("blanks")).unwrap().collect();
        assert_eq!(beside.len(), 2, "nothing half made is left: {beside:?}");
    }

    #[tokio::test]
    async fn a_delta_that_is_there_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let delta = check(root.path(), "a").await;
        std::fs::write(&delta, b"written by a guest").unwrap();
        check(root.path(), "a").await;
        assert_eq!(std::fs::read(&delta).unwrap(), b"written by a guest");
    }

    #[tokio::test]
    async fn many_at_once_agree_on_one_blank() {
        let root = tempfile::tempdir().unwrap();
        let (a, b, c) =
            tokio::join!(check(root.path(), "a"), check(root.path(), "b"), check(root.path(), "c"));
        for delta in [a, b, c] {
            assert!(delta.exists());
        }
    }

    #[test]
    fn a_full_disk_is_called_one() {
        let error = LaunchError::ProgramFailed {
            program: "qemu-img".to_owned(),
            last_words: "error writing: No space left on device".to_owned(),
        };
        let text = full(error, Path::new("/d/blanks/x")).to_string();
        assert!(text.starts_with("datastore is full: no space left for /d/blanks/x"), "{text}");
    }
}
