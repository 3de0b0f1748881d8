//! The desired webhooks, and the records of created ones.

use std::fmt;

use serde::{Deserialize, Serialize};
use smartshape_webhook::EventKind;

use crate::error::Error;
use crate::secret::WebhookSecret;
use crate::url::{check_webhook_url, redact_url};

/// A webhook that the account should have. `Debug` applies [`redact_url`] to the URL.
///
/// ```
/// use smartshape_api::{EventKind, DesiredWebhook, WebhookSecret};
///
/// let secret = WebhookSecret::new("a long and random string")?;
/// let desired = DesiredWebhook::new(EventKind::FileUploaded, "https://example.com/callback", secret)?;
/// assert_eq!(desired.event(), EventKind::FileUploaded);
/// # Ok::<(), smartshape_api::Error>(())
/// ```
#[derive(Clone)]
pub struct DesiredWebhook {
    pub(crate) event: EventKind,
    pub(crate) url: String,
    pub(crate) secret: WebhookSecret,
    pub(crate) renewed: bool,
}

impl DesiredWebhook {
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

    /// Replaces the registered webhook even if it is recorded, because the secret is new. SmartShape cannot change the
    /// secret of a webhook, so the new webhook is created before the old one is deleted. Until then the receiver must
    /// accept both secrets, and both webhooks may send an event.
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

    /// The callback URL.
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

/// Identifies a webhook that this client created. The caller stores records between runs, for example with serde. Holds
/// the whole URL but no secret. `Debug` applies [`redact_url`] to the URL.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WebhookRecord {
    /// The webhook's id.
    pub id: String,
    /// The event.
    pub event: EventKind,
    /// The callback URL.
    pub url: String,
}

impl WebhookRecord {
    /// A record of a webhook that was created by other means with the desired secret.
    #[must_use]
    pub fn new(id: impl Into<String>, event: EventKind, url: impl Into<String>) -> Self {
        Self { id: id.into(), event, url: url.into() }
    }
}

impl fmt::Debug for DesiredWebhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { event, url, secret, renewed } = self;
        let mut shown = f.debug_struct("DesiredWebhook");
        shown.field("event", event).field("url", &redact_url(url)).field("secret", secret);
        shown.field("renewed", renewed).finish()
    }
}

impl fmt::Debug for WebhookRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, event, url } = self;
        let mut shown = f.debug_struct("WebhookRecord");
        shown.field("id", id).field("event", event).field("url", &redact_url(url)).finish()
    }
}
