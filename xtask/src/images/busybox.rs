//! The busybox image: Debian's static busybox under the name of each of its commands, and the few
//! files that programs look for.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::images::tree::Tree;
use crate::process::{capture, command};

const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
mail:x:8:8:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
";
const GROUP: &[u8] = b"root:x:0:
daemon:x:1:
bin:x:2:
mail:x:8:
www-data:x:33:
users:x:100:
nobody:x:65534:
";

const DIRECTORIES: [(&str, u32, u64); 17] = [
    ("bin", 0o755, 0),
    ("dev", 0o755, 0),
    ("etc", 0o755, 0),
    ("home", 0o755, 65534),
    ("proc", 0o755, 0),
    ("root", 0o700, 0),
    ("run", 0o755, 0),
    ("sys", 0o755, 0),
    ("tmp", 0o1777, 0),
    ("usr", 0o755, 0),
    ("usr/bin", 0o755, 0),
    ("usr/sbin", 0o755, 0),
    ("var", 0o755, 0),
    ("var/log", 0o755, 0),
    ("var/spool", 0o755, 0),
    ("var/spool/mail", 0o755, 8),
    ("var/www", 0o755, 33),
];

/// Makes the tree from the unpacked package.
pub fn tree(package: &Path) -> Result<Tree> {
    let places = ["bin/busybox", "usr/bin/busybox"].map(|place| package.join(place));
    let program = places.iter().find(|place| place.is_file()).with_context(|| {
        format!("no busybox in {}; delete that directory and try again", package.display())
    })?;
    let bytes = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    Ok(with_commands(bytes, &capture(command(program).arg("--list"))?))
}

fn with_commands(program: Vec<u8>, commands: &str) -> Tree {
    let mut tree = Tree::default();
    for (path, mode, owner) in DIRECTORIES {
        tree.directory(path, mode, owner, owner);
    }
    let mut names: Vec<&str> = commands.split_whitespace().chain(["busybox"]).collect();
    names.sort_unstable();
    names.dedup();
    let first = format!("bin/{}", names[0]);
    tree.file(&first, 0o755, program);
    for name in &names[1..] {
        tree.hard_link(format!("bin/{name}"), &first);
    }
    tree.symlink("usr/bin/env", "/bin/env");
    tree.file("etc/passwd", 0o644, PASSWD);
    tree.file("etc/group", 0o644, GROUP);
    tree.file("etc/shadow", 0o640, *b"root:*:10933:0:99999:7:::\n");
    tree.file("etc/os-release", 0o644, *b"NAME=\"BusyBox\"\nID=busybox\n");
    tree
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::tree::Kind;

    #[test]
    fn every_command_is_a_name_of_one_file() {
        let tree = with_commands(b"program".to_vec(), "sh\nls\n[\nbusybox\nenv\n");
        let in_bin = tree.nodes().filter(|(path, _)| path.parent() == Some(Path::new("bin")));
        let (files, links): (Vec<_>, Vec<_>) =
            in_bin.partition(|(_, node)| matches!(node.kind, Kind::File(_)));
        assert_eq!(files.len(), 1);
        assert_eq!(files[0].0, Path::new("bin/["));
        assert_eq!(links.len(), 4);
        assert!(links.iter().all(|(_, node)| node.kind == Kind::HardLink("bin/[".into())));
        assert!(links.iter().all(|(_, node)| node.mode == 0o755));
    }

    #[test]
    fn directories_belong_to_whom_they_should() {
        let tree = with_commands(Vec::new(), "");
        let find = |name: &str| tree.nodes().find(|(path, _)| *path == Path::new(name)).unwrap().1;
        assert_eq!((find("tmp").mode, find("tmp").uid), (0o1777, 0));
        assert_eq!((find("var/www").uid, find("var/www").gid), (33, 33));
        assert_eq!(find("root").mode, 0o700);
    }
}
