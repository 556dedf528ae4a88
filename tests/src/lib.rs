//! What the tests over processes and guests share: a cell of their own, the stock Docker client,
//! and waiting for conditions with a deadline.

pub mod cell;
pub mod command_line;
pub mod docker;
pub mod exposition;
pub mod leftovers;
pub mod tmpfs;
pub mod wait;

/// A file or program that `cargo xtask test` names in the environment.
///
/// # Panics
/// If it is not set: a test that cannot run says so and fails.
pub fn from_environment(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set; run these tests through `cargo xtask test`, which sets it")
    })
}
