//! Large uploads, many at once, of which the server takes as much as it wants.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};

use crate::Outcome;

const CHUNK: usize = 64 * 1024;
const HEALTH: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
const NOT_SERVED: &str = "a connection that was not served";
/// An upload that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// The status of each answer; 0 where the connection ended without one.
pub(crate) type Statuses = Vec<u16>;

/// How many uploads go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// As many, each over a connection of HTTP/1.1.
    Http1(usize),
    /// As many connections of HTTP/2, each with so many streams.
    Http2(usize, usize),
}

impl Load {
    pub(crate) fn connections(self) -> usize {
        match self {
            Self::Http1(connections) | Self::Http2(connections, _) => connections,
        }
    }
}

/// Connects everywhere, where each connection is answered once, and then sends the head, with one header more, and the
/// body everywhere at once. Connects one by one, since a listener that is overrun resets connections.
pub(crate) async fn send(
    address: SocketAddr,
    load: Load,
    header: Option<(&str, &str)>,
    body: &Bytes,
) -> Outcome<Statuses> {
    match load {
        Load::Http1(connections) => over_http1(address, connections, header, body).await,
        Load::Http2(connections, streams) => over_http2(address, connections, streams, header, body).await,
    }
}

async fn over_http1(
    address: SocketAddr,
    connections: usize,
    header: Option<(&str, &str)>,
    body: &Bytes,
) -> Outcome<Statuses> {
    let mut streams = Vec::new();
    for _ in 0..connections {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(HEALTH).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nok") {
            if stream.read_buf(&mut answer).await? == 0 {
                return Err(NOT_SERVED.into());
            }
        }
        streams.push(stream);
    }
    let length = body.len();
    let more = header.map(|(name, value)| format!("{name}: {value}\r\n")).unwrap_or_default();
    let head: Arc<str> =
        format!("POST /callback HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{more}\r\n")
            .into();
    let mut tasks = JoinSet::new();
    for stream in streams {
        let (head, body) = (Arc::clone(&head), body.clone());
        tasks.spawn(async move { tokio::time::timeout(PATIENCE, exchange(stream, &head, &body)).await });
    }
    Ok(tasks.join_all().await.into_iter().collect::<Result<_, _>>()?)
}

async fn over_http2(
    address: SocketAddr,
    connections: usize,
    streams: usize,
    header: Option<(&str, &str)>,
    body: &Bytes,
) -> Outcome<Statuses> {
    let mut opened = Vec::new();
    for _ in 0..connections {
        let mut connection = Http2::connect(address).await?;
        let health = Request::get(format!("http://{address}/health")).body(())?;
        if connection.exchange(1, &health, &Bytes::new()).await != [200] {
            return Err(NOT_SERVED.into());
        }
        opened.push(connection);
    }
    let mut request =
        Request::post(format!("http://{address}/callback")).header("content-length", body.len());
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    let request = request.body(())?;
    let mut tasks = JoinSet::new();
    for mut connection in opened {
        let (request, body) = (request.clone(), body.clone());
        tasks.spawn(async move {
            let statuses = connection.exchange(streams, &request, &body);
            let statuses = tokio::time::timeout(PATIENCE, statuses).await;
            // With the connection, which stays open until all are answered: a stranger would not close it either.
            statuses.map(|statuses| (connection, statuses))
        });
    }
    let answered = tasks.join_all().await.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(answered.into_iter().flat_map(|(_connection, statuses)| statuses).collect())
}

/// Sends until all is sent or the server has answered, as it may do at any time.
async fn exchange(stream: TcpStream, head: &str, body: &[u8]) -> u16 {
    let (mut read, mut write) = stream.into_split();
    let sending = async {
        write.write_all(head.as_bytes()).await?;
        for chunk in body.chunks(CHUNK) {
            write.write_all(chunk).await?;
        }
        // What is sent is not the question: the answer is.
        std::future::pending::<std::io::Result<()>>().await
    };
    let mut answer = Vec::new();
    let answered = async {
        while answer.len() < "HTTP/1.1 200".len() {
            if matches!(read.read_buf(&mut answer).await, Ok(0) | Err(_)) {
                break;
            }
        }
        std::str::from_utf8(answer.get(9..12).unwrap_or_default()).ok().and_then(|status| status.parse().ok())
    };
    tokio::pin!(answered);
    tokio::select! {
        status = &mut answered => return status.unwrap_or(0),
        _ = sending => {}
    }
    // The server stopped reading; its answer may be on the way.
    answered.await.unwrap_or(0)
}

/// A connection that is open until it is dropped.
struct Http2 {
    requests: h2::client::SendRequest<Bytes>,
    driver: JoinHandle<()>,
}

impl Http2 {
    async fn connect(address: SocketAddr) -> Outcome<Self> {
        let stream = TcpStream::connect(address).await?;
        let (requests, connection) = h2::client::handshake(stream).await?;
        Ok(Self { requests, driver: tokio::spawn(async { drop(connection.await) }) })
    }

    /// The same on so many streams at once. Each sends as much as the server lets it, until it is answered.
    async fn exchange(&mut self, streams: usize, request: &Request<()>, body: &Bytes) -> Statuses {
        let mut opened = Vec::new();
        for _ in 0..streams {
            if poll_fn(|context| self.requests.poll_ready(context)).await.is_err() {
                break;
            }
            let Ok((answer, mut sending)) = self.requests.send_request(request.clone(), body.is_empty())
            else {
                break;
            };
            if !body.is_empty() {
                let _ = sending.send_data(body.clone(), true);
            }
            opened.push((answer, sending));
        }
        let mut statuses = Vec::new();
        for (answer, _sending) in opened {
            statuses.push(answer.await.map_or(0, |answer| answer.status().as_u16()));
        }
        statuses.resize(streams, 0);
        statuses
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
