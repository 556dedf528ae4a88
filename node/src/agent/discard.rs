//! Deletes what a container VM left on its datastore.
//!
//! Promises: the directory is gone under its name before anything in it is deleted, so that nobody
//! meets half of it; doing it twice is as good as once, and one that a crash cut short is finished
//! at the next start. Blocks on the datastore.

use crate::datastore::Datastore;
use berth_model::ContainerId;
use std::fs;
use std::io;

/// Answers whether there was anything.
pub fn discard(datastore: &Datastore, container: ContainerId) -> io::Result<bool> {
    let place = datastore.container(container);
    let grave = datastore.trash().join(format!("{container}-{}", crate::randomness::word()));
    match fs::rename(&place, &grave) {
        Ok(()) => {
            crate::datastore::sync_directory(&datastore.path.join("containers"))?;
            fs::remove_dir_all(&grave)?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Gone already, unless the datastore is: then nothing can be said.
            fs::metadata(datastore.path.join("containers")).map(|_| false)
        }
        Err(error) => Err(error),
    }
}

/// Finishes what crashes cut short. Others may be at it too on a shared datastore, which does no
/// harm.
pub fn sweep(datastore: &Datastore) -> io::Result<usize> {
    let mut swept = 0;
    for entry in fs::read_dir(datastore.trash())? {
        match fs::remove_dir_all(entry?.path()) {
            Ok(()) => swept += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(swept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datastore::DatastoreOptions;
    use std::path::Path;

    const CONTAINER: ContainerId = ContainerId::from_bytes([5; 32]);

    fn datastore(path: &Path) -> Datastore {
        let (name, path) = ("local".into(), path.to_owned());
        Datastore::register(&DatastoreOptions { name, path, ..DatastoreOptions::default() })
            .unwrap()
    }

    #[test]
    fn a_directory_is_discarded_once_and_asking_again_is_harmless() {
        let directory = tempfile::tempdir().unwrap();
        let datastore = datastore(directory.path());
        fs::create_dir_all(datastore.container(CONTAINER).join("deep")).unwrap();
        fs::write(datastore.container(CONTAINER).join("deep/delta"), b"x").unwrap();
        assert!(discard(&datastore, CONTAINER).unwrap());
        assert!(!discard(&datastore, CONTAINER).unwrap());
        assert!(fs::read_dir(datastore.trash()).unwrap().next().is_none());
    }

    #[test]
    fn what_a_crash_left_in_the_trash_is_swept() {
        let directory = tempfile::tempdir().unwrap();
        let datastore = datastore(directory.path());
        fs::create_dir(datastore.trash().join("left")).unwrap();
        assert_eq!(sweep(&datastore).unwrap(), 1);
    }

    #[test]
    fn a_datastore_that_is_gone_is_no_success() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        fs::create_dir(&path).unwrap();
        let datastore = datastore(&path);
        fs::remove_dir_all(&path).unwrap();
        assert!(discard(&datastore, CONTAINER).is_err());
    }
}
