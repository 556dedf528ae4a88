//! The file system that results when layers are laid over each other, as names and inodes without
//! data.
//!
//! Promises: whiteouts and opaque marks hide what lower layers hold and never what their own layer
//! holds, in whatever order a layer lists them; a hard link keeps naming the inode that it named
//! when its layer was laid, also after its target was replaced; parents that are symbolic links are
//! followed inside the image, never out of it; absolute names and `..` are refused. Does no IO.

use crate::images::tar_stream::{TarEntry, TarKind};
use std::collections::BTreeMap;

/// Names that one image may have.
const NAMES_MAX: usize = 4 << 20;
/// Symbolic links followed for one name.
const HOPS_MAX: usize = 40;
/// Bound of a name in bytes, as the kernel has it.
const PATH_MAX: usize = 4095;
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Marks of an older union file system that mean nothing here.
const FOREIGN_MARK: &[u8] = b".wh..wh.";

/// Why layers are not a file system.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    #[error("name `{0}` is absolute; names in a layer are relative to the image's root")]
    Absolute(String),
    #[error("name `{0}` climbs out with `..`")]
    Climbs(String),
    #[error("name `{0}` is longer than 4,095 bytes or has a part longer than 255")]
    TooLong(String),
    #[error("`{0}` lies below something that is no directory")]
    BelowFile(String),
    #[error("`{0}` goes through too many symbolic links")]
    Loop(String),
    #[error("hard link `{link}` names `{target}`, which is not there")]
    LinkTarget { link: String, target: String },
    #[error("the image's root is no directory")]
    Root,
    #[error("the image has more than 4,194,304 names")]
    TooMany,
}

/// Where an inode was written: its data is read from there again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    pub layer: usize,
    /// Position of the entry in its layer, counted from 0.
    pub ordinal: u64,
}

#[derive(Clone, Debug)]
pub struct Inode {
    pub entry: TarEntry,
    pub source: Source,
}

#[derive(Clone, Copy, Debug)]
struct Name {
    /// The layer that last said this name.
    layer: usize,
    inode: usize,
}

/// Names are parts joined by slashes, without one at either end; the root is empty.
#[derive(Debug)]
pub struct Tree {
    names: BTreeMap<Vec<u8>, Name>,
    inodes: Vec<Inode>,
}

impl Default for Tree {
    fn default() -> Self {
        let mut tree = Tree { names: BTreeMap::new(), inodes: Vec::new() };
        tree.insert(Vec::new(), directory(0), Source { layer: 0, ordinal: u64::MAX });
        tree
    }
}

impl Tree {
    /// Lays the next entry of a layer; layers come lowest first, entries in their order.
    pub fn lay(&mut self, entry: TarEntry, source: Source) -> Result<(), TreeError> {
        let parts = parts(&entry.path)?;
        let Some((last, parents)) = parts.split_last() else {
            return self.lay_root(entry, source);
        };
        if parents.iter().any(|part| part.starts_with(FOREIGN_MARK)) {
            return Ok(());
        }
        let shown = || show(&entry.path);
        let parent = self.resolve(parents).ok_or_else(|| TreeError::Loop(shown()))?;
        if *last == OPAQUE {
            self.hide_below(&parent, source.layer);
            return Ok(());
        }
        if last.starts_with(FOREIGN_MARK) || *last == WHITEOUT {
            return Ok(());
        }
        if let Some(hidden) = last.strip_prefix(WHITEOUT) {
            self.hide(&join(&parent, hidden), source.layer);
            return Ok(());
        }
        if self.names.len() >= NAMES_MAX {
            return Err(TreeError::TooMany);
        }
        self.make_parents(&parent, source, entry.mtime)
            .map_err(|()| TreeError::BelowFile(shown()))?;
        let path = join(&parent, last);
        match &entry.kind {
            TarKind::Directory => self.lay_directory(path, entry, source),
            TarKind::Link(target) => {
                let inode = self.link_target(&entry.path, target)?;
                if self.names.get(&path).map(|name| name.inode) != Some(inode) {
                    self.remove(&path);
                }
                self.names.insert(path, Name { layer: source.layer, inode });
            }
            TarKind::File
            | TarKind::Symlink(_)
            | TarKind::Character { .. }
            | TarKind::Block { .. }
            | TarKind::Fifo => {
                self.remove(&path);
                self.insert(path, entry, source);
            }
        }
        Ok(())
    }

    pub fn root(&self) -> &TarEntry {
        &self.inodes[self.names[&Vec::new()].inode].entry
    }

    /// Every directory but the root, parents before children.
    pub fn directories(&self) -> impl Iterator<Item = (&[u8], &TarEntry)> {
        self.names.iter().filter(|(path, _)| !path.is_empty()).filter_map(|(path, name)| {
            let entry = &self.inodes[name.inode].entry;
            (entry.kind == TarKind::Directory).then_some((path.as_slice(), entry))
        })
    }

    /// Everything else: each inode that still has a name, with all its names.
    pub fn leaves(&self) -> Vec<(&Inode, Vec<&[u8]>)> {
        let mut names: BTreeMap<usize, Vec<&[u8]>> = BTreeMap::new();
        for (path, name) in &self.names {
            if self.inodes[name.inode].entry.kind != TarKind::Directory {
                names.entry(name.inode).or_default().push(path);
            }
        }
        names.into_iter().map(|(inode, paths)| (&self.inodes[inode], paths)).collect()
    }

    fn lay_root(&mut self, entry: TarEntry, source: Source) -> Result<(), TreeError> {
        if entry.kind != TarKind::Directory {
            return Err(TreeError::Root);
        }
        self.insert(Vec::new(), entry, source);
        Ok(())
    }

