//! The client: one method for each call.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep, timeout_at};

use crate::answer::Answer;
use crate::ensure::{Record, Wanted};
use crate::error::{Error, ErrorKind};
use crate::hidden::{AuthToken, SessionToken};
use crate::registration::Registration;
use crate::request::{Authority, Request};
use crate::retry::{RetryPolicy, Trouble};
use crate::settings::ClientBuilder;
use crate::transport::{Failure, Transport};
use crate::url::BaseUrl;

/// A client of SmartShape's web API. Cheap to clone. Needs a tokio runtime with time and I/O.
///
/// ```
/// use smartshape_api::{Client, EventKind, Wanted, WebhookSecret};
/// use smartshape_fake::FakeSmartShape;
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let fake = FakeSmartShape::start().await?;
/// let client = Client::builder().base_url(fake.base_url()).build()?;
/// let token = client.login(fake.account().username(), fake.account().password()).await?;
/// let client = client.with_auth_token(token);
///
/// let secret = WebhookSecret::new("a long and random string")?;
/// let wanted = Wanted::new(EventKind::FileUploaded, "http://127.0.0.1:8080/callback", secret)?;
/// let record = client.create_webhook(&wanted).await?;
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
/// [`ErrorKind::Unauthorised`] when the login expired or the account lacks a permission,
/// [`ErrorKind::Unreachable`], [`ErrorKind::TimedOut`], [`ErrorKind::Server`],
/// [`ErrorKind::BadRequest`], [`ErrorKind::UnexpectedAnswer`], and [`ErrorKind::Settings`] when no
/// auth token is set.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    authority: Authority,
}

struct Shared {
    base: BaseUrl,
    transport: Transport,
    retry: RetryPolicy,
    time_limit: Duration,
    /// 0 as long as nobody answered, 1 a server that does not say that it is the fake, 2 the fake.
    server: AtomicU8,
}

impl Client {
    /// Settings of a new client.
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    pub(crate) fn new(
        base: BaseUrl,
        transport: Transport,
        retry: RetryPolicy,
        time_limit: Duration,
        authority: Authority,
    ) -> Self {
        let shared = Shared { base, transport, retry, time_limit, server: AtomicU8::new(0) };
        Self { shared: Arc::new(shared), authority }
    }

    /// The same client, authorised by another token.
    #[must_use]
    pub fn with_auth_token(mut self, token: AuthToken) -> Self {
        self.authority.auth = Some(token);
        self
    }

    /// The same client with another session.
    #[must_use]
    pub fn with_session_token(mut self, token: SessionToken) -> Self {
        self.authority.session = Some(token);
        self
    }

    /// Where it sends to, without a slash at its end.
    #[must_use]
    pub fn base_url(&self) -> String {
        self.shared.base.to_string()
    }

    /// Whether the server that answered last is `smartshape-fake`, so that a person can be warned.
    /// `None` as long as none answered. Clones share it.
    #[must_use]
    pub fn talks_to_fake(&self) -> Option<bool> {
        match self.shared.server.load(Ordering::Relaxed) {
            0 => None,
            server => Some(server == 2),
        }
    }

    /// Logs in (`POST /account/login/`). Needs no auth token.
    ///
    /// # Errors
    ///
    /// See [`Client`]. [`ErrorKind::Unauthorised`] when name or password are wrong.
    pub async fn login(&self, username: &str, password: &str) -> Result<AuthToken, Error> {
        self.call(Request::login(username, password), Answer::auth_token).await
    }

    /// Opens a session (`POST /account/session`), which takes a licence seat.
    ///
    /// # Errors
    ///
    /// See [`Client`]. [`ErrorKind::NoSeat`] when no licence seat is free.
    pub async fn open_session(&self) -> Result<SessionToken, Error> {
        self.call(Request::session(&self.authority)?, Answer::session_token).await
    }

    /// Registers a webhook (`PUT /webhook/`; permission `write_webhook`), though there be an equal one.
    ///
    /// It is never tried again by itself: each attempt would create a webhook. Where the answer is
    /// lost, it may exist all the same: [`Error::effect_unknown`] and the error's text say so.
    ///
    /// # Errors
    ///
    /// See [`Client`].
    pub async fn create_webhook(&self, wanted: &Wanted) -> Result<Record, Error> {
        let id = self.call(Request::create(&self.authority, wanted)?, Answer::created).await?;
        Ok(Record::new(id, wanted.event(), wanted.url()))
    }

    /// Lists the webhooks (`GET /webhook/`; permission `read_webhook`).
    ///
    /// # Errors
    ///
    /// See [`Client`].
    pub async fn list_webhooks(&self) -> Result<Vec<Registration>, Error> {
        self.call(Request::list(&self.authority)?, Answer::listed).await
    }

