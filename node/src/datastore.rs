//! Directories that hold images and container VMs, and which of them this host reaches.
//!
//! ```text
//! <datastore>/berth-datastore.json    which datastore this is, the same to every host
//! <datastore>/images/<config digest>/<format>/…    <datastore>/containers/<id>/…
//! <datastore>/leases/<host>    <datastore>/spool, trash    what is being made or deleted
//! ```
//!
//! Promises: a datastore's marker is made whole or not at all, once, whoever comes first; a
//! directory that is missing, read-only or another datastore than before is said so by name and
//! tried again. Does not: mount anything.

use crate::options::Settings;
use berth_model::host::DatastoreFacts;
use berth_model::{Bytes, ContainerId, DatastoreId, HostId, ImageId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

pub const MARKER: &str = "berth-datastore.json";
/// Version of the marker and of the layout that it stands for.
const FORMAT: u16 = 1;
/// How base disks are made; another way gets another name beside it.
pub const BASE_FORMAT: &str = "squashfs-lz4-1";
const DIRECTORIES: [&str; 5] = ["images", "containers", "leases", "spool", "trash"];

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatastoreOptions {
    /// Unique in the cell; the same on every host that reaches it.
    pub name: String,
    pub path: PathBuf,
    /// What kind of storage it is, in the operator's words; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub class: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// One that was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datastore {
    pub id: DatastoreId,
    pub name: String,
    pub path: PathBuf,
    pub class: String,
    pub labels: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Marker {
    format: u16,
    id: DatastoreId,
    name: String,
}

/// Why a directory does not serve as a datastore.
#[derive(Debug, thiserror::Error)]
pub enum DatastoreError {
    #[error(
        "datastore `{name}`: {} is not there; make the directory, or mount it first",
        path.display()
    )]
    Missing { name: String, path: PathBuf },
    #[error("datastore `{name}`: {} is not a directory", path.display())]
    NotADirectory { name: String, path: PathBuf },
    #[error(
        "datastore `{name}`: {} cannot be written; mount it read-write or give berth the right",
        path.display()
    )]
    ReadOnly {
        name: String,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("datastore `{name}`: no space left in {}; free some", path.display())]
    Full { name: String, path: PathBuf },
    #[error(
        "datastore `{name}`: {} is marked as `{found}`; correct the name or the path",
        path.display()
    )]
    OtherName { name: String, path: PathBuf, found: String },
    #[error(
        "datastore `{name}`: marker in {} has format {found}, this build knows {FORMAT}; \
         run a newer release",
        path.display()
    )]
    UnknownFormat { name: String, path: PathBuf, found: u16 },
    #[error("datastore `{name}`: marker in {} is damaged: {reason}", path.display())]
    Damaged { name: String, path: PathBuf, reason: String },
    #[error(
        "datastore `{name}`: {} and {} are the same datastore",
        path.display(),
        other.display()
    )]
    Same { name: String, path: PathBuf, other: PathBuf },
    #[error("datastore `{name}`: cannot {what} {}", path.display())]
    Io {
        name: String,
        path: PathBuf,
        what: &'static str,
        #[source]
        source: io::Error,
    },
}

impl Datastore {
    /// Marks the directory as a datastore unless it is one, and makes what belongs in it.
    pub fn register(options: &DatastoreOptions) -> Result<Datastore, DatastoreError> {
        let (name, path) = (options.name.clone(), options.path.clone());
        match fs::metadata(&path) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(DatastoreError::NotADirectory { name, path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(DatastoreError::Missing { name, path });
            }
            Err(source) => {
                return Err(DatastoreError::Io { name, path, what: "look at", source });
            }
        }
        let marker = match read_marker(options)? {
            Some(marker) => marker,
            None => make_marker(options)?,
        };
        if marker.name != name {
            return Err(DatastoreError::OtherName { name, path, found: marker.name });
        }
        let (class, labels) = (options.class.clone(), options.labels.clone());
        let datastore = Datastore { id: marker.id, name, path, class, labels };
        for directory in DIRECTORIES {
            let made = fs::create_dir_all(datastore.path.join(directory));
            made.map_err(|source| trouble(options, "make directories in", source))?;
        }
        Ok(datastore)
    }

