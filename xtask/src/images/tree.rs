//! A tree of files as an image sees it: paths with owner, mode and content, on no disk.
//!
//! Trees come from tar files or are put together by hand, which needs no rights on the machine for
//! any owner or mode. Device nodes, pipes and sockets are left out: the guest has its own.
//!
//! Names of one file (hard links) are brought into one form: the first name in path order holds the
//! content, the others point at it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::images::recipes::EPOCH;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// Relative paths without `.`; a directory sorts before what is in it.
    nodes: BTreeMap<PathBuf, Node>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    /// Seconds.
    pub modified: u64,
    /// Extended attributes such as file capabilities, as tar names them.
    pub attributes: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Directory,
    File(Content),
    Symlink(PathBuf),
    /// Another name of the file at this path, which sorts before.
    HardLink(PathBuf),
}

/// The bytes of a file, which may lie in a tar file.
#[derive(Clone, Debug)]
pub struct Content {
    pub length: u64,
    sha256: [u8; 32],
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Memory(Arc<[u8]>),
    Slice { file: Arc<PathBuf>, offset: u64 },
}

impl Tree {
    pub fn nodes(&self) -> impl Iterator<Item = (&Path, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_path(), node))
    }

    pub fn directory(&mut self, path: impl Into<PathBuf>, mode: u32, uid: u64, gid: u64) {
        self.add(path, Kind::Directory, mode, uid, gid);
    }

    pub fn file(&mut self, path: impl Into<PathBuf>, mode: u32, bytes: impl Into<Arc<[u8]>>) {
        self.add(path, Kind::File(Content::new(bytes.into())), mode, 0, 0);
    }

    pub fn symlink(&mut self, path: impl Into<PathBuf>, target: impl Into<PathBuf>) {
        self.add(path, Kind::Symlink(target.into()), 0o777, 0, 0);
    }

    /// Another name for the file at `first`, which must sort before `path`.
    pub fn hard_link(&mut self, path: impl Into<PathBuf>, first: impl Into<PathBuf>) {
        let first = first.into();
        let mode = self.nodes.get(&first).map_or(0o644, |node| node.mode);
        self.add(path, Kind::HardLink(first), mode, 0, 0);
    }

    pub fn remove(&mut self, path: impl AsRef<Path>) {
        self.nodes.remove(path.as_ref());
    }

    fn add(&mut self, path: impl Into<PathBuf>, kind: Kind, mode: u32, uid: u64, gid: u64) {
        let attributes = BTreeMap::new();
        let node = Node { kind, mode, uid, gid, modified: EPOCH, attributes };
        self.nodes.insert(path.into(), node);
    }

    /// Reads a tar file, which must stay where it is as long as the tree is used.
    pub fn from_tar(file: &Path) -> Result<Tree> {
        let shared = Arc::new(file.to_owned());
        let read = || File::open(file).map(tar::Archive::new);
        let mut tree = Tree::default();
        let mut archive = read().with_context(|| format!("cannot read {}", file.display()))?;
        for entry in archive.entries()? {
            let mut entry = entry.with_context(|| format!("{} is broken", file.display()))?;
            let path = relative(&entry.path()?)?;
            let mut attributes = BTreeMap::new();
            if let Some(extensions) = entry.pax_extensions()? {
                for extension in extensions {
                    let extension = extension?;
                    if let Some(key) = extension.key()?.strip_prefix(ATTRIBUTE) {
                        attributes.insert(key.to_owned(), extension.value_bytes().to_vec());
                    }
                }
            }
            let header = entry.header();
            let target = || entry.link_name().ok().flatten().map(|it| it.into_owned());
            let target = || target().with_context(|| format!("{}: no target", path.display()));
            let entry_type = header.entry_type();
            let (mode, uid, gid) = (header.mode()? & 0o7777, header.uid()?, header.gid()?);
            let modified = header.mtime()?;
            let kind = if entry_type.is_dir() {
                Kind::Directory
            } else if entry_type.is_symlink() {
                Kind::Symlink(target()?)
            } else if entry_type.is_hard_link() {
                Kind::HardLink(relative(&target()?)?)
            } else if entry_type.is_file() {
                Kind::File(Content::slice(&mut entry, &shared)?)
            } else {
                continue;
            };
            // The root directory is every image's own.
            if !path.as_os_str().is_empty() {
                tree.nodes.insert(path, Node { kind, mode, uid, gid, modified, attributes });
            }
        }
        tree.order_hard_links()?;
        Ok(tree)
    }

    /// Lets the first name of each file hold its content.
    fn order_hard_links(&mut self) -> Result<()> {
        for (target, names) in self.hard_links() {
            let Some(node) = self.nodes.get(&target).cloned() else {
                bail!("{} is a hard link to nothing", names[0].display());
            };
            let Some(first) = names.iter().chain([&target]).min().cloned() else { continue };
            for name in names.iter().chain([&target]) {
                let kind =
                    if *name == first { node.kind.clone() } else { Kind::HardLink(first.clone()) };
                self.nodes.insert(name.clone(), Node { kind, ..node.clone() });
            }
        }
        Ok(())
    }

    /// For each file with several names, the one that holds the content, and the others.
    fn hard_links(&self) -> BTreeMap<PathBuf, Vec<PathBuf>> {
        let mut links: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
        for (path, node) in &self.nodes {
            if let Kind::HardLink(target) = &node.kind {
                links.entry(target.clone()).or_default().push(path.clone());
            }
        }
        links
    }

    /// The layer that makes this tree out of `base`: what is new or different, every directory on the
    /// way to it, and for what is gone a whiteout. If one name of a file is in it, so are all, as a
    /// hard link does not reach into the layer below.
    pub fn above(&self, base: &Tree) -> Tree {
        let differs = |path: &Path, node: &Node| {
            base.nodes.get(path).is_none_or(|below| !node.same_to_a_user(below))
        };
        let mut paths: BTreeSet<PathBuf> = self
            .nodes
            .iter()
            .filter(|(path, node)| differs(path, node))
            .map(|(path, _)| path.clone())
            .collect();
        for (target, mut names) in self.hard_links() {
            names.push(target);
            if names.iter().any(|name| paths.contains(name)) {
                paths.extend(names);
            }
        }
        let mut layer = Tree::default();
        for (path, whiteout) in self.whiteouts(base) {
            paths.insert(path);
            layer.file(whiteout, 0o644, *b"");
        }
        for path in &paths {
            for path in path.ancestors().filter(|path| !path.as_os_str().is_empty()) {
                if let Some(node) = self.nodes.get(path) {
                    layer.nodes.insert(path.to_owned(), node.clone());
                }
            }
        }
        layer
    }

    /// What `base` has and this lacks, without what lies below such a directory; and the mark for it.
    fn whiteouts(&self, base: &Tree) -> Vec<(PathBuf, PathBuf)> {
        let is_directory = |path: &Path| {
            path.as_os_str().is_empty()
                || self.nodes.get(path).is_some_and(|node| node.kind == Kind::Directory)
        };
        let gone = base.nodes.keys().filter(|path| !self.nodes.contains_key(*path));
        gone.filter_map(|path| {
            let (parent, name) = (path.parent()?, path.file_name()?);
            let whiteout = parent.join(format!(".wh.{}", name.to_string_lossy()));
            is_directory(parent).then(|| (path.clone(), whiteout))
        })
        .collect()
    }
}

