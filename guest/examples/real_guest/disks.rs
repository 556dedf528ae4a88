//! The disks that all machines share.

use crate::Outcome;
use crate::machine::run;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A base disk with busybox, and a blank delta disk.
pub fn make(work: &Path) -> Outcome<(PathBuf, PathBuf)> {
    let (root, base) = (work.join("root"), work.join("base.squashfs"));
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    for directory in ["bin", "etc", "tmp", "home/app"] {
        fs::create_dir_all(root.join(directory))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    let list = Command::new("/bin/busybox").arg("--list").output()?;
    for applet in String::from_utf8(list.stdout)?.lines().filter(|name| *name != "busybox") {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet))?;
    }
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n\
         app:x:1000:1000::/home/app:/bin/sh\n",
    )?;
    fs::write(
        root.join("etc/group"),
        "root:x:0:\nwheel:x:10:root,app\nnogroup:x:65534:\napp:x:1000:\n",
    )?;
    fs::write(root.join("etc/plain"), "not a program\n")?;
    fs::write(root.join("bin/garbage"), [0xff; 100])?;
    std::os::unix::fs::symlink("/run/somewhere/resolv.conf", root.join("etc/resolv.conf"))?;
    run(Command::new("chmod").arg("755").arg(root.join("bin/garbage")))?;
    if base.exists() {
        fs::remove_file(&base)?;
    }
    run(Command::new("mksquashfs").arg(&root).arg(&base).args([
        "-comp",
        "lz4",
        "-noappend",
        "-quiet",
        "-all-root",
    ]))?;
    let (raw, blank) = (work.join("blank.raw"), work.join("blank.qcow2"));
    File::create(&raw)?.set_len(1 << 30)?;
    run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&raw))?;
    run(Command::new("qemu-img").args(["convert", "-O", "qcow2"]).arg(&raw).arg(&blank))?;
    fs::remove_file(&raw)?;
    Ok((base, blank))
}
