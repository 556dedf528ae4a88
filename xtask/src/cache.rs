//! The cache: what takes long to fetch or make, and is the same for every checkout.
//!
//! Entries are directories that appear whole under their final name, so that a run that was cut off
//! leaves nothing half-made behind and two runs at once do not disturb one another. Nothing in it is
//! precious: it may be deleted at any time that berth does not run.
//!
//! `packages/NAME/VERSION/` unpacked Debian packages, `assets/KEY/` kernel and initramfs,
//! `images/KEY/` image archives.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context, Result};

pub struct Cache {
    root: PathBuf,
}

impl Cache {
    pub fn open() -> Result<Cache> {
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty());
        let root = root(variable("BERTH_CACHE"), variable("XDG_CACHE_HOME"), variable("HOME"))
            .context("no place for the cache: set BERTH_CACHE to a directory")?;
        Cache::at(root)
    }

    pub fn at(root: PathBuf) -> Result<Cache> {
        fs::create_dir_all(&root)
            .with_context(|| format!("cannot make the cache directory {}", root.display()))?;
        let root = root.canonicalize()?;
        Ok(Cache { root })
    }

    /// Where an entry stands, or would stand.
    pub fn path(&self, entry: impl AsRef<Path>) -> PathBuf {
        self.root.join(entry)
    }

    /// Makes an entry: `fill` gets an empty directory, which takes the entry's name once it is full.
    /// If another run was faster, its entry stays.
    pub fn publish(
        &self,
        entry: impl AsRef<Path>,
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let finished = self.path(entry);
        let parent = finished.parent().unwrap_or(&self.root);
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        sweep(parent)?;
        let name = finished.file_name().unwrap_or_default().to_string_lossy();
        let partial = parent.join(partial(&name));
        fs::create_dir(&partial).with_context(|| format!("cannot make {}", partial.display()))?;
        let outcome = fill(&partial).and_then(|()| match fs::rename(&partial, &finished) {
            Err(error) if !finished.is_dir() => {
                Err(error).with_context(|| format!("cannot put {} in place", finished.display()))
            }
            Ok(()) | Err(_) => Ok(()),
        });
        if partial.exists() {
            fs::remove_dir_all(&partial)
                .with_context(|| format!("cannot remove {}", partial.display()))?;
        }
        outcome.map(|()| finished)
    }

    /// The newest entry below a folder.
    pub fn newest(&self, folder: impl AsRef<Path>) -> Option<PathBuf> {
        let entries = fs::read_dir(self.path(folder)).ok()?;
        entries
            .filter_map(|entry| entry.ok())
            .filter(|entry| !entry.file_name().to_string_lossy().starts_with(PARTIAL))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .max()
            .map(|(_, path)| path)
    }
}

const PARTIAL: &str = ".partial-";

/// A name that is swept once this process is gone.
pub fn partial(name: &str) -> String {
    format!("{PARTIAL}{}-{name}", process::id())
}

/// Removes what runs that no longer live left half-made.
fn sweep(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PARTIAL)?.split('-').next());
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
            fs::remove_dir_all(entry.path())
                .with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

fn root(
    own: Option<std::ffi::OsString>,
    xdg: Option<std::ffi::OsString>,
    home: Option<std::ffi::OsString>,
) -> Option<PathBuf> {
    own.map(PathBuf::from)
        .or_else(|| xdg.map(|xdg| Path::new(&xdg).join("berth")))
        .or_else(|| home.map(|home| Path::new(&home).join(".cache/berth")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_variable_wins_over_the_desktop_convention_and_that_over_home() {
        let set = |value: &str| Some(value.into());
        assert_eq!(root(set("/a"), set("/b"), set("/c")), Some("/a".into()));
        assert_eq!(root(None, set("/b"), set("/c")), Some("/b/berth".into()));
        assert_eq!(root(None, None, set("/c")), Some("/c/.cache/berth".into()));
        assert_eq!(root(None, None, None), None);
    }

    #[test]
    fn an_entry_that_failed_to_fill_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().to_owned()).unwrap();
        let outcome = cache.publish("images/one", |partial| {
            fs::write(partial.join("half"), "")?;
            anyhow::bail!("no space")
        });
        assert_eq!(outcome.unwrap_err().to_string(), "no space");
        assert_eq!(fs::read_dir(cache.path("images")).unwrap().count(), 0);
    }

    #[test]
    fn the_faster_of_two_runs_wins_and_both_succeed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().to_owned()).unwrap();
        let fill = |partial: &Path| Ok(fs::write(partial.join("file"), "whole")?);
        let slower = cache.publish("assets/one", |partial| {
            fill(partial)?;
            fs::create_dir_all(cache.path("assets/one"))?;
            fill(&cache.path("assets/one"))
        });
        assert_eq!(slower.unwrap(), cache.path("assets/one"));
        assert_eq!(fs::read_dir(cache.path("assets")).unwrap().count(), 1);
    }

    #[test]
    fn what_a_dead_run_left_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().to_owned()).unwrap();
        fs::create_dir_all(cache.path("assets/.partial-999999999-one")).unwrap();
        cache.publish("assets/two", |_| Ok(())).unwrap();
        assert_eq!(cache.newest("assets"), Some(cache.path("assets/two")));
        assert!(!cache.path("assets/.partial-999999999-one").exists());
    }
}
