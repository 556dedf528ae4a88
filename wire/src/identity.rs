//! Who is at the other end: cell, role and id, from the one `berth://` URI in a certificate's SAN.
//!
//! Promises: parsing is strict, so two certificates never mean the same peer in two spellings.
//! Does not: verify a certificate; [`crate::tls`] does that before it looks here.

use rustls_pki_types::CertificateDer;
use std::fmt;
use std::str::FromStr;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

const SCHEME: &str = "berth://";

/// What a process is in its cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    Scheduler,
    Node,
    Keeper,
    Switch,
    Client,
}

impl Role {
    pub const ALL: [Role; 5] =
        [Role::Scheduler, Role::Node, Role::Keeper, Role::Switch, Role::Client];

    pub fn as_str(self) -> &'static str {
        match self {
            Role::Scheduler => "scheduler",
            Role::Node => "node",
            Role::Keeper => "keeper",
            Role::Switch => "switch",
            Role::Client => "client",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One peer. Shown and parsed as `berth://<cell>/<role>/<id>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    pub cell: String,
    pub role: Role,
    pub id: String,
}

/// Why a certificate or a URI names no peer of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error("{0:?} is no identity of the form berth://<cell>/<role>/<id>")]
    Malformed(String),
    #[error("certificate cannot be parsed")]
    Unreadable,
    #[error("certificate names no berth:// identity in its subject alternative names")]
    Missing,
    #[error("certificate names more than one berth:// identity")]
    Ambiguous,
    #[error("peer {peer} belongs to another cell, ours is {ours}")]
    WrongCell { peer: Identity, ours: String },
    #[error("peer {peer} has a role that is not allowed here")]
    WrongRole { peer: Identity },
}

impl Identity {
    pub fn new(cell: impl Into<String>, role: Role, id: impl Into<String>) -> Self {
        Self { cell: cell.into(), role, id: id.into() }
    }

    /// The identity that a certificate names. The certificate must have been verified.
    pub fn from_certificate(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|_| IdentityError::Unreadable)?;
        let names = parsed
            .subject_alternative_name()
            .map_err(|_| IdentityError::Unreadable)?
            .ok_or(IdentityError::Missing)?;
        let mut found = None;
        for name in &names.value.general_names {
            if let GeneralName::URI(uri) = name
                && uri.starts_with(SCHEME)
                && found.replace(*uri).is_some()
            {
                return Err(IdentityError::Ambiguous);
            }
        }
        found.ok_or(IdentityError::Missing)?.parse()
    }

    /// Checks that a peer is of our cell and has one of the allowed roles.
    pub fn admit(&self, cell: &str, allow: &[Role]) -> Result<(), IdentityError> {
        if self.cell != cell {
            return Err(IdentityError::WrongCell { peer: self.clone(), ours: cell.to_owned() });
        }
        if !allow.contains(&self.role) {
            return Err(IdentityError::WrongRole { peer: self.clone() });
        }
        Ok(())
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}/{}", self.cell, self.role, self.id)
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || IdentityError::Malformed(text.to_owned());
        let mut parts = text.strip_prefix(SCHEME).ok_or_else(malformed)?.split('/');
        let (Some(cell), Some(role), Some(id), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed());
        };
        let role = Role::ALL.into_iter().find(|known| known.as_str() == role);
        match role {
            Some(role) if is_word(cell) && is_word(id) => Ok(Self::new(cell, role, id)),
            Some(_) | None => Err(malformed()),
        }
    }
}

/// Letters, digits, `-`, `_` and `.`, up to 128 of them: safe in a URI and in a file name.
pub(crate) fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_shown_as_it_is_parsed() {
        for role in Role::ALL {
            let identity = Identity::new("cell-1", role, "a.b_c");
            assert_eq!(identity.to_string().parse(), Ok(identity));
        }
    }

    proptest::proptest! {
        #[test]
        fn a_spelling_that_is_accepted_is_the_only_one(text in "(berth://)?[a-z0-9/.%-]{0,40}") {
            if let Ok(identity) = text.parse::<Identity>() {
                proptest::prop_assert_eq!(identity.to_string(), text);
            }
        }
    }

    #[test]
    fn loose_spellings_are_refused() {
        for text in [
            "",
            "berth://",
            "berth://c/node",
            "berth://c/node/",
            "berth:///node/1",
            "berth://c/node/1/",
            "berth://c/Node/1",
            "berth://c/root/1",
            "berth://c/node/a b",
            "berth://c/node/%31",
            "Berth://c/node/1",
        ] {
            assert!(text.parse::<Identity>().is_err(), "{text}");
        }
    }
}
