//! The table of cases. A new one is one entry.

mod accepts;
mod harsh;
mod rejects;

use smartshape_webhook::EventKind;

use super::kit::Kit;
use super::request::Request;

const MEGABYTE: usize = 1_000_000;

/// Harmless ones first, so that what stops an endpoint hides nothing.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    [accepts::CASES, rejects::CASES, harsh::CASES].into_iter().flatten()
}

pub(crate) struct Case {
    /// What the endpoint does when all is well.
    pub(crate) name: &'static str,
    /// What happens when it does not.
    pub(crate) why: &'static str,
    /// It could not be proven a fault, or breaks nothing: at most a warning.
    pub(crate) advice: bool,
    /// It may stop an endpoint, or the machine below it.
    pub(crate) harsh: bool,
    pub(crate) of: Of,
    pub(crate) way: Way,
    /// The requests, of this kind of event where it is not another's.
    pub(crate) requests: fn(&Kit, EventKind) -> Vec<Request>,
}

/// The events that a case is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// Any that the endpoint takes.
    Any,
    One(EventKind),
    /// Only where the endpoint takes all that comes.
    All,
}

/// How the requests of a case are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// One after another, each on a connection of its own.
    Apart,
    /// All at once.
    AtOnce,
    /// One after another on one connection.
    OnOneConnection,
    /// The last one while all others are under way.
    LastBesideOthers,
}

const fn case(name: &'static str, why: &'static str, requests: fn(&Kit, EventKind) -> Vec<Request>) -> Case {
    Case { name, why, advice: false, harsh: false, of: Of::Any, way: Way::Apart, requests }
}

impl Case {
    const fn advice(mut self) -> Self {
        self.advice = true;
        self
    }

    const fn harsh(mut self) -> Self {
        self.harsh = true;
        self
    }

    const fn of(mut self, kind: EventKind) -> Self {
        self.of = Of::One(kind);
        self
    }

    const fn of_all(mut self) -> Self {
        self.of = Of::All;
        self
    }

    const fn way(mut self, way: Way) -> Self {
        self.way = way;
        self
    }
}

fn one(request: Request) -> Vec<Request> {
    vec![request]
}
