//! Every id of berth, one newtype each, made in this one file.
//!
//! Ids are drawn by whoever takes the request and carried in the command, so that apply never
//! draws a number. Text form: container and image ids are 64 hex digits as Docker shows them;
//! all others are 32 hex digits behind the name of their kind (`host-…`). In binary formats an
//! id is its bare bytes.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A text that is not an id of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {kind} id: expected {expected}")]
pub struct IdError {
    kind: &'static str,
    expected: &'static str,
    text: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $kind:literal, $prefix:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// The id with these bytes.
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// A fresh id from the caller's source of randomness.
            pub fn random(source: &mut impl rand::RngCore) -> Self {
                let mut bytes = [0; $bytes];
                source.fill_bytes(&mut bytes);
                Self(bytes)
            }

            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }

            /// The first twelve hex digits, as people read them in tables and logs.
            pub fn short(&self) -> String {
                hex::encode(&self.0[..6])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}:{}", stringify!($name), self.short())
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let wrong = || IdError {
                    kind: $kind,
                    expected: $expected,
                    text: text.chars().take(80).collect(),
                };
                let digits = text.strip_prefix($prefix).ok_or_else(wrong)?;
                let mut bytes = [0; $bytes];
                hex::decode_to_slice(digits, &mut bytes).map_err(|_| wrong())?;
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
                } else {
                    <[u8; $bytes]>::deserialize(deserializer).map(Self)
                }
            }
        }
    };
}

id!(
    /// One container VM, from create to rm.
    ContainerId, 32, "a container", "", "64 hex digits"
);
id!(
    /// One image: the SHA-256 digest of its config document, without the `sha256:` in front.
    ImageId, 32, "an image", "", "64 hex digits"
);
id!(
    /// One Raft group and what it owns.
    CellId, 16, "a cell", "cell-", "cell- and 32 hex digits"
);
id!(
    /// Hosts that share datastores, networks and policies.
    ClusterId, 16, "a cluster", "cluster-", "cluster- and 32 hex digits"
);
id!(
    /// A machine that runs container VMs.
    HostId, 16, "a host", "host-", "host- and 32 hex digits"
);
id!(
    /// A place for files; the same id on every host that reaches it.
    DatastoreId, 16, "a datastore", "datastore-", "datastore- and 32 hex digits"
);
id!(
    /// A place that is held: host, datastores and what they are charged.
    ReservationId, 16, "a reservation", "reservation-", "reservation- and 32 hex digits"
);
id!(
    /// A placement rule.
    RuleId, 16, "a rule", "rule-", "rule- and 32 hex digits"
);
id!(
    /// Requests that are placed all or none.
    GangId, 16, "a gang", "gang-", "gang- and 32 hex digits"
);
id!(
    /// A tenant's Docker API.
    EndpointId, 16, "an endpoint", "endpoint-", "endpoint- and 32 hex digits"
);
id!(
    /// One request of one client, the same in every log line and command that it causes.
    RequestId, 16, "a request", "request-", "request- and 32 hex digits"
);
id!(
    /// A client's word that two requests are the same; one key, one effect.
    IdempotencyKey, 16, "an idempotency key", "key-", "key- and 32 hex digits"
);

impl EndpointId {
    /// The endpoint of what is made through `/v1`, and of clusters, hosts and datastores.
    pub const SYSTEM: EndpointId = EndpointId([0; 16]);
}

/// One start of a container VM: the fencing number. Rises with every start, restart elsewhere
/// and migration, and never falls; 0 means never started.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Epoch(pub u64);

impl Epoch {
    pub fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:010}", self.0)
    }
}

/// The number of an assignment; a node refuses an older one. It is the index in the log of the
/// state that the assignment was computed from, so it rises over leaders.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Generation(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text_form() {
        let id = HostId::from_bytes([7; 16]);
        assert_eq!(id.to_string().parse::<HostId>().unwrap(), id);
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<HostId>(&json).unwrap(), id);
    }

    #[test]
    fn an_id_of_another_kind_is_refused() {
        let text = HostId::from_bytes([7; 16]).to_string();
        assert!(text.parse::<ClusterId>().is_err());
        assert!("abc".parse::<ContainerId>().is_err());
    }
}
