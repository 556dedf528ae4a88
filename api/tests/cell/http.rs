//! A small HTTP/1.1 client that shows what is on the wire: heads, chunks, raw bytes.

use std::net::SocketAddr;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }

    /// A header's value, lower-case names.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

pub async fn get(address: SocketAddr, path: &str) -> Answer {
    request(address, "GET", path, &[], "").await
}

pub async fn post(address: SocketAddr, path: &str, body: &str) -> Answer {
    request(address, "POST", path, &[("content-type", "application/json")], body).await
}

pub async fn delete(address: SocketAddr, path: &str) -> Answer {
    request(address, "DELETE", path, &[], "").await
}

pub async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut open = Open::send(address, method, path, headers, body).await;
    let body = open.body().await.expect("a whole body");
    Answer { status: open.status, head: open.head, body }
}

/// A request whose answer's head has come.
pub struct Open {
    pub status: u16,
    pub head: String,
    pub stream: BufReader<TcpStream>,
    is_head: bool,
}

impl Open {
    pub async fn send(
        address: SocketAddr,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Open {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut text = format!("{method} {path} HTTP/1.1\r\nhost: docker\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
        stream.write_all(text.as_bytes()).await.unwrap();
        Self::read_head(BufReader::new(stream), method == "HEAD").await
    }

    async fn read_head(mut stream: BufReader<TcpStream>, is_head: bool) -> Open {
        let mut head = String::new();
        loop {
            let mut line = String::new();
            assert!(stream.read_line(&mut line).await.unwrap() > 0, "a whole head, not {head:?}");
            if line == "\r\n" {
                break;
            }
            head.push_str(&line);
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Open { status, head, stream, is_head }
    }

    fn header(&self, name: &str) -> Option<String> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }

    /// The whole body, or an error where it was cut off.
    pub async fn body(&mut self) -> std::io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if self.is_head || matches!(self.status, 204 | 304) {
            return Ok(body);
        }
        if let Some(length) = self.header("content-length") {
            body.resize(length.parse().unwrap(), 0);
            self.stream.read_exact(&mut body).await?;
        } else if self.header("transfer-encoding").as_deref() == Some("chunked") {
            while let Some(chunk) = self.chunk().await? {
                body.extend(chunk);
            }
        } else {
            self.stream.read_to_end(&mut body).await?;
        }
        Ok(body)
    }

    /// The next chunk of a chunked body.
    pub async fn chunk(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let cut = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        let mut line = String::new();
        if self.stream.read_line(&mut line).await? == 0 {
            return Err(cut());
        }
        let length = usize::from_str_radix(line.trim(), 16).map_err(|_| cut())?;
        let mut chunk = vec![0; length + 2];
        self.stream.read_exact(&mut chunk).await?;
        chunk.truncate(length);
        Ok((length > 0).then_some(chunk))
    }
}

/// Attaches as the stock client does; answers the raw connection.
pub async fn attach(address: SocketAddr, container: &str, query: &str) -> Open {
    let path = format!("/v1.50/containers/{container}/attach?{query}");
    let headers = [("connection", "Upgrade"), ("upgrade", "tcp"), ("content-type", "text/plain")];
    Open::send(address, "POST", &path, &headers, "").await
}

/// Takes multiplexed frames apart: stdout, stderr, errors of the daemon.
pub fn frames(mut bytes: &[u8]) -> [String; 3] {
    let mut streams: [Vec<u8>; 3] = Default::default();
    while !bytes.is_empty() {
        let length = u32::from_be_bytes(bytes[4..8].try_into().unwrap()) as usize;
        streams[usize::from(bytes[0]) - 1].extend_from_slice(&bytes[8..8 + length]);
        bytes = &bytes[8 + length..];
    }
    streams.map(|stream| String::from_utf8_lossy(&stream).into_owned())
}
