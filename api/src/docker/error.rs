//! Errors of the Docker endpoint, and the one place that maps trouble to Docker's status codes.

use super::fields::Refused;
use super::translate::Invalid;
use crate::outcome::Ending;
use crate::streams::StreamError;
use berth_model::stream::StreamRefusal;
use berth_model::{Explanation, Rejection};
use berth_scheduler::{ReadError, SubmitError};
use hyper::StatusCode;

/// A status and a text for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DockerError {
    pub status: StatusCode,
    pub message: String,
}

impl DockerError {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    pub fn not_yet(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    pub fn no_such_container(name: &str) -> Self {
        Self::not_found(format!("No such container: {name}"))
    }

    pub fn not_running(name: &str) -> Self {
        Self::conflict(format!("container {name} is not running"))
    }

    /// Nowhere to put it.
    pub fn no_room(what: &str, explanation: &Explanation) -> Self {
        Self::unavailable(format!("no host can {what}: {explanation}"))
    }
}

impl From<Invalid> for DockerError {
    fn from(invalid: Invalid) -> Self {
        match invalid {
            Invalid::Bad(text) => Self::bad(text),
            Invalid::NotYet(text) => Self::not_yet(text),
            Invalid::NotFound(text) => Self::not_found(text),
        }
    }
}

impl From<Refused> for DockerError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Never { .. } => Self::bad(refused.to_string()),
            Refused::NotYet { .. } => Self::not_yet(refused.to_string()),
        }
    }
}

impl From<SubmitError> for DockerError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Rejected(rejection) => rejection.into(),
            SubmitError::TooLarge => Self::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
            SubmitError::Full => Self::new(StatusCode::TOO_MANY_REQUESTS, error.to_string()),
            SubmitError::NoLeader | SubmitError::Unknown | SubmitError::Stopped => {
                Self::unavailable(error.to_string())
            }
        }
    }
}

impl From<Rejection> for DockerError {
    fn from(rejection: Rejection) -> Self {
        let text = rejection.to_string();
        match rejection {
            Rejection::NameTaken { name, holder: Some(holder), .. } => Self::conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \
                 \"{holder}\". You have to remove (or rename) that container to be able to reuse \
                 that name."
            )),
            Rejection::NoSuchContainer(id) => Self::no_such_container(&id.to_string()),
            Rejection::NoSuchImage(id) => Self::not_found(format!("No such image: sha256:{id}")),
            Rejection::NotRunning(id) => Self::not_running(&id.to_string()),
            Rejection::StillRunning(id) => Self::conflict(format!(
                "cannot remove container \"{id}\": container is running: stop the container before \
                 removing or force remove"
            )),
            Rejection::NoSuchCluster(_)
            | Rejection::NoSuchEndpoint
            | Rejection::NoSuchHost
            | Rejection::NoSuchDatastore(_)
            | Rejection::NoSuchReservation(_)
            | Rejection::NoSuchRule(_) => Self::not_found(text),
            Rejection::Invalid { .. } => Self::bad(text),
            Rejection::NameTaken { holder: None, .. }
            | Rejection::AlreadyRunning(_)
            | Rejection::BeingRemoved(_)
            | Rejection::NotWaiting(_)
            | Rejection::NotPlaced(_)
            | Rejection::StaleEpoch { .. }
            | Rejection::HostRefuses { .. }
            | Rejection::DatastoreRefuses(_)
            | Rejection::ConditionFailed { .. }
            | Rejection::QuotaExceeded { .. }
            | Rejection::InUse { .. }
            | Rejection::GangBroken(_)
            | Rejection::NotDisplaceable(_)
            | Rejection::OtherReservation(_)
            | Rejection::KeyReused => Self::conflict(text),
            Rejection::NotBootstrapped | Rejection::DeadlinePassed => Self::unavailable(text),
        }
    }
}

impl From<ReadError> for DockerError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Full => Self::new(StatusCode::TOO_MANY_REQUESTS, error.to_string()),
            ReadError::NoLeader | ReadError::TimedOut | ReadError::Stopped => {
                Self::unavailable(error.to_string())
            }
        }
    }
}

impl From<Ending> for DockerError {
    fn from(ending: Ending) -> Self {
        Self::unavailable(ending.to_string())
    }
}

impl From<StreamError> for DockerError {
    fn from(error: StreamError) -> Self {
        match &error {
            StreamError::Refused(
                StreamRefusal::NotHere(_)
                | StreamRefusal::OtherEpoch(_)
                | StreamRefusal::NoStdin(_),
            ) => Self::conflict(error.to_string()),
            StreamError::Refused(StreamRefusal::TooMany) => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, error.to_string())
            }
            StreamError::Refused(
                StreamRefusal::DatastoreUnreachable(_) | StreamRefusal::Other(_),
            )
            | StreamError::HostUnknown(_)
            | StreamError::Address { .. }
            | StreamError::Unreachable { .. }
            | StreamError::OtherHost { .. }
            | StreamError::Failed(_)
            | StreamError::Cut(_)
            | StreamError::Silent(_)
            | StreamError::Confused(_) => Self::internal(error.to_string()),
        }
    }
}