    /// Writes to it for a moment, and measures its space.
    pub fn probe(&self) -> Result<DatastoreFacts, DatastoreError> {
        let options = DatastoreOptions {
            name: self.name.clone(),
            path: self.path.clone(),
            class: self.class.clone(),
            labels: self.labels.clone(),
        };
        match read_marker(&options)? {
            Some(marker) if marker.id == self.id => {}
            Some(marker) => {
                let (name, path) = (options.name, options.path);
                return Err(DatastoreError::OtherName { name, path, found: marker.id.to_string() });
            }
            // What is there without the marker is the bare mount point.
            None => {
                return Err(DatastoreError::Missing { name: options.name, path: options.path });
            }
        }
        let probe = self.spool().join(format!("probe-{}", crate::randomness::word()));
        let written = fs::File::create(&probe).and_then(|mut file| {
            file.write_all(b"berth")?;
            file.sync_data()
        });
        let removed = fs::remove_file(&probe);
        let full = match written.and(removed) {
            Ok(()) => false,
            // A full one still serves what is on it; placement reads its free space.
            Err(error) if is_full(&error) => true,
            Err(source) => return Err(trouble(&options, "write to", source)),
        };
        let space = rustix::fs::statvfs(&self.path)
            .map_err(|error| trouble(&options, "measure", error.into()))?;
        let block = space.f_frsize;
        let free = if full { 0 } else { space.f_bavail.saturating_mul(block) };
        Ok(DatastoreFacts {
            name: self.name.clone(),
            capacity: Bytes(space.f_blocks.saturating_mul(block)),
            free: Bytes(free >> 30 << 30),
            class: self.class.clone(),
            labels: self.labels.clone(),
        })
    }

    /// Where everything of one container VM lies.
    pub fn container(&self, id: ContainerId) -> PathBuf {
        self.path.join("containers").join(id.to_string())
    }

    /// Where one image's base disk and config lie.
    pub fn image(&self, id: ImageId) -> PathBuf {
        self.path.join("images").join(id.to_string()).join(BASE_FORMAT)
    }

    pub fn base(&self, id: ImageId) -> PathBuf {
        self.image(id).join("base.squashfs")
    }

    /// For files that are being made; what is found here at start-up is left over.
    pub fn spool(&self) -> PathBuf {
        self.path.join("spool")
    }

    /// For directories that are being deleted.
    pub fn trash(&self) -> PathBuf {
        self.path.join("trash")
    }

    pub fn lease(&self, host: HostId) -> PathBuf {
        self.path.join("leases").join(host.to_string())
    }
}

/// Every datastore that the host reaches now.
pub type Reached = BTreeMap<DatastoreId, Arc<Datastore>>;

/// What readers hold: always the newest, never waited for.
pub type ReachedReader = watch::Receiver<Arc<Reached>>;

/// Registers and probes the configured datastores again and again; the only one to say what is
/// reached.
pub struct Registrar {
    configured: Vec<DatastoreOptions>,
    registered: BTreeMap<String, Arc<Datastore>>,
    /// Names whose trouble is already logged.
    troubled: BTreeMap<String, String>,
    publisher: watch::Sender<Arc<Reached>>,
}

/// Outcome of one look at every datastore.
pub struct Survey {
    pub facts: BTreeMap<DatastoreId, DatastoreFacts>,
    /// Each configured name, with capacity and free in bytes if it was reached.
    pub space: Vec<(String, Option<(u64, u64)>)>,
}

impl Registrar {
    pub fn new(settings: &Settings) -> (Registrar, ReachedReader) {
        let (publisher, reader) = watch::channel(Arc::default());
        let registrar = Registrar {
            configured: settings.datastores.clone(),
            registered: BTreeMap::new(),
            troubled: BTreeMap::new(),
            publisher,
        };
        (registrar, reader)
    }

