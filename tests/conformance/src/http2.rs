//! HTTP/2 on a socket: streams, windows and resets.

use std::future::poll_fn;
use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::Request;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::wire::Response;

/// A connection to a server under test. Aborted when dropped.
#[derive(Debug)]
pub struct Connection {
    address: SocketAddr,
    requests: SendRequest<Bytes>,
    driver: JoinHandle<()>,
}

/// A request whose body can still be sent.
#[derive(Debug)]
pub struct Stream {
    body: SendStream<Bytes>,
    response: ResponseFuture,
}

impl Connection {
    /// Connects, and says from the first byte on that it speaks HTTP/2.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::connect_as(Builder::new().initial_window_size(1 << 20), address).await
    }

    /// Connects with other settings.
    pub async fn connect_as(settings: &Builder, address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (requests, connection) = settings.handshake(stream).await.unwrap();
        // Ends with an error when the server has had enough, which is what some cases do.
        let driver = tokio::spawn(async { drop(connection.await) });
        Self { address, requests, driver }
    }

    /// Opens a stream, once the server allows another.
    pub async fn open(&mut self, method: &str, headers: &[(&str, &str)]) -> Stream {
        self.try_open(method, headers, false).await.unwrap()
    }

    /// Opens a stream on a connection that the server may have closed.
    pub async fn try_open(
        &mut self,
        method: &str,
        headers: &[(&str, &str)],
        ends: bool,
    ) -> Result<Stream, h2::Error> {
        poll_fn(|context| self.requests.poll_ready(context)).await?;
        let uri = format!("http://{}/callback", self.address);
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (response, body) = self.requests.send_request(request.body(()).unwrap(), ends)?;
        Ok(Stream { body, response })
    }

    /// Sends a whole request, and returns the response.
    pub async fn exchange(&mut self, method: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let mut stream = self.open(method, headers).await;
        // Whoever rejects it may have responded already.
        stream.try_send(body, true).await;
        stream.response().await
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Stream {
    /// Sends more of the body, as fast as the server takes it.
    pub async fn send(&mut self, body: &str, ends: bool) {
        assert!(self.try_send(body, ends).await, "the server took no more");
    }

    /// Sends more of the body; `false` if the server wants no more.
    pub async fn try_send(&mut self, body: &str, ends: bool) -> bool {
        let mut rest = Bytes::from(body.to_owned());
        while !rest.is_empty() {
            self.body.reserve_capacity(rest.len());
            let Some(Ok(room)) = poll_fn(|context| self.body.poll_capacity(context)).await else {
                return false;
            };
            let part = rest.split_to(room.min(rest.len()));
            if self.body.send_data(part, ends && rest.is_empty()).is_err() {
                return false;
            }
        }
        !(body.is_empty() && ends) || self.body.send_data(Bytes::new(), true).is_ok()
    }

    /// Hands more of the body to the connection, which sends it when it can, and if the server wants it.
    pub fn send_when_possible(&mut self, body: &str, ends: bool) {
        let _ = self.body.send_data(Bytes::from(body.to_owned()), ends);
    }

    pub fn reset(mut self) {
        self.body.send_reset(Reason::CANCEL);
    }

    pub async fn response(self) -> Response {
        self.try_response().await.expect("the stream ended without a response")
    }

    /// The response; an error when the server ends the stream without one.
    pub async fn try_response(self) -> Result<Response, h2::Error> {
        let (head, mut body) = self.response.await?.into_parts();
        let headers = head.headers.iter();
        let headers =
            headers.map(|(name, value)| (name.as_str().to_owned(), value.to_str().unwrap().to_owned()));
        let headers = headers.collect();
        let mut bytes = Vec::new();
        while let Some(part) = body.data().await {
            let part = part?;
            body.flow_control().release_capacity(part.len())?;
            bytes.extend_from_slice(&part);
        }
        let body = String::from_utf8(bytes).expect("the body is text");
        Ok(Response { status: head.status.as_u16(), headers, body })
    }

    /// The status, of a response whose body cannot come.
    pub async fn status(&mut self) -> u16 {
        (&mut self.response).await.unwrap().status().as_u16()
    }
}
