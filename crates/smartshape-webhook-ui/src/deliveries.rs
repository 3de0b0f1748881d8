//! Deliveries of a listener, in memory: accepted and rejected ones, as they came.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, header};
use jiff::Timestamp;
use smartshape_webhook::{
    Delivery, DeliveryKey, EventKind, Rejection, RejectionKind, TOKEN_HEADER, Token, WebhookResponse,
};

/// Maximum number of kept deliveries, and their total size.
const MAX_DELIVERIES: usize = 500;
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// Maximum number of kept headers per delivery, and characters of each.
const MAX_HEADERS: usize = 64;
const MAX_HEADER_CHARS: usize = 512;
/// Maximum number of kept resend outcomes per delivery.
const MAX_RESENDS: usize = 20;

/// The newest deliveries of a listener, for [`Ui::deliveries`](crate::Ui::deliveries). Cheap to clone. It keeps at most
/// 500, of at most 64 MiB in all; the oldest are dropped first.
///
/// ```
/// use std::time::Duration;
/// use http::HeaderMap;
/// use smartshape_webhook::{RejectionKind, WebhookResponse};
/// use smartshape_webhook_ui::{Access, Deliveries, ReceivedDelivery, Ui, Visitor};
///
/// let deliveries = Deliveries::new();
/// let response = WebhookResponse::from(RejectionKind::TokenMissing);
/// deliveries.push(ReceivedDelivery::new("POST", &HeaderMap::new(), &response, Duration::from_millis(2)));
/// let ui = Ui::deliveries(deliveries, Access::decide(|_| Visitor::reader("anybody in this example")));
/// # let _ = ui;
/// ```
#[derive(Clone, Default)]
pub struct Deliveries {
    kept: Arc<Mutex<DeliveryBuffer>>,
    resend: Option<(Arc<str>, Arc<SendFn>)>,
    sample: Option<(Arc<SampleFn>, Arc<SendFn>)>,
}

type SendFn = dyn Fn(Bytes) -> Pin<Box<dyn Future<Output = SendOutcome> + Send>> + Send + Sync;
type SampleFn = dyn Fn(EventKind) -> String + Send + Sync;

#[derive(Default)]
struct DeliveryBuffer {
    /// The number of the next delivery.
    next: u64,
    bytes: usize,
    /// The oldest first.
    deliveries: VecDeque<Arc<Entry>>,
}

/// A delivery that is kept.
pub(crate) struct Entry {
    pub(crate) number: u64,
    pub(crate) received: ReceivedDelivery,
    /// What the list shows of the event; `None` if the body is not kept or is no event.
    pub(crate) event: Option<EventSummary>,
    /// Number of deliveries of the same event so far, this one included.
    pub(crate) repetition: usize,
    resends: Mutex<Vec<(Timestamp, SendOutcome)>>,
}

pub(crate) struct EventSummary {
    pub(crate) key: DeliveryKey,
    pub(crate) name: String,
    pub(crate) file: String,
    pub(crate) uuid: String,
}

/// The outcome of passing a delivery on to another endpoint.
#[derive(Clone, Debug)]
pub struct SendOutcome {
    /// Whether SmartShape would accept the endpoint's response.
    pub is_accepted: bool,
    /// The response in words, such as "200 after 12 ms, accepted". No token and no secret.
    pub text: String,
}

/// The outcome of forwarding, which is known after the delivery's own response. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ForwardOutcome(Arc<OnceLock<SendOutcome>>);

impl ForwardOutcome {
    /// Sets the outcome; the first one stays.
    pub fn set(&self, outcome: SendOutcome) {
        let _ = self.0.set(outcome);
    }

    pub(crate) fn get(&self) -> Option<&SendOutcome> {
        self.0.get()
    }
}

/// A request as a listener received it, with its response. Tokens and credentials among its headers are not kept, nor
/// is the body of a request whose token was not verified.
pub struct ReceivedDelivery {
    pub(crate) received_at: Timestamp,
    pub(crate) took: Duration,
    pub(crate) method: String,
    pub(crate) headers: Vec<(String, String)>,
    /// Prefix and cost of the token.
    pub(crate) token: Option<(String, u32)>,
    pub(crate) status: u16,
    pub(crate) rejection: Option<RejectionKind>,
    /// The rejection in words.
    pub(crate) reason: Option<String>,
    pub(crate) is_verified: bool,
    pub(crate) is_duplicate: bool,
    pub(crate) body: Option<Bytes>,
    pub(crate) forward: ForwardOutcome,
}

