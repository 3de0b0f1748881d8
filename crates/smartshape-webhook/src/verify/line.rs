//! The line in which unknown tokens wait: whose turn it is, and who is sent away when it is too long.
//!
//! Sources take turns, by what their tokens cost (start-time fair queueing): a source that floods the line waits
//! behind itself, and a quiet one is next. Within a source, and between sources of equal right, whoever *first asked*
//! earlier goes first, also when it was sent away since: a sender that repeats its token moves up, while
//! forgeries, each with a salt of its own, are always new.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};

use crate::bounded::Bounded;
use crate::source::Source;

/// Tokens that may wait, however short each would take.
pub(super) const MAX_WAITING: usize = 1024;
/// Tokens whose first asking is remembered for certain, and up to as many older ones: some 1.5 MB when a flood has
/// filled it. At 2,000 forgeries a second that is 14 seconds at least, within which a sender has to come again to
/// keep its place.
const PLACES: usize = 28_672;
/// Sources of which is remembered for certain what they were served.
const SOURCES: usize = 2048;

/// Time in here is virtual: the units that each source with waiting tokens has been served.
pub(super) struct Line<T> {
    lanes: HashMap<Option<Source>, Lane<T>>,
    /// Until when each source is served.
    served: Bounded<Option<Source>, u64>,
    places: Bounded<u64, Place>,
    names: RandomState,
    /// The start of what was begun last.
    now: u64,
    arrivals: u64,
    waiting: usize,
    /// Of all that wait or are at work.
    units: u64,
}

/// The waiting tokens of one source, by when they were first asked for. Never empty.
struct Lane<T> {
    waiting: BTreeMap<u64, Waiting<T>>,
    served: u64,
    units: u64,
}

struct Waiting<T> {
    item: T,
    since: u64,
    units: u64,
}

/// A token's place in line: that of its first asking.
#[derive(Clone, Copy)]
struct Place {
    arrival: u64,
    since: u64,
}

/// When a token's turn comes. Arrivals differ, so no two are equal.
type Turn = (u64, u64);

impl<T> Line<T> {
    pub(super) fn new() -> Self {
        Self {
            lanes: HashMap::new(),
            served: Bounded::new(SOURCES),
            places: Bounded::new(PLACES),
            names: RandomState::new(),
            now: 0,
            arrivals: 0,
            waiting: 0,
            units: 0,
        }
    }

    /// Puts a token that is not in line into it. `room` is how many units may be ahead of a token. Returns those
    /// that are sent away for lack of room, the newcomer perhaps among them.
    pub(super) fn enter(
        &mut self,
        token: &[u8],
        source: Option<Source>,
        units: u64,
        item: T,
        room: u64,
    ) -> Vec<T> {
        let place = self.place(token);
        let served = &mut self.served;
        let lane = self.lanes.entry(source).or_insert_with(|| {
            let served = served.get(&source).map_or(0, |(until, _)| until);
            Lane { waiting: BTreeMap::new(), served, units: 0 }
        });
        lane.waiting.insert(place.arrival, Waiting { item, since: place.since, units });
        lane.units += units;
        self.units += units;
        self.waiting += 1;
        let mut sent_away = Vec::new();
        while let Some(last) = self.last_beyond(room) {
            sent_away.extend(self.remove(last));
        }
        sent_away
    }

    /// Whose turn it is, with its units. They count until [`done`](Self::done).
    pub(super) fn next(&mut self, room: u64) -> Option<(T, u64)> {
        let earliest = self.now.saturating_sub(room);
        let (source, lane) = self.lanes.iter_mut().min_by_key(|(_, lane)| lane.first_turn(earliest))?;
        let (source, (start, _)) = (*source, lane.first_turn(earliest));
        let (_, first) = lane.waiting.pop_first()?;
        lane.units -= first.units;
        lane.served = start + first.units;
        self.now = self.now.max(start);
        self.served.insert(source, lane.served);
        self.waiting -= 1;
        if lane.waiting.is_empty() {
            self.lanes.remove(&source);
        }
        Some((first.item, first.units))
    }

    /// Whether a token of another source than this one waits.
    pub(super) fn has_other_than(&self, source: Option<Source>) -> bool {
        self.lanes.keys().any(|waiting| *waiting != source)
    }

    /// Some units are no longer at work.
    pub(super) fn done(&mut self, units: u64) {
        self.units = self.units.saturating_sub(units);
    }

    fn place(&mut self, token: &[u8]) -> Place {
        let name = self.names.hash_one(token);
        if let Some((place, _)) = self.places.get(&name) {
            return place;
        }
        self.arrivals += 1;
        let place = Place { arrival: self.arrivals, since: self.now };
        self.places.insert(name, place);
        place
    }

    /// The source whose youngest token is the last of all, when more than `room` is ahead of that.
    fn last_beyond(&self, room: u64) -> Option<Option<Source>> {
        if self.units <= room && self.waiting <= MAX_WAITING {
            return None;
        }
        let earliest = self.now.saturating_sub(room);
        let (source, lane) = self.lanes.iter().max_by_key(|(_, lane)| lane.last_turn(earliest))?;
        let (_, youngest) = lane.waiting.last_key_value()?;
        (self.units - youngest.units > room || self.waiting > MAX_WAITING).then_some(*source)
    }

    /// Takes a source's youngest token out of the line.
    fn remove(&mut self, source: Option<Source>) -> Option<T> {
        let lane = self.lanes.get_mut(&source)?;
        let (_, youngest) = lane.waiting.pop_last()?;
        lane.units -= youngest.units;
        self.units -= youngest.units;
        self.waiting -= 1;
        if lane.waiting.is_empty() {
            self.lanes.remove(&source);
        }
        Some(youngest.item)
    }
}

impl<T> Lane<T> {
    fn first_turn(&self, earliest: u64) -> Turn {
        match self.waiting.first_key_value() {
            Some((arrival, first)) => (self.start(first, earliest), *arrival),
            None => (u64::MAX, u64::MAX),
        }
    }

    fn last_turn(&self, earliest: u64) -> Turn {
        match (self.waiting.first_key_value(), self.waiting.last_key_value()) {
            (Some((_, first)), Some((arrival, last))) => {
                (self.start(first, earliest) + self.units - last.units, *arrival)
            }
            _ => (0, 0),
        }
    }

    /// When the lane's first token may begin: a place kept since long ago counts as `earliest`, or somebody who
    /// hoards places could hold everybody up for as long as they hoarded.
    fn start(&self, first: &Waiting<T>, earliest: u64) -> u64 {
        self.served.max(first.since).max(earliest)
    }
}

#[cfg(test)]
mod tests;
