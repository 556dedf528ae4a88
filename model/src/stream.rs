//! Bytes that are not facts: attach, logs, image load, signals. A replica that serves a client
//! dials the node's stream listener; the first message asks, the answer accepts or refuses, then
//! frames flow both ways until one side ends.
//!
//! A stream that ends without `FromNode::End` was cut: the client must hear an error, never a
//! false success.

use crate::ids::{ContainerId, DatastoreId, Epoch, ImageId};
use crate::image::ImageConfig;
use crate::units::{Bytes, Timestamp};
use serde::{Deserialize, Serialize};

/// Versions of this protocol that this build speaks.
pub const PROTOCOL_MIN: u16 = 1;
pub const PROTOCOL_MAX: u16 = 1;

/// Largest frame in either direction, in bytes; data comes in pieces of at most 256 KiB.
pub const MESSAGE_MAX: usize = 8 << 20;
pub const DATA_MAX: usize = 256 << 10;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamRequest {
    /// Output of one run from `from` until the run's end, and stdin if `stdin`.
    Attach {
        container: ContainerId,
        epoch: Epoch,
        from: OutputFrom,
        stdin: bool,
    },
    /// Output of all runs, oldest first.
    Logs {
        container: ContainerId,
        datastore: DatastoreId,
        /// Runs up to this one.
        epoch: Epoch,
        /// Wait for more until the run `epoch` ends.
        follow: bool,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        /// Only the last so many lines.
        tail: Option<u64>,
    },
    /// A docker-archive or OCI tar follows as `Data`; its base disks are made on `datastore`.
    LoadImages {
        datastore: DatastoreId,
    },
    /// To the container's main process.
    Signal {
        container: ContainerId,
        epoch: Epoch,
        signal: u8,
    },
    Resize {
        container: ContainerId,
        epoch: Epoch,
        rows: u16,
        columns: u16,
    },
    /// One sample of what the guest uses.
    Stats {
        container: ContainerId,
        epoch: Epoch,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputFrom {
    /// The first byte of the run.
    Start,
    /// Only what is written from now on.
    Now,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToNode {
    Request(StreamRequest),
    /// Stdin of an attach, or the next piece of an archive.
    Data(#[serde(with = "bytes")] Vec<u8>),
    /// No more data will come. For an attach: stdin is closed.
    Eof,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromNode {
    Accepted,
    Refused(StreamRefusal),
    Output {
        stream: OutputStream,
        time_ns: u64,
        #[serde(with = "bytes")]
        data: Vec<u8>,
    },
    /// How a load goes on.
    Progress {
        layer: String,
        current: Bytes,
        total: Bytes,
    },
    /// An image is on the datastore, whole and checked; the caller records it in the fleet.
    Loaded(Box<LoadedImage>),
    Stats(Box<Sample>),
    /// The stream did all that it was asked for.
    End,
    /// It did not, and why.
    Failed(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputStream {
    Stdout,
    Stderr,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum StreamRefusal {
    #[error("container VM {0} does not run on this host")]
    NotHere(ContainerId),
    #[error("container VM {0} runs under another epoch")]
    OtherEpoch(ContainerId),
    #[error("container VM {0} was started without stdin")]
    NoStdin(ContainerId),
    #[error("this host does not reach {0}")]
    DatastoreUnreachable(DatastoreId),
    #[error("the host has too many streams open; close some or try again")]
    TooMany,
    #[error("{0}")]
    Other(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedImage {
    pub id: ImageId,
    pub references: Vec<String>,
    pub config: ImageConfig,
    pub document: String,
    pub size: Bytes,
}

/// What a container VM uses, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// CPU time of the container's processes since it started.
    pub cpu_ns: u64,
    pub memory: Bytes,
    pub memory_limit: Bytes,
    pub processes: u64,
    pub disk_read: Bytes,
    pub disk_written: Bytes,
    pub received: Bytes,
    pub sent: Bytes,
}

/// Bytes in one piece. The encoding is that of a list of bytes, without the walk over each of them.
mod bytes {
    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};
    use std::fmt;

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct Whole;
        impl Visitor<'_> for Whole {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
            fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
                Ok(bytes)
            }
        }
        deserializer.deserialize_byte_buf(Whole)
    }
}
