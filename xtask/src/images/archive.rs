//! An image as `docker save` writes it: `manifest.json`, which names the configuration and the
//! layers, lowest first.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, Header};

use crate::images::layer;
use crate::images::recipes::{EPOCH, EPOCH_TEXT, Recipe, SEARCH_PATH};
use crate::images::tree::Tree;

/// Writes the archive, with layers put down in `work` first, and returns how many they are.
pub fn write(file: &Path, work: &Path, recipe: &Recipe, layers: &[Tree]) -> Result<usize> {
    let out = File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
    let mut archive =
        Archive { builder: Builder::new(BufWriter::new(out)), names: BTreeSet::new() };
    let mut digests = Vec::new();
    for tree in layers {
        let tar = work.join("layer.tar");
        let digest = layer::write(&tar, tree)?;
        archive.add(&format!("{digest}.tar"), tar.metadata()?.len(), File::open(&tar)?)?;
        fs::remove_file(&tar)?;
        digests.push(digest);
    }
    let config = config(recipe, &digests).to_string();
    let id = hex::encode(Sha256::digest(&config));
    archive.add(&format!("{id}.json"), config.len() as u64, config.as_bytes())?;
    let manifest = manifest(recipe, &id, &digests).to_string();
    archive.add("manifest.json", manifest.len() as u64, manifest.as_bytes())?;
    archive.builder.into_inner()?.flush()?;
    Ok(digests.len())
}

struct Archive<W: Write> {
    builder: Builder<W>,
    names: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    /// Adds a file, unless one of this name, and so of this content, is there.
    fn add(&mut self, name: &str, length: u64, bytes: impl io::Read) -> Result<()> {
        if self.names.insert(name.to_owned()) {
            let mut header = Header::new_gnu();
            header.set_mode(0o644);
            header.set_mtime(EPOCH);
            header.set_size(length);
            self.builder.append_data(&mut header, name, bytes)?;
        }
        Ok(())
    }
}

fn manifest(recipe: &Recipe, id: &str, digests: &[String]) -> Value {
    let layers: Vec<String> = digests.iter().map(|digest| format!("{digest}.tar")).collect();
    let tag = format!("{}:latest", recipe.name);
    json!([{ "Config": format!("{id}.json"), "RepoTags": [tag], "Layers": layers }])
}

fn config(recipe: &Recipe, digests: &[String]) -> Value {
    let mut run = Map::new();
    run.insert("Env".to_owned(), json!([SEARCH_PATH]));
    run.insert("Cmd".to_owned(), json!(recipe.command));
    if !recipe.working_directory.is_empty() {
        run.insert("WorkingDir".to_owned(), json!(recipe.working_directory));
    }
    for (key, items) in [("ExposedPorts", recipe.ports), ("Volumes", recipe.volumes)] {
        if !items.is_empty() {
            let set: Map<_, _> = items.iter().map(|item| ((*item).to_owned(), json!({}))).collect();
            run.insert(key.to_owned(), Value::Object(set));
        }
    }
    if let Some(signal) = recipe.stop_signal {
        run.insert("StopSignal".to_owned(), json!(signal));
    }
    let diff_ids: Vec<String> = digests.iter().map(|digest| format!("sha256:{digest}")).collect();
    let step = json!({ "created": EPOCH_TEXT, "created_by": "cargo xtask images" });
    json!({
        "architecture": "amd64",
        "os": "linux",
        "created": EPOCH_TEXT,
        "config": run,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": vec![step; digests.len()],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::recipes::RECIPES;
    use std::io::Read;

    fn recipe(name: &str) -> &'static Recipe {
        RECIPES.iter().find(|recipe| recipe.name == name).unwrap()
    }

    fn entries(file: &Path) -> Vec<(String, Vec<u8>)> {
        let mut archive = tar::Archive::new(File::open(file).unwrap());
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (entry.path().unwrap().display().to_string(), bytes)
        });
        entries.collect()
    }

    #[test]
    fn names_are_the_digests_of_what_they_hold() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("redis.tar");
        let (mut base, mut upper) = (Tree::default(), Tree::default());
        base.file("etc/passwd", 0o644, *b"root");
        upper.file("etc/passwd", 0o644, *b"root redis");
        assert_eq!(write(&file, folder.path(), recipe("redis"), &[base, upper]).unwrap(), 2);

        let entries = entries(&file);
        let bytes = |name: &str| &entries.iter().find(|entry| entry.0 == name).unwrap().1;
        let manifest: Value = serde_json::from_slice(bytes("manifest.json")).unwrap();
        assert_eq!(manifest[0]["RepoTags"], json!(["redis:latest"]));
        let config_name = manifest[0]["Config"].as_str().unwrap();
        let config_bytes = bytes(config_name);
        assert_eq!(config_name, format!("{}.json", hex::encode(Sha256::digest(config_bytes))));
        let config: Value = serde_json::from_slice(config_bytes).unwrap();
        for layer in 0..2 {
            let name = manifest[0]["Layers"][layer].as_str().unwrap();
            let digest = hex::encode(Sha256::digest(bytes(name)));
            assert_eq!(config["rootfs"]["diff_ids"][layer], format!("sha256:{digest}"));
        }
        assert_eq!(config["history"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn the_configuration_is_that_of_the_recipe() {
        let redis = config(recipe("redis"), &[])["config"].clone();
        assert_eq!(redis["Volumes"], json!({ "/data": {} }));
        assert_eq!(redis["ExposedPorts"], json!({ "6379/tcp": {} }));
        assert_eq!(redis["WorkingDir"], "/data");
        assert_eq!(redis["Cmd"][0], "redis-server");
        let nginx = config(recipe("nginx"), &[])["config"].clone();
        assert_eq!(nginx["StopSignal"], "SIGQUIT");
        assert_eq!(nginx["Cmd"], json!(["nginx", "-g", "daemon off;"]));
        let busybox = config(recipe("busybox"), &[])["config"].clone();
        assert_eq!(busybox, json!({ "Env": [SEARCH_PATH], "Cmd": ["sh"] }));
    }

    #[test]
    fn a_layer_used_twice_is_stored_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("twice.tar");
        let empty = Tree::default();
        write(&file, folder.path(), recipe("debian"), &[empty.clone(), empty]).unwrap();
        assert_eq!(entries(&file).len(), 3);
    }
}
