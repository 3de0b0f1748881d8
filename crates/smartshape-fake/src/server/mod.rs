//! The fake server.

mod account;
mod api;
mod builder;
mod control;
mod error;
mod fault_injection;
mod state;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn_with_state, map_response, map_response_with_state};
use axum::response::Response;
use http::HeaderValue;
use http::header::SERVER;
use smartshape_webhook::EventKind;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use self::account::{Account, Permission};
pub use self::builder::FakeBuilder;
pub use self::error::ErrorFormat;
pub use self::fault_injection::FaultInjection;
use self::state::State;
pub use self::state::{StoredAttribute, StoredWebhook};
use crate::payload::EventPayload;
use crate::sender::DeliveryOutcome;

/// Maximum size of request bodies.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

impl FakeBuilder {
    /// Starts the server on the current tokio runtime.
    ///
    /// # Errors
    ///
    /// If the address cannot be bound, or is not a loopback address and `allow_remote` is not set.
    pub async fn start(self) -> std::io::Result<FakeSmartShape> {
        if !self.address.ip().is_loopback() && !self.sender.allow_remote {
            let message = format!(
                "{} is open to other machines: allow it with SenderSettings::allow_remote (--allow-remote)",
                self.address
            );
            return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, message));
        }
        let listener = TcpListener::bind(self.address).await?;
        let address = listener.local_addr()?;
        let grace = self.shutdown_timeout;
        let state = Arc::new(State::new(self));
        let app = api::routes()
            .layer(from_fn_with_state(Arc::clone(&state), api::inject))
            .fallback(api::not_found)
            .layer(map_response_with_state(Arc::clone(&state), api::format_errors))
            .merge(control::routes().layer(from_fn_with_state(Arc::clone(&state), control::reject_web_pages)))
            .layer(map_response(set_server_header))
            .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
            .with_state(Arc::clone(&state));
        let (stop, mut stopped) = watch::channel(());
        let server = axum::serve(listener, app).with_graceful_shutdown(async move {
            // An error means that the handle was dropped, which stops the server too.
            let _ = stopped.changed().await;
        });
        let task = tokio::spawn(async move {
            let _ = server.await;
        });
        Ok(FakeSmartShape { address, grace, state, stop, task })
    }
}

async fn set_server_header(mut response: Response) -> Response {
    response.headers_mut().insert(SERVER, HeaderValue::from_static("smartshape-fake"));
    response
}

/// A running fake SmartShape. Stops when dropped.
///
/// ```
/// use smartshape_fake::{FakeSmartShape, SenderSettings};
/// use smartshape_webhook::EventKind;
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let fake = FakeSmartShape::builder().sender(SenderSettings { max_attempts: 1, ..SenderSettings::quick() }).start().await?;
/// // Nothing listens there, so the delivery fails.
/// fake.register(EventKind::FileUploaded, "http://127.0.0.1:1/callback", "a long and random string");
/// let outcomes = fake.trigger(EventKind::FileUploaded).await;
/// assert!(!outcomes[0].accepted());
/// fake.shutdown().await;
/// # Ok::<(), std::io::Error>(()) }).unwrap();
/// ```
pub struct FakeSmartShape {
    address: SocketAddr,
    grace: Duration,
    state: Arc<State>,
    stop: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl FakeSmartShape {
    /// A builder with the default settings.
    #[must_use]
    pub fn builder() -> FakeBuilder {
        FakeBuilder::new()
    }

    /// Starts a fake with the default settings.
    ///
    /// # Errors
    ///
    /// If no port can be bound.
    pub async fn start() -> std::io::Result<Self> {
        Self::builder().start().await
    }

    /// The server's URL, such as `http://127.0.0.1:40123`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The account that was added last, otherwise the default account.
    #[must_use]
    pub fn account(&self) -> Account {
        self.state.settings.accounts.first().cloned().unwrap_or_else(|| Account::new("", ""))
    }

    /// Logs in as [`account`](Self::account) and returns the bearer token.
    #[must_use]
    pub fn bearer_token(&self) -> String {
        let account = self.account();
        self.state.login(&account.username, &account.password).unwrap_or_default()
    }

    /// Invalidates all tokens and sessions.
    pub fn expire_tokens(&self) {
        self.state.expire_tokens();
    }

    /// Registers a webhook of [`account`](Self::account). Returns its id, which is empty if 10,000 webhooks are
    /// registered.
    pub fn register(&self, event: EventKind, url: impl Into<String>, secret: impl Into<String>) -> String {
        let owner = self.account().username;
        self.state.add_webhook(&owner, event, url.into(), secret.into()).unwrap_or_default()
    }

    /// All registered webhooks, oldest first.
    #[must_use]
    pub fn webhooks(&self) -> Vec<StoredWebhook> {
        self.state.webhooks()
    }

    /// Injects a fault into a call of the web API. Several injections are applied in order, one per call.
    pub fn inject(&self, injection: FaultInjection) {
        self.state.inject(injection);
    }

    /// Sends the sample event to every webhook registered for it, as [`send`](Self::send) does.
    pub async fn trigger(&self, event: EventKind) -> Vec<DeliveryOutcome> {
        self.send(&EventPayload::sample(event)).await
    }

    /// Sends an event concurrently to every webhook registered for it, and waits for all attempts. The event's owner is
    /// the webhook's, unless [`with_owner`](EventPayload::with_owner) set one or the body is exact.
    pub async fn send(&self, event: &EventPayload) -> Vec<DeliveryOutcome> {
        self.state.send(event, 1).await
    }

    /// The last 10,000 deliveries to all webhooks, in the order in which their last attempts ended.
    #[must_use]
    pub fn deliveries(&self) -> Vec<DeliveryOutcome> {
        self.state.deliveries()
    }

    /// All upserted attributes.
    #[must_use]
    pub fn attributes(&self) -> Vec<StoredAttribute> {
        self.state.attributes()
    }

    /// Shuts down gracefully: stops accepting connections, and waits for requests in flight, at most
    /// [`FakeBuilder::shutdown_timeout`].
    pub async fn shutdown(mut self) {
        let _ = self.stop.send(());
        // A client that never finishes its request would block the shutdown forever.
        let _ = tokio::time::timeout(self.grace, &mut self.task).await;
    }
}

impl Drop for FakeSmartShape {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        self.task.abort();
    }
}

impl fmt::Debug for FakeSmartShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeSmartShape").field("address", &self.address).finish_non_exhaustive()
    }
}
