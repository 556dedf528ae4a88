//! Archives in, base disks out.
//!
//! ```text
//!  pieces ─► spool ─► archive: manifests ─► config ─► flatten: check layers ─► tree
//!            (file     docker or OCI        (id)            │
//!            without                                        └─ winners as one tar
//!            a name)             images/<id>/<format>/ ◄─ base_disk: sqfstar ◄─┘
//! ```
//!
//! Promises: an image is on a datastore whole and checked, or not at all; the same image twice is
//! made once; two loads of one image do not work beside each other; a client that leaves stops the
//! work. Everything that blocks runs off the actors' threads. Does not: record images in the fleet;
//! whoever asked for the load does.

mod archive;
mod base_disk;
mod config;
mod flatten;
mod spool;
mod tar_out;
mod tar_stream;
mod tree;

pub use base_disk::sweep;

use crate::datastore::Datastore;
use archive::{Archive, Candidate};
use berth_metrics::node::NodeMetrics;
use berth_model::stream::LoadedImage;
use berth_model::{Bytes, DatastoreId, HostId, ImageId};
use spool::SpoolWriter;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};

/// Why an archive, or an image in it, was refused. The text goes to the client, causes included.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the archive is no image archive")]
    Archive(#[source] tar_stream::TarError),
    #[error("the archive holds neither manifest.json nor index.json; make it with `docker save`")]
    NoManifest,
    #[error("the archive holds no image for linux/amd64")]
    NoImage,
    #[error("the archive is broken: `{0}` is named in it but missing")]
    Missing(String),
    #[error("the archive is broken: `{what}` {reason}")]
    Document { what: String, reason: String },
    #[error("the archive is broken: `{what}` does not have the digest {expected}")]
    Digest { what: String, expected: String },
    #[error("the archive is broken: image {image} has {described} layers, but {found} are there")]
    LayerCount { image: String, described: usize, found: usize },
    #[error("layer `{layer}` is broken")]
    Layer { layer: String, source: tar_stream::TarError },
    #[error("layer `{layer}` is refused")]
    Tree { layer: String, source: tree::TreeError },
    #[error("`{0}` is no valid image reference")]
    Reference(String),
    #[error("image {image} is for {platform}, but container VMs run linux/amd64")]
    Platform { image: String, platform: String },
    #[error("{what} is compressed with {compression}; only gzip is read")]
    Compression { what: &'static str, compression: &'static str },
    #[error("{what} is damaged: it ends early or its gzip data is wrong")]
    Gzip {
        what: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "the archive is larger than the node's limit of {} (`limits.archive_mib`)",
        Bytes(*limit)
    )]
    TooLarge { limit: u64 },
    #[error("no space left on datastore `{datastore}`; free some, or load to another")]
    DatastoreFull { datastore: String },
    #[error("`{}` is not installed on the node; install the package squashfs-tools", .0.display())]
    ProgramMissing(PathBuf),
    #[error("the base disk could not be made: sqfstar ended with {status}: {said}")]
    ProgramFailed { status: String, said: String },
    #[error("the load was cancelled")]
    Cancelled,
    #[error("cannot {what}")]
    Io { what: String, source: io::Error },
}

/// How a load goes on: `layer` is the short digest of a layer or `base disk`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub layer: String,
    pub current: Bytes,
    pub total: Bytes,
}

/// What became of an archive: the images before a failure stand.
#[derive(Debug)]
pub struct Outcome {
    pub loaded: Vec<LoadedImage>,
    pub failure: Option<LoadError>,
}

/// Turns archives into base disks. Clones share their bounds.
#[derive(Clone)]
pub struct Loader {
    inner: Arc<Inner>,
}

struct Inner {
    host: HostId,
    sqfstar: PathBuf,
    /// Bytes of one archive.
    limit: u64,
    slots: Arc<Semaphore>,
    in_work: InWork,
    metrics: NodeMetrics,
}

/// Images that are being made, so that a second load of one waits for the first.
#[derive(Default)]
struct InWork {
    images: Mutex<BTreeSet<(DatastoreId, ImageId)>>,
    ended: Condvar,
}

impl Loader {
    pub fn new(
        host: HostId,
        sqfstar: PathBuf,
        limits: &crate::options::Limits,
        metrics: NodeMetrics,
    ) -> Loader {
        let slots = Arc::new(Semaphore::new(limits.image_loads));
        let limit = limits.archive_mib << 20;
        let in_work = InWork::default();
        Loader { inner: Arc::new(Inner { host, sqfstar, limit, slots, in_work, metrics }) }
    }

    /// An archive that is about to come in.
    pub async fn begin(&self, datastore: Arc<Datastore>) -> Result<Incoming, LoadError> {
        let limit = self.inner.limit;
        let on = datastore.clone();
        let writer = blocking(move || SpoolWriter::create(&on, limit)).await?;
        Ok(Incoming { loader: self.clone(), datastore, writer })
    }
}

/// An archive that is coming in. Dropped, it is gone.
pub struct Incoming {
    loader: Loader,
    datastore: Arc<Datastore>,
    writer: SpoolWriter,
}

