//! Short-lived programs that the node asks for something, and the tails of what they said.

use crate::hypervisor::LaunchError;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::Stdio;

/// Runs `program` to its end; answers what it wrote on stdout.
pub async fn output<W: AsRef<OsStr>>(
    program: &Path,
    package: &'static str,
    words: impl IntoIterator<Item = W>,
) -> Result<Vec<u8>, LaunchError> {
    let shown = program.display().to_string();
    let output = tokio::process::Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                LaunchError::ProgramMissing { program: shown.clone(), package }
            } else {
                LaunchError::Io { what: "run", path: program.to_owned(), source: error }
            }
        })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let last_words = last_lines(&output.stderr, 3);
    Err(LaunchError::ProgramFailed { program: shown, last_words })
}

/// The last `count` lines that say something, joined for one line of an error.
pub fn last_lines(bytes: &[u8], count: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("; ")
}

/// The last lines of a file, which may be large; empty if there is none.
pub fn last_lines_of(path: &Path, count: usize) -> String {
    use std::io::{Read as _, Seek as _, SeekFrom};
    const TAIL: u64 = 4096;
    let read = || -> io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut tail = Vec::new();
        file.take(TAIL).read_to_end(&mut tail)?;
        Ok(tail)
    };
    last_lines(&read().unwrap_or_default(), count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_the_last_lines_that_say_something() {
        assert_eq!(last_lines(b"a\nb\n\n c \n\n", 2), "b; c");
        assert_eq!(last_lines(b"", 2), "");
    }

    #[tokio::test]
    async fn a_missing_program_names_its_package() {
        let error = output(Path::new("/no/such/program"), "some-package", ["-x"]).await;
        let text = error.unwrap_err().to_string();
        assert_eq!(text, "`/no/such/program` is not installed; install the package some-package");
    }

    #[tokio::test]
    async fn a_failing_program_is_quoted() {
        let error = output(Path::new("/bin/sh"), "dash", ["-c", "echo why >&2; exit 1"]).await;
        assert_eq!(error.unwrap_err().to_string(), "`/bin/sh` failed: why");
    }
}
