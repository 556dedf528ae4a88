//! Errors of the agent: what was being done, and what the kernel said.
//!
//! They end as text at a person who cannot look into the VM, so each names its thing.

use std::fmt::Display;

#[derive(Debug, thiserror::Error)]
#[error("{doing}")]
pub struct Trouble {
    doing: String,
    #[source]
    cause: Option<std::io::Error>,
}

impl Trouble {
    pub fn new(what: impl Into<String>) -> Trouble {
        Trouble { doing: what.into(), cause: None }
    }

    /// The whole story in one line.
    pub fn text(&self) -> String {
        match &self.cause {
            Some(cause) => format!("{}: {}", self.doing, plain(cause)),
            None => self.doing.clone(),
        }
    }
}

/// Says what was being done when a call failed.
pub trait While<T> {
    fn during<D: Display>(self, doing: impl FnOnce() -> D) -> Result<T, Trouble>;
}

impl<T, E: Into<std::io::Error>> While<T> for Result<T, E> {
    fn during<D: Display>(self, doing: impl FnOnce() -> D) -> Result<T, Trouble> {
        self.map_err(|cause| Trouble { doing: doing().to_string(), cause: Some(cause.into()) })
    }
}

/// The kernel's word as Go programs print it: lower case, without the number.
pub fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let bare = text.split(" (os error").next().unwrap_or(&text);
    // ETXTBSY, EIO and their like begin with an acronym only in other languages than ours.
    bare.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_reads_as_one_line() {
        let missing: Result<(), _> = Err(std::io::Error::from_raw_os_error(libc::ENOENT));
        let trouble = missing.during(|| "mount base disk").unwrap_err();
        assert_eq!(trouble.text(), "mount base disk: no such file or directory");
    }
}
