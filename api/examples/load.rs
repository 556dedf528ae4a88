//! Asks a serving `/v1` for places as fast as it answers, and says how fast that is.
//!
//! `cargo run --release -p berth-api --example load -- ADDRESS CONNECTIONS SECONDS BATCH`: each
//! connection asks for `BATCH` places at once (1: a single request) that are held for a second, and
//! waits for the answer before it asks again. Prints requests and places a second, and the median
//! and 99th percentile of the time of a request. Meant for the cell of the example `serve`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool: it says so and ends")]

use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |at: usize, default: u64| arguments.get(at).map_or(default, |text| text.parse().unwrap());
    let address = arguments.first().cloned().unwrap_or_else(|| "127.0.0.1:7301".to_owned());
    let (connections, seconds, batch) = (number(1, 64), number(2, 10), number(3, 1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let request = request(batch);
    let mut times: Vec<Duration> = runtime.block_on(async {
        let end = Instant::now() + Duration::from_secs(seconds);
        let asking: Vec<_> = (0..connections)
            .map(|_| tokio::spawn(ask(address.clone(), request.clone(), end)))
            .collect();
        let mut times = Vec::new();
        for one in asking {
            times.extend(one.await.unwrap());
        }
        times
    });
    times.sort_unstable();
    let at = |permille: usize| times.get(times.len() * permille / 1000).copied();
    let rate = times.len() as f64 / seconds as f64;
    println!(
        "{rate:.0} requests/s, {:.0} places/s, p50 {:?}, p99 {:?}",
        rate * batch as f64,
        at(500).unwrap_or_default(),
        at(990).unwrap_or_default()
    );
}

/// The bytes of one request.
fn request(batch: u64) -> Vec<u8> {
    let item = json!({"demand": {"cpu_millis": 1, "memory_bytes": 64 << 20}});
    let mut body = json!({"reserve": true, "hold_seconds": 1});
    match batch {
        1 => body["request"] = item,
        many => body["batch"] = (0..many).map(|_| item.clone()).collect::<Value>(),
    }
    let body = body.to_string();
    let length = body.len();
    let head = format!(
        "POST /v1/placements HTTP/1.1\r\nhost: berth\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n"
    );
    format!("{head}{body}").into_bytes()
}

async fn ask(address: String, request: Vec<u8>, end: Instant) -> Vec<Duration> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut times = Vec::new();
    let mut answer = Vec::new();
    while Instant::now() < end {
        let began = Instant::now();
        stream.write_all(&request).await.unwrap();
        answer.clear();
        read(&mut stream, &mut answer).await;
        let told = String::from_utf8_lossy(&answer[..answer.len().min(600)]);
        assert!(answer.starts_with(b"HTTP/1.1 201"), "{told}");
        times.push(began.elapsed());
    }
    times
}

/// One whole answer.
async fn read(stream: &mut TcpStream, answer: &mut Vec<u8>) {
    loop {
        let got = stream.read_buf(answer).await.unwrap();
        assert!(got > 0, "the answer was cut off");
        let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&answer[..head]).to_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.unwrap().parse().unwrap();
        if answer.len() >= head + 4 + length {
            return;
        }
    }
}