    /// Deletes a webhook (`DELETE /webhook/<id>`; permission `write_webhook`).
    ///
    /// # Errors
    ///
    /// See [`Client`]. [`ErrorKind::NotFound`] when there is none of this id, unless an earlier attempt
    /// of this very call may have deleted it.
    pub async fn delete_webhook(&self, id: &str) -> Result<(), Error> {
        let request = Request::delete(&self.authority, id)?;
        match self.call(request, Answer::done).await {
            Err(error) if error.kind() == ErrorKind::NotFound && error.effect_unknown() => Ok(()),
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
        self.call(Request::upsert(&self.authority, file, attributes)?, Answer::done).await
    }

    /// Sends until there is an answer, or no further attempt is to be made. The error's effect is
    /// unknown when it is so of any attempt.
    async fn call<T>(&self, request: Request, read: Reader<T>) -> Result<T, Error> {
        let Shared { base, transport, retry, time_limit, server } = &*self.shared;
        let end = Instant::now() + *time_limit;
        let (mut failed, mut effect_unknown) = (0_u32, false);
        loop {
            let (error, trouble) = match timeout_at(end, transport.send(base, &request)).await {
                Ok(Ok(answer)) => {
                    server.store(1 + u8::from(answer.is_of_the_fake()), Ordering::Relaxed);
                    match read(&answer, &request, base) {
                        Ok(value) => return Ok(value),
                        Err(error) => (error, Trouble::Status(answer.status, answer.retry_after())),
                    }
                }
                Ok(Err(failure)) => no_answer(&request, base, failure),
                Err(_) => (timed_out(&request, *time_limit, "time_limit"), Trouble::Final),
            };
            failed = failed.saturating_add(1);
            effect_unknown |= error.effect_unknown();
            let random = RandomState::new().hash_one(failed);
            let wait = retry.wait(failed, request.is_idempotent(), trouble, random);
            // Rather what happened than that the time is up.
            let in_time = |wait: &Duration| Instant::now().checked_add(*wait).is_some_and(|at| at < end);
            let Some(wait) = wait.filter(in_time) else {
                return Err(error.with_effect_unknown(effect_unknown));
            };
            sleep(wait).await;
        }
    }
}

type Reader<T> = fn(&Answer, &Request, &BaseUrl) -> Result<T, Error>;

fn no_answer(request: &Request, base: &BaseUrl, failure: Failure) -> (Error, Trouble) {
    let Request { purpose, .. } = request;
    let unreachable = |text: String| Error::new(ErrorKind::Unreachable, format!("cannot {purpose}: {text}"));
    match failure {
        Failure::Connect(why, source) => {
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            let text = format!(
                "no connection to {base}{why}: check the base URL, the network, and a proxy that HTTPS_PROXY or \
                 HTTP_PROXY names"
            );
            (unreachable(text).with_source(source), Trouble::NotSent)
        }
        Failure::Untrusted(source) => {
            let text = format!(
                "the certificate of {base} is not trusted: if the installation has a root certificate of its \
                 own, name it by `trust_pem`; else check the base URL and this machine's clock"
            );
            (unreachable(text).with_source(source), Trouble::Final)
        }
        Failure::NoTls => {
            let text = format!(
                "{base} does not speak TLS: if it is right, it begins with http:// and not with https://"
            );
            (unreachable(text), Trouble::Final)
        }
        Failure::ConnectTimedOut(limit) => {
            (timed_out(request, limit, "connect_time_limit"), Trouble::NotSent)
        }
        Failure::Broken(source) => {
            let text = format!("the connection to {base} broke: try again{}", request.unsure());
            let error = unreachable(text).with_source(source);
            (error.with_effect_unknown(request.has_effect()), Trouble::Broken)
        }
        Failure::TooLong(limit) => {
            let text = format!(
                "cannot {purpose}: the answer is longer than {} MiB: check that the base URL {base} is \
                 SmartShape's web API{}",
                limit / 1024 / 1024,
                request.unsure()
            );
            let error = Error::new(ErrorKind::UnexpectedAnswer, text);
            (error.with_effect_unknown(request.has_effect()), Trouble::Final)
        }
    }
}

fn timed_out(request: &Request, limit: Duration, setting: &str) -> Error {
    let sent = setting == "time_limit";
    let unsure = if sent { request.unsure() } else { "" };
    let text = format!(
        "cannot {}: not done within {limit:?}: try again, or set a longer {setting}{unsure}",
        request.purpose
    );
    Error::new(ErrorKind::TimedOut, text).with_effect_unknown(sent && request.has_effect())
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base_url", &self.base_url())
            .field("authority", &self.authority)
            .finish_non_exhaustive()
    }
}
