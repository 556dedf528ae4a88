//! A plain HTTP/1.1 client of one replica.

use super::super::PlaceError;
use super::super::placing::Placings;
use crate::clock::{self, milliseconds};
use berth_model::view::{CellView, ListView, ReservationView};
use futures_util::stream::{self, StreamExt};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Duration;

/// No request takes so long that is answered at all.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The largest that the API gives.
const PAGE: u32 = 1000;
/// Of an answer that is no success, as much is told.
const TOLD_MAX: usize = 200;

pub struct Client {
    http: reqwest::Client,
    server: String,
}

/// What is read of an answer.
#[derive(Deserialize)]
struct Answer {
    placed: u64,
    refused: u64,
}

impl Client {
    pub fn new(server: SocketAddr) -> Result<Client, PlaceError> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .http1_only()
            .tcp_nodelay(true)
            .pool_max_idle_per_host(usize::MAX)
            .timeout(TIMEOUT)
            .build()
            .map_err(|error| PlaceError::Http(error.to_string()))?;
        Ok(Client { http, server: format!("http://{server}") })
    }

    /// Sends all bodies, `in_flight` at once.
    pub async fn run(&self, bodies: Vec<(Vec<u8>, u64)>, in_flight: u32) -> Placings {
        let found = RefCell::new(Placings::default());
        let clients = usize::try_from(in_flight.max(1)).unwrap_or(1);
        let began = clock::now();
        stream::iter(bodies)
            .for_each_concurrent(clients, |(body, count)| {
                let found = &found;
                async move {
                    let asked = clock::now();
                    let answer = self.place(body).await;
                    let mut found = found.borrow_mut();
                    match answer {
                        Ok(answer) if answer.placed + answer.refused == count => {
                            found.each_ms.push(milliseconds(asked.elapsed()));
                            found.placed += answer.placed;
                            found.refused += answer.refused;
                        }
                        Ok(_) => {
                            *found.failed.entry("not all answered".to_owned()).or_default() += 1
                        }
                        Err(why) => *found.failed.entry(why).or_default() += 1,
                    }
                }
            })
            .await;
        let mut found = found.into_inner();
        found.seconds = began.elapsed().as_secs_f64();
        found
    }

    async fn place(&self, body: Vec<u8>) -> Result<Answer, String> {
        let request = self
            .http
            .post(format!("{}/v1/placements", self.server))
            .header("content-type", "application/json")
            .body(body);
        let answer = request.send().await.map_err(|error| format!("{error:?}"))?;
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(|error| error.to_string())?;
        if !status.is_success() {
            return Err(format!("{status}: {}", text(&bytes)));
        }
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())
    }

    pub async fn cell(&self) -> Result<CellView, PlaceError> {
        self.get("/v1/cell").await
    }

    pub async fn is_ready(&self) -> bool {
        let answer = self.http.get(format!("{}/readyz", self.server)).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// All that are held, page by page.
    pub async fn placements(&self) -> Result<Vec<ReservationView>, PlaceError> {
        let mut all = Vec::new();
        let mut query = format!("limit={PAGE}");
        loop {
            let path = format!("/v1/placements?{query}");
            let page: ListView<ReservationView> = self.get(&path).await?;
            all.extend(page.items);
            // Tokens are made of characters that a query may hold.
            let Some(next) = page.next else { return Ok(all) };
            query = format!("limit={PAGE}&page={next}");
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, PlaceError> {
        let trouble = |why: String| PlaceError::Http(format!("GET {path}: {why}"));
        let answer = self.http.get(format!("{}{path}", self.server)).send().await;
        let answer = answer.map_err(|error| trouble(format!("{error:?}")))?;
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(|error| trouble(error.to_string()))?;
        if !status.is_success() {
            return Err(trouble(format!("{status}: {}", text(&bytes))));
        }
        serde_json::from_slice(&bytes).map_err(|error| trouble(error.to_string()))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(TOLD_MAX)]).into_owned()
}
