//! The requests of a case, and the responses that they expect.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Method};
use hyper::body::{Body, Frame, SizeHint};

/// The expected response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Accepted by SmartShape's three rules.
    Accepted,
    /// Accepted. A status of 409, 425, 429 or 503, which defers the delivery, is only advice.
    AcceptedOrDeferred,
    /// Accepted on the connection of the previous request; a new connection is only advice.
    AcceptedOnThisConnection,
    /// A status from 400 to 499.
    Rejected,
    /// A status from 400 to 499 before the body is sent; waiting for the body is only advice.
    RejectedWithoutTheBody,
    /// A status from 400 to 499, or 501; a success other than SmartShape's is only advice, since the endpoint may serve
    /// that method.
    MethodRejected,
    /// Any response. Its time is the baseline for `NotHashed`.
    ImmediateResponse,
    /// Any response, about as fast as `ImmediateResponse`; the token has this cost.
    NotHashed(u32),
    /// Any response.
    AnyResponse,
    /// Any response or none: the case evaluates other requests.
    Anything,
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The request's name within the case; may be empty.
    pub(crate) what: String,
    pub(crate) method: Method,
    pub(crate) tokens: Vec<HeaderValue>,
    pub(crate) content_type: &'static str,
    /// Sends header names as `X-Smartshape-Token` rather than in lower case.
    pub(crate) title_case: bool,
    pub(crate) body: Outgoing,
    pub(crate) expect: Expect,
}

impl Request {
    /// A POST as SmartShape sends it, but without a token.
    pub(crate) fn new(body: impl Into<Bytes>, expect: Expect) -> Self {
        Self {
            what: String::new(),
            method: Method::POST,
            tokens: Vec::new(),
            content_type: "application/json",
            title_case: false,
            body: Outgoing::whole(body.into()),
            expect,
        }
    }

    pub(crate) fn what(mut self, what: impl Into<String>) -> Self {
        self.what = what.into();
        self
    }

    /// Adds a token header.
    pub(crate) fn token(mut self, token: impl Into<Bytes>) -> Self {
        // A test of the table ensures that every token is valid in a header.
        self.tokens.extend(HeaderValue::from_maybe_shared(token.into()));
        self
    }

    pub(crate) fn expect(mut self, expect: Expect) -> Self {
        self.expect = expect;
        self
    }
}

/// A request body: whole, chunked, or never completed.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    parts: VecDeque<Bytes>,
    /// The `Content-Length`; `None` for a chunked body.
    length: Option<u64>,
    /// The body never ends.
    stalls: bool,
}

impl Outgoing {
    pub(crate) fn whole(body: Bytes) -> Self {
        Self { length: Some(body.len() as u64), parts: VecDeque::from([body]), stalls: false }
    }

    /// In chunks of this many bytes.
    pub(crate) fn chunked(body: &Bytes, size: usize) -> Self {
        let parts = body.chunks(size).map(|part| body.slice_ref(part)).collect();
        Self { parts, length: None, stalls: false }
    }

    /// Declares a length and sends nothing.
    pub(crate) fn withheld(length: u64) -> Self {
        Self { parts: VecDeque::new(), length: Some(length), stalls: true }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.parts.pop_front() {
            Some(part) => Poll::Ready(Some(Ok(Frame::data(part)))),
            None if self.stalls => Poll::Pending,
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.parts.iter().all(Bytes::is_empty) && !self.stalls
    }

    fn size_hint(&self) -> SizeHint {
        // hyper reads the Content-Length from this hint before it takes the first part.
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
