//! A receiver of webhooks that are signed over their bodies, as other services do.

use axum::http::HeaderMap;
use serde::Deserialize;
use serde_json::value::RawValue;
use standardwebhooks::Webhook;

use crate::Outcome;

/// In the form that the library wants: base64.
const KEY: &str = "YSBzZWNyZXQgb2YgdGhlIGJlbmNobWFyaydzIG93bg==";

#[derive(Deserialize)]
struct Envelope<'a> {
    uuid: &'a str,
    #[serde(borrow)]
    data: &'a RawValue,
}

pub(crate) fn verifier() -> Outcome<Webhook> {
    Ok(Webhook::new(KEY)?)
}

pub(super) fn accepts(webhook: &Webhook, headers: &HeaderMap, body: &[u8]) -> bool {
    webhook.verify(body, headers).is_ok()
        && serde_json::from_slice::<Envelope<'_>>(body)
            .is_ok_and(|event| !event.uuid.is_empty() && !event.data.get().is_empty())
}

/// The headers that sign this body.
pub(crate) fn headers(body: &[u8]) -> Outcome<String> {
    let (id, now) = ("msg_benchmark", std::time::SystemTime::now());
    let seconds = now.duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let signature = verifier()?.sign(id, i64::try_from(seconds)?, body)?;
    Ok(format!("webhook-id: {id}\r\nwebhook-timestamp: {seconds}\r\nwebhook-signature: {signature}\r\n"))
}
