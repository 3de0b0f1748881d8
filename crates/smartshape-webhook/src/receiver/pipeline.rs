//! The stages of receiving, as types. Each consumes the previous one, so that the compiler enforces their order:
//! [`Admitted`] -> [`Authenticated`] -> [`Buffered`] -> [`Parsed`] -> [`Received`].

use std::error::Error;
use std::pin::Pin;

use bytes::{Buf, Bytes};
use futures_core::Stream;

use super::{Claimed, Permit, Received, Receiver};
use crate::auth::client_addr::ClientAddr;
use crate::auth::token::Token;
use crate::dedup::in_flight::ClaimOutcome;
use crate::delivery::{Delivery, DeliveryMeta};
use crate::events::{EnvelopeError, EnvelopeErrorKind};
use crate::memory_limit::Reservation;
use crate::metrics::{DeliveryOutcome, EventLabel, Timer, record_delivery};
use crate::request::body;
use crate::request::head::{Length, RequestHead, TokenField};
use crate::response::rejection::{Rejection, RejectionKind};

impl Receiver {
    pub(super) async fn receive_inner(
        &self,
        head: &RequestHead,
        body: Pin<&mut impl Stream<Item = Result<impl Buf, impl Into<Box<dyn Error + Send + Sync>>>>>,
        timer: Timer,
    ) -> Result<Received, Rejection> {
        let authenticated = async { self.admit(head)?.authenticate(self).await };
        let authenticated = match authenticated.await {
            Ok(authenticated) => authenticated,
            Err(rejection) => {
                // The connection is kept only if the body has ended: unread bytes would be taken for the next request.
                let keeps =
                    !head.needs_body_read() || (head.may_discard_body() && body::discard_arrived(body).await);
                return Err(rejection.closing(!keeps));
            }
        };
        let whole = authenticated
            .read(self, body)
            .await
            .map_err(|rejection| rejection.closing(head.needs_body_read()).after_verification())?;
        let parsed = whole.parse(head).map_err(Rejection::after_verification)?;
        parsed.claim(self, timer).await.map_err(Rejection::after_verification)
    }

    /// Checks everything that needs neither hashing nor reading.
    fn admit<'h>(&self, head: &'h RequestHead) -> Result<Admitted<'h>, Rejection> {
        if !head.is_post {
            return Err(RejectionKind::MethodNotAllowed.into());
        }
        let declared = match head.length {
            Length::Invalid => return Err(RejectionKind::LengthInvalid.into()),
            Length::Declared(bytes) if bytes > self.0.body.max_bytes => {
                return Err(RejectionKind::BodyTooLarge.into());
            }
            Length::Declared(bytes) => Some(bytes),
            Length::Absent => None,
        };
        let token = match &head.token {
            TokenField::Missing => return Err(RejectionKind::TokenMissing.into()),
            TokenField::Repeated => return Err(RejectionKind::TokenRepeated.into()),
            TokenField::Malformed(why) => {
                return Err(Rejection::with_detail(RejectionKind::TokenMalformed, *why));
            }
            TokenField::One(token) if token.cost() > self.0.max_cost => {
                let detail = format_args!("{} is above {}", token.cost(), self.0.max_cost).to_string();
                return Err(Rejection::with_detail(RejectionKind::TokenTooCostly, detail));
            }
            TokenField::One(token) if token.cost() < self.0.min_cost => {
                let detail = format_args!("{} is below {}", token.cost(), self.0.min_cost).to_string();
                return Err(Rejection::with_detail(RejectionKind::TokenTooCheap, detail));
            }
            TokenField::One(token) => token,
        };
        if self.is_draining() {
            return Err(RejectionKind::Draining.into());
        }
        Ok(Admitted { token, client: head.client_addr, declared })
    }
}

/// A request whose head is valid.
struct Admitted<'h> {
    token: &'h Token,
    client: Option<ClientAddr>,
    declared: Option<u64>,
}

impl Admitted<'_> {
    /// Acquires the permit only after the token is verified: unauthenticated clients must not be able to hold permits.
    async fn authenticate(self, receiver: &Receiver) -> Result<Authenticated, Rejection> {
        match receiver.0.verifier.verify(self.token, self.client).await {
            Ok(Some(secret)) => {
                let permit = receiver.acquire_permit(secret).map_err(Rejection::after_verification)?;
                Ok(Authenticated { declared: self.declared, permit })
            }
            Ok(None) => {
                let names = receiver.secret_names().join(", ");
                Err(Rejection::with_detail(RejectionKind::TokenUnmatched, names))
            }
            Err(busy) => {
                Err(Rejection::with_detail(RejectionKind::VerifyBusy, busy.why).retry_around(busy.retry_in))
            }
        }
    }
}

/// A request whose token has been verified. Holds a concurrency permit.
struct Authenticated {
    declared: Option<u64>,
    permit: Permit,
}

impl Authenticated {
    async fn read(
        self,
        receiver: &Receiver,
        body: impl Stream<Item = Result<impl Buf, impl Into<Box<dyn Error + Send + Sync>>>>,
    ) -> Result<Buffered, Rejection> {
        let mut reservation = receiver.0.memory.reservation(self.permit.secret().usage.clone());
        let body = body::read(body, self.declared, &receiver.0.body, &mut reservation).await?;
        Ok(Buffered { permit: self.permit, body, reservation })
    }
}

