//! Rules of the tree that no compiler checks: which crate may use which, what pure zones must
//! not touch, where versions and reasons stand, and which licences come in.
//!
//! The rules are those of CONTRIBUTING.md; each failure names the file and the rule.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ has a parent").to_path_buf()
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .exec()
        .expect("cargo metadata of this workspace")
}

/// For each of our packages, the packages of ours that it may use.
fn allowed_edges() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let table: &[(&str, &[&str])] = &[
        ("berth-model", &[]),
        ("berth-wire", &[]),
        ("berth-metrics", &[]),
        ("berth-raft", &["wire", "metrics"]),
        ("berth-scheduler", &["model", "raft", "wire", "metrics"]),
        ("berth-node", &["model", "wire", "metrics"]),
        ("berth-api", &["model", "scheduler", "wire", "metrics"]),
        ("berth-guest", &["model", "wire"]),
        ("berth-client", &["model", "wire"]),
        ("berth-simulate", &["model", "raft", "scheduler", "node", "wire", "metrics"]),
        (
            "berth",
            &["model", "wire", "metrics", "raft", "scheduler", "node", "api", "client", "simulate"],
        ),
        ("xtask", &[]),
    ];
    table.iter().map(|(name, uses)| (*name, uses.iter().copied().collect())).collect()
}