    /// Blocks for as long as the slowest datastore does.
    pub fn survey(&mut self) -> Survey {
        let mut survey = Survey { facts: BTreeMap::new(), space: Vec::new() };
        let mut reached = Reached::new();
        for options in self.configured.clone() {
            let looked = self.look(&options, &reached);
            let space = looked.as_ref().ok().map(|(_, facts)| (facts.capacity.0, facts.free.0));
            survey.space.push((options.name.clone(), space));
            match looked {
                Ok((datastore, facts)) => {
                    if self.troubled.remove(&options.name).is_some() {
                        tracing::info!(datastore = options.name, "datastore is reached again");
                    }
                    survey.facts.insert(datastore.id, facts);
                    reached.insert(datastore.id, datastore);
                }
                Err(error) => self.complain(&options.name, &error),
            }
        }
        self.publisher.send_if_modified(|held| {
            let differs = **held != reached;
            if differs {
                *held = Arc::new(reached);
            }
            differs
        });
        survey
    }

    fn look(
        &mut self,
        options: &DatastoreOptions,
        reached: &Reached,
    ) -> Result<(Arc<Datastore>, DatastoreFacts), DatastoreError> {
        let datastore = match self.registered.get(&options.name) {
            Some(datastore) => datastore.clone(),
            None => Arc::new(Datastore::register(options)?),
        };
        if let Some(other) = reached.get(&datastore.id) {
            return Err(DatastoreError::Same {
                name: options.name.clone(),
                path: options.path.clone(),
                other: other.path.clone(),
            });
        }
        let facts = datastore.probe()?;
        self.registered.insert(options.name.clone(), datastore.clone());
        Ok((datastore, facts))
    }

    /// Once for each new trouble, not every ten seconds.
    fn complain(&mut self, name: &str, error: &DatastoreError) {
        let text = error.to_string();
        if self.troubled.get(name) != Some(&text) {
            tracing::error!(datastore = name, error = text, "datastore is not reached");
            self.troubled.insert(name.to_owned(), text);
        }
    }
}

pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn trouble(options: &DatastoreOptions, what: &'static str, source: io::Error) -> DatastoreError {
    let (name, path) = (options.name.clone(), options.path.clone());
    if is_full(&source) {
        DatastoreError::Full { name, path }
    } else if matches!(
        source.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    ) {
        DatastoreError::ReadOnly { name, path, source }
    } else {
        DatastoreError::Io { name, path, what, source }
    }
}

fn read_marker(options: &DatastoreOptions) -> Result<Option<Marker>, DatastoreError> {
    let bytes = match fs::read(options.path.join(MARKER)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(trouble(options, "read the marker of", source)),
    };
    let (name, path) = (options.name.clone(), options.path.clone());
    let marker: Marker = match serde_json::from_slice(&bytes) {
        Ok(marker) => marker,
        Err(error) => {
            return Err(DatastoreError::Damaged { name, path, reason: error.to_string() });
        }
    };
    if marker.format != FORMAT {
        return Err(DatastoreError::UnknownFormat { name, path, found: marker.format });
    }
    Ok(Some(marker))
}

/// Linking a whole file into place is atomic and fails if another host was faster, on NFS too.
fn make_marker(options: &DatastoreOptions) -> Result<Marker, DatastoreError> {
    let ours = Marker {
        format: FORMAT,
        id: DatastoreId::random(&mut rand::rng()),
        name: options.name.clone(),
    };
    let draft = options.path.join(format!(".{MARKER}.{}", crate::randomness::word()));
    let made = write_durably(&draft, &serde_json::to_vec_pretty(&ours).unwrap_or_default())
        .and_then(|()| fs::hard_link(&draft, options.path.join(MARKER)));
    let removed = fs::remove_file(&draft);
    match made {
        Ok(()) => {
            removed
                .and_then(|()| sync_directory(&options.path))
                .map_err(|source| trouble(options, "write the marker of", source))?;
            Ok(ours)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            read_marker(options)?.ok_or_else(|| trouble(options, "read the marker of", error))
        }
        Err(source) => Err(trouble(options, "write the marker of", source)),
    }
}

