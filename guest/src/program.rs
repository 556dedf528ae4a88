//! Finding the program to run, with Docker's verdicts: 127 where there is none, 126 where it may
//! not run.

use crate::environment;
use crate::trouble::plain;
use berth_model::guest::StartFailure;
use rustix::fs::{Access, FileType, access, stat};
use rustix::io::Errno;

/// The path to execute. Looks as the present user, from the present directory, below the present
/// root.
pub fn find(name: &str, environment: &[String]) -> Result<String, StartFailure> {
    if name.contains('/') {
        return match executable(name) {
            Ok(()) => Ok(name.to_string()),
            Err((errno, true)) => {
                Err(failure(name, &format!("stat {name}: {}", say(errno)), errno))
            }
            Err((errno, false)) => Err(failure(name, &say(errno), errno)),
        };
    }
    let path = environment::value(environment, "PATH").unwrap_or_default();
    path.split(':')
        // A relative directory could be anything that the working directory holds.
        .filter(|directory| directory.starts_with('/'))
        .map(|directory| format!("{}/{name}", directory.trim_end_matches('/')))
        .find(|candidate| executable(candidate).is_ok())
        .ok_or_else(|| failure(name, "executable file not found in $PATH", Errno::NOENT))
}

/// What a failed exec of an existing program says on its stderr.
pub fn exec_failure(path: &str, error: &std::io::Error) -> String {
    format!("exec {path}: {}\n", plain(error))
}

/// The error, and whether it came from looking rather than from what was found.
fn executable(path: &str) -> Result<(), (Errno, bool)> {
    let status = stat(path).map_err(|errno| (errno, true))?;
    if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
        return Err((Errno::ISDIR, false));
    }
    access(path, Access::EXEC_OK).map_err(|errno| (errno, false))
}

fn failure(name: &str, text: &str, errno: Errno) -> StartFailure {
    let code = match errno {
        Errno::NOENT | Errno::NOTDIR => 127,
        Errno::ACCESS | Errno::ISDIR => 126,
        _ => 128,
    };
    StartFailure { code, text: format!("exec: {name:?}: {text}") }
}

fn say(errno: Errno) -> String {
    plain(&errno.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: Result<&str, (u8, &str)>) {
        let environment = ["PATH=/nowhere:relative:/bin".to_string()];
        let expected = expected
            .map(str::to_string)
            .map_err(|(code, text)| StartFailure { code, text: text.to_string() });
        assert_eq!(find(name, &environment), expected);
    }

    #[test]
    fn programs_are_found_along_the_path() {
        check("sh", Ok("/bin/sh"));
        check("/bin/sh", Ok("/bin/sh"));
    }

    #[test]
    fn verdicts_are_dockers() {
        check("no-such", Err((127, r#"exec: "no-such": executable file not found in $PATH"#)));
        check("/no", Err((127, r#"exec: "/no": stat /no: no such file or directory"#)));
        check("/etc", Err((126, r#"exec: "/etc": is a directory"#)));
        check("/etc/passwd", Err((126, r#"exec: "/etc/passwd": permission denied"#)));
        check("/bin/sh/x", Err((127, r#"exec: "/bin/sh/x": stat /bin/sh/x: not a directory"#)));
    }
}
