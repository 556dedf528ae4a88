//! What the images are: for each its content and the configuration that the engine reads.
//!
//! They stand in for the official images of these names and are configured as those are where it
//! matters to a test: working directories, volumes, ports, stop signals.

use crate::images::tree::Tree;

pub struct Recipe {
    pub name: &'static str,
    pub content: Content,
    pub command: &'static [&'static str],
    pub working_directory: &'static str,
    pub ports: &'static [&'static str],
    pub volumes: &'static [&'static str],
    pub stop_signal: Option<&'static str>,
}

pub enum Content {
    /// One static binary under many names.
    Busybox,
    /// One static binary.
    Hello,
    /// Debian as the lower layer; if there are packages, they and what `adjust` does are the upper.
    Debian { packages: &'static [&'static str], adjust: fn(&mut Tree) },
}

/// The release of Debian inside; not the machine's, so that the images are the same everywhere.
pub const SUITE: &str = "bookworm";

/// In seconds; every file that would be younger, and every date in the images.
pub const EPOCH: u64 = 1_700_000_000;
pub const EPOCH_TEXT: &str = "2023-11-14T22:13:20Z";

pub const SEARCH_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub const RECIPES: &[Recipe] = &[
    Recipe { name: "busybox", content: Content::Busybox, command: &["sh"], ..PLAIN },
    Recipe { name: "hello-world", content: Content::Hello, command: &["/hello"], ..PLAIN },
    Recipe {
        name: "debian",
        content: Content::Debian { packages: &[], adjust: |_| {} },
        command: &["bash"],
        ..PLAIN
    },
    Recipe {
        name: "redis",
        content: Content::Debian { packages: &["redis-server"], adjust: redis },
        command: &["redis-server", "--protected-mode", "no", "--dir", "/data"],
        working_directory: "/data",
        ports: &["6379/tcp"],
        volumes: &["/data"],
        ..PLAIN
    },
    Recipe {
        name: "nginx",
        content: Content::Debian { packages: &["nginx-light"], adjust: nginx },
        command: &["nginx", "-g", "daemon off;"],
        ports: &["80/tcp"],
        stop_signal: Some("SIGQUIT"),
        ..PLAIN
    },
];

const PLAIN: Recipe = Recipe {
    name: "",
    content: Content::Hello,
    command: &[],
    working_directory: "",
    ports: &[],
    volumes: &[],
    stop_signal: None,
};

fn redis(tree: &mut Tree) {
    tree.directory("data", 0o755, 0, 0);
}

/// Logs go where the engine collects them, as in the official image.
fn nginx(tree: &mut Tree) {
    tree.symlink("var/log/nginx/access.log", "/dev/stdout");
    tree.symlink("var/log/nginx/error.log", "/dev/stderr");
}
