//! Exact bytes on a socket, and strict reading of what comes back.

use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// A connection to a server under test.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// A response, its header names in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// The headers, in order.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Response {
    /// The value of a header, if it stands there once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values =
            self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let first = values.next();
        assert_eq!(values.next(), None, "{name} stands there twice: {self:?}");
        first
    }
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), unread: Vec::new() }
    }

    /// Connects from another address of this machine.
    pub async fn connect_from(from: IpAddr, address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from, 0)).unwrap();
        Self { stream: socket.connect(address).await.unwrap(), unread: Vec::new() }
    }

    /// Sends exact bytes.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.unwrap();
    }

    /// Sends exact bytes, to a server that may have closed.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await
    }

    /// Says that nothing more will be sent (FIN), and can still read.
    pub async fn half_close(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Resets the connection (RST).
    pub fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// The next response.
    pub async fn response(&mut self) -> Response {
        self.try_response().await.expect("the server closed without a response")
    }

    /// The next response; `None` when the server closes without one.
    pub async fn try_response(&mut self) -> Option<Response> {
        loop {
            if let Some((response, length)) = parse(&self.unread) {
                self.unread.drain(..length);
                return Some(response);
            }
            if !self.read_some().await {
                assert!(
                    self.unread.is_empty(),
                    "half a response: {:?}",
                    String::from_utf8_lossy(&self.unread)
                );
                return None;
            }
        }
    }

    /// Sends exact bytes and reads meanwhile, as clients do that upload; the response may come before all was sent.
    pub async fn upload(&mut self, bytes: impl AsRef<[u8]>) -> Response {
        let (mut reader, mut writer) = self.stream.split();
        let mut writing = std::pin::pin!(writer.write_all(bytes.as_ref()));
        let (mut sending, mut chunk) = (true, vec![0; 16 * 1024]);
        loop {
            if let Some((response, length)) = parse(&self.unread) {
                self.unread.drain(..length);
                return response;
            }
            tokio::select! {
                _ = &mut writing, if sending => sending = false,
                count = reader.read(&mut chunk) => {
                    let count = count.unwrap_or(0);
                    assert!(count > 0, "the server closed without a response");
                    self.unread.extend_from_slice(&chunk[..count]);
                }
            }
        }
    }

    /// Whether the server closes the connection without another byte.
    pub async fn is_closed(&mut self) -> bool {
        self.unread.is_empty() && !self.read_some().await
    }

    /// Reads more. False at the end of the stream, whether the server closed or reset the connection.
    async fn read_some(&mut self) -> bool {
        let mut chunk = vec![0; 16 * 1024];
        let count = self.stream.read(&mut chunk).await.unwrap_or(0);
        self.unread.extend_from_slice(&chunk[..count]);
        count > 0
    }
}

/// A response and how many bytes it takes. Every server here declares its lengths.
fn parse(bytes: &[u8]) -> Option<(Response, usize)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end - 4]).expect("the head is text");
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line.strip_prefix("HTTP/1.1 ").expect("HTTP/1.1")[..3].parse().expect("a status");
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(':').expect("a header"))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.map_or(0, |(_, length)| length.parse().expect("a length"));
    let body = bytes.get(end..end + length)?;
    let body = String::from_utf8(body.to_vec()).expect("the body is text");
    Some((Response { status, headers, body }, end + length))
}
