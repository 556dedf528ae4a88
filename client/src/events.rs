//! The stream of events, gone on with by itself where it was cut.
//!
//! Promises: every revision after the first one looked at comes once and in order, over any number
//! of cuts and schedulers; a revision that is not kept any more ends the stream with the API's
//! problem. Does not: filter; the API does.

use crate::view::{EventPageView, ProblemView, RevisionView};
use crate::{Client, ClientError};
use berth_model::revision::OpaqueRevision;
use eventsource_stream::{Event, EventStreamError, Eventsource as _};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream, Stream};
use reqwest::Method;
use std::time::Duration;

/// What of the events is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventsQuery {
    /// Only what came after this revision; a stream without it starts now, a page with what is
    /// kept.
    pub after: Option<OpaqueRevision>,
    /// Of this endpoint's objects only.
    pub endpoint: Option<String>,
    /// Of objects of this kind only: `host`, `container-vm`.
    pub kind: Option<String>,
    /// Events on a page, 1 to 1,000; of no meaning to a stream.
    pub limit: Option<u32>,
}

impl EventsQuery {
    fn query(&self) -> Vec<(&'static str, String)> {
        let mut query: Vec<(&'static str, String)> = Vec::new();
        query.extend(self.after.iter().map(|after| ("after", after.0.clone())));
        for (name, value) in [("endpoint", &self.endpoint), ("kind", &self.kind)] {
            query.extend(value.iter().map(|value| (name, value.clone())));
        }
        query.extend(self.limit.iter().map(|limit| ("limit", limit.to_string())));
        query
    }
}

/// Longer than any pause of the API, which sends a comment every 10 s.
const SILENCE: Duration = Duration::from_secs(40);
/// Longer than any one connection lives: it lives as long as it shows life.
const LIFE: Duration = Duration::from_secs(86_400);
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

impl Client {
    /// The newest revision: where a stream of what comes from now on starts.
    pub async fn newest(&self) -> Result<OpaqueRevision, ClientError> {
        Ok(self.cell().await?.revision)
    }

    /// A page of events after a revision, or from the oldest that is kept.
    pub async fn events(
        &self,
        after: Option<&OpaqueRevision>,
    ) -> Result<EventPageView, ClientError> {
        self.events_of(&EventsQuery { after: after.cloned(), ..EventsQuery::default() }).await
    }

    /// A page of some events.
    pub async fn events_of(&self, query: &EventsQuery) -> Result<EventPageView, ClientError> {
        self.get("/v1/events", &query.query()).await
    }

    /// Every revision after `after`, or from now on, as it comes: over cuts and schedulers, without
    /// a gap. An error is the last item: what was asked for is not kept any more, or never was.
    pub fn follow(
        &self,
        after: Option<OpaqueRevision>,
    ) -> impl Stream<Item = Result<RevisionView, ClientError>> + Send + use<> {
        self.follow_some(EventsQuery { after, ..EventsQuery::default() })
    }

    /// The same of some events.
    pub fn follow_some(
        &self,
        query: EventsQuery,
    ) -> impl Stream<Item = Result<RevisionView, ClientError>> + Send + use<> {
        let reader = Reader { client: self.clone(), query, messages: None, failed: 0 };
        stream::unfold(Some(reader), |reader| async move {
            let mut reader = reader?;
            match reader.next().await {
                Ok(revision) => Some((Ok(revision), Some(reader))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }
}

type Messages = BoxStream<'static, Result<Event, EventStreamError<reqwest::Error>>>;

struct Reader {
    client: Client,
    query: EventsQuery,
    messages: Option<Messages>,
    /// Tries in a row that came to nothing.
    failed: u32,
}

impl Reader {
    async fn next(&mut self) -> Result<RevisionView, ClientError> {
        loop {
            match self.step().await {
                Ok(revision) => {
                    self.failed = 0;
                    self.query.after = Some(revision.revision.clone());
                    return Ok(revision);
                }
                Err(error) if is_final(&error) => return Err(error),
                Err(_) => {
                    self.messages = None;
                    let pause = PAUSE_MIN.saturating_mul(1 << self.failed.min(6)).min(PAUSE_MAX);
                    self.failed += 1;
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// The next revision of the connection that is open, or of a new one.
    async fn step(&mut self) -> Result<RevisionView, ClientError> {
        let messages = match &mut self.messages {
            Some(messages) => messages,
            None => {
                if self.query.after.is_none() {
                    // So that a cut before the first message leaves no gap.
                    self.query.after = Some(self.client.newest().await?);
                }
                let opened = self.client.stream(&self.query).await?;
                self.messages.insert(opened)
            }
        };
        loop {
            let event = match messages.next().await {
                Some(Ok(event)) => event,
                Some(Err(EventStreamError::Transport(source))) => {
                    return Err(ClientError::Answer(source));
                }
                Some(Err(EventStreamError::Utf8(_) | EventStreamError::Parser(_))) | None => {
                    return Err(ClientError::StreamEnded);
                }
            };
            match event.event.as_str() {
                "revision" => {
                    return serde_json::from_str(&event.data).map_err(ClientError::Content);
                }
                "gone" => {
                    let problem: ProblemView =
                        serde_json::from_str(&event.data).map_err(ClientError::Content)?;
                    return Err(ClientError::Problem(Box::new(problem)));
                }
                // What a later version sends.
                _ => {}
            }
        }
    }
}

impl Client {
    async fn stream(&self, query: &EventsQuery) -> Result<Messages, ClientError> {
        let query = query.query();
        let response = self
            .send(Method::GET, "/v1/events", |request| {
                request.query(&query).header("accept", "text/event-stream").timeout(LIFE)
            })
            .await?;
        // Comments are no messages: life shows in the bytes.
        let bytes = stream::unfold(response, |mut response| async move {
            match tokio::time::timeout(SILENCE, response.chunk()).await {
                Ok(Ok(Some(chunk))) => Some((Ok(chunk), response)),
                Ok(Err(source)) => Some((Err(source), response)),
                Ok(Ok(None)) | Err(_) => None,
            }
        });
        Ok(bytes.boxed().eventsource().boxed())
    }
}

/// Whether trying again would come to the same.
fn is_final(error: &ClientError) -> bool {
    match error {
        ClientError::Problem(problem) => !matches!(problem.status, 429 | 500..=599),
        ClientError::NoServer
        | ClientError::Address(_)
        | ClientError::CertificateNeeded(_)
        | ClientError::Setup(_)
        | ClientError::Tls(_)
        | ClientError::Content(_)
        | ClientError::Status { .. } => true,
        ClientError::Unreachable { .. } | ClientError::Answer(_) | ClientError::StreamEnded => {
            false
        }
    }
}
