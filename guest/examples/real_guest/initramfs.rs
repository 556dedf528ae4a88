//! The guest's initramfs: the agent as /init, and the modules that it loads.

use crate::Outcome;
use cpio::newc::{Builder, trailer};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};

const WANTED: &str = include_str!("../../modules.txt");

/// Writes the archive. `kernel_package` is the directory that the kernel's package was unpacked to.
pub fn write(target: &Path, agent: &Path, kernel_package: &Path) -> Outcome<()> {
    let known = module_files(&kernel_package.join("lib/modules"))?;
    let mut order = Vec::new();
    for name in WANTED.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        visit(name, &known, &mut order)?;
    }
    let mut archive = Cursor::new(Vec::new());
    let mut names = String::new();
    directory(&mut archive, "modules")?;
    for (name, path) in &order {
        let file = format!("{name}.ko");
        put(&mut archive, &format!("modules/{file}"), 0o100644, &slim(fs::read(path)?))?;
        names.push_str(&file);
        names.push('\n');
    }
    put(&mut archive, "modules/order", 0o100644, names.as_bytes())?;
    put(&mut archive, "init", 0o100755, &fs::read(agent)?)?;
    trailer(&mut archive)?;
    fs::write(target, archive.into_inner())?;
    Ok(())
}

/// An archive that holds nothing but the agent.
pub fn write_agent_alone(target: &Path, agent: &Path) -> Outcome<()> {
    let mut archive = Cursor::new(Vec::new());
    put(&mut archive, "init", 0o100755, &fs::read(agent)?)?;
    trailer(&mut archive)?;
    fs::write(target, archive.into_inner())?;
    Ok(())
}

/// Every module file below a directory, by name with underscores.
fn module_files(directory: &Path) -> Outcome<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![directory.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            if path.is_dir() {
                waiting.push(path);
            } else if let Some(name) = path.file_name().and_then(|name| name.to_str())
                && let Some(name) = name.strip_suffix(".ko")
            {
                found.insert(name.replace('-', "_"), path);
            }
        }
    }
    Ok(found)
}

/// Appends a module behind those that it needs.
fn visit(
    name: &str,
    known: &BTreeMap<String, PathBuf>,
    order: &mut Vec<(String, PathBuf)>,
) -> Outcome<()> {
    if order.iter().any(|(done, _)| done == name) {
        return Ok(());
    }
    let path = known.get(name).ok_or_else(|| format!("the kernel has no module {name}"))?;
    let bytes = fs::read(path)?;
    for needed in needs(&bytes) {
        visit(&needed, known, order)?;
    }
    order.push((name.to_string(), path.clone()));
    Ok(())
}

/// The names behind `depends=` in a module's .modinfo, which holds strings ended by zeros.
fn needs(module: &[u8]) -> Vec<String> {
    let key = b"\0depends=";
    let Some(at) = module.windows(key.len()).position(|window| window == key) else {
        return Vec::new();
    };
    let value = module[at + key.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(value)
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

/// Without the signature, which costs the guest an RSA verification each, and with its type data
/// renamed, so that the kernel does not parse it.
fn slim(mut module: Vec<u8>) -> Vec<u8> {
    if std::env::var_os("REAL_GUEST_FAT").is_some() {
        return module;
    }
    const MARK: &[u8] = b"~Module signature appended~\n";
    if module.ends_with(MARK) {
        let info = module.len() - MARK.len() - 12;
        // struct module_signature ends with the big-endian length of the signature before it.
        let length =
            module[info + 8..info + 12].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        module.truncate(info.saturating_sub(length));
    }
    let name = b"\0.BTF\0";
    if let Some(at) = module.windows(name.len()).rposition(|window| window == name) {
        module[at + 1..at + 5].copy_from_slice(b".off");
    }
    module
}

fn directory(archive: &mut Cursor<Vec<u8>>, name: &str) -> Outcome<()> {
    Builder::new(name).mode(0o040755).write(archive, 0).finish()?;
    Ok(())
}

fn put(archive: &mut Cursor<Vec<u8>>, name: &str, mode: u32, bytes: &[u8]) -> Outcome<()> {
    let mut writer = Builder::new(name).mode(mode).write(archive, u32::try_from(bytes.len())?);
    writer.write_all(bytes)?;
    writer.finish()?;
    Ok(())
}
