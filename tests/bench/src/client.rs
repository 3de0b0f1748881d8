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
use crate::request::{Request, find};

/// A response that takes longer fails the run.
const TIMEOUT: Duration = Duration::from_secs(60);

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
    response: Vec<u8>,
    /// From one request to the next.
    interval: Option<Duration>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, connections: usize, request: &Request) -> Self {
        let connection = || Connection {
            address,
            from: Ipv4Addr::LOCALHOST,
            stream: None,
            request: request.clone(),
            response: Vec::with_capacity(1024),
            interval: None,
        };
        Self { connections: (0..connections).map(|_| connection()).collect() }
    }

    /// Connects from this address, of those that loop back, and sends a request on each connection once in this
    /// interval.
    pub(crate) fn paced(mut self, from: Ipv4Addr, interval: Duration) -> Self {
        for connection in &mut self.connections {
            (connection.from, connection.interval) = (from, Some(interval));
        }
        self
    }

    /// Sends until the time is over or the tokens are used up.
    pub(crate) async fn send_for(&mut self, time: Duration) -> Result<Counts> {
        for connection in &mut self.connections {
            connection.open().await?;
        }
        let started_at = Instant::now();
        // Keeps this thread from sleeping between responses: waking it would cost the server time.
        let mut awake = JoinSet::new();
        awake.spawn(async {
            loop {
                tokio::task::yield_now().await;
            }
        });
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

    /// Sends once. Returns whether the status is 200.
    pub(crate) async fn send_once(&mut self) -> Result<bool> {
        let connection = self.connections.first_mut().ok_or("a client without connections")?;
        connection.open().await?;
        Ok(connection.exchange().await?.ok_or("no token is left")?)
    }

    /// Sends until the server accepts, so that it knows the token from then on.
    pub(crate) async fn warm_token_cache(&mut self) -> Result<()> {
        let accepted = async {
            while !self.send_once().await? {}
            Ok(())
        };
        tokio::time::timeout(TIMEOUT, accepted).await.map_err(|_| "the server accepts no honest request")?
    }
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
        let Some(request) = self.request.next() else { return Ok(None) };
        let stream = self.stream.as_mut().ok_or("not connected")?;
        stream.write_all(request).await?;
        self.response.clear();
        while !is_complete(&self.response) {
            if stream.read_buf(&mut self.response).await? == 0 {
                return Err("the server closed the connection without a response".into());
            }
        }
        let accepted = self.response.starts_with(b"HTTP/1.1 200 ");
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