#[test]
fn crates_use_only_the_crates_below_them() {
    let allowed = allowed_edges();
    let mut wrong = Vec::new();
    for package in metadata().workspace_packages() {
        let Some(uses) = allowed.get(package.name.as_str()) else {
            assert_eq!(package.name.as_str(), "berth-tests", "a crate without a row in the table");
            continue;
        };
        for dependency in &package.dependencies {
            let ours = dependency.name.strip_prefix("berth-");
            if let (Some(used), true) = (ours, dependency.kind != DependencyKind::Development)
                && !uses.contains(used)
            {
                wrong.push(format!("{} must not use berth-{used}", package.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Folders and files where code decides and touches nothing.
const PURE_ZONES: &[&str] = &[
    "model/src",
    "scheduler/src/fleet",
    "scheduler/src/placement",
    "scheduler/src/planner",
    "scheduler/src/failover",
    "scheduler/src/packing",
    "scheduler/src/balancing",
    "scheduler/src/whatif",
    "node/src/vm/lifecycle",
    "node/src/assignment_diff",
    "node/src/keeper/decide",
    "node/src/hypervisor/qemu/command_line",
    "api/src/docker/translate",
];

const FORBIDDEN_IN_PURE_ZONES: &[&str] = &[
    "actix",
    "tokio",
    "std::fs",
    "std::thread",
    "std::process",
    "std::net::Tcp",
    "std::net::Udp",
    "std::os::unix::net",
    "Instant",
    "SystemTime",
    "rand::rng",
    "thread_rng",
    "OsRng",
    "tracing",
    "println!",
    "eprintln!",
    "berth_metrics",
    "prometheus",
    "HashMap",
    "HashSet",
];

#[test]
fn pure_zones_touch_nothing() {
    let mut wrong = Vec::new();
    for zone in PURE_ZONES {
        let files = zone_files(zone);
        assert!(!files.is_empty(), "pure zone {zone} has no files: mend the list");
        for file in files {
            if file.file_name().is_some_and(|name| name == "tests.rs") {
                continue;
            }
            let text = read(&file);
            for (number, line) in code_lines(&text) {
                for word in FORBIDDEN_IN_PURE_ZONES {
                    if contains_word(line, word) {
                        wrong.push(format!("{}:{number}: {word}", shown(&file)));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "pure zones must not use:\n{}", wrong.join("\n"));
}

/// The zone as a folder, or as the one file of that name.
fn zone_files(zone: &str) -> Vec<PathBuf> {
    let folder = root().join(zone);
    if folder.is_dir() {
        return rust_files(&folder);
    }
    let file = root().join(format!("{zone}.rs"));
    if file.is_file() { vec![file] } else { Vec::new() }
}

/// Lines of code with their number: no comments, and nothing from `#[cfg(test)]` on, which
/// stands at the foot of a file.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .map(|(at, line)| (at + 1, line.split("//").next().unwrap_or_default()))
}

fn contains_word(line: &str, word: &str) -> bool {
    let boundary = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
    line.match_indices(word).any(|(at, _)| {
        let after = line[at + word.len()..].chars().next();
        boundary(line[..at].chars().next_back())
            && (word.ends_with(['!'])
                || word.contains("Tcp")
                || word.contains("Udp")
                || boundary(after))
    })
}

#[test]
fn every_file_says_what_it_is() {
    let wrong: Vec<String> = our_rust_files()
        .into_iter()
        .filter(|file| !read(file).starts_with("//!"))
        .map(|file| shown(&file))
        .collect();
    assert!(wrong.is_empty(), "these do not open with `//!`:\n{}", wrong.join("\n"));
}

#[test]
fn no_module_is_a_grab_bag() {
    const BANNED: &[&str] =
        &["util", "utils", "common", "helpers", "helper", "types", "manager", "misc"];
    let wrong: Vec<String> = our_rust_files()
        .into_iter()
        .filter(|file| {
            let stem = file.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
            let folder =
                file.parent().and_then(Path::file_name).and_then(|s| s.to_str()).unwrap_or("");
            BANNED.contains(&stem) || (stem == "mod" && BANNED.contains(&folder))
        })
        .map(|file| shown(&file))
        .collect();
    assert!(wrong.is_empty(), "say what these hold:\n{}", wrong.join("\n"));
}

#[test]
fn no_test_is_switched_off() {
    let mark = concat!("#[", "ignore");
    let wrong: Vec<String> = our_rust_files()
        .into_iter()
        .filter(|file| read(file).contains(mark))
        .map(|file| shown(&file))
        .collect();
    assert!(wrong.is_empty(), "a test that cannot run says so and fails:\n{}", wrong.join("\n"));
}

#[test]
fn versions_and_reasons_stand_in_the_root_manifest_alone() {
    let text = read(&root().join("Cargo.toml"));
    let mut wrong = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with('[') {
            inside = line == "[workspace.dependencies]";
        } else if inside
            && line.contains('=')
            && !line.starts_with("berth-")
            && !line.trim_start().starts_with('#')
            && !line.contains(" # ")
        {
            wrong.push(format!("Cargo.toml: no reason beside `{line}`"));
        }
    }
    for package in metadata().workspace_packages() {
        let manifest = package.manifest_path.as_std_path();
        let mut section = String::new();
        for line in read(manifest).lines() {
            if line.starts_with('[') {
                section = line.to_owned();
            } else if section.contains("dependencies")
                && line.contains('=')
                && !line.trim_start().starts_with('#')
                && !line.contains("workspace = true")
            {
                wrong.push(format!("{}: `{line}` has a version of its own", shown(manifest)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const LICENCES: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "MIT",
    "MIT-0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MPL-2.0",
    "MPL-2.0+",
    "OpenSSL",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
    "0BSD",
];

#[test]
fn every_dependency_comes_under_an_allowed_licence() {
    let mut wrong = Vec::new();
    for package in &metadata().packages {
        let Some(licence) = &package.license else {
            if package.license_file.is_none() {
                wrong.push(format!("{} names no licence", package.name));
            }
            continue;
        };
        if !licence_allowed(licence) {
            wrong.push(format!("{}: {licence}", package.name));
        }
    }
    assert!(wrong.is_empty(), "licences not on the list:\n{}", wrong.join("\n"));
}

/// An SPDX expression is allowed if each AND part has an allowed alternative.
fn licence_allowed(expression: &str) -> bool {
    expression
        .replace('/', " OR ")
        .replace(['(', ')'], " ")
        .split(" AND ")
        .all(|part| part.split(" OR ").any(|one| LICENCES.contains(&one.trim())))
}

#[test]
fn no_banned_crate_comes_in() {
    const BANNED: &[(&str, &str)] = &[
        ("openssl", "rustls carries TLS"),
        ("openssl-sys", "rustls carries TLS"),
        ("native-tls", "rustls carries TLS"),
        ("aws-lc-sys", "ring is the provider; this one compiles C for minutes"),
        ("prost", "protobuf never meets network bytes"),
        ("tonic", "links are our own framing"),
        ("rocksdb", "raft-engine is the log"),
    ];
    let present: BTreeSet<String> = resolved_packages(&metadata()).into_iter().collect();
    let wrong: Vec<String> = BANNED
        .iter()
        .filter(|(name, _)| present.contains(*name))
        .map(|(name, reason)| format!("{name}: {reason}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn resolved_packages(metadata: &Metadata) -> Vec<String> {
    let resolve = metadata.resolve.as_ref().expect("metadata with a resolve graph");
    let names: BTreeMap<_, _> =
        metadata.packages.iter().map(|p| (p.id.clone(), p.name.to_string())).collect();
    resolve.nodes.iter().filter_map(|node| names.get(&node.id).cloned()).collect()
}

fn our_rust_files() -> Vec<PathBuf> {
    metadata()
        .workspace_packages()
        .iter()
        .filter_map(|p| p.manifest_path.parent().map(|d| d.as_std_path().to_path_buf()))
        .flat_map(|folder| rust_files(&folder))
        .collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for entry in entries {
        let path = entry.expect("a readable directory entry").path();
        if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

fn shown(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string()
}
