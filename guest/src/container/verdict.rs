//! What the child tells the agent before it becomes the container's program.

use crate::source::Source;
use crate::trouble::{Trouble, While as _};
use berth_model::guest::StartFailure;
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, send, sendmsg,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;

pub enum Verdict {
    /// The master of the process's terminal.
    Terminal(OwnedFd),
    /// The next thing is exec.
    Ready,
    Failed(StartFailure),
    /// The child is gone without a word.
    End,
}

const TERMINAL: u8 = b'T';
const READY: u8 = b'R';
const FAILED: u8 = b'F';

/// What the child said next; `None` if it is still at work.
pub fn receive(source: &mut Source) -> Result<Option<Verdict>, Trouble> {
    if !source.readable {
        return Ok(None);
    }
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let count = match recvmsg(source.as_fd(), &mut parts, &mut control, flags) {
        Ok(received) => received.bytes,
        Err(Errno::AGAIN) => {
            source.readable = false;
            return Ok(None);
        }
        Err(error) => return Err(error).during(|| "hear the container's process"),
    };
    let descriptor = control.drain().find_map(|message| {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
            descriptors.next()
        } else {
            None
        }
    });
    Ok(Some(match (bytes[..count].split_first(), descriptor) {
        (None, _) => Verdict::End,
        (Some((&TERMINAL, _)), Some(master)) => Verdict::Terminal(master),
        (Some((&READY, _)), _) => Verdict::Ready,
        (Some((&FAILED, [code, text @ ..])), _) => Verdict::Failed(StartFailure {
            code: *code,
            text: String::from_utf8_lossy(text).into_owned(),
        }),
        (Some(_), _) => return Err(Trouble::new("the container's process said nonsense")),
    }))
}

pub fn tell_terminal(socket: &OwnedFd, master: BorrowedFd<'_>) -> Result<(), Trouble> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [master];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(socket, &[IoSlice::new(&[TERMINAL])], &mut control, SendFlags::empty())
        .map(drop)
        .during(|| "hand over the terminal")
}

pub fn tell_ready(socket: &OwnedFd) -> Result<(), Trouble> {
    send(socket, &[READY], SendFlags::empty()).map(drop).during(|| "report to the agent")
}

/// The agent learns of a failure that cannot be told from the end of the socket.
pub fn tell_failed(socket: &OwnedFd, failure: &StartFailure) {
    let mut bytes = vec![FAILED, failure.code];
    let most = failure.text.len().min(4000);
    bytes.extend_from_slice(&failure.text.as_bytes()[..most]);
    let _told_by_the_end_instead = send(socket, &bytes, SendFlags::empty());
}