/// A request whose body has been read to its end.
struct Buffered {
    permit: Permit,
    body: Bytes,
    reservation: Reservation,
}

impl Buffered {
    /// Parses on the async thread, however long the body is: it takes less time than receiving it did, and tokio's
    /// blocking threads are shared with the application, which may keep them busy for any time.
    fn parse(self, head: &RequestHead) -> Result<Parsed, Rejection> {
        let meta = DeliveryMeta {
            secret_name: Some(self.permit.secret().shared_name()),
            webhook: self.permit.secret().webhook_in_key(),
            traceparent: head.traceparent().map(Into::into),
            ..DeliveryMeta::default()
        };
        let delivery = Delivery::parse(self.body, meta, Some(self.reservation));
        let delivery = delivery.map_err(|error| envelope_rejection(error, head))?;
        let secret = self.permit.secret();
        let scope = if !secret.permits(delivery.kind()) {
            Some("events")
        } else if !secret.permits_owner(|| delivery.owner()) {
            Some("owners")
        } else {
            None
        };
        if let Some(scope) = scope {
            let detail = format!("{} is only for some {scope}", secret.name());
            return Err(Rejection::with_detail(RejectionKind::TokenOutOfScope, detail));
        }
        Ok(Parsed { delivery, permit: self.permit })
    }
}

fn envelope_rejection(error: EnvelopeError, head: &RequestHead) -> Rejection {
    match (error.kind(), &head.content_coding, &head.foreign_charset) {
        (EnvelopeErrorKind::NotJson, Some(coding), _) => {
            Rejection::with_detail(RejectionKind::ContentCoding, coding)
        }
        (EnvelopeErrorKind::NotJson, None, Some(charset)) => {
            let detail = format_args!("{error}; its Content-Type says charset={charset}, and JSON is UTF-8")
                .to_string();
            Rejection::with_detail(RejectionKind::NotJson, detail)
        }
        (EnvelopeErrorKind::NotJson, None, None) => Rejection::with_detail(RejectionKind::NotJson, error),
        _ => Rejection::with_detail(RejectionKind::EnvelopeInvalid, error),
    }
}

/// A delivery that may be a duplicate.
struct Parsed {
    delivery: Delivery,
    permit: Permit,
}

impl Parsed {
    async fn claim(self, receiver: &Receiver, timer: Timer) -> Result<Received, Rejection> {
        match receiver.0.dedup.claim(self.delivery.key(), self.delivery.raw()).await? {
            ClaimOutcome::New(claim) => {
                Ok(Received::New(Claimed::new(self.delivery, claim, self.permit, timer)))
            }
            ClaimOutcome::Done(same_body) => {
                receiver.log().record_duplicate(&self.delivery, same_body);
                record_delivery(EventLabel::from(self.delivery.kind()), DeliveryOutcome::Duplicate, timer);
                Ok(Received::Duplicate)
            }
            ClaimOutcome::InFlight(waiter, same_body) => {
                // While it waits, a duplicate holds neither a permit nor a body.
                drop(self.permit);
                receiver.log().record_duplicate(&self.delivery, same_body);
                let event = EventLabel::from(self.delivery.kind());
                drop(self.delivery);
                Box::pin(waiter.wait()).await?;
                record_delivery(event, DeliveryOutcome::Duplicate, timer);
                Ok(Received::Duplicate)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::secret::Secret;

    #[test]
    fn admission_needs_no_runtime_and_hashes_nothing() {
        let receiver = Receiver::new(Secret::generate().unwrap()).unwrap();
        let token = |cost: u32| format!("$2b${cost}$abcdefghijklmnopqrstuuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYG");
        for (method, costs, length, expected) in [
            ("POST", &[10][..], None, None),
            ("POST", &[12], None, None),
            ("POST", &[10], Some("52428800"), None),
            ("GET", &[10], None, Some(RejectionKind::MethodNotAllowed)),
            ("post", &[10], None, Some(RejectionKind::MethodNotAllowed)),
            ("POST", &[], None, Some(RejectionKind::TokenMissing)),
            ("POST", &[13], None, Some(RejectionKind::TokenTooCostly)),
            ("POST", &[10, 13], None, Some(RejectionKind::TokenRepeated)),
            ("POST", &[10], Some("52428801"), Some(RejectionKind::BodyTooLarge)),
            ("POST", &[10], Some("ten"), Some(RejectionKind::LengthInvalid)),
        ] {
            let tokens: Vec<_> = costs.iter().map(|cost| token(*cost)).collect();
            let tokens = tokens.iter().map(|token| ("x-smartshape-token", token.as_bytes()));
            let length = length.map(|length: &str| ("content-length", length.as_bytes()));
            let head = RequestHead::from_parts(method, tokens.chain(length));
            let rejection = receiver.admit(&head).err().map(|rejection| rejection.kind());
            assert_eq!(rejection, expected, "{method} {costs:?} {length:?}");
        }
    }
}
