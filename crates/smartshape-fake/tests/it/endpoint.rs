//! Endpoints with scripted responses that record requests.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const GOOD: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: 16\r\nconnection: close\r\n\r\n{\"success\":true}";

/// An endpoint that gives scripted responses, one to each connection; the last one repeats.
pub(crate) struct Endpoint {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Endpoint {
    /// An empty response closes the connection without one.
    pub(crate) async fn responding_with(responses: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/callback", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let response = responses[number.min(responses.len() - 1)];
                let seen = Arc::clone(&seen);
                tokio::spawn(async move { serve(stream, response, &seen).await });
            }
        });
        Self { url, requests }
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn tokens(&self) -> Vec<String> {
        let token = |request: &String| {
            let line = request.lines().find_map(|line| line.strip_prefix("x-smartshape-token: "));
            line.unwrap().to_owned()
        };
        self.requests().iter().map(token).collect()
    }
}

async fn serve(mut stream: TcpStream, response: &str, seen: &Mutex<Vec<String>>) {
    let mut request = Vec::new();
    let mut chunk = vec![0; 65536];
    while !is_complete(&request) {
        match stream.read(&mut chunk).await.unwrap() {
            0 => return,
            count => request.extend_from_slice(&chunk[..count]),
        }
    }
    seen.lock().unwrap().push(String::from_utf8(request).unwrap());
    stream.write_all(response.as_bytes()).await.unwrap();
}

fn is_complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.unwrap().parse().unwrap()
}
