//! A plain HTTP client that shows every byte, over any stream.

use std::path::Path;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, ToSocketAddrs, UnixStream};

use super::exposition::Metrics;
use super::{block_on, patiently};

/// One request on a connection of its own, from a thread without a runtime.
pub fn get(address: impl ToSocketAddrs, path: &str) -> Answer {
    get_with(address, path, "")
}

/// The same with more header lines, each with its line end.
pub fn get_with(address: impl ToSocketAddrs, path: &str, headers: &str) -> Answer {
    block_on(async { Client::connect(address).await.get(path, headers).await })
}

/// The same over a socket in the file system.
pub fn get_unix(socket: &Path, path: &str) -> Answer {
    block_on(async {
        let stream = UnixStream::connect(socket).await.unwrap();
        Client::over(stream).get(path, "").await
    })
}

/// An answer as received.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// Parses all bytes of a connection with one answer.
    pub fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let mut answer = parse_head(head);
        answer.body = body.into();
        answer
    }

    /// The value of a header, which must not occur twice.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(known, _)| known == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} comes twice: {self:?}");
        value
    }

    pub fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }

    /// The metrics of a scrape.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        assert_eq!(self.status, 200, "{self:?}");
        Metrics::parse(self.text())
    }
}

/// One connection.
pub struct Client<S = TcpStream> {
    pub stream: S,
    received: Vec<u8>,
}

impl Client {
    pub async fn connect(address: impl ToSocketAddrs) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn over(stream: S) -> Self {
        Self {
            stream,
            received: Vec::new(),
        }
    }

    pub async fn send(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).await.unwrap();
    }

    /// Sends a request with more header lines, each with its line end.
    pub async fn ask(&mut self, method: &str, path: &str, headers: &str) {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{headers}\r\n");
        self.send(&request).await;
    }

    pub async fn request(&mut self, method: &str, path: &str, headers: &str) -> Answer {
        self.ask(method, path, headers).await;
        self.answer(method != "HEAD").await
    }

    /// A request after which the server closes the connection.
    pub async fn get(&mut self, path: &str, headers: &str) -> Answer {
        let headers = format!("Connection: close\r\n{headers}");
        self.request("GET", path, &headers).await
    }

    /// The next answer. One to a HEAD request has no body.
    pub async fn answer(&mut self, has_body: bool) -> Answer {
        patiently(async {
            let end = loop {
                if let Some(at) = self
                    .received
                    .windows(4)
                    .position(|four| four == b"\r\n\r\n")
                {
                    break at + 4;
                }
                assert!(
                    self.receive().await,
                    "closed within a head: {:?}",
                    self.received
                );
            };
            let head: Vec<u8> = self.received.drain(..end).collect();
            let mut answer = parse_head(str::from_utf8(&head).unwrap());
            let length = answer.header("content-length").unwrap().parse().unwrap();
            while has_body && self.received.len() < length {
                assert!(self.receive().await, "closed within a body");
            }
            if has_body {
                answer.body = self.received.drain(..length).collect();
            }
            answer
        })
        .await
    }

    /// Waits until the server closes, and returns everything received before.
    pub async fn closed(mut self) -> Vec<u8> {
        patiently(async {
            while self.receive().await {}
            self.received
        })
        .await
    }

    async fn receive(&mut self) -> bool {
        // A reset is also an end.
        matches!(self.stream.read_buf(&mut self.received).await, Ok(bytes) if bytes > 0)
    }
}

fn parse_head(head: &str) -> Answer {
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let headers = lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        })
        .collect();
    Answer {
        status: status.parse().unwrap(),
        headers,
        body: Vec::new(),
    }
}
