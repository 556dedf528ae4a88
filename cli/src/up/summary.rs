//! What `berth up` prints once all is ready: the part to copy into a shell, on stdout.

use super::cell_file::CellFile;
use std::io::Write;
use std::path::Path;

pub fn print(state: &Path, cell: &CellFile, adopted: usize) {
    // A closed stdout must not end the cell.
    let _gone = std::io::stdout().write_all(text(state, cell, adopted).as_bytes());
}

fn text(state: &Path, cell: &CellFile, adopted: usize) -> String {
    let mut docker = cell.addresses("docker");
    let mut api = cell.addresses("api");
    let first = docker.next().map_or_else(String::new, |address| format!("tcp://{address}"));
    let others: Vec<String> = docker.map(|address| format!("tcp://{address}")).collect();
    let first_api = api.next().map_or_else(String::new, |address| format!("http://{address}"));
    let other_apis: Vec<String> = api.map(|address| format!("http://{address}")).collect();
    let mut text = format!(
        "\n{} is up: {}, {}{}.\n\n",
        cell.name,
        count(other_apis.len() + 1, "scheduler"),
        count(cell.hosts.len(), "host"),
        if adopted > 0 { ", some of them adopted" } else { "" }
    );
    text.push_str(&format!("  export DOCKER_HOST={first}\n"));
    if !others.is_empty() {
        text.push_str(&format!("  # the same endpoint: {}\n", others.join(" ")));
    }
    text.push_str(&format!("  export BERTH_API={first_api}\n"));
    if !other_apis.is_empty() {
        text.push_str(&format!("  # the same API: {}\n", other_apis.join(" ")));
    }
    text.push_str(&format!(
        "  # all processes, addresses and logs: {}\n",
        CellFile::path(state).display()
    ));
    text.push_str(
        "\nTry, in another terminal after these exports:\n\
         \x20 docker load -i busybox.tar    # `cargo xtask images` makes it; any archive of `docker save`\n\
         \x20 docker run --rm busybox uname -r\n\
         \x20 berth get hosts\n",
    );
    text
}

/// `1 host`, `3 hosts`.
pub fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
