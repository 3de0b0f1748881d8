//! The fake SmartShape as a server.

mod api;
mod control;
mod disturbance;
mod error;
mod state;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::Response;
use http::HeaderValue;
use http::header::SERVER;
use smartshape_webhook::EventKind;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use self::disturbance::Disturbance;
pub use self::error::ErrorForm;
use self::state::State;
pub use self::state::{StoredAttribute, StoredWebhook};
use crate::payload::EventPayload;
use crate::random;
use crate::sender::{Outcome, SenderSettings};

/// The longest body that the fake's own API takes, in bytes.
const BODY_LIMIT: usize = 64 * 1024 * 1024;

/// Somebody with an account at the fake SmartShape.
#[derive(Clone)]
pub struct Account {
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) permissions: Vec<Permission>,
}

impl Account {
    /// An account with every permission.
    #[must_use]
    pub fn new(username: impl Into<String>, password: impl Into<String>) -> Self {
        let permissions =
            vec![Permission::ReadWebhook, Permission::WriteWebhook, Permission::WriteAttributes];
        Self { username: username.into(), password: password.into(), permissions }
    }

    /// Takes away all permissions but these.
    #[must_use]
    pub fn only_with(mut self, permissions: impl IntoIterator<Item = Permission>) -> Self {
        self.permissions = permissions.into_iter().collect();
        self
    }

    /// The user name.
    #[must_use]
    pub fn username(&self) -> &str {
        &self.username
    }

    /// The password; of an account of the fake.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("username", &self.username).finish_non_exhaustive()
    }
}

/// What an account may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Permission {
    /// `read_webhook`: list webhooks.
    ReadWebhook,
    /// `write_webhook`: create and delete webhooks.
    WriteWebhook,
    /// Change attributes; SmartShape's name for it is not documented.
    WriteAttributes,
}

/// Settings of a fake SmartShape.
#[derive(Clone, Debug)]
pub struct FakeBuilder {
    address: SocketAddr,
    pub(crate) sender: SenderSettings,
    pub(crate) accounts: Vec<Account>,
    pub(crate) seats: usize,
    pub(crate) list_shows_url: bool,
    pub(crate) session_required: bool,
    pub(crate) error_form: ErrorForm,
    shutdown_grace: Duration,
}

impl FakeBuilder {
    /// Where to listen. Default: a free port of 127.0.0.1. Another machine's view of it has to be
    /// allowed by [`SenderSettings::allow_remote`].
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// How webhooks are sent. Default: [`SenderSettings::default`].
    #[must_use]
    pub fn sender(mut self, settings: SenderSettings) -> Self {
        self.sender = settings;
        self
    }

    /// Adds an account. Default: one of a random password.
    #[must_use]
    pub fn account(mut self, account: Account) -> Self {
        self.accounts.insert(0, account);
        self
    }

    /// How many sessions may be open. Default 100.
    #[must_use]
    pub fn seats(mut self, seats: usize) -> Self {
        self.seats = seats;
        self
    }

    /// Whether the list of webhooks shows their URLs; SmartShape's manual does not promise it.
    /// Default: it does.
    #[must_use]
    pub fn list_shows_url(mut self, shows: bool) -> Self {
        self.list_shows_url = shows;
        self
    }

    /// Whether calls need `X-SmartShape-Session`, as SmartShape's newer pages say. Default: no.
    #[must_use]
    pub fn session_required(mut self, required: bool) -> Self {
        self.session_required = required;
        self
    }

    /// The form of errors. Default: [`ErrorForm::Plain`].
    #[must_use]
    pub fn error_form(mut self, form: ErrorForm) -> Self {
        self.error_form = form;
        self
    }

    /// How long [`FakeSmartShape::shutdown`] waits for calls that are not done. Default 5 s.
    #[must_use]
    pub fn shutdown_grace(mut self, grace: Duration) -> Self {
        self.shutdown_grace = grace;
        self
    }

