//! What can go wrong between a client and `/v1`.

use berth_model::view::ProblemView;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no scheduler is named; give the address of one")]
    NoServer,
    #[error("`{0}` is not an address of a scheduler; write it as http://address:port")]
    Address(String),
    #[error("{0} demands a certificate; name the files of one")]
    CertificateNeeded(String),
    #[error("the HTTP client could not be set up")]
    Setup(#[source] reqwest::Error),
    #[error("TLS could not be set up")]
    Tls(#[source] rustls::Error),
    #[error("{server} cannot be reached; is the scheduler running?")]
    Unreachable {
        server: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("the answer was cut off")]
    Answer(#[source] reqwest::Error),
    #[error("the answer is not what this client understands; are the versions the same?")]
    Content(#[source] serde_json::Error),
    #[error("the stream of events ended; open it again")]
    StreamEnded,
    /// The API says no, and why.
    #[error("{}", .0.detail)]
    Problem(Box<ProblemView>),
    #[error("the answer was {status}: {body}")]
    Status { status: u16, body: String },
}

impl ClientError {
    /// The problem document, if the API told one.
    pub fn problem(&self) -> Option<&ProblemView> {
        match self {
            ClientError::Problem(problem) => Some(problem),
            ClientError::NoServer
            | ClientError::Address(_)
            | ClientError::CertificateNeeded(_)
            | ClientError::Setup(_)
            | ClientError::Tls(_)
            | ClientError::Unreachable { .. }
            | ClientError::Answer(_)
            | ClientError::Content(_)
            | ClientError::StreamEnded
            | ClientError::Status { .. } => None,
        }
    }
}
