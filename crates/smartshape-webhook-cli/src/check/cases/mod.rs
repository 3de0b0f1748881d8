//! The table of cases. A new one is one entry.

mod accepts;
mod destructive;
mod rejects;

use smartshape_webhook::EventKind;

use super::fixture::Fixture;
use super::request::Request;

const MEGABYTE: usize = 1_000_000;

/// Destructive cases come last, so that a stopped endpoint hides no other result.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    [accepts::CASES, rejects::CASES, destructive::CASES].into_iter().flatten()
}

pub(crate) struct Case {
    /// The expected behavior; the case's name in the report.
    pub(crate) name: &'static str,
    /// What goes wrong at an endpoint that behaves otherwise.
    pub(crate) why: &'static str,
    /// Reported as a warning at most, because SmartShape is not known to send this.
    pub(crate) advice: bool,
    /// Runs with `--destructive` only.
    pub(crate) destructive: bool,
    pub(crate) scope: Scope,
    pub(crate) delivery: Delivery,
    /// Builds the requests, with events of this kind.
    pub(crate) requests: fn(&Fixture, EventKind) -> Vec<Request>,
}

/// The events of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Any event that the endpoint is registered for.
    AnyEvent,
    Event(EventKind),
    /// Only if the endpoint is registered for all events.
    AllEvents,
}

/// How the requests of a case are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// One after another, each on a connection of its own.
    Sequential,
    /// All at once.
    Concurrent,
    /// One after another on one connection.
    SameConnection,
    /// The last one while all others are in flight; only its reply is evaluated.
    LastDuringOthers,
}

const fn case(
    name: &'static str,
    why: &'static str,
    requests: fn(&Fixture, EventKind) -> Vec<Request>,
) -> Case {
    Case {
        name,
        why,
        advice: false,
        destructive: false,
        scope: Scope::AnyEvent,
        delivery: Delivery::Sequential,
        requests,
    }
}

impl Case {
    const fn advice(mut self) -> Self {
        self.advice = true;
        self
    }

    const fn destructive(mut self) -> Self {
        self.destructive = true;
        self
    }

    const fn for_event(mut self, kind: EventKind) -> Self {
        self.scope = Scope::Event(kind);
        self
    }

    const fn for_all_events(mut self) -> Self {
        self.scope = Scope::AllEvents;
        self
    }

    const fn delivery(mut self, delivery: Delivery) -> Self {
        self.delivery = delivery;
        self
    }
}

fn one(request: Request) -> Vec<Request> {
    vec![request]
}