    /// A directory over a directory changes its attributes and keeps what is in it.
    fn lay_directory(&mut self, path: Vec<u8>, entry: TarEntry, source: Source) {
        if !self.is_directory(&path) {
            self.names.remove(&path);
        }
        self.insert(path, entry, source);
    }

    fn insert(&mut self, path: Vec<u8>, entry: TarEntry, source: Source) {
        let inode = self.inodes.len();
        self.inodes.push(Inode { entry, source });
        self.names.insert(path, Name { layer: source.layer, inode });
    }

    fn link_target(&self, link: &[u8], target: &[u8]) -> Result<usize, TreeError> {
        let parts = parts(target)?;
        let missing = || TreeError::LinkTarget { link: show(link), target: show(target) };
        let (last, parents) = parts.split_last().ok_or_else(missing)?;
        let parent = self.resolve(parents).ok_or_else(|| TreeError::Loop(show(target)))?;
        let name = self.names.get(&join(&parent, last)).ok_or_else(missing)?;
        if self.inodes[name.inode].entry.kind == TarKind::Directory {
            return Err(missing());
        }
        Ok(name.inode)
    }

    /// The path of a directory with its symbolic links followed; it need not be there. `None` if
    /// they go in circles.
    fn resolve(&self, parts: &[&[u8]]) -> Option<Vec<u8>> {
        let mut pending: Vec<Vec<u8>> = parts.iter().rev().map(|part| part.to_vec()).collect();
        let mut path = Vec::new();
        let mut hops = 0;
        while let Some(part) = pending.pop() {
            if part == b".." {
                let parent = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                path.truncate(parent);
                continue;
            }
            let next = join(&path, &part);
            let Some(TarKind::Symlink(target)) = self.kind(&next) else {
                path = next;
                continue;
            };
            hops += 1;
            if hops > HOPS_MAX {
                return None;
            }
            if target.starts_with(b"/") {
                path.clear();
            }
            let steps = target.split(|byte| *byte == b'/').rev();
            pending.extend(steps.filter(|s| !s.is_empty() && *s != b".").map(<[u8]>::to_vec));
        }
        Some(path)
    }

    /// Directories that no layer lists are made as any unpacker makes them.
    fn make_parents(&mut self, path: &[u8], source: Source, mtime: u64) -> Result<(), ()> {
        if path.is_empty() || self.is_directory(path) {
            return Ok(());
        }
        if self.names.contains_key(path) {
            return Err(());
        }
        let parent = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        self.make_parents(&path[..parent], source, mtime)?;
        self.insert(path.to_vec(), directory(mtime), source);
        Ok(())
    }

    /// Takes a name away with all that is below it, whichever layer it is of.
    fn remove(&mut self, path: &[u8]) {
        self.names.remove(path);
        let below: Vec<Vec<u8>> = self.below(path).map(|(path, _)| path.clone()).collect();
        for path in below {
            self.names.remove(&path);
        }
    }

    /// Takes away what layers below `layer` hold under a name.
    fn hide(&mut self, path: &[u8], layer: usize) {
        self.hide_below(path, layer);
        let needed = self.below(path).next().is_some();
        if let Some(name) = self.names.get_mut(path).filter(|name| name.layer < layer) {
            if needed {
                name.layer = layer;
            } else {
                self.names.remove(path);
            }
        }
    }

    fn hide_below(&mut self, path: &[u8], layer: usize) {
        let lower: Vec<Vec<u8>> = self
            .below(path)
            .filter(|(_, name)| name.layer < layer)
            .map(|(path, _)| path.clone())
            .collect();
        // Deepest first, so that a directory goes only if nothing of this layer is left in it.
        for path in lower.into_iter().rev() {
            if self.below(&path).next().is_none() {
                self.names.remove(&path);
            }
        }
    }

    fn below(&self, path: &[u8]) -> impl Iterator<Item = (&Vec<u8>, &Name)> {
        let mut first = path.to_vec();
        if !path.is_empty() {
            first.push(b'/');
        }
        let prefix = first.clone();
        self.names
            .range(first..)
            .take_while(move |(path, _)| path.starts_with(&prefix))
            .filter(|(path, _)| !path.is_empty())
    }

    fn kind(&self, path: &[u8]) -> Option<&TarKind> {
        self.names.get(path).map(|name| &self.inodes[name.inode].entry.kind)
    }

    fn is_directory(&self, path: &[u8]) -> bool {
        self.kind(path) == Some(&TarKind::Directory)
    }
}

/// The parts of a name, `.` and double slashes left out.
fn parts(path: &[u8]) -> Result<Vec<&[u8]>, TreeError> {
    if path.starts_with(b"/") {
        return Err(TreeError::Absolute(show(path)));
    }
    let parts: Vec<&[u8]> =
        path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.contains(&b"..".as_slice()) {
        return Err(TreeError::Climbs(show(path)));
    }
    if path.len() > PATH_MAX || parts.iter().any(|part| part.len() > 255) {
        return Err(TreeError::TooLong(show(path)));
    }
    Ok(parts)
}

fn join(parent: &[u8], part: &[u8]) -> Vec<u8> {
    if parent.is_empty() { part.to_vec() } else { [parent, b"/", part].concat() }
}

fn show(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().take(200).collect()
}

fn directory(mtime: u64) -> TarEntry {
    TarEntry {
        path: Vec::new(),
        kind: TarKind::Directory,
        size: 0,
        offset: 0,
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime,
        xattrs: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
