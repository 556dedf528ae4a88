//! The initramfs: the guest agent as `/init`, and the kernel modules that it loads first.
//!
//! `/modules/NAME.ko` are the files, `/modules/order` names them one a line in the order in which
//! they can be loaded. The same input gives the same bytes. It is not compressed: the guest would
//! spend more time on unpacking it than the host saves on reading it.

use std::io::Write;

use anyhow::{Context, Result};
use cpio::newc::{Builder, ModeFileType, trailer};

use crate::kernel_modules::Module;

/// Mount points that exist before the agent runs.
const DIRECTORIES: [&str; 6] = ["dev", "proc", "sys", "run", "tmp", "modules"];

pub fn build(agent: &[u8], modules: &[Module]) -> Result<Vec<u8>> {
    let mut archive = Archive { bytes: Vec::new(), entries: 0 };
    for directory in DIRECTORIES {
        archive.add(directory, ModeFileType::Directory, 0o755, &[])?;
    }
    archive.add("init", ModeFileType::Regular, 0o755, agent)?;
    let mut order = String::new();
    for module in modules {
        let file = format!("{}.ko", module.name);
        archive.add(&format!("modules/{file}"), ModeFileType::Regular, 0o644, &module.bytes)?;
        order += &format!("{file}\n");
    }
    archive.add("modules/order", ModeFileType::Regular, 0o644, order.as_bytes())?;
    Ok(trailer(archive.bytes)?)
}

struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, name: &str, kind: ModeFileType, mode: u32, bytes: &[u8]) -> Result<()> {
        self.entries += 1;
        let size = u32::try_from(bytes.len()).context("too large for an initramfs")?;
        let entry = Builder::new(name).ino(self.entries).mode(mode).set_mode_file_type(kind);
        let mut writer = entry.write(std::mem::take(&mut self.bytes), size);
        writer.write_all(bytes)?;
        self.bytes = writer.finish()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cpio::newc::Reader;
    use std::io::Read;

    fn check(modules: &[&str]) -> Vec<(String, u32, String)> {
        let module = |name: &&str| Module { name: (*name).to_owned(), bytes: b"code".to_vec() };
        let modules: Vec<Module> = modules.iter().map(module).collect();
        let archive = build(b"agent", &modules).unwrap();
        assert_eq!(archive, build(b"agent", &modules).unwrap());
        let mut rest = archive.as_slice();
        let mut entries = Vec::new();
        loop {
            let mut reader = Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                return entries;
            }
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            let entry = reader.entry();
            entries.push((entry.name().to_owned(), entry.mode(), text));
            rest = reader.finish().unwrap();
        }
    }

    #[test]
    fn the_agent_is_init_and_modules_follow_in_load_order() {
        let entries = check(&["virtio_ring", "virtio_blk"]);
        let find = |name: &str| entries.iter().find(|entry| entry.0 == name).unwrap();
        assert_eq!(find("init"), &("init".into(), 0o100755, "agent".into()));
        assert_eq!(find("modules/virtio_blk.ko").1, 0o100644);
        assert_eq!(find("modules/order").2, "virtio_ring.ko\nvirtio_blk.ko\n");
        assert_eq!(find("dev").1, 0o040755);
    }

    #[test]
    fn without_modules_the_order_is_empty() {
        let entries = check(&[]);
        assert_eq!(entries.last().unwrap(), &("modules/order".into(), 0o100644, String::new()));
    }
}
