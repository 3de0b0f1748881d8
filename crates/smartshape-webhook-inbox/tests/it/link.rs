//! A TCP proxy between an inbox and a server.
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Copies both ways, until one side ends, or the client sends `trap`; then it returns true.
async fn copy(client: &mut TcpStream, server: &mut TcpStream, trap: Option<&str>) -> bool {
    let Some(trap) = trap else {
        let _ = tokio::io::copy_bidirectional(client, server).await;
        return false;
    };
    let ((mut requests, mut to_client), (mut responses, mut to_server)) = (client.split(), server.split());
    let requests = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match requests.read(&mut buffer).await {
                Ok(count @ 1..) => {
                    if buffer[..count].windows(trap.len()).any(|window| window == trap.as_bytes()) {
                        return true;
                    }
                    if to_server.write_all(&buffer[..count]).await.is_err() {
                        return false;
                    }
                }
                _ => return false,
            }
        }
    };
    tokio::select! {
        is_trapped = requests => is_trapped,
        _ = tokio::io::copy(&mut responses, &mut to_client) => false,
    }
}

/// Stands between the inbox and the server, and can be cut.
pub(crate) struct Link {
    target: String,
    address: SocketAddr,
    silence: watch::Sender<u32>,
    /// Whether new connections are silent too.
    is_cut_off: Arc<AtomicBool>,
    /// A connection falls silent when its client sends this.
    trap: Option<&'static str>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Link {
    /// Reserves an address. Nothing listens there before [`join`](Self::join).
    pub(crate) async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (silence, is_cut_off) = (watch::Sender::new(0), Arc::default());
        Self { target, address, silence, is_cut_off, trap: None, task: None }
    }

    pub(crate) fn join(&mut self) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        let (listener, target) = (socket.listen(64).unwrap(), self.target.clone());
        let (silence, is_cut_off) = (self.silence.clone(), Arc::clone(&self.is_cut_off));
        let trap = self.trap;
        self.task = Some(tokio::spawn(async move {
            // Connections end with this set.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let (target, mut silent) = (target.clone(), silence.subscribe());
                let is_cut_off = is_cut_off.load(Ordering::SeqCst);
                connections.spawn(async move {
                    let mut server = None;
                    if !is_cut_off {
                        let Ok(connected) = TcpStream::connect(target).await else { return };
                        let server = server.insert(connected);
                        tokio::select! {
                            is_trapped = copy(&mut client, server, trap) => if !is_trapped { return },
                            _ = silent.changed() => {}
                        }
                    }
                    // Reads and discards, and neither responds nor closes.
                    let _ = tokio::io::copy(&mut client, &mut tokio::io::sink()).await;
                    drop(server);
                });
            }
        }));
    }

    /// The connections that there are fall silent, as when a firewall or a failover forgets them; new ones work.
    pub(crate) fn go_silent(&self) {
        self.silence.send_modify(|times| *times += 1);
    }

    /// From the next [`join`](Self::join) on, each connection falls silent when its client sends `text`.
    pub(crate) fn go_silent_on(&mut self, text: &'static str) {
        self.trap = Some(text);
    }

    /// Like [`go_silent`](Self::go_silent), for new connections as well.
    #[cfg(unix)]
    pub(crate) fn cut_off(&self) {
        self.is_cut_off.store(true, Ordering::SeqCst);
        self.go_silent();
    }

    /// New connections work again.
    #[cfg(unix)]
    pub(crate) fn restore(&self) {
        self.is_cut_off.store(false, Ordering::SeqCst);
    }

    #[cfg(unix)]
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a server, through this link.
    pub(crate) fn through(&self, url: &str) -> String {
        url.replacen(&self.target, &self.address.to_string(), 1)
    }

    pub(crate) async fn cut(&mut self) {
        let task = self.task.take().unwrap();
        task.abort();
        let _ = task.await;
    }
}
