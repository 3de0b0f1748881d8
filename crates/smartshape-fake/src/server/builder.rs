//! Settings of the fake.

use std::net::SocketAddr;
use std::time::Duration;

use super::account::Account;
use super::error::ErrorFormat;
use crate::random;
use crate::sender::SenderSettings;

/// Builder of a [`FakeSmartShape`](super::FakeSmartShape).
#[derive(Clone, Debug)]
pub struct FakeBuilder {
    pub(super) address: SocketAddr,
    pub(crate) sender: SenderSettings,
    pub(crate) accounts: Vec<Account>,
    pub(crate) seats: usize,
    pub(crate) list_shows_url: bool,
    pub(crate) session_required: bool,
    pub(crate) error_format: ErrorFormat,
    pub(super) shutdown_timeout: Duration,
}

impl FakeBuilder {
    pub(super) fn new() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            sender: SenderSettings::default(),
            accounts: vec![Account::new("test@smartshape.io", random::hex(12))],
            seats: 100,
            list_shows_url: true,
            session_required: false,
            error_format: ErrorFormat::default(),
            shutdown_timeout: Duration::from_secs(5),
        }
    }

    /// Address to listen on. Defaults to a free port of 127.0.0.1. Other than loopback addresses require
    /// [`SenderSettings::allow_remote`].
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// Settings for sending events. Defaults to [`SenderSettings::default`].
    #[must_use]
    pub fn sender(mut self, settings: SenderSettings) -> Self {
        self.sender = settings;
        self
    }

    /// Adds an account, which [`FakeSmartShape::account`](super::FakeSmartShape::account) returns if it was added last.
    /// The default one, `test@smartshape.io` with a random password, stays.
    #[must_use]
    pub fn account(mut self, account: Account) -> Self {
        self.accounts.insert(0, account);
        self
    }

    /// Maximum number of open sessions, each of which takes a licence seat until
    /// [`expire_tokens`](super::FakeSmartShape::expire_tokens). Defaults to 100.
    #[must_use]
    pub fn seats(mut self, seats: usize) -> Self {
        self.seats = seats;
        self
    }

    /// Whether the list of webhooks includes URLs, which SmartShape's manual does not promise. Defaults to `true`.
    #[must_use]
    pub fn list_shows_url(mut self, shows: bool) -> Self {
        self.list_shows_url = shows;
        self
    }

    /// Whether calls require `X-SmartShape-Session`, as in newer installations. Defaults to `false`.
    #[must_use]
    pub fn session_required(mut self, required: bool) -> Self {
        self.session_required = required;
        self
    }

    /// Format of error bodies. Defaults to [`ErrorFormat::Plain`].
    #[must_use]
    pub fn error_format(mut self, form: ErrorFormat) -> Self {
        self.error_format = form;
        self
    }

    /// Maximum time that [`FakeSmartShape::shutdown`](super::FakeSmartShape::shutdown) waits for requests in flight.
    /// Defaults to 5 seconds.
    #[must_use]
    pub fn shutdown_timeout(mut self, grace: Duration) -> Self {
        self.shutdown_timeout = grace;
        self
    }
}
