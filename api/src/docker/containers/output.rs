//! Output of a container on its way from a node to a client: selected, framed, perhaps stamped.

use crate::docker::answer::BodySender;
use crate::docker::translate::frame::{self, Channel, LineTimes};
use crate::docker::translate::time;
use crate::streams::{Piece, StreamError, StreamReceiver};
use berth_model::stream::OutputStream;
use bytes::Bytes;
use std::io;

/// What of the output a client wants, and how.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    pub stdout: bool,
    pub stderr: bool,
    /// A terminal's output has no frames.
    pub raw: bool,
    pub timestamps: bool,
    /// Nanoseconds since 1970; what was written before is left out.
    pub since_ns: Option<u64>,
    pub until_ns: Option<u64>,
}

/// Writes output for one client.
pub struct Output {
    wishes: Wishes,
    stdout_lines: LineTimes,
    stderr_lines: LineTimes,
    sender: BodySender,
}

/// The client is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientGone;

impl Output {
    pub fn new(wishes: Wishes, sender: BodySender) -> Self {
        let (stdout_lines, stderr_lines) = (LineTimes::default(), LineTimes::default());
        Self { wishes, stdout_lines, stderr_lines, sender }
    }

    /// Resolves once the client is gone.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }

    /// Forwards what a node sends until it says that all is done.
    pub async fn forward(
        &mut self,
        receiver: &mut StreamReceiver,
    ) -> Result<Result<(), StreamError>, ClientGone> {
        loop {
            let sender = self.sender.clone();
            let piece = tokio::select! {
                piece = receiver.next() => piece,
                () = sender.closed() => return Err(ClientGone),
            };
            match piece {
                Ok(Some(Piece::Output { stream, time_ns, data })) => {
                    self.write(stream, time_ns, data).await?;
                }
                // Loads go elsewhere; what a confused node sends is left out.
                Ok(Some(Piece::Progress { .. } | Piece::Loaded(_))) => {}
                Ok(None) => return Ok(Ok(())),
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    async fn write(
        &mut self,
        stream: OutputStream,
        time_ns: u64,
        data: Bytes,
    ) -> Result<(), ClientGone> {
        let (wanted, lines) = match stream {
            OutputStream::Stdout => (self.wishes.stdout, &mut self.stdout_lines),
            OutputStream::Stderr => (self.wishes.stderr, &mut self.stderr_lines),
        };
        let early = self.wishes.since_ns.is_some_and(|since| time_ns < since);
        let late = self.wishes.until_ns.is_some_and(|until| time_ns > until);
        if !wanted || early || late {
            return Ok(());
        }
        let data = if self.wishes.timestamps {
            lines.stamp(&time::show_ns(time_ns), &data).into()
        } else {
            data
        };
        let bytes = if self.wishes.raw { data } else { frame::frames(stream.into(), &data).into() };
        self.send(bytes).await
    }

    async fn send(&self, bytes: Bytes) -> Result<(), ClientGone> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.sender.send(Ok(bytes)).await.map_err(|_| ClientGone)
    }

    /// Tells the client that the output was cut short, then cuts its stream off.
    pub async fn fail(self, error: &StreamError) {
        let text = format!("the container's output was cut short: {error}");
        let told = if self.wishes.raw {
            format!("\r\nberth: {text}\r\n").into_bytes()
        } else {
            frame::frames(Channel::System, text.as_bytes())
        };
        if self.send(told.into()).await.is_err() {
            return;
        }
        // HTTP throws away what it has not written when a body breaks: first let it write.
        match self.sender.reserve_many(self.sender.max_capacity()).await {
            Ok(places) => drop(places),
            Err(_) => return,
        }
        tokio::task::yield_now().await;
        if self.sender.send(Err(io::Error::other(text))).await.is_err() {
            tracing::debug!("a client left while it was told of an error");
        }
    }
}
