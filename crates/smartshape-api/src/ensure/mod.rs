//! Making the registrations be the wanted ones: what is wanted, what is recorded, the plan, and
//! its application.

mod apply;
mod plan;
mod step;

use std::fmt;

use serde::{Deserialize, Serialize};
use smartshape_webhook::EventKind;

pub use self::plan::Plan;
pub use self::step::{Done, Reason, Step};
use crate::error::Error;
use crate::hidden::WebhookSecret;
use crate::url::{check_webhook_url, redact_url};

/// A webhook that there should be. `Debug` shows of the URL what [`redact_url`] leaves of it.
///
/// ```
/// use smartshape_api::{EventKind, Wanted, WebhookSecret};
///
/// let secret = WebhookSecret::new("a long and random string")?;
/// let wanted = Wanted::new(EventKind::FileUploaded, "https://example.com/callback", secret)?;
/// assert_eq!(wanted.event(), EventKind::FileUploaded);
/// # Ok::<(), smartshape_api::Error>(())
/// ```
#[derive(Clone)]
pub struct Wanted {
    event: EventKind,
    url: String,
    secret: WebhookSecret,
    renewed: bool,
}

impl Wanted {
    /// A webhook that sends `event` to `url`, signed with `secret`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`](crate::ErrorKind::Settings) when the URL is not absolute, neither http nor https,
    /// or holds a password or a fragment.
    pub fn new(event: EventKind, url: impl Into<String>, secret: WebhookSecret) -> Result<Self, Error> {
        let url = url.into();
        check_webhook_url(&url)?;
        Ok(Self { event, url, secret, renewed: false })
    }

    /// Says that the secret is a new one: what is registered is replaced, though it is recorded.
    /// SmartShape has no call for changing a secret. The new webhook is created before the old one
    /// is deleted, so the receiver must know both secrets meanwhile, and an event may be sent by both.
    #[must_use]
    pub fn renewed(mut self) -> Self {
        self.renewed = true;
        self
    }

    /// The event.
    #[must_use]
    pub fn event(&self) -> EventKind {
        self.event
    }

    /// Where it points at.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The secret.
    #[must_use]
    pub fn secret(&self) -> &WebhookSecret {
        &self.secret
    }
}

/// What the caller keeps of a webhook that this crate created: how it is known again. Holds no
/// secret, but the whole URL. Can be stored with serde. `Debug` shows of the URL what [`redact_url`]
/// leaves of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Record {
    /// Its id.
    pub id: String,
    /// The event.
    pub event: EventKind,
    /// Where it points at.
    pub url: String,
}

impl Record {
    /// The record of a webhook that was created by other means, with the secret that is wanted now.
    #[must_use]
    pub fn new(id: impl Into<String>, event: EventKind, url: impl Into<String>) -> Self {
        Self { id: id.into(), event, url: url.into() }
    }
}

impl fmt::Debug for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { event, url, secret, renewed } = self;
        let mut shown = f.debug_struct("Wanted");
        shown.field("event", event).field("url", &redact_url(url)).field("secret", secret);
        shown.field("renewed", renewed).finish()
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, event, url } = self;
        let mut shown = f.debug_struct("Record");
        shown.field("id", id).field("event", event).field("url", &redact_url(url)).finish()
    }
}
