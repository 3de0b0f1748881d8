//! Sends requests to the endpoint and reads its responses.

use std::time::{Duration, Instant};

use http::header::{CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{Request as HttpRequest, Uri};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use smartshape_api::parse_retry_after;
use smartshape_fake::Fault;
use smartshape_webhook::TOKEN_HEADER;
use tokio::time::timeout;
use tower_service::Service;

use super::request::{Outgoing, Request};
use crate::http_client::{Response, connection_fault, connector, read_response};

/// Maximum number of attempts while the response is 503, which invites retries.
const TRIES: u32 = 5;
/// A longer wait than this is not waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub(crate) struct Endpoint {
    url: Uri,
    connector: HttpsConnector<HttpConnector>,
    limit: Duration,
}

/// What came back, and when.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) response: Result<Response, Fault>,
    /// It was sent on a new connection though an earlier one was there.
    pub(crate) reconnected: bool,
}

/// A connection, and the task that drives it.
pub(crate) struct Connection {
    sender: SendRequest<Outgoing>,
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Endpoint {
    /// `limit` is for each answer.
    pub(crate) fn new(url: Uri, limit: Duration) -> Result<Self, Fault> {
        Ok(Self { connector: connector(&url)?, url, limit })
    }

    /// Whether it takes connections.
    pub(crate) async fn reach(&self) -> Result<(), Fault> {
        self.open(false).await.map(|_| ())
    }

    pub(crate) async fn open(&self, title_case: bool) -> Result<Connection, Fault> {
        let mut connector = self.connector.clone();
        let connect = async {
            let stream = connector.call(self.url.clone()).await.map_err(|error| connection_fault(&*error))?;
            let mut builder = Builder::new();
            builder.title_case_headers(title_case);
            builder.handshake(stream).await.map_err(|error| connection_fault(&error))
        };
        let (sender, driving) =
            timeout(self.limit, connect).await.unwrap_or(Err(Fault::TimedOut(self.limit)))?;
        // How it ends is seen by whoever waits for the answer.
        let driver = tokio::spawn(async { driving.await.unwrap_or_default() });
        Ok(Connection { sender, driver })
    }

    /// On a connection of its own.
    pub(crate) async fn deliver(&self, request: &Request) -> Reply {
        self.deliver_on(&mut None, request).await
    }

    /// Sends a request on the kept connection if the endpoint has not closed it, and retries while the response is 503.
    pub(crate) async fn deliver_on(&self, kept: &mut Option<Connection>, request: &Request) -> Reply {
        let mut reconnected = false;
        let mut tries = 0;
        loop {
            let mut reused = false;
            if let Some(connection) = kept {
                reused = connection.sender.ready().await.is_ok();
                reconnected |= !reused;
            }
            if !reused {
                match self.open(request.title_case).await {
                    Ok(connection) => *kept = Some(connection),
                    Err(fault) => return Reply { response: Err(fault), reconnected },
                }
            }
            let Some(connection) = kept else { continue };
            let (response, wait) = self.exchange(connection, request).await;
            if reused && matches!(response, Err(Fault::Connection(_))) {
                // It was closed just then, which any client has to live with.
                (*kept, reconnected) = (None, true);
                continue;
            }
            tries += 1;
            let Some(wait) = wait.filter(|_| tries < TRIES) else { return Reply { response, reconnected } };
            // It may still wait for the rest of a body.
            *kept = None;
            tokio::time::sleep(wait).await;
        }
    }

    /// The response; and if it is 503, how long to wait before the next attempt.
    async fn exchange(
        &self,
        connection: &mut Connection,
        request: &Request,
    ) -> (Result<Response, Fault>, Option<Duration>) {
        let begun = Instant::now();
        let mut wait = None;
        let exchange = async {
            let request = self.http(request)?;
            let response = connection.sender.send_request(request).await;
            let response = response.map_err(|error| connection_fault(&error))?;
            if response.status().as_u16() == 503 {
                let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                let after = after.and_then(parse_retry_after).unwrap_or(Duration::from_secs(1));
                wait = Some(after.min(LONGEST_WAIT));
            }
            read_response(response, begun).await
        };
        let response = timeout(self.limit, exchange).await.unwrap_or(Err(Fault::TimedOut(self.limit)));
        (response, wait)
    }

    fn http(&self, request: &Request) -> Result<HttpRequest<Outgoing>, Fault> {
        let authority = self.url.authority().map_or("", |authority| authority.as_str());
        let path = self.url.path_and_query().map_or("/", |path| path.as_str());
        let mut http = HttpRequest::builder()
            .method(request.method.clone())
            .uri(path)
            .header(HOST, authority)
            .header(CONTENT_TYPE, request.content_type)
            // No event of SmartShape's own: whoever looks into a log can tell.
            .header("x-smartshape-fake", "1");
        for token in &request.tokens {
            http = http.header(TOKEN_HEADER, token);
        }
        http.body(request.body.clone()).map_err(|error| Fault::NotSent(error.to_string()))
    }
}
