//! The stages of receiving. Each consumes the one before, so that the order cannot be got wrong:
//! [`Admitted`] -> [`Authenticated`] -> [`Whole`] -> [`Parsed`] -> [`Received`].

use std::error::Error;

use bytes::{Buf, Bytes};
use futures_core::Stream;

use super::{Claimed, Place, Received, Receiver};
use crate::body;
use crate::budget::Reservation;
use crate::claims::Standing;
use crate::delivery::{Circumstances, Delivery};
use crate::events::{EnvelopeError, EnvelopeErrorKind};
use crate::head::{Head, Length, TokenField};
use crate::measure::{self, Arrived, Outcome};
use crate::refusal::{Refusal, RefusalKind};
use crate::source::Source;
use crate::token::Token;

impl Receiver {
    pub(super) async fn stages<S, B, E>(
        &self,
        head: &Head,
        body: S,
        arrived: Arrived,
    ) -> Result<Received, Refusal>
    where
        S: Stream<Item = Result<B, E>>,
        B: Buf,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let whole = async {
            let admitted = self.admit(head)?;
            let authenticated = admitted.authenticate(self).await?;
            authenticated.read(self, body).await
        };
        let whole = whole.await.map_err(|refusal| refusal.closing(head.needs_body_read()))?;
        let parsed = whole.parse(head)?;
        parsed.claim(self, arrived).await
    }

    /// All that can be decided without hashing or reading.
    fn admit<'h>(&self, head: &'h Head) -> Result<Admitted<'h>, Refusal> {
        if !head.is_post {
            return Err(RefusalKind::MethodNotAllowed.into());
        }
        let declared = match head.length {
            Length::Unreadable => return Err(RefusalKind::LengthUnreadable.into()),
            Length::Declared(bytes) if bytes > self.0.body.bytes => {
                return Err(RefusalKind::BodyTooLarge.into());
            }
            Length::Declared(bytes) => Some(bytes),
            Length::Absent => None,
        };
        let token = match &head.token {
            TokenField::Missing => return Err(RefusalKind::TokenMissing.into()),
            TokenField::Repeated => return Err(RefusalKind::TokenRepeated.into()),
            TokenField::Malformed(why) => {
                return Err(Refusal::with_detail(RefusalKind::TokenMalformed, *why));
            }
            TokenField::One(token) if token.cost() > self.0.max_cost => {
                let detail = format_args!("{} is above {}", token.cost(), self.0.max_cost).to_string();
                return Err(Refusal::with_detail(RefusalKind::TokenTooCostly, detail));
            }
            TokenField::One(token) if token.cost() < self.0.min_cost => {
                let detail = format_args!("{} is below {}", token.cost(), self.0.min_cost).to_string();
                return Err(Refusal::with_detail(RefusalKind::TokenTooCheap, detail));
            }
            TokenField::One(token) => token,
        };
        if self.is_draining() {
            return Err(RefusalKind::Draining.into());
        }
        Ok(Admitted { token, source: head.source, declared })
    }
}

/// A request whose head is in order.
struct Admitted<'h> {
    token: &'h Token,
    source: Option<Source>,
    declared: Option<u64>,
}

impl Admitted<'_> {
    /// The place at work is taken only now: strangers must not be able to occupy the places.
    async fn authenticate(self, receiver: &Receiver) -> Result<Authenticated, Refusal> {
        match receiver.0.verifier.verify(self.token, self.source).await {
            Ok(Some(secret)) => {
                Ok(Authenticated { declared: self.declared, place: receiver.take_place(secret)? })
            }
            Ok(None) => {
                let names = receiver.secret_names().join(", ");
                Err(Refusal::with_detail(RefusalKind::TokenUnmatched, names))
            }
            Err(busy) => {
                Err(Refusal::with_detail(RefusalKind::HashingBusy, busy.why).retry_around(busy.retry_in))
            }
        }
    }
}

/// A request of somebody who knows a secret, or at least a token of it.
struct Authenticated {
    declared: Option<u64>,
    place: Place,
}

impl Authenticated {
    async fn read<S, B, E>(self, receiver: &Receiver, body: S) -> Result<Whole, Refusal>
    where
        S: Stream<Item = Result<B, E>>,
        B: Buf,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let reservation = receiver.0.budget.reservation(self.place.secret().taken.clone());
        let (body, reservation) = body::read(body, self.declared, &receiver.0.body, reservation).await?;
        Ok(Whole { place: self.place, body, reservation })
    }
}

/// A request whose body has been read to its end.
struct Whole {
    place: Place,
    body: Bytes,
    reservation: Reservation,
}

