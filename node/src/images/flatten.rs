//! Layers into one tar stream, without unpacking them to the disk.
//!
//! The first pass reads every layer, lowest first: its digest is checked and its names are laid
//! into a [`Tree`]. The second writes what is left of them: directories, then what has no data,
//! then each layer's files that still have a name, then hard links. Promises: a layer that is not
//! what the config says is refused before anything is written. Blocks; asks [`Watcher`] between
//! entries whether to go on.

use crate::images::archive::Layer;
use crate::images::config::Described;
use crate::images::spool::{Section, foreign_compression, is_gzip};
use crate::images::tar_out::TarWriter;
use crate::images::tar_stream::{TarEntry, TarKind, TarStream};
use crate::images::tree::{Source, Tree};
use crate::images::{LoadError, Watcher};
use flate2::read::MultiGzDecoder;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Write};

const BUFFER: usize = 256 << 10;

/// What the first pass found: a checked image that can be written.
pub struct Flattened {
    pub tree: Tree,
    layers: Vec<Layer>,
    /// Uncompressed bytes of all layers.
    pub size: u64,
}

/// Reads and checks every layer of an image. `limit` bounds what one layer unpacks to, in bytes.
pub fn check(
    described: &Described,
    layers: Vec<Layer>,
    limit: u64,
    watcher: &Watcher,
) -> Result<Flattened, LoadError> {
    if layers.len() != described.diff_ids.len() {
        return Err(LoadError::LayerCount {
            image: described.id.short(),
            described: described.diff_ids.len(),
            found: layers.len(),
        });
    }
    let mut tree = Tree::default();
    let mut size = 0;
    for (number, (layer, expected)) in layers.iter().zip(&described.diff_ids).enumerate() {
        size += lay(&mut tree, number, layer, expected, limit, watcher)?;
    }
    Ok(Flattened { tree, layers, size })
}

fn lay(
    tree: &mut Tree,
    number: usize,
    layer: &Layer,
    expected: &[u8; 32],
    limit: u64,
    watcher: &Watcher,
) -> Result<u64, LoadError> {
    let total = layer.section.len();
    let short = hex::encode(&expected[..6]);
    let broken = |source| LoadError::Layer { layer: layer.name.clone(), source };
    let hashing = Hashing { source: open(layer)?, hash: Sha256::new(), count: 0, limit };
    let mut stream = TarStream::new(BufReader::with_capacity(BUFFER, hashing));
    let mut ordinal = 0;
    while let Some(entry) = stream.next_entry().map_err(broken)? {
        watcher.go_on()?;
        watcher.progress(&short, entry.offset.min(total), total);
        let source = Source { layer: number, ordinal };
        tree.lay(entry, source)
            .map_err(|source| LoadError::Tree { layer: layer.name.clone(), source })?;
        ordinal += 1;
    }
    // The digest is over the whole file, the end marks and what follows them included.
    let hashing = stream.drain().map_err(broken)?.into_inner();
    if hashing.hash.finalize()[..] != expected[..] {
        let expected = format!("sha256:{}", hex::encode(expected));
        return Err(LoadError::Digest { what: layer.name.clone(), expected });
    }
    watcher.progress(&short, total, total);
    Ok(hashing.count)
}

impl Flattened {
    /// Writes the image as one tar. The root is not in it: its attributes go to whoever makes the
    /// disk.
    pub fn write(&self, sink: impl Write, watcher: &Watcher) -> Result<(), LoadError> {
        let mut writer = TarWriter::new(sink);
        let write = |error| LoadError::Io { what: "write the image's tar".into(), source: error };
        for (path, entry) in self.tree.directories() {
            writer.append(&named(entry, path), io::empty(), 0).map_err(write)?;
        }
        let mut files = BTreeMap::new();
        let mut links = Vec::new();
        let mut total = 0;
        for (inode, names) in self.tree.leaves() {
            let Some((first, others)) = names.split_first() else {
                continue;
            };
            if inode.entry.kind == TarKind::File {
                files.insert(inode.source, *first);
                total += inode.entry.size;
                links.extend(others.iter().map(|name| (*name, *first, &inode.entry)));
            } else {
                // Two names of one symbolic link or device are as good as two of them.
                for name in &names {
                    writer.append(&named(&inode.entry, name), io::empty(), 0).map_err(write)?;
                }
            }
        }
        self.write_files(&mut writer, &files, total, watcher)?;
        for (name, target, entry) in links {
            let link = TarEntry { kind: TarKind::Link(target.to_vec()), ..named(entry, name) };
            writer.append(&link, io::empty(), 0).map_err(write)?;
        }
        writer.finish().map_err(write)?;
        Ok(())
    }

    fn write_files(
        &self,
        writer: &mut TarWriter<impl Write>,
        files: &BTreeMap<Source, &[u8]>,
        total: u64,
        watcher: &Watcher,
    ) -> Result<(), LoadError> {
        let mut written = 0;
        for (number, layer) in self.layers.iter().enumerate() {
            let first = Source { layer: number, ordinal: 0 };
            let beyond = Source { layer: number + 1, ordinal: 0 };
            let Some(last) = files.range(first..beyond).next_back().map(|(s, _)| s.ordinal) else {
                continue;
            };
            let mut stream = TarStream::new(BufReader::with_capacity(BUFFER, open(layer)?));
            for ordinal in 0..=last {
                let broken = |source| LoadError::Layer { layer: layer.name.clone(), source };
                let Some(entry) = stream.next_entry().map_err(broken)? else {
                    break;
                };
                watcher.go_on()?;
                if let Some(name) = files.get(&Source { layer: number, ordinal }) {
                    let size = entry.size;
                    writer.append(&named(&entry, name), &mut stream, size).map_err(|source| {
                        LoadError::Io { what: "write the image's tar".into(), source }
                    })?;
                    written += size;
                    watcher.progress("base disk", written, total);
                }
            }
        }
        Ok(())
    }
}

/// As it goes into the base disk: the kernel's own marks of an overlay must not come from an image.
fn named(entry: &TarEntry, path: &[u8]) -> TarEntry {
    let mut named = entry.clone();
    named.path = path.to_vec();
    let mark =
        |name: &[u8]| name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
    named.xattrs.retain(|(name, _)| !mark(name));
    named
}

fn open(layer: &Layer) -> Result<Box<dyn Read>, LoadError> {
    let mut start = [0; 4];
    let mut peek = layer.section.clone();
    let mut filled = 0;
    while filled < start.len() {
        let count = peek.read(&mut start[filled..]).map_err(|source| LoadError::Io {
            what: format!("read layer `{}`", layer.name),
            source,
        })?;
        if count == 0 {
            break;
        }
        filled += count;
    }
    if let Some(compression) = foreign_compression(&start) {
        return Err(LoadError::Compression { what: "a layer", compression });
    }
    let buffered: BufReader<Section> = BufReader::with_capacity(BUFFER, layer.section.clone());
    Ok(if is_gzip(&start) { Box::new(MultiGzDecoder::new(buffered)) } else { Box::new(buffered) })
}

/// Counts and digests what is read through it.
struct Hashing<R> {
    source: R,
    hash: Sha256,
    count: u64,
    limit: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.count += count as u64;
        if self.count > self.limit {
            return Err(io::Error::other(
                "it unpacks to more than the node's limit (`limits.archive_mib`)",
            ));
        }
        Ok(count)
    }
}
