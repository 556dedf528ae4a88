//! What replicas say to each other: our own mirror of raft-rs's messages, and our own requests.
//!
//! Promises: protobuf never meets bytes from the network. What comes from a peer is checked before
//! raft-rs sees it, for raft-rs takes wrong messages for its own mistakes and panics.

use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use serde::{Deserialize, Serialize};

use crate::batch::Blob;
use crate::options::ReplicaId;

/// Protocol versions of the links between replicas.
pub(crate) const PROTOCOL_MIN: u16 = 1;
pub(crate) const PROTOCOL_MAX: u16 = 1;

/// The first message of a dialled link, after Hello.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Open {
    pub(crate) from: ReplicaId,
    pub(crate) purpose: Purpose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Purpose {
    /// Frames of `Vec<PeerMessage>` one way, pulses the other.
    Messages,
    /// One [`SnapshotOffer`], then its bytes; a `bool` comes back.
    Snapshot,
}

/// Announces a snapshot; its bytes follow.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SnapshotOffer {
    pub(crate) message: RaftMessage,
    /// Length of the file in bytes.
    pub(crate) length: u64,
}

/// One message from replica to replica. New kinds go last.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum PeerMessage {
    /// Shows that the link lives.
    Pulse,
    Raft(RaftMessage),
    /// Asks the leader to propose a command.
    Propose {
        request: u64,
        urgent: bool,
        deadline_ms: u64,
        command: Blob,
    },
    Proposed {
        request: u64,
        outcome: Outcome,
    },
    /// The leader's hash of its state after `index`.
    StateHash {
        index: u64,
        hash: u64,
    },
}

impl PeerMessage {
    /// About how many bytes it takes, to bound what travels together.
    pub(crate) fn weight(&self) -> usize {
        match self {
            PeerMessage::Pulse | PeerMessage::StateHash { .. } => 16,
            PeerMessage::Raft(message) => {
                64 + message.entries.iter().map(|entry| 32 + entry.data.0.len()).sum::<usize>()
            }
            PeerMessage::Propose { command, .. } => 32 + command.0.len(),
            PeerMessage::Proposed { outcome, .. } => match outcome {
                Outcome::Applied { answer, .. } => 32 + answer.0.len(),
                Outcome::NotLeader | Outcome::Full | Outcome::TooLarge | Outcome::Unknown => 16,
            },
        }
    }
}

/// What became of a command that was passed on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Applied {
        index: u64,
        answer: Blob,
    },
    /// It was not proposed: the receiver does not lead, or is handing over.
    NotLeader,
    Full,
    TooLarge,
    Unknown,
}

/// Mirror of eraftpb's Message, version 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RaftMessage {
    kind: Kind,
    to: u64,
    from: u64,
    term: u64,
    log_term: u64,
    index: u64,
    entries: Vec<WireEntry>,
    commit: u64,
    commit_term: u64,
    snapshot: Option<WireSnapshot>,
    request_snapshot: u64,
    reject: bool,
    reject_hint: u64,
    context: Blob,
    priority: i64,
}

