//! Large uploads, many at once, of which the server takes as much as it wants.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::Outcome;

const CHUNK: usize = 64 * 1024;
/// An upload that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// The status of each answer; 0 where the connection ended without one.
pub(crate) type Statuses = Vec<u16>;

/// Connects as many times, and then sends the head and the body everywhere at once.
pub(crate) async fn send(
    address: SocketAddr,
    count: usize,
    head: &str,
    body: &Arc<[u8]>,
) -> Outcome<Statuses> {
    let together = Arc::new(Barrier::new(count));
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let (head, body, together) = (head.to_owned(), Arc::clone(body), Arc::clone(&together));
        tasks.spawn(async move {
            let stream = TcpStream::connect(address).await?;
            together.wait().await;
            Outcome::Ok(tokio::time::timeout(PATIENCE, upload(stream, &head, &body)).await?)
        });
    }
    let mut statuses = Vec::with_capacity(count);
    while let Some(outcome) = tasks.join_next().await {
        statuses.push(outcome??);
    }
    Ok(statuses)
}

/// Sends until all is sent or the server has answered, as it may do at any time.
async fn upload(stream: TcpStream, head: &str, body: &[u8]) -> u16 {
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