impl Whole {
    /// On the async thread, however long the body is: parsing takes less time than receiving it did, and tokio's pool of
    /// blocking threads, which the application shares, may be full for as long as it likes.
    fn parse(self, head: &Head) -> Result<Parsed, Refusal> {
        let around = Circumstances {
            secret_name: Some(self.place.secret().shared_name()),
            webhook: self.place.secret().webhook_in_key(),
            traceparent: head.traceparent().map(Into::into),
            reservation: Some(self.reservation),
            ..Circumstances::default()
        };
        let delivery = Delivery::parse(self.body, around).map_err(|error| refusal(error, head))?;
        let secret = self.place.secret();
        let scope = if !secret.allows(delivery.kind()) {
            Some("events")
        } else if !secret.allows_owner(|| delivery.owner()) {
            Some("owners")
        } else {
            None
        };
        if let Some(scope) = scope {
            let detail = format!("{} is only for some {scope}", secret.name());
            return Err(Refusal::with_detail(RefusalKind::TokenOutOfScope, detail));
        }
        Ok(Parsed { delivery, place: self.place })
    }
}

fn refusal(error: EnvelopeError, head: &Head) -> Refusal {
    match (error.kind(), &head.content_coding, &head.foreign_charset) {
        (EnvelopeErrorKind::NotJson, Some(coding), _) => {
            Refusal::with_detail(RefusalKind::ContentCoding, coding)
        }
        (EnvelopeErrorKind::NotJson, None, Some(charset)) => {
            let detail = format_args!("{error}; its Content-Type says charset={charset}, and JSON is UTF-8")
                .to_string();
            Refusal::with_detail(RefusalKind::NotJson, detail)
        }
        (EnvelopeErrorKind::NotJson, None, None) => Refusal::with_detail(RefusalKind::NotJson, error),
        _ => Refusal::with_detail(RefusalKind::EnvelopeInvalid, error),
    }
}

/// A delivery, which may have been here before.
struct Parsed {
    delivery: Delivery,
    place: Place,
}

impl Parsed {
    async fn claim(self, receiver: &Receiver, arrived: Arrived) -> Result<Received, Refusal> {
        match receiver.0.claims.claim(self.delivery.key(), self.delivery.raw()).await? {
            Standing::New(claim) => {
                Ok(Received::New(Claimed::new(self.delivery, claim, self.place, arrived)))
            }
            Standing::Done(same_body) => {
                receiver.report().duplicate(&self.delivery, same_body);
                measure::ended(measure::Event::of(&self.delivery), Outcome::Duplicate, arrived);
                Ok(Received::Duplicate)
            }
            Standing::AtWork(waiter, same_body) => {
                // While it waits, a duplicate holds neither a place at work nor a body.
                drop(self.place);
                receiver.report().duplicate(&self.delivery, same_body);
                let event = measure::Event::of(&self.delivery);
                drop(self.delivery);
                Box::pin(waiter.wait()).await?;
                measure::ended(event, Outcome::Duplicate, arrived);
                Ok(Received::Duplicate)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn refused(method: &str, headers: &[(&str, &[u8])]) -> Option<RefusalKind> {
        let receiver = Receiver::new(Secret::generate().unwrap()).unwrap();
        let head = Head::read(method, headers.iter().copied());
        receiver.admit(&head).err().map(|refusal| refusal.kind())
    }

    #[test]
    fn admission_needs_no_runtime_and_hashes_nothing() {
        let token: (&str, &[u8]) =
            ("x-smartshape-token", b"$2b$10$abcdefghijklmnopqrstuuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYG");
        let costly: (&str, &[u8]) =
            ("x-smartshape-token", b"$2b$13$abcdefghijklmnopqrstuuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYG");
        assert_eq!(refused("POST", &[token]), None);
        assert_eq!(refused("GET", &[token]), Some(RefusalKind::MethodNotAllowed));
        assert_eq!(refused("post", &[token]), Some(RefusalKind::MethodNotAllowed));
        assert_eq!(refused("POST", &[]), Some(RefusalKind::TokenMissing));
        let dear: (&str, &[u8]) =
            ("x-smartshape-token", b"$2b$12$abcdefghijklmnopqrstuuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYG");
        assert_eq!(refused("POST", &[dear]), None);
        assert_eq!(refused("POST", &[costly]), Some(RefusalKind::TokenTooCostly));
        assert_eq!(refused("POST", &[token, costly]), Some(RefusalKind::TokenRepeated));
        assert_eq!(refused("POST", &[token, ("content-length", b"52428800")]), None);
        assert_eq!(
            refused("POST", &[token, ("content-length", b"52428801")]),
            Some(RefusalKind::BodyTooLarge)
        );
        assert_eq!(
            refused("POST", &[token, ("content-length", b"ten")]),
            Some(RefusalKind::LengthUnreadable)
        );
    }
}
