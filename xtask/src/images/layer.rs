//! A layer: a tree as a tar file, and the digest by which images name it.
//!
//! The order is that of the paths, owners are numbers only, and nothing of the machine gets in, so
//! the same tree gives the same digest everywhere.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::images::tree::{ATTRIBUTE, Kind, Node, Tree};

/// Writes the tar file and returns its digest in hex.
pub fn write(file: &Path, tree: &Tree) -> Result<String> {
    let out = File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
    let mut builder = Builder::new(Hashing { inner: BufWriter::new(out), hash: Sha256::new() });
    for (path, node) in tree.nodes() {
        append(&mut builder, path, node)
            .with_context(|| format!("cannot write {} to a layer", path.display()))?;
    }
    let mut out = builder.into_inner()?;
    out.flush()?;
    Ok(hex::encode(out.hash.finalize()))
}

fn append<W: Write>(builder: &mut Builder<W>, path: &Path, node: &Node) -> Result<()> {
    if !node.attributes.is_empty() {
        let named = node.attributes.iter().map(|(key, value)| (format!("{ATTRIBUTE}{key}"), value));
        let named: Vec<_> = named.collect();
        let extensions = named.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
        builder.append_pax_extensions(extensions)?;
    }
    let mut header = Header::new_gnu();
    header.set_mode(node.mode);
    header.set_uid(node.uid);
    header.set_gid(node.gid);
    header.set_mtime(node.modified);
    header.set_size(0);
    match &node.kind {
        Kind::Directory => {
            header.set_entry_type(EntryType::Directory);
            builder.append_data(&mut header, path, io::empty())?;
        }
        Kind::File(content) => {
            header.set_entry_type(EntryType::Regular);
            header.set_size(content.length);
            builder.append_data(&mut header, path, content.open()?)?;
        }
        Kind::Symlink(target) => {
            header.set_entry_type(EntryType::Symlink);
            builder.append_link(&mut header, path, target)?;
        }
        Kind::HardLink(target) => {
            header.set_entry_type(EntryType::Link);
            builder.append_link(&mut header, path, target)?;
        }
    }
    Ok(())
}

/// Passes bytes on and hashes them.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Through a tar file and back.
    fn check(tree: &Tree) -> Tree {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("layer.tar");
        let digest = write(&file, tree).unwrap();
        assert_eq!(digest, write(&folder.path().join("again.tar"), tree).unwrap());
        assert_eq!(digest, hex::encode(Sha256::digest(std::fs::read(&file).unwrap())));
        Tree::from_tar(&file).unwrap()
    }

    #[test]
    fn owners_modes_and_links_survive() {
        let mut tree = Tree::default();
        tree.directory("tmp", 0o1777, 0, 0);
        tree.directory("var/lib/redis", 0o2750, 101, 4_000_000);
        tree.file("usr/bin/su", 0o4755, *b"su");
        tree.hard_link("usr/bin/su2", "usr/bin/su");
        tree.symlink("bin", "usr/bin");
        tree.symlink("etc/alternatives/awk", "/usr/bin/../bin/mawk");
        tree.file("etc/empty", 0o600, *b"");
        assert_eq!(check(&tree), tree);
    }

    #[test]
    fn long_paths_and_targets_survive() {
        let long = format!("usr/share/{}/{}", "d".repeat(120), "f".repeat(200));
        let mut tree = Tree::default();
        tree.file(&long, 0o644, vec![7; 1000]);
        tree.symlink("link", &long);
        tree.hard_link("zlink", "link");
        tree.remove("zlink");
        tree.hard_link(format!("{long}2"), &long);
        assert_eq!(check(&tree), tree);
    }

    #[test]
    fn device_nodes_are_left_out_and_the_first_name_holds_the_content() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("foreign.tar");
        let mut builder = Builder::new(File::create(&file).unwrap());
        let mut header = Header::new_ustar();
        header.set_mode(0o104755);
        header.set_size(4);
        header.set_entry_type(EntryType::Regular);
        header.set_uid(0);
        header.set_gid(42);
        header.set_mtime(crate::images::recipes::EPOCH);
        builder.append_data(&mut header, "./usr/bin/perl5", &b"perl"[..]).unwrap();
        header.set_size(0);
        header.set_entry_type(EntryType::Link);
        builder.append_link(&mut header, "./usr/bin/perl", "./usr/bin/perl5").unwrap();
        header.set_entry_type(EntryType::Char);
        builder.append_data(&mut header, "./dev/null", io::empty()).unwrap();
        header.set_entry_type(EntryType::Directory);
        builder.append_data(&mut header, "./", io::empty()).unwrap();
        builder.into_inner().unwrap();

        let tree = Tree::from_tar(&file).unwrap();
        let nodes: Vec<_> = tree.nodes().collect();
        assert_eq!(nodes.len(), 2, "{nodes:?}");
        assert_eq!(nodes[0].0, Path::new("usr/bin/perl"));
        assert_eq!((nodes[0].1.mode, nodes[0].1.gid), (0o4755, 42));
        assert!(matches!(nodes[0].1.kind, Kind::File(_)));
        assert_eq!(nodes[1].1.kind, Kind::HardLink("usr/bin/perl".into()));
    }

    #[test]
    fn extended_attributes_survive() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ping.tar");
        let mut builder = Builder::new(File::create(&file).unwrap());
        let value: &[u8] = b"\x01\x00\x00\x02\x00\x20";
        builder.append_pax_extensions([("SCHILY.xattr.security.capability", value)]).unwrap();
        let mut header = Header::new_gnu();
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(0);
        builder.append_data(&mut header, "ping", io::empty()).unwrap();
        builder.into_inner().unwrap();
        let tree = Tree::from_tar(&file).unwrap();
        let (_, ping) = tree.nodes().next().unwrap();
        assert_eq!(ping.attributes["security.capability"], value);
        assert_eq!(check(&tree), tree);
    }
}