impl ReceivedDelivery {
    /// A delivery that was received just now.
    #[must_use]
    pub fn new(method: &str, headers: &HeaderMap, response: &WebhookResponse, took: Duration) -> Self {
        let rejection = response.rejection();
        let token = headers.get(TOKEN_HEADER).and_then(|value| Token::parse(value.as_bytes()).ok());
        let received_at = Timestamp::now() - jiff::SignedDuration::try_from(took).unwrap_or_default();
        Self {
            method: method.chars().take(MAX_HEADER_CHARS).collect(),
            headers: headers.iter().take(MAX_HEADERS).map(redacted_header).collect(),
            token: token.map(|token| (token.prefix().to_owned(), token.cost())),
            reason: rejection.map(Rejection::to_string),
            is_verified: rejection.is_none_or(Rejection::token_verified),
            ..Self::recorded(received_at, took, response.status(), rejection.map(Rejection::kind))
        }
    }

    /// A delivery of a recording, whose token had been verified: when it came, how long its response took, the status,
    /// and the rejection if it is known.
    #[must_use]
    pub fn recorded(
        received_at: Timestamp,
        took: Duration,
        status: u16,
        rejection: Option<RejectionKind>,
    ) -> Self {
        Self {
            received_at,
            took,
            method: "POST".to_owned(),
            headers: Vec::new(),
            token: None,
            status,
            rejection,
            reason: rejection.map(|kind| Rejection::from(kind).to_string()),
            is_verified: true,
            is_duplicate: false,
            body: None,
            forward: ForwardOutcome::default(),
        }
    }

    /// Prefix and cost of its token.
    #[must_use]
    pub fn token(self, prefix: &str, cost: u32) -> Self {
        Self { token: Some((prefix.to_owned(), cost)), ..self }
    }

    /// The body, which is kept only if the token was verified.
    #[must_use]
    pub fn body(self, body: Bytes) -> Self {
        Self { body: Some(body).filter(|_| self.is_verified), ..self }
    }

    /// Whether the event had been accepted before, so that no handler was called.
    #[must_use]
    pub fn duplicate(self, is_duplicate: bool) -> Self {
        Self { is_duplicate, ..self }
    }

    /// The outcome of forwarding, which may be set later.
    #[must_use]
    pub fn forward(self, forward: ForwardOutcome) -> Self {
        Self { forward, ..self }
    }

    fn bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        headers + self.body.as_ref().map_or(0, Bytes::len)
    }
}

/// A header for display, with credentials replaced by their length.
fn redacted_header((name, value): (&header::HeaderName, &header::HeaderValue)) -> (String, String) {
    let hidden = [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE].contains(name)
        || value.is_sensitive();
    let value = if name == TOKEN_HEADER {
        match Token::parse(value.as_bytes()) {
            Ok(token) => format!("${}${:02}$ and 53 characters, not shown", token.prefix(), token.cost()),
            Err(_) => format!("{} bytes, not shown", value.len()),
        }
    } else if hidden {
        format!("{} bytes, not shown", value.len())
    } else {
        String::from_utf8_lossy(value.as_bytes()).chars().take(MAX_HEADER_CHARS).collect()
    };
    (name.as_str().chars().take(MAX_HEADER_CHARS).collect(), value)
}

