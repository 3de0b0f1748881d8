//! SmartShape webhooks for actix-web (unofficial).
//!
//! Two doors:
//!
//! - [`endpoint()`]: a whole route with one handler. The recommended one: the handler runs to its
//!   end when the sender hangs up.
//! - [`Webhook<E>`](Webhook): an extractor for a handler of your own, which answers with
//!   [`Webhook::acknowledge`].
//!
//! Both answer every request by the core's one table. Call [`Receiver::drain`] before you stop
//! the server.
//!
//! # Crate features
//!
//! - `metrics` (off): what is measured goes to the recorder that the program installs. The
//!   documentation of `smartshape-webhook` lists names and labels.
//!
//! # Where requests come from
//!
//! While many unknown tokens wait to be checked, each [`Source`] gets its turn. It is the peer's address,
//! unless a `Source` stands in the request's extensions: behind a proxy, put there what it says.
//!
//! # Caveats
//!
//! - Build one receiver outside the closure of `HttpServer::new`. One built inside is one for
//!   each worker, and each knows only the deliveries that it has seen.
//! - `Option<Webhook<E>>` and `Result<Webhook<E>, _>` swallow refusals.
//! - A body that is broken in its framing (a `Content-Length` that is no number) is answered by
//!   actix-web, with an empty 400. `Expect: 100-continue` is answered by it before any handler is
//!   called, so such a sender is invited to send its body before it is refused.

mod convert;
mod endpoint;
mod extractor;

#[doc(no_inline)]
pub use smartshape_webhook::*;

pub use endpoint::endpoint;
pub use extractor::{Acknowledgement, Webhook, WebhookError};
