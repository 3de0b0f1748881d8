//! What one would write in an afternoon: correct for honest senders, and no more.

use smartshape_webhook::TOKEN_HEADER;

use super::SECRET;

pub(super) const HEADER: &str = TOKEN_HEADER;

/// Whether the delivery is acknowledged. Hashes where it is called: on the async thread.
pub(super) fn accepts(token: Option<&str>, body: &[u8]) -> bool {
    token.is_some_and(|token| bcrypt::verify(SECRET, token).unwrap_or(false))
        && serde_json::from_slice::<serde_json::Value>(body).is_ok_and(|event| event["uuid"].is_string())
}
