//! A client that takes as little CPU time as it can: requests are made beforehand, and only the status and the length
//! of a response are read.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::Result;
use crate::request::{Request, Tokens, find};

/// A response that takes longer fails the run.
const TIMEOUT: Duration = Duration::from_secs(60);
const OK: &[u8] = b"HTTP/1.1 200 ";

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Responses with status 200.
    pub(crate) accepted: u64,
    /// Responses with another status.
    pub(crate) rejected: u64,
    /// Time until the last response.
    pub(crate) elapsed: Duration,
}

impl Counts {
    /// Accepted requests a second.
    pub(crate) fn rate(&self) -> f64 {
        self.accepted as f64 / self.elapsed.as_secs_f64()
    }

    /// An error if a request was rejected.
    pub(crate) fn all_accepted(self) -> Result<Self> {
        match self.rejected {
            0 => Ok(self),
            rejected => Err(format!("{rejected} honest requests were rejected").into()),
        }
    }
}

/// Connections that each send a request, wait for the response, and send the next.
pub(crate) struct Client {
    connections: Vec<Connection>,
}

struct Connection {
    address: SocketAddr,
    /// The address that it connects from.
    from: Ipv4Addr,
    stream: Option<TcpStream>,
    request: Request,
    tokens: Tokens,
    response: Vec<u8>,
    /// From one request to the next.
    interval: Option<Duration>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, connections: usize, request: &Request, tokens: &Tokens) -> Self {
        let connection = || Connection {
            address,
            from: Ipv4Addr::LOCALHOST,
            stream: None,
            request: request.clone(),
            tokens: tokens.clone(),
            response: Vec::with_capacity(1024),
            interval: None,
        };
        Self { connections: (0..connections).map(|_| connection()).collect() }
    }

    /// Connects from this address, of those that loop back.
    pub(crate) fn from(mut self, from: Ipv4Addr) -> Self {
        self.connections.iter_mut().for_each(|connection| connection.from = from);
        self
    }

    /// Limits the requests of all connections together.
    pub(crate) fn paced(mut self, requests_a_second: u32) -> Self {
        let interval = Duration::from_secs(self.connections.len() as u64) / requests_a_second;
        self.connections.iter_mut().for_each(|connection| connection.interval = Some(interval));
        self
    }

    /// Sends until the time is over or the tokens are used up.
    pub(crate) async fn send_for(&mut self, time: Duration) -> Result<Counts> {
        for connection in &mut self.connections {
            connection.open().await?;
        }
        let started_at = Instant::now();
        let _awake = keep_core_busy();
        let mut tasks = JoinSet::new();
        for mut connection in self.connections.drain(..) {
            tasks.spawn(async move {
                let counts = connection.send_until(started_at + time).await?;
                Result::Ok((connection, counts))
            });
        }
        let mut all = Counts::default();
        while let Some(outcome) = tokio::time::timeout(time + TIMEOUT, tasks.join_next()).await? {
            let (connection, counts) = outcome??;
            self.connections.push(connection);
            all.accepted += counts.accepted;
            all.rejected += counts.rejected;
        }
        all.elapsed = started_at.elapsed();
        Ok(all)
    }

    /// Sends once. Returns whether the status is 200, and the response as it came.
    pub(crate) async fn send_once(&mut self) -> Result<(bool, String)> {
        let connection = self.connections.first_mut().ok_or("a client without connections")?;
        connection.open().await?;
        let accepted = connection.exchange().await?.ok_or("no token is left")?;
        Ok((accepted, String::from_utf8_lossy(&connection.response).into_owned()))
    }

    /// Sends until the server accepts, so that it knows the token from then on.
    pub(crate) async fn warm_token_cache(&mut self) -> Result<()> {
        let end = Instant::now() + TIMEOUT;
        while !self.send_once().await?.0 {
            if Instant::now() > end {
                return Err("the server accepts no honest request".into());
            }
        }
        Ok(())
    }
}

/// Keeps this thread from sleeping between responses: waking it would cost the server time.
fn keep_core_busy() -> JoinSet<()> {
    let mut awake = JoinSet::new();
    awake.spawn(async {
        loop {
            tokio::task::yield_now().await;
        }
    });
    awake
}

impl Connection {
    /// Connects, if the server has closed the connection.
    async fn open(&mut self) -> Result<()> {
        let is_open = |stream: &TcpStream| matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
        if !self.stream.as_ref().is_some_and(is_open) {
            let socket = TcpSocket::new_v4()?;
            socket.bind((self.from, 0).into())?;
            let stream = socket.connect(self.address).await?;
            stream.set_nodelay(true)?;
            self.stream = Some(stream);
        }
        Ok(())
    }

    async fn send_until(&mut self, end: Instant) -> Result<Counts> {
        let mut counts = Counts::default();
        let mut ticks = self.interval.map(tokio::time::interval);
        while Instant::now() < end {
            if let Some(ticks) = &mut ticks {
                ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
                ticks.tick().await;
            }
            match self.exchange().await? {
                Some(true) => counts.accepted += 1,
                Some(false) => counts.rejected += 1,
                None => break,
            }
        }
        Ok(counts)
    }

    /// Whether the response's status is 200. `None` if no token is left.
    async fn exchange(&mut self) -> Result<Option<bool>> {
        if self.stream.is_none() {
            self.open().await?;
        }
        let Some(token) = self.tokens.next() else { return Ok(None) };
        let stream = self.stream.as_mut().ok_or("not connected")?;
        stream.write_all(self.request.next(token)).await?;
        self.response.clear();
        while !is_complete(&self.response) {
            if stream.read_buf(&mut self.response).await? == 0 {
                return Err("the server closed the connection without a response".into());
            }
        }
        let accepted = self.response.starts_with(OK);
        if !accepted && find(&self.response, "connection: close").is_some() {
            self.stream = None;
        }
        Ok(Some(accepted))
    }
}

/// Whether the head has arrived, and as much of the body as it says.
fn is_complete(response: &[u8]) -> bool {
    let length = || {
        let head = find(response, "\r\n\r\n")? + 4;
        let name = "content-length: ";
        let value = find(&response[..head], name)? + name.len();
        let digits = response[value..].iter().take_while(|byte| byte.is_ascii_digit());
        Some(head + digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0')))
    };
    length().is_some_and(|length| response.len() >= length)
}
