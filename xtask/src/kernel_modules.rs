//! Kernel modules: which files the wanted ones need, in an order in which they can be loaded.
//!
//! A kernel package brings no `modules.dep`; that file is made when a kernel is installed, which we
//! never do. So the dependencies are read from where they come from, the modules themselves.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::elf;
use crate::process::command;

/// A module as it goes into the initramfs.
#[derive(Debug, PartialEq, Eq)]
pub struct Module {
    /// With underscores, as the kernel shows it.
    pub name: String,
    /// Uncompressed.
    pub bytes: Vec<u8>,
}

/// The modules of one kernel.
pub struct ModuleTree {
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
    aliases: OnceCell<BTreeMap<String, String>>,
}

/// What a module says about itself.
#[derive(Debug, Default, PartialEq, Eq)]
struct About {
    depends: Vec<String>,
    /// Not by symbol, but to be loaded before if there.
    wants_before: Vec<String>,
    aliases: Vec<String>,
}

impl ModuleTree {
    /// Reads `lib/modules/RELEASE`.
    pub fn read(folder: &Path) -> Result<ModuleTree> {
        let mut files = BTreeMap::new();
        collect(folder, &mut files)
            .with_context(|| format!("cannot list the modules in {}", folder.display()))?;
        let list = folder.join("modules.builtin");
        let builtin = fs::read_to_string(&list)
            .with_context(|| format!("cannot read {}", list.display()))?
            .lines()
            .filter_map(|line| module_name(Path::new(line)))
            .collect();
        Ok(ModuleTree { files, builtin, aliases: OnceCell::new() })
    }

    /// The wanted modules and all that they need, each after what it needs. What is built into the
    /// kernel is left out; a name that the kernel knows nothing of is an error.
    pub fn load_order(&self, wanted: &[String]) -> Result<Vec<Module>> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for name in wanted {
            let name =
                self.resolve(name)?.with_context(|| format!("this kernel has no module {name}"))?;
            self.visit(&name, &mut seen, &mut order)?;
        }
        Ok(order)
    }

    fn visit(
        &self,
        name: &str,
        seen: &mut BTreeSet<String>,
        order: &mut Vec<Module>,
    ) -> Result<()> {
        if self.builtin.contains(name) || !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let file = self.files.get(name).with_context(|| format!("no file of module {name}"))?;
        let bytes = uncompressed(file)?;
        let about =
            about(&bytes).with_context(|| format!("{} is not a kernel module", file.display()))?;
        for before in &about.wants_before {
            if let Some(before) = self.resolve(before)? {
                self.visit(&before, seen, order)?;
            }
        }
        for needed in &about.depends {
            let needed = self
                .resolve(needed)?
                .with_context(|| format!("module {name} needs {needed}, which is not there"))?;
            self.visit(&needed, seen, order)?;
        }
        order.push(Module { name: name.to_owned(), bytes });
        Ok(())
    }

    /// The module of this name, or the one with this alias.
    fn resolve(&self, name: &str) -> Result<Option<String>> {
        let plain = name.replace('-', "_");
        if self.files.contains_key(&plain) || self.builtin.contains(&plain) {
            return Ok(Some(plain));
        }
        if self.aliases.get().is_none() {
            let mut aliases = BTreeMap::new();
            for (module, file) in &self.files {
                for alias in about(&uncompressed(file)?).unwrap_or_default().aliases {
                    aliases.entry(alias).or_insert_with(|| module.clone());
                }
            }
            self.aliases.get_or_init(|| aliases);
        }
        Ok(self.aliases.get().and_then(|aliases| aliases.get(name).cloned()))
    }
}