impl Incoming {
    pub async fn push(self, piece: Vec<u8>) -> Result<Incoming, LoadError> {
        let Incoming { loader, datastore, writer } = self;
        let writer = blocking(move || writer.write(&piece)).await?;
        Ok(Incoming { loader, datastore, writer })
    }

    /// All of it came: makes the base disks. Progress that nobody takes in time is left out.
    /// Dropping the future cancels the work.
    pub async fn finish(self, progress: mpsc::Sender<Progress>) -> Outcome {
        let Incoming { loader, datastore, writer } = self;
        let inner = loader.inner;
        // Not before the archive is whole: a slow client keeps nobody else waiting.
        let Ok(_slot) = inner.slots.clone().acquire_owned().await else {
            return Outcome { loaded: Vec::new(), failure: Some(LoadError::Cancelled) };
        };
        inner.metrics.image_loads_running.inc();
        let timer = inner.metrics.image_load_seconds.start_timer();
        let cancelled = CancelOnDrop::default();
        let watcher = Watcher::new(progress, cancelled.flag.clone());
        let work = inner.clone();
        let made = tokio::task::spawn_blocking(move || work.load(&datastore, writer, &watcher));
        let outcome = made.await.unwrap_or_else(|panic| {
            let source = io::Error::other(panic);
            let failure = LoadError::Io { what: "finish the load".into(), source };
            Outcome { loaded: Vec::new(), failure: Some(failure) }
        });
        timer.observe_duration();
        inner.metrics.image_loads_running.dec();
        inner.metrics.image_load_ended(outcome.failure.is_none());
        outcome
    }
}

impl Inner {
    fn load(&self, datastore: &Datastore, writer: SpoolWriter, watcher: &Watcher) -> Outcome {
        let mut loaded = Vec::new();
        let each = || {
            let archive = Archive::read(writer.finish()?)?;
            for candidate in archive.candidates()? {
                loaded.push(self.make(datastore, candidate, watcher)?);
            }
            Ok(())
        };
        let failure = each().err();
        Outcome { loaded, failure }
    }

    fn make(
        &self,
        datastore: &Datastore,
        candidate: Candidate,
        watcher: &Watcher,
    ) -> Result<LoadedImage, LoadError> {
        let described = config::describe(candidate.document)?;
        let _turn = self.in_work.turn((datastore.id, described.id), watcher)?;
        let size = match base_disk::find(datastore, described.id) {
            Some(record) => record.size,
            None => {
                let checked = flatten::check(&described, candidate.layers, self.limit, watcher)?;
                base_disk::make(
                    &self.sqfstar,
                    self.host,
                    datastore,
                    &described,
                    &checked,
                    watcher,
                )?;
                checked.size
            }
        };
        Ok(LoadedImage {
            id: described.id,
            references: candidate.references,
            config: described.config,
            document: described.document,
            size: Bytes(size),
        })
    }
}

impl InWork {
    /// Waits until nobody else makes this image.
    fn turn(
        &self,
        image: (DatastoreId, ImageId),
        watcher: &Watcher,
    ) -> Result<Turn<'_>, LoadError> {
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        while !images.insert(image) {
            watcher.go_on()?;
            // Woken now and then to see whether the client is still there.
            let waited = self.ended.wait_timeout(images, Duration::from_millis(200));
            images = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(Turn { in_work: self, image })
    }
}

struct Turn<'w> {
    in_work: &'w InWork,
    image: (DatastoreId, ImageId),
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut images = self.in_work.images.lock().unwrap_or_else(PoisonError::into_inner);
        images.remove(&self.image);
        self.in_work.ended.notify_all();
    }
}

/// Tells the work that nobody waits for it any more.
#[derive(Default)]
struct CancelOnDrop {
    flag: Arc<AtomicBool>,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.flag.store(true, Ordering::Relaxed);
    }
}

/// The other side of a load, as the work sees it.
pub struct Watcher {
    sender: mpsc::Sender<Progress>,
    cancelled: Arc<AtomicBool>,
    /// Layer and mebibytes that were last told.
    told: RefCell<(String, u64)>,
}

impl Watcher {
    fn new(sender: mpsc::Sender<Progress>, cancelled: Arc<AtomicBool>) -> Watcher {
        Watcher { sender, cancelled, told: RefCell::default() }
    }

    fn go_on(&self) -> Result<(), LoadError> {
        if self.cancelled.load(Ordering::Relaxed) { Err(LoadError::Cancelled) } else { Ok(()) }
    }

    /// Every few mebibytes, and at a layer's end.
    fn progress(&self, layer: &str, current: u64, total: u64) {
        let mut told = self.told.borrow_mut();
        let step = current >> 22;
        if told.0 == layer && told.1 == step && current < total {
            return;
        }
        *told = (layer.to_owned(), step);
        let (current, total) = (Bytes(current), Bytes(total));
        // A full channel means that the client is slower than the work: it hears of the next step.
        let _ = self.sender.try_send(Progress { layer: layer.to_owned(), current, total });
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LoadError> + Send + 'static,
) -> Result<T, LoadError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| {
        Err(LoadError::Io { what: "finish the load".into(), source: io::Error::other(panic) })
    })
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::sample_archive;
