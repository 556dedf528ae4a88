//! The programs of other projects that berth needs, each with the Debian package that brings it and
//! the reason why. What is decided by is the program, not the package: a machine may have it from
//! elsewhere.

/// A program that must be on the search path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tool {
    pub program: &'static str,
    pub package: &'static str,
    pub why: &'static str,
}

/// What `berth up` needs.
pub fn to_run() -> Vec<Tool> {
    let mut tools = vec![
        tool(QEMU, "qemu-system-x86", "runs each container as a virtual machine"),
        tool("qemu-img", "qemu-utils", "makes the writable disk of a container VM"),
        tool("sqfstar", "squashfs-tools", "packs image layers into a read-only disk"),
        tool("mkfs.ext4", "e2fsprogs", "formats writable disks"),
        tool("ip", "iproute2", "gives every host of `berth up` a network namespace"),
        tool("nft", "nftables", "lets guests out of these namespaces, and nobody in"),
    ];
    tools.extend(to_make_assets());
    tools
}

/// What making the initramfs needs.
pub fn to_make_assets() -> Vec<Tool> {
    vec![tool("xz", "xz-utils", "unpacks kernel modules, which newer kernels compress")]
}

/// What making images needs.
pub fn to_make_images() -> Vec<Tool> {
    let mut tools = vec![tool(
        "mmdebstrap",
        "mmdebstrap",
        "makes the Debian file system below redis and nginx",
    )];
    if !crate::packages::is_root() {
        tools.push(tool("newuidmap", "uidmap", "lets mmdebstrap work without being root"));
    }
    tools
}

/// What the tests need.
pub fn to_test() -> Vec<Tool> {
    let mut tools = to_run();
    tools.extend(to_make_images());
    tools.push(tool(
        "virtualenv",
        "virtualenv",
        "keeps the Python program that tests the API apart",
    ));
    tools
}

/// Must be installed by itself and first, see [`crate::packages::Apt::ensure`].
pub const QEMU: &str = "qemu-system-x86_64";

fn tool(program: &'static str, package: &'static str, why: &'static str) -> Tool {
    Tool { program, package, why }
}