/// The names in a list with one module a line; `#` starts a comment.
pub fn parse_wanted(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn collect(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            collect(&path, files)?;
        } else if let Some(name) = module_name(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// `virtio-rng.ko.xz` is the module `virtio_rng`.
fn module_name(file: &Path) -> Option<String> {
    let (name, rest) = file.file_name()?.to_str()?.split_once(".ko")?;
    matches!(rest, "" | ".xz" | ".zst" | ".gz").then(|| name.replace('-', "_"))
}

/// The guest's agent loads plain modules; later kernels of Debian carry them compressed.
fn uncompressed(file: &Path) -> Result<Vec<u8>> {
    let program = match file.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(file).with_context(|| format!("cannot read {}", file.display())),
    };
    let output =
        command(program).arg("-dc").arg(file).output().with_context(|| {
            format!("cannot run {program}; install it to unpack kernel modules")
        })?;
    if !output.status.success() {
        bail!("{program} cannot unpack {}", file.display());
    }
    Ok(output.stdout)
}

fn about(module: &[u8]) -> Option<About> {
    let mut about = About::default();
    for field in elf::section(module, ".modinfo")?.split(|byte| *byte == 0) {
        let Some((key, value)) = std::str::from_utf8(field).ok().and_then(|it| it.split_once('='))
        else {
            continue;
        };
        match key {
            "depends" => about.depends.extend(list(value, ',')),
            "softdep" => about.wants_before.extend(before(value)),
            "alias" => about.aliases.push(value.to_owned()),
            _ => {}
        }
    }
    Some(about)
}

/// `pre: a b post: c` asks for a and b before.
fn before(value: &str) -> Vec<String> {
    let words = value.split_whitespace().skip_while(|word| *word != "pre:").skip(1);
    words.take_while(|word| !word.ends_with(':')).map(str::to_owned).collect()
}

fn list(value: &str, separator: char) -> Vec<String> {
    value.split(separator).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::tests::file_with_section;

    /// A tree from lines `path: fields`, and the names of the order for `wanted`.
    fn check(files: &[(&str, &str)], builtin: &str, wanted: &str) -> Result<String> {
        let folder = tempfile::tempdir().unwrap();
        for (path, fields) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let modinfo = fields.replace(' ', "\0").replace('~', " ");
            fs::write(path, file_with_section(".modinfo", modinfo.as_bytes())).unwrap();
        }
        fs::write(folder.path().join("modules.builtin"), builtin).unwrap();
        let order = ModuleTree::read(folder.path())?.load_order(&parse_wanted(wanted))?;
        Ok(order.into_iter().map(|module| module.name).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn each_module_comes_after_what_it_needs_and_only_once() {
        let files = [
            ("kernel/blk.ko", "depends=ring,core name=blk"),
            ("kernel/net.ko", "depends=ring,failover"),
            ("kernel/ring.ko", "depends=core"),
            ("kernel/deep/core.ko", "depends="),
            ("kernel/failover.ko", "depends="),
            ("kernel/other.ko", "depends="),
        ];
        assert_eq!(check(&files, "", "blk\nnet").unwrap(), "core ring blk failover net");
    }

    #[test]
    fn dashes_and_underscores_are_one_name() {
        let files = [("virtio-rng.ko", "depends=virtio_ring"), ("virtio-ring.ko", "depends=")];
        assert_eq!(check(&files, "", "virtio_rng").unwrap(), "virtio_ring virtio_rng");
    }

    #[test]
    fn what_is_built_in_is_left_out() {
        let files = [("overlay.ko", "depends=crc32c_generic")];
        let builtin = "kernel/fs/ext4/ext4.ko\nkernel/crypto/crc32c-generic.ko\n";
        assert_eq!(check(&files, builtin, "ext4\noverlay").unwrap(), "overlay");
    }

    #[test]
    fn a_soft_dependency_is_found_by_alias_and_may_be_absent() {
        let files = [
            ("fs.ko", "depends= softdep=pre:~crc32c~gone~post:~late"),
            ("crc.ko", "alias=crc32c depends="),
            ("late.ko", "depends="),
        ];
        assert_eq!(check(&files, "", "fs").unwrap(), "crc fs");
    }

    #[test]
    fn an_unknown_module_is_an_error_that_names_it() {
        assert_eq!(
            check(&[], "", "# a comment\n\nnothing # here").unwrap_err().to_string(),
            "this kernel has no module nothing"
        );
    }

    #[test]
    fn a_missing_dependency_is_an_error_that_names_both() {
        let error = check(&[("fs.ko", "depends=gone")], "", "fs").unwrap_err().to_string();
        assert_eq!(error, "module fs needs gone, which is not there");
    }
}
