//! Create bodies as stock clients send them, taken off the wire.

pub const CLI_28_BODIES: &[&str] = &[
    include_str!("../../../../tests/fixtures/create-requests/cli-create.json"),
    include_str!("../../../../tests/fixtures/create-requests/cli-run.json"),
    include_str!("../../../../tests/fixtures/create-requests/cli-run-detached.json"),
    include_str!("../../../../tests/fixtures/create-requests/cli-run-interactive.json"),
    include_str!("../../../../tests/fixtures/create-requests/cli-run-no-network.json"),
    include_str!("../../../../tests/fixtures/create-requests/cli-run-terminal.json"),
    include_str!("../../../../tests/fixtures/create-requests/docker-py-0.json"),
    include_str!("../../../../tests/fixtures/create-requests/docker-py-1.json"),
];
