//! A container that wants more memory than it may have ends, and says why. It never hangs.

use std::time::Duration;

use berth_tests::cell::Cell;
use berth_tests::wait;

#[test]
fn a_container_without_memory_is_killed_and_never_hangs() {
    let cell = Cell::up("om", 17900);
    let docker = cell.docker(1);
    let archive = Cell::image_archive("busybox");
    docker.ok(&["load", "-i", archive.to_str().expect("a text path")]);

    // Some of these are killed by the kernel at once; others starve over the pages of their own
    // program, where the kernel sees progress for ever and the agent must end them.
    let script = "head -c 100m /dev/zero | tail >/dev/null";
    let names: Vec<String> = (0..6).map(|number| format!("starved-{number}")).collect();
    for name in &names {
        docker.ok(&["run", "-d", "-m", "32m", "--name", name, "busybox", "sh", "-c", script]);
    }
    for name in &names {
        let state = ["inspect", "-f", "{{.State.Status}} {{.State.OOMKilled}}", name];
        let ended = wait::until(Duration::from_secs(240), "a starved container ends", || {
            let said = docker.ok(&state);
            if said.starts_with("exited") { Ok(said) } else { Err(format!("{name}: {said}")) }
        });
        assert_eq!(ended, "exited true", "{name}");
    }
}
