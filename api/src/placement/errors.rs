//! Trouble as problem+json (RFC 9457), and the one place that maps it to status codes.

use super::show;
use crate::docker::translate::Invalid;
use crate::outcome::Ending;
use actix_web::error::JsonPayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderValue, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};
use berth_model::view::{ExplanationView, ProblemView};
use berth_model::{Explanation, Rejection};
use berth_scheduler::{Fleet, ReadError, SubmitError};
use std::fmt;

pub const PROBLEM_JSON: &str = "application/problem+json";

/// What went wrong with one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub kind: Kind,
    pub detail: String,
    pub explanation: Option<Box<ExplanationView>>,
}

/// Kinds of problems: code, title and status of each stand in one table below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    BadRequest,
    NotFound,
    NameTaken,
    Conflict,
    Ambiguous,
    NoRoom,
    Gone,
    TooLarge,
    TooMany,
    NotSupported,
    KeyReused,
    StartFailed,
    NoLeader,
    Unconfirmed,
    TimedOut,
    Ending,
    Internal,
}

impl Kind {
    fn row(self) -> (u16, &'static str, &'static str) {
        match self {
            Kind::BadRequest => (400, "bad-request", "The request makes no sense"),
            Kind::NotFound => (404, "not-found", "It is not there"),
            Kind::NameTaken => (409, "name-taken", "The name is in use"),
            Kind::Conflict => (409, "conflict", "It does not fit the present state"),
            Kind::Ambiguous => (409, "ambiguous", "The name means more than one thing"),
            Kind::NoRoom => (409, "no-room", "No host will take it"),
            Kind::Gone => (410, "gone", "The token is of another time of the cell"),
            Kind::TooLarge => (413, "too-large", "The request is too large"),
            Kind::TooMany => (429, "too-many", "Too much is asked at once"),
            Kind::NotSupported => (501, "not-supported", "It is not there yet"),
            Kind::KeyReused => {
                (422, "key-reused", "The idempotency key was used for another request")
            }
            Kind::StartFailed => (422, "start-failed", "The process could not be started"),
            Kind::NoLeader => (503, "no-leader", "The cell has no leader at the moment"),
            Kind::Unconfirmed => (503, "unconfirmed", "Whether it was done is not known"),
            Kind::TimedOut => (504, "timed-out", "It takes longer than the request may"),
            Kind::Ending => (503, "ending", "This scheduler is shutting down"),
            Kind::Internal => (500, "internal", "Something broke"),
        }
    }

    pub fn status(self) -> u16 {
        self.row().0
    }
}

impl Problem {
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), explanation: None }
    }

    pub fn bad(detail: impl Into<String>) -> Self {
        Self::new(Kind::BadRequest, detail)
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, detail)
    }

    /// Nowhere to put it, and why.
    pub fn no_room(fleet: &Fleet, explanation: &Explanation) -> Self {
        Self {
            kind: Kind::NoRoom,
            detail: explanation.to_string(),
            explanation: Some(Box::new(show::explanation(fleet, explanation))),
        }
    }

    pub fn view(&self) -> ProblemView {
        let (status, code, title) = self.kind.row();
        ProblemView {
            kind: format!("urn:berth:problem:{code}"),
            title: title.to_owned(),
            status,
            detail: self.detail.clone(),
            code: code.to_owned(),
            request_id: String::new(),
            explanation: self.explanation.as_deref().cloned(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Without a body: the middleware writes it, for it knows the request's id.
    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::new(self.status_code());
        if matches!(self.kind, Kind::TooMany | Kind::NoLeader | Kind::Unconfirmed | Kind::Ending) {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response.extensions_mut().insert(self.view());
        response
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        let kind = match error {
            SubmitError::Rejected(rejection) => return rejection.into(),
            SubmitError::Full => Kind::TooMany,
            SubmitError::NoLeader => Kind::NoLeader,
            SubmitError::Unknown => Kind::Unconfirmed,
            SubmitError::TooLarge => Kind::TooLarge,
            SubmitError::Stopped => Kind::Ending,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let kind = match &rejection {
            Rejection::NoSuchCluster(_)
            | Rejection::NoSuchEndpoint
            | Rejection::NoSuchHost
            | Rejection::NoSuchDatastore(_)
            | Rejection::NoSuchContainer(_)
            | Rejection::NoSuchImage(_) => Kind::NotFound,
            Rejection::NameTaken { .. } => Kind::NameTaken,
            Rejection::Invalid { .. } => Kind::BadRequest,
            Rejection::AlreadyRunning(_)
            | Rejection::NotRunning(_)
            | Rejection::StillRunning(_)
            | Rejection::BeingRemoved(_)
            | Rejection::NotWaiting(_)
            | Rejection::NotPlaced(_)
            | Rejection::StaleEpoch { .. }
            | Rejection::HostRefuses { .. }
            | Rejection::DatastoreRefuses(_) => Kind::Conflict,
            Rejection::KeyReused => Kind::KeyReused,
            Rejection::NotBootstrapped => Kind::NoLeader,
            Rejection::DeadlinePassed => Kind::TimedOut,
        };
        Self::new(kind, rejection.to_string())
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        let kind = match error {
            ReadError::Full => Kind::TooMany,
            ReadError::NoLeader => Kind::NoLeader,
            ReadError::TimedOut => Kind::TimedOut,
            ReadError::Stopped => Kind::Ending,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<Ending> for Problem {
    fn from(ending: Ending) -> Self {
        Self::new(Kind::Ending, ending.to_string())
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        let kind = match &invalid {
            Invalid::Bad(_) => Kind::BadRequest,
            Invalid::NotYet(_) => Kind::NotSupported,
            Invalid::NotFound(_) => Kind::NotFound,
        };
        Self::new(kind, invalid.to_string())
    }
}

impl From<JsonPayloadError> for Problem {
    fn from(error: JsonPayloadError) -> Self {
        let too_large = matches!(
            error,
            JsonPayloadError::Overflow { .. } | JsonPayloadError::OverflowKnownLength { .. }
        );
        let kind = if too_large { Kind::TooLarge } else { Kind::BadRequest };
        Self::new(kind, format!("the body is not what this path takes: {error}"))
    }
}
