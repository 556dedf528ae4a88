//! A typed client of the HTTP placement API `/v1`.
//!
//! Promises: any of several schedulers serves any request; one that cannot be reached is passed
//! over for the next. A write carries an idempotency key, so that asking twice has one effect.
//! Trouble that the API tells comes back as its problem document, with the explanation of a
//! refused placement.
//!
//! [`Client::follow`] streams what changes, over replicas and without a gap.
//!
//! Does not: retry what a scheduler answered, nor keep what it read.

mod calls;
mod error;
mod events;
mod options;
mod placing;

pub use berth_model::view;
pub use error::ClientError;
pub use events::EventsQuery;
pub use options::{ListQuery, WriteOptions};

use berth_model::IdempotencyKey;
use berth_wire::tls::{Role, Tls};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;

/// A connection attempt that takes longer than this is given up for the next scheduler.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest that one answer may take; writes with `wait` take as long as a start does.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(330);

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    /// `http://address:port`, without a slash at the end.
    servers: Vec<String>,
}

impl Client {
    /// A client of the schedulers at `servers` (`http://127.0.0.1:7000`, `https://…`); with `tls`
    /// it shows its certificate, which `https` servers demand.
    pub fn new(servers: &[String], tls: Option<&Tls>) -> Result<Self, ClientError> {
        let servers: Vec<String> =
            servers.iter().map(|server| server.trim_end_matches('/').to_owned()).collect();
        if servers.is_empty() {
            return Err(ClientError::NoServer);
        }
        for server in &servers {
            let secure = server.starts_with("https://");
            if !secure && !server.starts_with("http://") {
                return Err(ClientError::Address(server.clone()));
            }
            if secure && tls.is_none() {
                return Err(ClientError::CertificateNeeded(server.clone()));
            }
        }
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .no_proxy()
            .user_agent(concat!("berth-client/", env!("CARGO_PKG_VERSION")));
        let config = match tls {
            Some(tls) => (*tls.client_config_for(Role::Scheduler)).clone(),
            None => no_tls().map_err(ClientError::Tls)?,
        };
        builder = builder.use_preconfigured_tls(config);
        Ok(Self { http: builder.build().map_err(ClientError::Setup)?, servers })
    }

    /// Asks one server after the other until one can be reached.
    async fn send(
        &self,
        method: Method,
        path: &str,
        finish: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, ClientError> {
        let mut failed = ClientError::NoServer;
        for server in &self.servers {
            let request = finish(self.http.request(method.clone(), format!("{server}{path}")));
            match request.send().await {
                Ok(response) => return refuse_problems(response).await,
                // Each write carries its key, so a second try of one that got through is harmless.
                Err(source) => {
                    failed = ClientError::Unreachable { server: server.clone(), source };
                }
            }
        }
        Err(failed)
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T, ClientError> {
        read(self.send(Method::GET, path, |request| request.query(query)).await?).await
    }

    async fn write<B: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        options: &WriteOptions,
        body: Option<&B>,
    ) -> Result<T, ClientError> {
        let fresh = || IdempotencyKey::random(&mut rand::rng());
        let key = options.key.unwrap_or_else(fresh).to_string();
        let if_match = options.if_match.as_ref().map(|held| format!("\"{}\"", held.0));
        let response = self
            .send(method, path, |request| {
                let request = request.query(&options.query()).header("idempotency-key", &key);
                let request = match &if_match {
                    Some(held) => request.header("if-match", held),
                    None => request,
                };
                match body {
                    Some(body) => request.json(body),
                    None => request,
                }
            })
            .await?;
        read(response).await
    }
}

impl Client {
    /// A question with a body: nothing changes.
    async fn ask<B: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        read(self.send(Method::POST, path, |request| request.json(body)).await?).await
    }

    async fn delete(&self, path: &str, options: &WriteOptions) -> Result<(), ClientError> {
        self.write(Method::DELETE, path, options, None::<&()>).await
    }
}

/// A configuration that trusts nobody: the HTTP library demands one even where all is plain.
fn no_tls() -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth())
}

async fn refuse_problems(response: Response) -> Result<Response, ClientError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = response.text().await.map_err(ClientError::Answer)?;
    match serde_json::from_str::<view::ProblemView>(&body) {
        Ok(problem) => Err(ClientError::Problem(Box::new(problem))),
        Err(_) => Err(ClientError::Status {
            status: status.as_u16(),
            body: body.chars().take(500).collect(),
        }),
    }
}

async fn read<T: DeserializeOwned>(response: Response) -> Result<T, ClientError> {
    let status = response.status();
    let bytes = response.bytes().await.map_err(ClientError::Answer)?;
    // An answer without content reads as null, so that `()` can be asked for.
    let empty = status == StatusCode::ACCEPTED && bytes.is_empty();
    if empty || status == StatusCode::NO_CONTENT {
        return serde_json::from_str("null").map_err(ClientError::Content);
    }
    serde_json::from_slice(&bytes).map_err(ClientError::Content)
}
