//! Finds out whether a run that is to be started ever was.
//!
//! Promises: a run that left anything is never called fresh; what cannot be looked at cannot be
//! started. The container VM's directory is there afterwards, so that output can be waited for.

use crate::datastore::Reached;
use crate::output;
use crate::vm::{self, VmSettings};
use berth_model::{ContainerId, DatastoreId, Epoch, RunOrder};
use std::io;
use std::path::Path;

/// The run that is asked about.
pub struct Wanted {
    pub container: ContainerId,
    pub epoch: Epoch,
    pub datastore: DatastoreId,
    pub order: RunOrder,
}

/// What there is of it.
pub enum Look {
    /// Nothing: it never was.
    Fresh(Box<VmSettings>),
    /// Something, or its end: it is not started again.
    Traces(Box<VmSettings>),
    /// It cannot be started here, and why.
    Impossible(String),
}

/// Looks off the actors' threads; `run_directory` is that of the host.
pub async fn look(reached: &Reached, run_directory: &Path, wanted: Wanted) -> Look {
    let Wanted { container, epoch, datastore, order } = wanted;
    let Some(own) = reached.get(&datastore) else {
        return Look::Impossible(format!("this host does not reach {datastore}"));
    };
    let Some(image) = reached.get(&order.image_datastore) else {
        return Look::Impossible(format!("this host does not reach {}", order.image_datastore));
    };
    let settings = Box::new(VmSettings {
        container,
        epoch,
        directory: own.container(container),
        base: image.base(order.spec.image),
        run_directory: run_directory.join(format!("{container}/{}", epoch.0)),
        order,
    });
    let directory = settings.directory.clone();
    match tokio::task::spawn_blocking(move || traces(&directory, epoch)).await {
        Ok(Ok(true)) => Look::Traces(settings),
        Ok(Ok(false)) => Look::Fresh(settings),
        Ok(Err(error)) => Look::Impossible(format!("datastore `{}` failed: {error}", own.name)),
        Err(panic) => Look::Impossible(panic.to_string()),
    }
}

/// Its end, or output, which begins before its process does.
fn traces(directory: &Path, epoch: Epoch) -> io::Result<bool> {
    std::fs::create_dir_all(directory)?;
    // What is not there is no trace; what cannot be looked at is no proof of that.
    Ok(vm::exit_path(directory, epoch).try_exists()?
        || output::log_path(directory, epoch).try_exists()?)
}
