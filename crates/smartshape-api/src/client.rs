//! The client: one method per API call.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout_at};

use crate::error::{Error, ErrorKind, Hint};
use crate::registration::Registration;
use crate::request::{Credentials, Request};
use crate::response::Response;
use crate::retry::RetryReason;
use crate::secret::{AuthToken, SessionToken};
use crate::transport::Transport;
use crate::url::BaseUrl;
use crate::webhook::{DesiredWebhook, WebhookRecord};

/// A client of SmartShape's web API. Cheap to clone. Needs a tokio runtime with time and I/O.
///
/// ```
/// use smartshape_api::{Client, EventKind, DesiredWebhook, WebhookSecret};
/// use smartshape_fake::FakeSmartShape;
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let fake = FakeSmartShape::start().await?;
/// let client = Client::builder().base_url(fake.base_url()).build()?;
/// let token = client.login(fake.account().username(), fake.account().password()).await?;
/// let client = client.with_auth_token(token);
///
/// let secret = WebhookSecret::new("a long and random string")?;
/// let desired = DesiredWebhook::new(EventKind::FileUploaded, "http://127.0.0.1:8080/callback", secret)?;
/// let record = client.create_webhook(&desired).await?;
/// assert_eq!(client.list_webhooks().await?[0].id, record.id);
/// client.delete_webhook(&record.id).await?;
/// assert!(client.list_webhooks().await?.is_empty());
/// # fake.shutdown().await;
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors of every call
///
/// [`ErrorKind::Unauthorized`] when the login expired or the account lacks a permission,
/// [`ErrorKind::Unreachable`], [`ErrorKind::TimedOut`], [`ErrorKind::Server`],
/// [`ErrorKind::BadRequest`], [`ErrorKind::UnexpectedResponse`], and [`ErrorKind::Settings`] when no
/// auth token is set.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
    pub(crate) credentials: Credentials,
}

pub(crate) struct Shared {
    pub(crate) base: BaseUrl,
    pub(crate) transport: Transport,
    pub(crate) backoff: ExponentialBuilder,
    pub(crate) timeout: Duration,
}

impl Client {
    /// This client with another auth token.
    #[must_use]
    pub fn with_auth_token(mut self, token: AuthToken) -> Self {
        self.credentials.auth = Some(token);
        self
    }

    /// This client with another session token.
    #[must_use]
    pub fn with_session_token(mut self, token: SessionToken) -> Self {
        self.credentials.session = Some(token);
        self
    }

    /// The base URL, without a trailing slash.
    #[must_use]
    pub fn base_url(&self) -> String {
        self.shared.base.to_string()
    }

    /// Logs in (`POST /account/login/`). Needs no auth token.
    ///
    /// # Errors
    ///
    /// See [`Client`]. [`ErrorKind::Unauthorized`] when name or password are wrong.
    pub async fn login(&self, username: &str, password: &str) -> Result<AuthToken, Error> {
        self.call(Request::login(username, password), Response::auth_token).await
    }

    /// Opens a session (`POST /account/session`), which takes a licence seat.
    ///
    /// # Errors
    ///
    /// See [`Client`]. [`ErrorKind::NoSeat`] when no licence seat is free.
    pub async fn open_session(&self) -> Result<SessionToken, Error> {
        self.call(Request::session(&self.credentials)?, Response::session_token).await
    }

    /// Registers a webhook (`PUT /webhook/`; permission `write_webhook`). SmartShape does not deduplicate: calling this
    /// twice creates two.
    ///
    /// Never retried except on 429, because each attempt could create another webhook. If the response is lost, the
    /// webhook may exist: [`Error::is_ambiguous`] is then true, and the error's text says so.
    ///
    /// # Errors
    ///
    /// See [`Client`].
    pub async fn create_webhook(&self, desired: &DesiredWebhook) -> Result<WebhookRecord, Error> {
        let id = self.call(Request::create(&self.credentials, desired)?, Response::created).await?;
        Ok(WebhookRecord::new(id, desired.event(), desired.url()))
    }

    /// Lists the webhooks (`GET /webhook/`; permission `read_webhook`).
    ///
    /// # Errors
    ///
    /// See [`Client`].
    pub async fn list_webhooks(&self) -> Result<Vec<Registration>, Error> {
        self.call(Request::list(&self.credentials)?, Response::listed).await
    }

    /// Deletes a webhook (`DELETE /webhook/<id>`; permission `write_webhook`).
    ///
    /// # Errors
    ///
    /// See [`Client`]. [`ErrorKind::NotFound`] when no webhook has this id, unless an earlier attempt of the same call
    /// may have deleted it.
    pub async fn delete_webhook(&self, id: &str) -> Result<(), Error> {
        let request = Request::delete(&self.credentials, id)?;
        match self.call(request, Response::done).await {
            Err(error) if error.kind() == ErrorKind::NotFound && error.is_ambiguous() => Ok(()),
            outcome => outcome,
        }
    }

    /// Sets attributes of a file's nodes (`POST /scene/attributes/<file>`): node id to attribute
    /// name to value. Fires `attribute_updated`.
    ///
    /// SmartShape does not document this body. It is **inferred** from that of annotations,
    /// `{"attributes": {"<id>": {"name": value}}}`, and was not tried on a real SmartShape.
    ///
    /// # Errors
    ///
    /// See [`Client`].
    pub async fn upsert_attributes(
        &self,
        file: &str,
        attributes: &BTreeMap<String, BTreeMap<String, Value>>,
    ) -> Result<(), Error> {
        self.call(Request::upsert(&self.credentials, file, attributes)?, Response::done).await
    }

    /// Sends the request and retries it as its call and the failure allow. The error is ambiguous if any attempt was.
    async fn call<T>(&self, request: Request, read: Reader<T>) -> Result<T, Error> {
        let Shared { base, transport, backoff, timeout } = &*self.shared;
        let end = Instant::now() + *timeout;
        let (mut backoff, mut is_ambiguous) = (backoff.build(), false);
        loop {
            let (error, reason) = match timeout_at(end, transport.send(base, &request)).await {
                Ok(Ok(response)) => match read(&response, &request, base) {
                    Ok(value) => return Ok(value),
                    Err(error) => (error, RetryReason::Status(response.status, response.retry_after())),
                },
                Ok(Err(failure)) => failure,
                Err(_) => (request.timed_out(*timeout, Hint::RaiseTimeout), RetryReason::Permanent),
            };
            is_ambiguous |= error.is_ambiguous();
            let at_least = reason.retry_after(request.call.is_idempotent());
            let wait = at_least.and_then(|at_least| Some(backoff.next()?.max(at_least)));
            // A retry that would exceed the timeout is not started: the last error says more than a timeout.
            let in_time = |wait: &Duration| Instant::now().checked_add(*wait).is_some_and(|at| at < end);
            let Some(wait) = wait.filter(in_time) else {
                return Err(error.with_ambiguous(is_ambiguous));
            };
            sleep(wait).await;
        }
    }
}

type Reader<T> = fn(&Response, &Request, &BaseUrl) -> Result<T, Error>;

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base_url", &self.base_url())
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}