impl Deliveries {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Offers to send a delivery's body again, to what `url` names. `send` signs it.
    #[must_use]
    pub fn resend_to<F>(self, url: &str, send: impl Fn(Bytes) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = SendOutcome> + Send + 'static,
    {
        Self { resend: Some((url.into(), Arc::new(move |body| Box::pin(send(body))))), ..self }
    }

    /// Offers to send samples: `sample` has a body for each event, and `send` signs what the visitor made of it and
    /// sends it to the listener.
    #[must_use]
    pub fn samples<F>(
        self,
        sample: impl Fn(EventKind) -> String + Send + Sync + 'static,
        send: impl Fn(Bytes) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = SendOutcome> + Send + 'static,
    {
        Self { sample: Some((Arc::new(sample), Arc::new(move |body| Box::pin(send(body))))), ..self }
    }

    /// Adds a delivery.
    pub fn push(&self, received: ReceivedDelivery) {
        let delivery = received.body.clone().and_then(|body| Delivery::for_test(body).ok());
        let event = delivery.map(|delivery| EventSummary {
            key: delivery.key(),
            name: delivery.event_name().to_owned(),
            file: delivery.file().as_str().to_owned(),
            uuid: delivery.uuid().to_owned(),
        });
        let mut kept = lock(&self.kept);
        let before = event.as_ref().map_or(0, |event| {
            let keys = kept.deliveries.iter().filter_map(|entry| entry.event.as_ref());
            keys.filter(|other| other.key == event.key).count()
        });
        kept.next += 1;
        kept.bytes += received.bytes();
        let (number, repetition, resends) = (kept.next, before + 1, Mutex::default());
        kept.deliveries.push_back(Arc::new(Entry { number, received, event, repetition, resends }));
        while kept.deliveries.len() > MAX_DELIVERIES || (kept.bytes > MAX_BYTES && kept.deliveries.len() > 1)
        {
            if let Some(oldest) = kept.deliveries.pop_front() {
                kept.bytes -= oldest.received.bytes();
            }
        }
    }

    /// The newest first.
    pub(crate) fn entries(&self) -> Vec<Arc<Entry>> {
        lock(&self.kept).deliveries.iter().rev().cloned().collect()
    }

    pub(crate) fn get(&self, number: u64) -> Option<Arc<Entry>> {
        lock(&self.kept).deliveries.iter().find(|entry| entry.number == number).cloned()
    }

    /// A text that differs when there is something new.
    pub(crate) fn version(&self) -> String {
        let kept = lock(&self.kept);
        let forwarded = kept.deliveries.iter().filter(|entry| entry.received.forward.get().is_some()).count();
        format!("{} {forwarded}", kept.next)
    }

    pub(crate) fn resend_url(&self) -> Option<&str> {
        self.resend.as_ref().map(|(url, _)| &**url)
    }

    pub(crate) fn has_samples(&self) -> bool {
        self.sample.is_some()
    }

    pub(crate) fn sample(&self, kind: EventKind) -> Option<String> {
        self.sample.as_ref().map(|(sample, _)| sample(kind))
    }

    /// `None` if there is no such delivery, no body of it, or nowhere to send it.
    pub(crate) async fn resend(&self, number: u64) -> Option<SendOutcome> {
        let (_, send) = self.resend.as_ref()?;
        let entry = self.get(number)?;
        let outcome = send(entry.received.body.clone()?).await;
        let mut resends = lock(&entry.resends);
        if resends.len() < MAX_RESENDS {
            resends.push((Timestamp::now(), outcome.clone()));
        }
        Some(outcome)
    }

    pub(crate) async fn send_sample(&self, body: String) -> Option<SendOutcome> {
        let (_, send) = self.sample.as_ref()?;
        Some(send(body.into()).await)
    }
}

impl Entry {
    pub(crate) fn outcomes(&self) -> Vec<(Timestamp, SendOutcome)> {
        lock(&self.resends).clone()
    }

    pub(crate) fn is_accepted(&self) -> bool {
        self.received.status == 200
    }
}

/// Locks what stays whole if its thread panics.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Without body and headers.
impl fmt::Debug for ReceivedDelivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (status, rejection) = (self.status, self.rejection);
        f.debug_struct("ReceivedDelivery")
            .field("status", &status)
            .field("rejection", &rejection)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Deliveries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deliveries").field("resend_to", &self.resend_url()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(status: RejectionKind, body: &'static [u8]) -> ReceivedDelivery {
        let response = WebhookResponse::from(status);
        ReceivedDelivery::new("POST", &HeaderMap::new(), &response, Duration::ZERO)
            .body(Bytes::from_static(body))
    }

    #[test]
    fn deliveries_are_bounded_and_keep_no_body_of_a_stranger() {
        let deliveries = Deliveries::new();
        for _ in 0..=MAX_DELIVERIES {
            deliveries.push(received(RejectionKind::TokenUnmatched, b"of a stranger"));
        }
        let entries = deliveries.entries();
        assert_eq!(entries.len(), MAX_DELIVERIES);
        assert_eq!(entries[0].number, entries[1].number + 1, "the newest is the first");
        assert!(entries.iter().all(|entry| entry.received.body.is_none()));
        assert!(deliveries.get(1).is_none());
        let large = Bytes::from(vec![b'x'; MAX_BYTES / 2]);
        for _ in 0..3 {
            let accepted = WebhookResponse::success();
            let headers = HeaderMap::new();
            deliveries
                .push(ReceivedDelivery::new("POST", &headers, &accepted, Duration::ZERO).body(large.clone()));
        }
        assert_eq!(deliveries.entries().len(), 2);
    }

    #[test]
    fn headers_keep_no_token_and_no_credentials() {
        let token = "$2b$10$abcdefghijklmnopqrstuuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYG";
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (TOKEN_HEADER, token),
            ("authorization", "Bearer abcdefghij"),
            ("cookie", "session=abcdefghij"),
            ("proxy-authorization", "Basic abcdefghij"),
            ("user-agent", "axios/0.21.1"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        headers.append(TOKEN_HEADER, "a token of abcdefghij".parse().unwrap());
        let delivery = ReceivedDelivery::new("POST", &headers, &WebhookResponse::success(), Duration::ZERO);
        let shown = format!("{:?}", delivery.headers);
        assert!(!shown.contains("abcdefghij"), "{shown}");
        assert!(shown.contains("$2b$10$ and 53 characters") && shown.contains("axios/0.21.1"), "{shown}");
        assert_eq!(delivery.token, Some(("2b".to_owned(), 10)));
    }
}