impl Node {
    /// A directory's date changes with what is in it and says nothing of its own.
    fn same_to_a_user(&self, other: &Node) -> bool {
        let modified = match self.kind {
            Kind::Directory => self.modified,
            Kind::File(_) | Kind::Symlink(_) | Kind::HardLink(_) => other.modified,
        };
        *self == Node { modified, ..other.clone() } && {
            self.kind == Kind::Directory || self.modified == other.modified
        }
    }
}

impl Content {
    fn new(bytes: Arc<[u8]>) -> Content {
        Content {
            length: bytes.len() as u64,
            sha256: Sha256::digest(&bytes).into(),
            source: Source::Memory(bytes),
        }
    }

    fn slice(entry: &mut tar::Entry<'_, File>, file: &Arc<PathBuf>) -> Result<Content> {
        let offset = entry.raw_file_position();
        let mut hash = Sha256::new();
        let length = io::copy(entry, &mut hash)?;
        let source = Source::Slice { file: Arc::clone(file), offset };
        Ok(Content { length, sha256: hash.finalize().into(), source })
    }

    pub fn open(&self) -> Result<Box<dyn Read>> {
        Ok(match &self.source {
            Source::Memory(bytes) => Box::new(Cursor::new(Arc::clone(bytes))),
            Source::Slice { file, offset } => {
                let mut file = File::open(file.as_path())
                    .with_context(|| format!("cannot read {}", file.display()))?;
                file.seek(SeekFrom::Start(*offset))?;
                Box::new(file.take(self.length))
            }
        })
    }
}

