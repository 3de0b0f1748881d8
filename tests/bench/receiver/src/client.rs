//! A client that takes as little of the machine as it can: requests are made beforehand, and of an answer only
//! the status, the length and the body are looked at.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::Outcome;
use crate::payload::Request;
use crate::tokens::{Choice, Tokens};

/// No answer takes longer, or the run has failed.
const PATIENCE: Duration = Duration::from_secs(60);

const ACCEPTED: &[u8] = b"HTTP/1.1 200 ";

/// What came back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Answers with status 200.
    pub(crate) accepted: u64,
    /// Those of them that came while it was still sending.
    pub(crate) in_time: u64,
    /// Others.
    pub(crate) rejected: u64,
}

/// Connections that each send, wait for the answer, and send again.
pub(crate) struct Client {
    connections: Vec<Connection>,
}

struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
    request: Request,
    tokens: Tokens,
    answer: Vec<u8>,
    /// How long accepting answers are; 0 until there was one.
    usual: usize,
    /// Where it comes from, if not from where all do.
    source: Option<Ipv4Addr>,
    /// The time from one request to the next.
    pace: Option<Duration>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, connections: usize, request: &Request, tokens: &Tokens) -> Self {
        let connection = || Connection {
            address,
            stream: None,
            request: request.clone(),
            tokens: tokens.clone(),
            answer: Vec::with_capacity(1024),
            usual: 0,
            source: None,
            pace: None,
        };
        Self { connections: (0..connections).map(|_| connection()).collect() }
    }

    /// The same with no more than this many requests a second in all.
    pub(crate) fn paced(mut self, requests_a_second: u32) -> Self {
        let pace = Duration::from_secs(self.connections.len() as u64) / requests_a_second;
        for connection in &mut self.connections {
            connection.pace = Some(pace);
        }
        self
    }

    /// The same from eight addresses of this machine that nobody else uses.
    pub(crate) fn elsewhere(mut self) -> Self {
        for (connection, last) in self.connections.iter_mut().zip((2..10).cycle()) {
            connection.source = Some(Ipv4Addr::new(127, 0, 0, last));
        }
        self
    }

    /// Sends until the time is over or the tokens are used up. Returns how long it took until the last answer was there.
    pub(crate) async fn send_for(&mut self, time: Duration) -> Outcome<(Tally, Duration)> {
        for connection in &mut self.connections {
            connection.open().await?;
        }
        let begun = Instant::now();
        let _awake = stay_awake();
        let mut tasks = JoinSet::new();
        for mut connection in self.connections.drain(..) {
            tasks.spawn(async move {
                let tally = connection.send_until(begun + time).await?;
                Outcome::Ok((connection, tally))
            });
        }
        let mut all = Tally::default();
        while let Some(outcome) = tokio::time::timeout(time + PATIENCE, tasks.join_next()).await? {
            let (connection, tally) = outcome??;
            self.connections.push(connection);
            all.accepted += tally.accepted;
            all.in_time += tally.in_time;
            all.rejected += tally.rejected;
        }
        Ok((all, begun.elapsed()))
    }

    /// Sends each token once, and again until it is accepted, so that it is known from then on.
    pub(crate) async fn introduce(&mut self) -> Outcome<()> {
        let connection = self.connections.first_mut().ok_or("a client without connections")?;
        let end = Instant::now() + PATIENCE;
        for choice in connection.tokens.all() {
            while !connection.exchange(choice).await? {
                if Instant::now() > end {
                    return Err("the server accepts no honest request".into());
                }
            }
        }
        Ok(())
    }

    /// Sends once, and returns the answer as it came.
    pub(crate) async fn send_once(&mut self) -> Outcome<String> {
        let connection = self.connections.first_mut().ok_or("a client without connections")?;
        connection.open().await?;
        let token = connection.tokens.take().ok_or("no token is left")?;
        connection.exchange(token).await?;
        Ok(String::from_utf8_lossy(&connection.answer).into_owned())
    }
}

/// Keeps this thread from sleeping between answers. Waking it would cost the server time, the more the slower it is.
fn stay_awake() -> JoinSet<()> {
    let mut awake = JoinSet::new();
    awake.spawn(async {
        loop {
            tokio::task::yield_now().await;
        }
    });
    awake
}

impl Connection {
    async fn open(&mut self) -> Outcome<()> {
        // Servers close connections that were idle for some seconds.
        let closed = |stream: &TcpStream| !matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
        if self.stream.as_ref().is_none_or(closed) {
            let socket = TcpSocket::new_v4()?;
            if let Some(source) = self.source {
                socket.bind((source, 0).into())?;
            }
            let stream = socket.connect(self.address).await?;
            stream.set_nodelay(true)?;
            self.stream = Some(stream);
        }
        Ok(())
    }

    async fn send_until(&mut self, end: Instant) -> Outcome<Tally> {
        let mut tally = Tally::default();
        let mut ticks = self.pace.map(tokio::time::interval);
        while Instant::now() < end {
            if let Some(ticks) = &mut ticks {
                ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
                ticks.tick().await;
            }
            let Some(token) = self.tokens.take() else { break };
            if self.exchange(token).await? {
                tally.accepted += 1;
                tally.in_time += u64::from(Instant::now() < end);
            } else {
                tally.rejected += 1;
            }
        }
        Ok(tally)
    }

    /// Whether the answer's status is 200.
    async fn exchange(&mut self, token: Choice) -> Outcome<bool> {
        if self.stream.is_none() {
            self.open().await?;
        }
        let stream = self.stream.as_mut().ok_or("not connected")?;
        stream.write_all(self.request.next(self.tokens.text(token))).await?;
        self.answer.clear();
        while !is_whole(&self.answer, self.usual) {
            if stream.read_buf(&mut self.answer).await? == 0 {
                return Err("the server closed the connection without an answer".into());
            }
        }
        let accepted = self.answer.starts_with(ACCEPTED);
        if accepted {
            self.usual = self.answer.len();
        }
        if !accepted && holds(&self.answer, b"connection: close") {
            self.stream = None;
        }
        Ok(accepted)
    }
}

/// All accepting answers of a server are as long as the first, which saves looking for the end again.
fn is_whole(answer: &[u8], usual: usize) -> bool {
    (usual > 0 && answer.len() == usual && answer.starts_with(ACCEPTED))
        || length_of(answer).is_some_and(|length| answer.len() >= length)
}

/// Of the whole answer, once its head is there.
fn length_of(answer: &[u8]) -> Option<usize> {
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let name = b"content-length: ";
    let value = answer[..head].windows(name.len()).position(|window| window.eq_ignore_ascii_case(name))?;
    let digits = answer[value + name.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(head + digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0')))
}

fn holds(answer: &[u8], text: &[u8]) -> bool {
    answer.windows(text.len()).any(|window| window.eq_ignore_ascii_case(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_its_head_says() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\ndate: x\r\n\r\n{\"success\":true}";
        assert_eq!(length_of(answer), Some(answer.len()));
        assert_eq!(length_of(&answer[..40]), None);
    }
}