/// Kinds that may travel. raft-rs's local kinds and its own forwarding of proposals are not among
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Append,
    AppendResponse,
    RequestVote,
    RequestVoteResponse,
    Snapshot,
    Heartbeat,
    HeartbeatResponse,
    TimeoutNow,
    ReadIndex,
    ReadIndexResponse,
    RequestPreVote,
    RequestPreVoteResponse,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct WireEntry {
    kind: EntryKind,
    term: u64,
    index: u64,
    data: Blob,
    context: Blob,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum EntryKind {
    Normal,
    ConfChange,
    ConfChangeV2,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct WireSnapshot {
    index: u64,
    term: u64,
    voters: Vec<u64>,
    learners: Vec<u64>,
}

/// Why a peer's message is not shown to raft-rs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("message from {named} came over the link of {link}")]
    WrongSender { named: u64, link: u64 },
    #[error("message is for replica {0}")]
    WrongReceiver(u64),
    #[error("message has no term")]
    NoTerm,
    #[error("entries do not follow each other")]
    BrokenEntries,
    #[error("read request without its context")]
    EmptyRead,
    #[error("snapshot message without a snapshot")]
    EmptySnapshot,
}

impl RaftMessage {
    /// `None` for kinds that never travel.
    pub(crate) fn from_raft(mut message: Message) -> Option<Self> {
        let kind = kind_of(message.get_msg_type())?;
        let entries = message.take_entries().into_iter().map(WireEntry::from_raft).collect();
        let snapshot = (kind == Kind::Snapshot).then(|| {
            let metadata = message.get_snapshot().get_metadata();
            WireSnapshot {
                index: metadata.index,
                term: metadata.term,
                voters: metadata.get_conf_state().voters.clone(),
                learners: metadata.get_conf_state().learners.clone(),
            }
        });
        Some(Self {
            kind,
            to: message.to,
            from: message.from,
            term: message.term,
            log_term: message.log_term,
            index: message.index,
            entries,
            commit: message.commit,
            commit_term: message.commit_term,
            snapshot,
            request_snapshot: message.request_snapshot,
            reject: message.reject,
            reject_hint: message.reject_hint,
            context: Blob(message.context),
            priority: message.priority,
        })
    }

    /// Checks a message that came over the link of `link` to replica `own`.
    pub(crate) fn into_raft(self, link: ReplicaId, own: ReplicaId) -> Result<Message, Refused> {
        self.check(link, own)?;
        let mut message = Message {
            to: self.to,
            from: self.from,
            term: self.term,
            log_term: self.log_term,
            index: self.index,
            commit: self.commit,
            commit_term: self.commit_term,
            request_snapshot: self.request_snapshot,
            reject: self.reject,
            reject_hint: self.reject_hint,
            context: self.context.0,
            priority: self.priority,
            ..Message::default()
        };
        message.set_msg_type(type_of(self.kind));
        let entries: Vec<Entry> = self.entries.into_iter().map(WireEntry::into_raft).collect();
        message.set_entries(entries.into());
        if let Some(snapshot) = self.snapshot {
            let metadata = message.mut_snapshot().mut_metadata();
            metadata.index = snapshot.index;
            metadata.term = snapshot.term;
            metadata.mut_conf_state().voters = snapshot.voters;
            metadata.mut_conf_state().learners = snapshot.learners;
        }
        Ok(message)
    }

    /// Index and term of the snapshot that this message offers.
    pub(crate) fn snapshot_position(&self) -> Option<crate::log::Position> {
        let snapshot = self.snapshot.as_ref()?;
        Some(crate::log::Position { index: snapshot.index, term: snapshot.term })
    }

    fn check(&self, link: ReplicaId, own: ReplicaId) -> Result<(), Refused> {
        if self.from != link {
            return Err(Refused::WrongSender { named: self.from, link });
        }
        if self.to != own {
            return Err(Refused::WrongReceiver(self.to));
        }
        // Without a term raft-rs takes a message for one of its own.
        if self.term == 0 && self.kind != Kind::ReadIndex {
            return Err(Refused::NoTerm);
        }
        let mut previous = (self.index, self.log_term);
        for entry in &self.entries {
            let is_log = self.kind == Kind::Append;
            if is_log && (entry.index != previous.0 + 1 || entry.term < previous.1) {
                return Err(Refused::BrokenEntries);
            }
            previous = (entry.index, entry.term);
        }
        let is_read = matches!(self.kind, Kind::ReadIndex | Kind::ReadIndexResponse);
        if is_read && self.entries.len() != 1 {
            return Err(Refused::EmptyRead);
        }
        if (self.kind == Kind::Snapshot) != self.snapshot.as_ref().is_some_and(|s| s.index > 0) {
            return Err(Refused::EmptySnapshot);
        }
        Ok(())
    }
}

impl WireEntry {
    fn from_raft(entry: Entry) -> Self {
        let kind = match entry.get_entry_type() {
            EntryType::EntryNormal => EntryKind::Normal,
            EntryType::EntryConfChange => EntryKind::ConfChange,
            EntryType::EntryConfChangeV2 => EntryKind::ConfChangeV2,
        };
        Self {
            kind,
            term: entry.term,
            index: entry.index,
            data: Blob(entry.data),
            context: Blob(entry.context),
        }
    }

    fn into_raft(self) -> Entry {
        let entry_type = match self.kind {
            EntryKind::Normal => EntryType::EntryNormal,
            EntryKind::ConfChange => EntryType::EntryConfChange,
            EntryKind::ConfChangeV2 => EntryType::EntryConfChangeV2,
        };
        Entry {
            entry_type,
            term: self.term,
            index: self.index,
            data: owned(self.data),
            context: owned(self.context),
            ..Entry::default()
        }
    }
}

/// Empty slices share one static; others keep what they point to.
fn owned(blob: Blob) -> Bytes {
    if blob.0.is_empty() { Bytes::new() } else { blob.0 }
}

fn kind_of(message_type: MessageType) -> Option<Kind> {
    match message_type {
        MessageType::MsgAppend => Some(Kind::Append),
        MessageType::MsgAppendResponse => Some(Kind::AppendResponse),
        MessageType::MsgRequestVote => Some(Kind::RequestVote),
        MessageType::MsgRequestVoteResponse => Some(Kind::RequestVoteResponse),
        MessageType::MsgSnapshot => Some(Kind::Snapshot),
        MessageType::MsgHeartbeat => Some(Kind::Heartbeat),
        MessageType::MsgHeartbeatResponse => Some(Kind::HeartbeatResponse),
        MessageType::MsgTimeoutNow => Some(Kind::TimeoutNow),
        MessageType::MsgReadIndex => Some(Kind::ReadIndex),
        MessageType::MsgReadIndexResp => Some(Kind::ReadIndexResponse),
        MessageType::MsgRequestPreVote => Some(Kind::RequestPreVote),
        MessageType::MsgRequestPreVoteResponse => Some(Kind::RequestPreVoteResponse),
        MessageType::MsgHup
        | MessageType::MsgBeat
        | MessageType::MsgPropose
        | MessageType::MsgUnreachable
        | MessageType::MsgSnapStatus
        | MessageType::MsgCheckQuorum
        | MessageType::MsgTransferLeader => None,
    }
}

fn type_of(kind: Kind) -> MessageType {
    match kind {
        Kind::Append => MessageType::MsgAppend,
        Kind::AppendResponse => MessageType::MsgAppendResponse,
        Kind::RequestVote => MessageType::MsgRequestVote,
        Kind::RequestVoteResponse => MessageType::MsgRequestVoteResponse,
        Kind::Snapshot => MessageType::MsgSnapshot,
        Kind::Heartbeat => MessageType::MsgHeartbeat,
        Kind::HeartbeatResponse => MessageType::MsgHeartbeatResponse,
        Kind::TimeoutNow => MessageType::MsgTimeoutNow,
        Kind::ReadIndex => MessageType::MsgReadIndex,
        Kind::ReadIndexResponse => MessageType::MsgReadIndexResp,
        Kind::RequestPreVote => MessageType::MsgRequestPreVote,
        Kind::RequestPreVoteResponse => MessageType::MsgRequestPreVoteResponse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append() -> Message {
        let entry =
            |index| Entry { index, term: 3, data: Bytes::from_static(b"data"), ..Entry::default() };
        let mut message = Message {
            from: 1,
            to: 2,
            term: 3,
            log_term: 2,
            index: 6,
            commit: 5,
            ..Message::default()
        };
        message.set_msg_type(MessageType::MsgAppend);
        message.set_entries(vec![entry(7), entry(8)].into());
        message
    }

    fn trip(message: Message) -> Result<Message, Refused> {
        let wire = RaftMessage::from_raft(message).unwrap();
        let bytes = berth_wire::codec::encode(&wire);
        berth_wire::codec::decode::<RaftMessage>(&bytes, 1000).unwrap().into_raft(1, 2)
    }

    #[test]
    fn a_message_survives_the_trip() {
        assert_eq!(trip(append()), Ok(append()));
    }

    #[test]
    fn a_snapshot_keeps_its_configuration() {
        let mut message = append();
        message.set_msg_type(MessageType::MsgSnapshot);
        message.take_entries();
        message.mut_snapshot().mut_metadata().index = 9;
        message.mut_snapshot().mut_metadata().term = 3;
        message.mut_snapshot().mut_metadata().mut_conf_state().voters = vec![1, 2, 3];
        assert_eq!(trip(message.clone()), Ok(message));
    }

    #[test]
    fn messages_that_would_upset_raft_are_refused() {
        let refused = |change: fn(&mut Message)| {
            let mut message = append();
            change(&mut message);
            trip(message).unwrap_err()
        };
        assert!(matches!(refused(|m| m.from = 3), Refused::WrongSender { .. }));
        assert_eq!(refused(|m| m.to = 3), Refused::WrongReceiver(3));
        assert_eq!(refused(|m| m.term = 0), Refused::NoTerm);
        assert_eq!(refused(|m| m.entries[1].index = 9), Refused::BrokenEntries);
        assert_eq!(refused(|m| m.entries[1].term = 1), Refused::BrokenEntries);
        assert_eq!(
            refused(|m| {
                m.set_msg_type(MessageType::MsgReadIndex);
                m.take_entries();
            }),
            Refused::EmptyRead
        );
        assert_eq!(refused(|m| m.set_msg_type(MessageType::MsgSnapshot)), Refused::EmptySnapshot);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_of_a_peer_are_messages_or_an_error(bytes: Vec<u8>) {
            if let Ok(messages) = berth_wire::codec::decode::<Vec<PeerMessage>>(&bytes, 1 << 20) {
                for message in messages {
                    if let PeerMessage::Raft(message) = message {
                        // Only that it answers.
                        let _ = message.into_raft(1, 2);
                    }
                }
            }
        }
    }

    #[test]
    fn local_messages_do_not_travel() {
        let mut message = append();
        message.set_msg_type(MessageType::MsgPropose);
        assert_eq!(RaftMessage::from_raft(message), None);
    }
}
