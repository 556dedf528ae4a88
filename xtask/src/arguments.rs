//! The command line of `cargo xtask`, read by hand: an argument parser would be the largest crate
//! that a newcomer has to wait for.
//!
//! Unknown options are errors, but behind `up`, whose arguments belong to `berth up`.

use std::ffi::OsString;

use anyhow::{Context, Result, bail};

pub const USAGE: &str = "\
Build steps of berth.

usage: cargo xtask COMMAND [--no-install] ...

commands:
  up [ARGUMENTS]           install what is missing, build, and run `berth up ARGUMENTS`
  test [--long] [FILTERS]  everything that must pass, real guests included; FILTERS choose tests
  images                   make the images busybox, hello-world, debian, redis, nginx; print where
  assets [--refresh]       prepare the guest's kernel and initramfs; print where
                           (--refresh looks for a newer kernel package)
  env                      prepare what the tests need; print it as lines for a shell to eval

options:
  --no-install             never install packages; say what is missing instead. Packages that are
                           only unpacked into the cache are still downloaded.

environment:
  BERTH_CACHE              the cache; default $XDG_CACHE_HOME/berth or ~/.cache/berth
  CARGO_TARGET_DIR         honoured, as Cargo does
";

#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Help,
    Up { install: bool, arguments: Vec<OsString> },
    Test { install: bool, options: TestOptions },
    Env { install: bool },
    Assets { install: bool, refresh: bool },
    Images { install: bool },
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct TestOptions {
    /// Also what takes long: more rounds of the same tests.
    pub long: bool,
    /// Substrings of test names; none means all.
    pub filters: Vec<String>,
}

impl Command {
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command> {
        let mut arguments = arguments.into_iter();
        let Some(name) = arguments.next() else { return Ok(Command::Help) };
        let rest: Vec<OsString> = arguments.collect();
        match name.to_str() {
            Some("help" | "--help" | "-h") => Ok(Command::Help),
            Some("up") => Ok(up(rest)),
            Some("test") => test(rest),
            Some("images") => {
                flags(rest, &[NO_INSTALL]).map(|on| Command::Images { install: !on[0] })
            }
            Some("env") => flags(rest, &[NO_INSTALL]).map(|on| Command::Env { install: !on[0] }),
            Some("assets") => flags(rest, &[NO_INSTALL, "--refresh"])
                .map(|on| Command::Assets { install: !on[0], refresh: on[1] }),
            _ => bail!("unknown command {}; `cargo xtask help` lists them", name.display()),
        }
    }
}

const NO_INSTALL: &str = "--no-install";

/// `--no-install` is ours when it comes first; all else is for `berth up`.
fn up(mut rest: Vec<OsString>) -> Command {
    let install = rest.first().is_none_or(|first| first != NO_INSTALL);
    if !install {
        rest.remove(0);
    }
    Command::Up { install, arguments: rest }
}

fn test(rest: Vec<OsString>) -> Result<Command> {
    let mut install = true;
    let mut options = TestOptions::default();
    for argument in rest {
        let argument = argument.into_string().ok().context("test names are valid UTF-8")?;
        match argument.as_str() {
            NO_INSTALL => install = false,
            "--long" => options.long = true,
            option if option.starts_with('-') => bail!("test: unknown option {option}"),
            _ => options.filters.push(argument),
        }
    }
    Ok(Command::Test { install, options })
}

/// Which of `known` are among the arguments; anything else is an error.
fn flags(rest: Vec<OsString>, known: &[&str]) -> Result<Vec<bool>> {
    let mut on = vec![false; known.len()];
    for argument in rest {
        match known.iter().position(|known| argument == **known) {
            Some(at) => on[at] = true,
            None => bail!("unknown argument {}", argument.display()),
        }
    }
    Ok(on)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command> {
        Command::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn everything_behind_up_belongs_to_berth_up() {
        let arguments = vec!["--hosts".into(), "3".into(), "--no-install".into()];
        assert_eq!(
            parse("up --hosts 3 --no-install").unwrap(),
            Command::Up { install: true, arguments }
        );
        assert_eq!(
            parse("up --no-install --hosts").unwrap(),
            Command::Up { install: false, arguments: vec!["--hosts".into()] }
        );
    }

    #[test]
    fn test_takes_filters_and_options_in_any_order() {
        let options = TestOptions { long: true, filters: vec!["redis".into(), "attach".into()] };
        assert_eq!(
            parse("test redis --long attach --no-install").unwrap(),
            Command::Test { install: false, options }
        );
    }

    #[test]
    fn an_unknown_option_is_refused_by_name() {
        assert!(parse("test --fast").unwrap_err().to_string().contains("--fast"));
        assert!(parse("images busybox").unwrap_err().to_string().contains("busybox"));
        assert!(parse("tset").unwrap_err().to_string().contains("tset"));
    }

    #[test]
    fn no_command_prints_the_usage() {
        assert_eq!(parse("").unwrap(), Command::Help);
    }
}