/// Writes a file and waits until it is on the disk.
pub(crate) fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Waits until the names in a directory are on the disk.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(path: &Path) -> DatastoreOptions {
        let labels = BTreeMap::from([("tier".to_owned(), "fast".to_owned())]);
        DatastoreOptions {
            name: "local-1".into(),
            path: path.to_owned(),
            class: "ssd".into(),
            labels,
        }
    }

    #[test]
    fn a_directory_is_marked_once_and_is_the_same_datastore_ever_after() {
        let directory = tempfile::tempdir().unwrap();
        let first = Datastore::register(&options(directory.path())).unwrap();
        let second = Datastore::register(&options(directory.path())).unwrap();
        assert_eq!(first, second);
        let facts = first.probe().unwrap();
        assert!(facts.capacity.0 > 0);
        assert_eq!((facts.class.as_str(), facts.labels["tier"].as_str()), ("ssd", "fast"));
        let left: Vec<_> = fs::read_dir(first.spool()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn hosts_that_come_at_once_agree_on_one_id() {
        let directory = tempfile::tempdir().unwrap();
        let ids: Vec<_> = std::thread::scope(|scope| {
            let register = || Datastore::register(&options(directory.path())).unwrap().id;
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(register)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }

    #[test]
    fn what_is_no_datastore_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let missing = Datastore::register(&options(&directory.path().join("gone"))).unwrap_err();
        assert!(matches!(missing, DatastoreError::Missing { .. }), "{missing}");
        fs::write(directory.path().join("file"), b"").unwrap();
        let file = Datastore::register(&options(&directory.path().join("file"))).unwrap_err();
        assert!(matches!(file, DatastoreError::NotADirectory { .. }), "{file}");
        Datastore::register(&options(directory.path())).unwrap();
        let renamed = DatastoreOptions { name: "other".into(), ..options(directory.path()) };
        let other = Datastore::register(&renamed).unwrap_err();
        assert!(matches!(other, DatastoreError::OtherName { .. }), "{other}");
        fs::write(directory.path().join(MARKER), b"{\"format\":9,\"id\":\"datastore-").unwrap();
        let damaged = Datastore::register(&options(directory.path())).unwrap_err();
        assert!(matches!(damaged, DatastoreError::Damaged { .. }), "{damaged}");
    }

    #[test]
    fn a_read_only_directory_is_said_to_be_so() {
        // /proc takes no files from anybody, root included.
        let refused = trouble(
            &options(Path::new("/proc")),
            "write to",
            io::Error::from(io::ErrorKind::ReadOnlyFilesystem),
        );
        assert!(matches!(refused, DatastoreError::ReadOnly { .. }), "{refused}");
        assert!(Datastore::register(&options(Path::new("/proc"))).is_err());
    }

    #[test]
    fn an_unmounted_datastore_is_missed_and_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mount");
        fs::create_dir(&path).unwrap();
        let (publisher, reader) = watch::channel(Arc::default());
        let mut registrar = Registrar {
            configured: vec![options(&path)],
            registered: BTreeMap::new(),
            troubled: BTreeMap::new(),
            publisher,
        };
        assert_eq!(registrar.survey().facts.len(), 1);
        assert_eq!(reader.borrow().len(), 1);
        let aside = directory.path().join("aside");
        fs::rename(&path, &aside).unwrap();
        fs::create_dir(&path).unwrap();
        let survey = registrar.survey();
        assert!(survey.facts.is_empty());
        assert_eq!(survey.space, [("local-1".to_owned(), None)]);
        assert!(reader.borrow().is_empty());
        fs::remove_dir(&path).unwrap();
        fs::rename(&aside, &path).unwrap();
        assert_eq!(registrar.survey().facts.len(), 1);
        assert_eq!(reader.borrow().len(), 1);
    }
}
