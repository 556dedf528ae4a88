//! Waiting until a descriptor of the kernel's has something to say.

use std::io;
use std::os::fd::OwnedFd;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor with the runtime that this is called on.
pub fn register(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, stays the same descriptor, and is closed only when it is
    // dropped, which happens after the registration ends because the `AsyncFd` owns it.
    #[expect(unsafe_code, reason = "registration is unsafe for owners that may close early")]
    let registered = unsafe { AsyncFd::register(descriptor) };
    Ok(registered?)
}