impl PartialEq for Content {
    fn eq(&self, other: &Content) -> bool {
        (self.length, self.sha256) == (other.length, other.sha256)
    }
}

impl Eq for Content {}

/// How tar names extended attributes.
pub const ATTRIBUTE: &str = "SCHILY.xattr.";

fn relative(path: &Path) -> Result<PathBuf> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                bail!("{} leads out of the tree", path.display())
            }
        }
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Tree {
        let mut tree = Tree::default();
        tree.directory("etc", 0o755, 0, 0);
        tree.file("etc/passwd", 0o644, *b"root");
        tree.directory("bin", 0o755, 0, 0);
        tree.file("bin/perl", 0o755, *b"perl");
        tree.hard_link("bin/perl5", "bin/perl");
        tree.directory("tmp", 0o1777, 0, 0);
        tree
    }

    fn check(base: &Tree, whole: &Tree) -> String {
        let layer = whole.above(base);
        let paths: Vec<_> = layer.nodes().map(|(path, _)| path.display().to_string()).collect();
        paths.join(" ")
    }

    #[test]
    fn an_unchanged_tree_is_an_empty_layer() {
        assert_eq!(check(&sample(), &sample()), "");
    }

    #[test]
    fn a_layer_holds_what_changed_and_the_directories_on_the_way() {
        let mut whole = sample();
        whole.file("etc/passwd", 0o644, *b"root redis");
        whole.directory("tmp/deep", 0o700, 1, 1);
        assert_eq!(check(&sample(), &whole), "etc etc/passwd tmp tmp/deep");
        let layer = whole.above(&sample());
        assert_eq!(layer.nodes[Path::new("tmp")].mode, 0o1777);
    }

    #[test]
    fn a_change_of_mode_or_owner_alone_is_a_change() {
        let mut whole = sample();
        whole.file("etc/passwd", 0o4644, *b"root");
        assert_eq!(check(&sample(), &whole), "etc etc/passwd");
        let mut whole = sample();
        whole.directory("etc", 0o755, 0, 5);
        assert_eq!(check(&sample(), &whole), "etc");
    }

    #[test]
    fn the_date_of_a_file_is_a_change_but_that_of_a_directory_is_not() {
        for (path, layer) in [("etc/passwd", "etc etc/passwd"), ("etc", "")] {
            let mut whole = sample();
            whole.nodes.get_mut(Path::new(path)).unwrap().modified += 1;
            assert_eq!(check(&sample(), &whole), layer);
        }
    }

    #[test]
    fn all_names_of_a_file_are_in_one_layer() {
        let mut whole = sample();
        whole.hard_link("bin/perl6", "bin/perl");
        assert_eq!(check(&sample(), &whole), "bin bin/perl bin/perl5 bin/perl6");
    }

    #[test]
    fn what_is_gone_gets_one_whiteout_for_all_below() {
        let mut whole = sample();
        for path in ["bin", "bin/perl", "bin/perl5", "etc/passwd"] {
            whole.remove(path);
        }
        assert_eq!(check(&sample(), &whole), ".wh.bin etc etc/.wh.passwd");
    }

    #[test]
    fn a_directory_that_became_a_file_needs_no_whiteout() {
        let mut whole = sample();
        whole.remove("etc/passwd");
        whole.remove("etc");
        whole.symlink("etc", "usr/etc");
        assert_eq!(check(&sample(), &whole), "etc");
    }
}
