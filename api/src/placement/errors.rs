//! Trouble as problem+json (RFC 9457), and the one place that maps it to status codes.

use super::show;
use crate::docker::translate::Invalid;
use crate::outcome::Ending;
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
    /// Where in the body.
    pub at: Option<String>,
    pub explanation: Option<Box<ExplanationView>>,
}

/// Kinds of problems: code, title and status of each stand in one table below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    BadRequest,
    NotFound,
    MethodNotAllowed,
    NameTaken,
    Conflict,
    Contradiction,
    Ambiguous,
    NoRoom,
    QuotaExceeded,
    InUse,
    KeyReused,
    UnknownToken,
    StartFailed,
    NotSupported,
    Gone,
    ConditionFailed,
    TooLarge,
    MediaType,
    Invalid,
    TooMany,
    Internal,
    NoLeader,
    Unconfirmed,
    Ending,
    TimedOut,
}

impl Kind {
    /// In the order of their statuses.
    pub const ALL: [Kind; 25] = [
        Kind::BadRequest,
        Kind::NotFound,
        Kind::MethodNotAllowed,
        Kind::NameTaken,
        Kind::Conflict,
        Kind::Contradiction,
        Kind::Ambiguous,
        Kind::NoRoom,
        Kind::QuotaExceeded,
        Kind::InUse,
        Kind::KeyReused,
        Kind::UnknownToken,
        Kind::StartFailed,
        Kind::NotSupported,
        Kind::Gone,
        Kind::ConditionFailed,
        Kind::TooLarge,
        Kind::MediaType,
        Kind::Invalid,
        Kind::TooMany,
        Kind::Internal,
        Kind::NoLeader,
        Kind::Unconfirmed,
        Kind::Ending,
        Kind::TimedOut,
    ];

    fn row(self) -> (u16, &'static str, &'static str) {
        match self {
            Kind::BadRequest => (400, "bad-request", "The request makes no sense"),
            Kind::NotFound => (404, "not-found", "It is not there"),
            Kind::MethodNotAllowed => {
                (405, "method-not-allowed", "The resource does not know the method")
            }
            Kind::NameTaken => (409, "name-taken", "The name is in use"),
            Kind::Conflict => (409, "conflict", "It does not fit the present state"),
            Kind::Contradiction => (409, "contradiction", "Parts of the request contradict"),
            Kind::Ambiguous => (409, "ambiguous", "The name means more than one thing"),
            Kind::NoRoom => (409, "no-room", "No host will take it"),
            Kind::QuotaExceeded => (409, "quota-exceeded", "The endpoint may not hold so much"),
            Kind::InUse => (409, "in-use", "It is in use"),
            Kind::KeyReused => {
                (409, "key-reused", "The idempotency key was used for another request")
            }
            Kind::UnknownToken => (409, "unknown-token", "This cell gave no such token out"),
            Kind::StartFailed => (409, "start-failed", "The process could not be started"),
            Kind::NotSupported => (409, "not-supported", "It cannot be had"),
            Kind::Gone => (410, "gone", "It is of a time that is not kept any more"),
            Kind::ConditionFailed => (412, "condition-failed", "It was changed since it was read"),
            Kind::TooLarge => (413, "too-large", "The request is too large"),
            Kind::MediaType => (415, "media-type", "The body is of another media type"),
            Kind::Invalid => (422, "invalid", "The body is not what this path takes"),
            Kind::TooMany => (429, "too-many", "Too much is asked at once"),
            Kind::Internal => (500, "internal", "Something broke"),
            Kind::NoLeader => (503, "no-leader", "The cell has no leader at the moment"),
            Kind::Unconfirmed => (503, "unconfirmed", "Whether it was done is not known"),
            Kind::Ending => (503, "ending", "This scheduler is shutting down"),
            Kind::TimedOut => (504, "timed-out", "It takes longer than the request may"),
        }
    }

    pub fn status(self) -> u16 {
        self.row().0
    }

    pub fn code(self) -> &'static str {
        self.row().1
    }

    pub fn title(self) -> &'static str {
        self.row().2
    }

    /// Whether the same request may do better in a second.
    pub fn passes(self) -> bool {
        matches!(self, Kind::TooMany | Kind::NoLeader | Kind::Unconfirmed | Kind::Ending)
    }
}

impl Problem {
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), at: None, explanation: None }
    }

    pub fn bad(detail: impl Into<String>) -> Self {
        Self::new(Kind::BadRequest, detail)
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, detail)
    }

    /// What stands at `at` in the body is wrong.
    pub fn at(mut self, at: impl Into<String>) -> Self {
        self.at = Some(at.into());
        self
    }

    /// Nowhere to put it, and why.
    pub fn no_room(fleet: &Fleet, explanation: &Explanation) -> Self {
        let view = show::explanation(fleet, explanation);
        let explanation = Some(Box::new(view));
        Self {
            kind: Kind::NoRoom,
            detail: explanation.as_ref().map(|view| view.summary.clone()).unwrap_or_default(),
            at: None,
            explanation,
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
            at: self.at.clone(),
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
        if self.kind.passes() {
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
            | Rejection::NoSuchImage(_)
            | Rejection::NoSuchReservation(_)
            | Rejection::NoSuchRule(_) => Kind::NotFound,
            Rejection::NameTaken { .. } => Kind::NameTaken,
            Rejection::Invalid { .. } => Kind::Contradiction,
            Rejection::AlreadyRunning(_)
            | Rejection::NotRunning(_)
            | Rejection::StillRunning(_)
            | Rejection::BeingRemoved(_)
            | Rejection::NotWaiting(_)
            | Rejection::NotPlaced(_)
            | Rejection::StaleEpoch { .. }
            | Rejection::HostRefuses { .. }
            | Rejection::DatastoreRefuses(_)
            | Rejection::GangBroken(_)
            | Rejection::NotDisplaceable(_)
            | Rejection::OtherReservation(_) => Kind::Conflict,
            Rejection::QuotaExceeded { .. } => Kind::QuotaExceeded,
            Rejection::InUse { .. } => Kind::InUse,
            Rejection::ConditionFailed { .. } => Kind::ConditionFailed,
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
            Invalid::Bad(_) => Kind::Contradiction,
            Invalid::NotYet(_) => Kind::NotSupported,
            Invalid::NotFound(_) => Kind::NotFound,
        };
        Self::new(kind, invalid.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_kind_has_a_code_of_its_own() {
        let codes: BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.code()).collect();
        assert_eq!(codes.len(), Kind::ALL.len());
        assert!(Kind::ALL.is_sorted_by_key(|kind| kind.status()));
    }
}