    /// Starts the server on the current tokio runtime.
    ///
    /// # Errors
    ///
    /// When the address is not of this machine alone and that was not allowed, or cannot be
    /// listened on.
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
        let grace = self.shutdown_grace;
        let state = Arc::new(State::new(self));
        let disturbed = from_fn_with_state(Arc::clone(&state), disturbance::disturbed);
        let app = Router::new()
            .merge(api::routes().layer(disturbed))
            .merge(
                control::routes().layer(from_fn_with_state(Arc::clone(&state), control::not_from_a_web_page)),
            )
            .fallback(api::nothing_there)
            .layer(map_response(signed))
            .layer(DefaultBodyLimit::max(BODY_LIMIT))
            .with_state(Arc::clone(&state));
        let (stop, mut stopped) = watch::channel(());
        let server = axum::serve(listener, app).with_graceful_shutdown(async move {
            // An error means that the handle is gone, which stops the server too.
            let _ = stopped.changed().await;
        });
        let task = tokio::spawn(async move {
            let _ = server.await;
        });
        Ok(FakeSmartShape { address, grace, state, stop, task })
    }
}

/// Tells clients that no SmartShape answers.
async fn signed(mut response: Response) -> Response {
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
/// // Nobody listens there, which the outcome tells.
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
    /// A fake SmartShape with other settings.
    #[must_use]
    pub fn builder() -> FakeBuilder {
        FakeBuilder {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            sender: SenderSettings::default(),
            accounts: vec![Account::new("test@smartshape.io", random::hex(12))],
            seats: 100,
            list_shows_url: true,
            session_required: false,
            error_form: ErrorForm::default(),
            shutdown_grace: Duration::from_secs(5),
        }
    }

    /// Starts one with the default settings.
    ///
    /// # Errors
    ///
    /// When no port can be listened on.
    pub async fn start() -> std::io::Result<Self> {
        Self::builder().start().await
    }

    /// Where it listens, such as `http://127.0.0.1:40123`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The account to log in with: the one added last, or else the random one.
    #[must_use]
    pub fn account(&self) -> Account {
        self.state.settings.accounts.first().cloned().unwrap_or_else(|| Account::new("", ""))
    }

    /// Logs in as [`account`](Self::account), and returns the bearer token.
    #[must_use]
    pub fn bearer_token(&self) -> String {
        let account = self.account();
        self.state.login(&account.username, &account.password).unwrap_or_default()
    }

    /// Ends every login and session.
    pub fn expire_tokens(&self) {
        self.state.expire_tokens();
    }

    /// Registers a webhook of [`account`](Self::account), and returns its id.
    pub fn register(&self, event: EventKind, url: impl Into<String>, secret: impl Into<String>) -> String {
        let owner = self.account().username;
        self.state.add_webhook(&owner, event, url.into(), secret.into()).unwrap_or_default()
    }

    /// All webhooks that are registered, oldest first.
    #[must_use]
    pub fn webhooks(&self) -> Vec<StoredWebhook> {
        self.state.webhooks()
    }

    /// Gives one call of SmartShape's web API another answer. Those of several calls are given one
    /// after the other.
    pub fn disturb(&self, disturbance: Disturbance) {
        self.state.disturb(disturbance);
    }

    /// Sends the sample event to every webhook that is registered for it.
    pub async fn trigger(&self, event: EventKind) -> Vec<Outcome> {
        self.send(&EventPayload::sample(event)).await
    }

    /// Sends an event to every webhook that is registered for it.
    pub async fn send(&self, event: &EventPayload) -> Vec<Outcome> {
        self.state.send(event, 1).await
    }

    /// What was sent so far, and how it was answered.
    #[must_use]
    pub fn deliveries(&self) -> Vec<Outcome> {
        self.state.deliveries()
    }

    /// The attributes that were upserted.
    #[must_use]
    pub fn attributes(&self) -> Vec<StoredAttribute> {
        self.state.attributes()
    }

    /// Stops: no new connection, and those there are end, or are left after
    /// [`FakeBuilder::shutdown_grace`].
    pub async fn shutdown(mut self) {
        let _ = self.stop.send(());
        // A client that never finishes its request would hold it up for ever.
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
