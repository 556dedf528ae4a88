//! Where the kernel's control groups are, and which files of a group say what. Pure.
//!
//! Two layouts: one tree for every controller (version 2), or a tree for each (version 1). Where
//! both are mounted, the controllers are in the trees of version 1 if those of cpu and memory are
//! there.
//!
//! Promises: what it answers are paths and texts; nothing is read or written here.

use super::entitlement::Claim;
use berth_model::Bytes;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// `cpu.shares` of a group in version 1 that nobody changed; it stands for a weight of 100.
const SHARES_DEFAULT: u64 = 1024;
const SHARES_MIN: u64 = 2;
const SHARES_MAX: u64 = 262_144;
const WEIGHT_DEFAULT: u64 = 100;
const WEIGHT_MAX: u64 = 10_000;

/// Roots of the trees that hold the controllers of cpu and memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// Version 1; the same directory twice where both controllers share a tree.
    Separate { cpu: PathBuf, memory: PathBuf },
    /// Version 2.
    Unified(PathBuf),
}

/// A file in a group's directory and what is to stand in it.
pub type Value = (PathBuf, String);

impl Hierarchy {
    /// From `/proc/self/mountinfo`.
    pub fn find(mountinfo: &str) -> Option<Hierarchy> {
        let (mut cpu, mut memory, mut unified) = (None, None, None);
        for line in mountinfo.lines() {
            let Some((mount, rest)) = line.split_once(" - ") else { continue };
            let Some(point) = mount.split(' ').nth(4).map(unescaped) else { continue };
            let mut words = rest.split(' ');
            let kind = words.next();
            let has = |controller| {
                words.clone().nth(1).is_some_and(|text| text.split(',').any(|it| it == controller))
            };
            match kind {
                Some("cgroup2") => drop(unified.get_or_insert(point)),
                Some("cgroup") => {
                    if has("cpu") {
                        cpu.get_or_insert(point.clone());
                    }
                    if has("memory") {
                        memory.get_or_insert(point);
                    }
                }
                Some(_) | None => {}
            }
        }
        match (cpu, memory, unified) {
            (Some(cpu), Some(memory), _) => Some(Hierarchy::Separate { cpu, memory }),
            (_, _, Some(unified)) => Some(Hierarchy::Unified(unified)),
            (Some(_), None, None) | (None, _, None) => None,
        }
    }

    /// The same group in every tree, each directory once.
    pub fn directories(&self, group: &Path) -> Vec<PathBuf> {
        let group = group.strip_prefix("/").unwrap_or(group);
        match self {
            Hierarchy::Unified(root) => vec![root.join(group)],
            Hierarchy::Separate { cpu, memory } if cpu == memory => vec![cpu.join(group)],
            Hierarchy::Separate { cpu, memory } => vec![cpu.join(group), memory.join(group)],
        }
    }

    /// What stands in the group of one container VM that is entitled to `memory`.
    pub fn member(&self, group: &Path, claim: &Claim, entitled: Bytes) -> Vec<Value> {
        let weight = u64::from(claim.cpu_weight).clamp(1, WEIGHT_MAX);
        let reservation = claim.reservation.min(claim.size);
        self.values(group, weight, reservation, entitled.max(reservation))
    }

    /// What stands in the group around them: together they weigh and are entitled to as much as
    /// each by itself, as if their groups stood beside those of the rest of the machine.
    pub fn around(&self, group: &Path, claims: &[Claim], entitled: &[Bytes]) -> Vec<Value> {
        let weight = claims.iter().map(|claim| u64::from(claim.cpu_weight)).sum::<u64>();
        let reserved = claims.iter().map(|claim| claim.reservation.min(claim.size)).sum();
        let mut values = self.values(
            group,
            weight.max(WEIGHT_DEFAULT),
            reserved,
            entitled.iter().copied().sum::<Bytes>().max(reserved),
        );
        if let Hierarchy::Separate { .. } = self {
            // A soft limit around them would only have all of them reclaimed alike.
            values.retain(|(file, _)| !file.ends_with("memory.soft_limit_in_bytes"));
        }
        values
    }

    fn values(&self, group: &Path, weight: u64, reserved: Bytes, entitled: Bytes) -> Vec<Value> {
        let group = group.strip_prefix("/").unwrap_or(group);
        match self {
            Hierarchy::Unified(root) => {
                let group = root.join(group);
                vec![
                    (group.join("cpu.weight"), weight.clamp(1, WEIGHT_MAX).to_string()),
                    (group.join("memory.min"), reserved.0.to_string()),
                    (group.join("memory.low"), entitled.0.to_string()),
                ]
            }
            Hierarchy::Separate { cpu, memory } => {
                let shares = weight.saturating_mul(SHARES_DEFAULT) / WEIGHT_DEFAULT;
                let shares = shares.clamp(SHARES_MIN, SHARES_MAX);
                vec![
                    (cpu.join(group).join("cpu.shares"), shares.to_string()),
                    (memory.join(group).join("memory.soft_limit_in_bytes"), entitled.0.to_string()),
                ]
            }
        }
    }

