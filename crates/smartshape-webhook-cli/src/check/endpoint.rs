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
use tokio::task::JoinSet;
use tokio::time::timeout;
use tower_service::Service;

use super::request::{Outgoing, Request};
use crate::http_client::{Response, connection_fault, connector, read_response};

/// Maximum number of attempts while the response is 503, which invites retries.
const TRIES: u32 = 5;
/// Maximum time to wait before the next attempt, whatever `Retry-After` says.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub(crate) struct Endpoint {
    url: Uri,
    connector: HttpsConnector<HttpConnector>,
    timeout: Duration,
}

/// The response to a request, or why there is none.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) response: Result<Response, Fault>,
    /// The endpoint had closed the connection of the request before, so that this one took a new connection.
    pub(crate) reconnected: bool,
}

/// An open connection and the task that drives it, which dropping the set ends.
pub(crate) struct Connection {
    sender: SendRequest<Outgoing>,
    _driver: JoinSet<()>,
}

impl Endpoint {
    /// `timeout` is the maximum time to wait for each response.
    pub(crate) fn new(url: Uri, timeout: Duration) -> Result<Self, Fault> {
        Ok(Self { connector: connector(&url)?, url, timeout })
    }

    /// Connects and closes the connection again.
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
            timeout(self.timeout, connect).await.unwrap_or(Err(Fault::TimedOut(self.timeout)))?;
        // Errors of the connection show in the response that is waited for.
        let mut driver = JoinSet::new();
        driver.spawn(async { driving.await.unwrap_or_default() });
        Ok(Connection { sender, _driver: driver })
    }

    /// Sends a request on a new connection.
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
                // The endpoint may close an idle connection at any time, so this is no fault.
                (*kept, reconnected) = (None, true);
                continue;
            }
            tries += 1;
            let Some(wait) = wait.filter(|_| tries < TRIES) else { return Reply { response, reconnected } };
            // The endpoint may still wait for the rest of the body on this connection.
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
        let started_at = Instant::now();
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
            read_response(response, started_at).await
        };
        let response = timeout(self.timeout, exchange).await.unwrap_or(Err(Fault::TimedOut(self.timeout)));
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
            // Marks the request as a test in the endpoint's log.
            .header("x-smartshape-fake", "1");
        for token in &request.tokens {
            http = http.header(TOKEN_HEADER, token);
        }
        http.body(request.body.clone()).map_err(|error| Fault::NotSent(error.to_string()))
    }
}
