//! The process's terminal, of the container's own /dev/pts.

use super::{Given, verdict};
use crate::calls;
use crate::trouble::{Trouble, While as _};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, open};
use rustix::termios::{Winsize, tcsetwinsize};

/// Makes a terminal, gives its master to the agent and returns the process's end. Binds it to
/// /dev/console, as Docker does.
pub fn make(given: &Given, rows: u16, columns: u16) -> Result<OwnedFd, Trouble> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = open("/dev/pts/ptmx", flags, Mode::empty()).during(|| "open /dev/pts/ptmx")?;
    let slave = calls::open_terminal_slave(&master).during(|| "open the terminal")?;
    resize(&slave, rows, columns);
    let number = calls::terminal_number(&master).during(|| "ask for the terminal's number")?;
    super::mounts::bind_file(&format!("/dev/pts/{number}"), "/dev/console")?;
    verdict::tell_terminal(&given.verdicts, master.as_fd())?;
    Ok(slave)
}

/// Sets the size; the kernel tells the foreground process by SIGWINCH. A size of nothing is left
/// alone.
pub fn resize(terminal: &impl AsFd, rows: u16, columns: u16) {
    if rows == 0 && columns == 0 {
        return;
    }
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    if let Err(error) = tcsetwinsize(terminal, size) {
        crate::power::say(&format!("resize the terminal to {rows} rows: {error}"));
    }
}