    /// Groups from the tree's root down to `group`, whose children need both controllers switched
    /// on: `cgroup.subtree_control` of each. None where every tree is one controller's anyway.
    pub fn switches(&self, group: &Path) -> Vec<PathBuf> {
        let Hierarchy::Unified(root) = self else { return Vec::new() };
        let group = group.strip_prefix("/").unwrap_or(group);
        let mut above: Vec<&Path> = group.ancestors().collect();
        above.reverse();
        above.into_iter().map(|part| root.join(part).join("cgroup.subtree_control")).collect()
    }
}

/// Spaces and the like are written in octal in `mountinfo`.
fn unescaped(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                bytes.push(byte);
                rest = &behind[3..];
            }
            Some(_) | None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
        31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
        35 31 0:32 / /sys/fs/cgroup/mem\\040ory rw,relatime - cgroup cgroup rw,memory\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
    const UNIFIED: &str = "\
        25 20 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,memory_recursiveprot\n";

    fn claim() -> Claim {
        let (size, reservation) = (Bytes::mib(256), Bytes::mib(64));
        Claim { size, reservation, cpu_weight: 250, memory_weight: 100 }
    }

    fn values(hierarchy: &Hierarchy, entitled: Bytes) -> Vec<(String, String)> {
        let values = hierarchy.member(Path::new("/berth-a/vm"), &claim(), entitled);
        values.into_iter().map(|(file, text)| (file.display().to_string(), text)).collect()
    }

    #[test]
    fn trees_of_version_1_win_where_they_have_the_controllers() {
        let found = Hierarchy::find(HYBRID).unwrap();
        let (cpu, memory) = ("/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/mem ory");
        assert_eq!(found, Hierarchy::Separate { cpu: cpu.into(), memory: memory.into() });
        let without_memory: Vec<&str> =
            HYBRID.lines().filter(|line| !line.contains("memory")).collect();
        let found = Hierarchy::find(&without_memory.join("\n")).unwrap();
        assert_eq!(found, Hierarchy::Unified("/sys/fs/cgroup/unified".into()));
        assert_eq!(Hierarchy::find("1 2 0:3 / / rw - ext4 /dev/a rw"), None);
    }

    #[test]
    fn version_2_says_weight_reservation_and_entitlement() {
        let found = Hierarchy::find(UNIFIED).unwrap();
        let file = |name: &str, text: u64| (format!("/sys/fs/cgroup/{name}"), text.to_string());
        assert_eq!(
            values(&found, Bytes::mib(128)),
            [
                file("berth-a/vm/cpu.weight", 250),
                file("berth-a/vm/memory.min", 64 << 20),
                file("berth-a/vm/memory.low", 128 << 20),
            ]
        );
        let switches = found.switches(Path::new("/slice/berth-a"));
        let shown: Vec<_> = switches.iter().map(|path| path.display().to_string()).collect();
        assert_eq!(
            shown,
            ["", "slice/", "slice/berth-a/"]
                .map(|part| format!("/sys/fs/cgroup/{part}cgroup.subtree_control"))
        );
    }

    #[test]
    fn version_1_says_shares_and_a_soft_limit_that_is_never_below_the_reservation() {
        let hierarchy = Hierarchy::Separate { cpu: "/c".into(), memory: "/m".into() };
        let expected = [
            ("/c/berth-a/vm/cpu.shares".to_owned(), "2560".to_owned()),
            ("/m/berth-a/vm/memory.soft_limit_in_bytes".to_owned(), (64_u64 << 20).to_string()),
        ];
        assert_eq!(values(&hierarchy, Bytes::mib(1)), expected);
        let around = hierarchy.around(Path::new("/berth-a"), &[claim(), claim()], &[]);
        assert_eq!(around, [(PathBuf::from("/c/berth-a/cpu.shares"), "5120".to_owned())]);
        assert!(hierarchy.switches(Path::new("/berth-a")).is_empty());
    }

    #[test]
    fn one_tree_for_both_controllers_is_one_directory() {
        let hierarchy = Hierarchy::Separate { cpu: "/c".into(), memory: "/c".into() };
        assert_eq!(hierarchy.directories(Path::new("/a/b")), [PathBuf::from("/c/a/b")]);
    }
}
