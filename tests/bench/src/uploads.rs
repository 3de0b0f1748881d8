//! Large uploads, many at once, of which the server reads as much as it wants.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::Result;
use crate::request::{HEALTH, head};

const CHUNK: usize = 64 * 1024;
const TIMEOUT: Duration = Duration::from_secs(120);
/// Declared length of an upload that never ends.
const TRICKLED: usize = 10_000_000;

/// Opens so many connections and gets one response on each, then sends the head, with this token, and the body on all
/// at once. Returns the status of each response, or 0 where the connection ended without one.
pub(crate) async fn send(
    address: SocketAddr,
    connections: usize,
    token: Option<&str>,
    body: &Bytes,
) -> Result<Vec<u16>> {
    let mut opened = Vec::new();
    // One by one: an overrun listener resets connections.
    for _ in 0..connections {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(HEALTH).await?;
        let mut response = Vec::new();
        while !response.ends_with(b"\r\n\r\nok") {
            if stream.read_buf(&mut response).await? == 0 {
                return Err("a connection was not served".into());
            }
        }
        opened.push(stream);
    }
    let head = head(token, body.len());
    let uploads = opened.into_iter().map(|stream| upload(stream, &head, body));
    Ok(tokio::time::timeout(TIMEOUT, join_all(uploads)).await?)
}

/// Uploads that never end: each sends twice the receiver's minimum rate, and begins anew when it is rejected, until the set is
/// dropped.
pub(crate) fn trickle(address: SocketAddr, connections: usize, token: &str) -> JoinSet<()> {
    let head = head(Some(token), TRICKLED);
    (0..connections)
        .map(|_| {
            let head = head.clone();
            async move {
                let mut ticks = tokio::time::interval(Duration::from_secs(1));
                loop {
                    // An error means that the server has rejected it.
                    let _: std::io::Result<()> = async {
                        let mut stream = TcpStream::connect(address).await?;
                        stream.write_all(head.as_bytes()).await?;
                        loop {
                            ticks.tick().await;
                            stream.write_all(&[b' '; 2048]).await?;
                        }
                    }
                    .await;
                    ticks.tick().await;
                }
            }
        })
        .collect()
}

/// Sends until everything is sent or the server responds, which it may do at any time.
async fn upload(stream: TcpStream, head: &str, body: &[u8]) -> u16 {
    let (mut read, mut write) = stream.into_split();
    let sending = async {
        write.write_all(head.as_bytes()).await?;
        for chunk in body.chunks(CHUNK) {
            write.write_all(chunk).await?;
        }
        // Keeps the connection open until there is a response.
        std::future::pending::<std::io::Result<()>>().await
    };
    let responded = async {
        let mut response = Vec::new();
        while response.len() < "HTTP/1.1 200".len() {
            if matches!(read.read_buf(&mut response).await, Ok(0) | Err(_)) {
                break;
            }
        }
        let status = response.get(9..12).and_then(|status| std::str::from_utf8(status).ok());
        status.and_then(|status| status.parse().ok()).unwrap_or(0)
    };
    tokio::pin!(responded);
    tokio::select! {
        status = &mut responded => status,
        // The server stopped reading; its response may be on the way.
        _ = sending => responded.await,
    }
}
