//! What is still on a cell's datastores once all container VMs are removed.

use std::path::PathBuf;
use std::time::Duration;

use crate::cell::Cell;
use crate::wait;

/// Waits until no datastore holds anything of a container VM, nor anything half made or to be
/// deleted. A removal frees the name at once and the directory a little later.
pub fn await_none(cell: &Cell) {
    wait::until(Duration::from_secs(60), "nothing is left on the datastores", || {
        let left = list(cell);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

fn list(cell: &Cell) -> Vec<PathBuf> {
    let description = cell.description();
    let mut left = Vec::new();
    for datastore in description["datastores"].as_array().expect("a list of datastores") {
        let path = PathBuf::from(datastore["path"].as_str().expect("a path"));
        for folder in ["containers", "spool", "trash"] {
            let entries = std::fs::read_dir(path.join(folder)).into_iter().flatten().flatten();
            // Each look of a node at its datastores writes a file for a moment.
            left.extend(entries.map(|entry| entry.path()).filter(|path| {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                !name.starts_with("probe-")
            }));
        }
    }
    left
}
