//! The twin of `on` that measures nothing.

use super::{Drift, Outcome};
use crate::delivery::Delivery;
use crate::refusal::RefusalKind;
use crate::verify::Verdict;

#[inline]
pub(crate) fn describe() {}

#[derive(Clone, Copy)]
pub(crate) struct Arrived;

impl Arrived {
    #[inline]
    pub(crate) fn now() -> Self {
        Self
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Event;

impl Event {
    #[inline]
    pub(crate) fn of(_: &Delivery) -> Self {
        Self
    }
}

#[inline]
pub(crate) fn ended(_: Event, _: Outcome, _: Arrived) {}

#[inline]
pub(crate) fn refused(_: RefusalKind) {}

#[inline]
pub(crate) fn differing_duplicate() {}

#[inline]
pub(crate) fn drifted(_: Drift) {}

#[inline]
pub(crate) fn tokens_evicted(_: Verdict, _: usize) {}

#[inline]
pub(crate) fn keys_evicted(_: usize) {}

#[derive(Debug)]
pub(crate) struct Share;

impl Share {
    #[inline]
    pub(crate) fn add(&mut self, _: u64) {}
}

#[inline]
pub(crate) fn at_work() -> Share {
    Share
}

#[inline]
pub(crate) fn reserved_bytes() -> Share {
    Share
}

pub(crate) struct WaitingToken;

impl WaitingToken {
    #[inline]
    pub(crate) fn new() -> Self {
        Self
    }

    #[inline]
    pub(crate) fn begin(self) -> HashingToken {
        HashingToken
    }
}

pub(crate) struct HashingToken;

impl HashingToken {
    #[inline]
    pub(crate) fn end(self) {}
}
