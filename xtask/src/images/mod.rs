//! `cargo xtask images`: real images without a registry, as archives that `docker load` takes.
//!
//! [`recipes`] says what they are, [`debian`] and [`busybox`] make file trees ([`tree`]), [`layer`]
//! turns trees into tar files, [`archive`] packs layers into an image. The directory is named after
//! the recipes, so that they are made once; packages inside are as new as the archive was then.

mod archive;
mod busybox;
mod debian;
mod hello;
mod layer;
mod recipes;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, anyhow};
use sha2::{Digest, Sha256};

use crate::cache::Cache;
use crate::images::recipes::{Content, RECIPES, Recipe};
use crate::images::tree::Tree;
use crate::packages::Apt;
use crate::steps::say;

/// All that decides what the images are: they are made again when one of these changes, tests aside.
const SOURCES: [&str; 7] = [
    include_str!("archive.rs"),
    include_str!("busybox.rs"),
    include_str!("debian.rs"),
    include_str!("hello.rs"),
    include_str!("layer.rs"),
    include_str!("recipes.rs"),
    include_str!("tree.rs"),
];

/// Makes the images where they are not there yet, and returns their directory.
pub fn prepare(cache: &Cache, apt: &Apt) -> Result<PathBuf> {
    let mut key = Sha256::new();
    for source in SOURCES {
        let program = source.split("#[cfg(test)]").next().unwrap_or_default();
        key.update(Sha256::digest(program));
    }
    let entry = Path::new("images").join(hex::encode(&key.finalize()[..8]));
    if cache.path(&entry).is_dir() {
        return Ok(cache.path(&entry));
    }
    let busybox = apt.unpacked(cache, "busybox-static", false)?;
    cache.publish(&entry, |folder| {
        let work = folder.join(".work");
        fs::create_dir(&work).with_context(|| format!("cannot make {}", work.display()))?;
        let bootstraps = Bootstraps::run(&work)?;
        for recipe in RECIPES {
            let file = folder.join(format!("{}.tar", recipe.name));
            let layers = layers(recipe, &bootstraps, &busybox)
                .and_then(|layers| archive::write(&file, &work, recipe, &layers))
                .with_context(|| format!("cannot make the image {}", recipe.name))?;
            let size = file.metadata()?.len().div_ceil(1 << 20);
            say(&format!("image {}: {layers} layer(s), {size} MiB", recipe.name));
        }
        fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))
    })
}

/// The Debian file systems that recipes stand on, made side by side as each takes some 20 seconds.
struct Bootstraps {
    made: Vec<(&'static [&'static str], Tree)>,
}

impl Bootstraps {
    fn run(work: &Path) -> Result<Bootstraps> {
        let mut wanted: Vec<&'static [&'static str]> = vec![&[]];
        for recipe in RECIPES {
            if let Content::Debian { packages, .. } = recipe.content
                && !wanted.contains(&packages)
            {
                wanted.push(packages);
            }
        }
        let made = thread::scope(|scope| {
            let runs: Vec<_> = wanted
                .into_iter()
                .map(|packages| {
                    let run = scope.spawn(move || debian::bootstrap(work, packages));
                    (packages, run)
                })
                .collect();
            runs.into_iter()
                .map(|(packages, run)| {
                    let outcome =
                        run.join().map_err(|_| anyhow!("making {packages:?} panicked"))?;
                    Ok((packages, outcome?))
                })
                .collect::<Result<Vec<_>>>()
        })?;
        Ok(Bootstraps { made })
    }

    fn with(&self, packages: &[&str]) -> Result<&Tree> {
        let made = self.made.iter().find(|(made, _)| *made == packages);
        made.map(|(_, tree)| tree).context("a file system that was not asked for")
    }
}

/// The layers of an image, lowest first.
fn layers(recipe: &Recipe, bootstraps: &Bootstraps, busybox: &Path) -> Result<Vec<Tree>> {
    Ok(match recipe.content {
        Content::Busybox => vec![busybox::tree(busybox)?],
        Content::Hello => vec![hello::tree()],
        Content::Debian { packages, adjust } => {
            let base = bootstraps.with(&[])?;
            let mut layers = vec![base.clone()];
            if !packages.is_empty() {
                let mut whole = bootstraps.with(packages)?.clone();
                adjust(&mut whole);
                layers.push(whole.above(base));
            }
            layers
        }
    })
}
