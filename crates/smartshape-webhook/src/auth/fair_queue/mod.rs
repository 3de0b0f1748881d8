//! The queue in which unknown tokens wait for a worker: start-time fair queueing.
//!
//! Goyal, Vin and Cheng, "Start-time Fair Queuing: A Scheduling Algorithm for Integrated Services Packet Switching
//! Networks", SIGCOMM 1996. A flow is a client address, a packet is a token, and its length is the work of hashing it.
//! Each token gets a *start tag*, the later of the queue's virtual time and the *finish tag* of its flow's previous
//! token; the smallest start tag is served first. A client that floods the queue therefore waits behind itself, and one
//! that has not been served for a while comes next. When the queue is full, the token with the largest tag is evicted.
//!
//! One difference from the paper: a token keeps the virtual time of its *first* arrival even after it has been
//! evicted. A sender that repeats its token moves forward with every attempt, while forgeries, each with a salt of
//! its own, are always new. So a sender gets in even where it shares its address with a forger, as behind a proxy.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};

use crate::auth::client_addr::ClientAddr;
use crate::cache::GenerationalCache;

/// Maximum number of waiting tokens, however little work each is.
pub(super) const MAX_WAITING: usize = 1024;
/// Capacity of the cache of first arrivals. The cache may hold up to twice as many, about 1.5 MB when a flood has
/// filled it. At 2,000 forgeries a second it covers the last 14 seconds at least, so a sender that retries within that
/// time keeps its start tag.
const ARRIVALS: usize = 28_672;
/// Capacity of the cache of finish tags.
const FLOWS: usize = 2048;

/// A start-time fair queue of tokens, each with an item `T`. Virtual time is measured in units of work.
pub(super) struct FairQueue<T> {
    /// Flows with at least one waiting token.
    flows: HashMap<Option<ClientAddr>, Flow<T>>,
    /// Outlives the flows, so that a client that sends one token after the other is charged for each of them.
    finish_tags: GenerationalCache<Option<ClientAddr>, u64>,
    /// First arrivals, by a hash of the token under a random key. They outlive the tokens, unlike in the paper.
    arrivals: GenerationalCache<u64, Arrival>,
    hasher: RandomState,
    /// The largest start tag that has been served.
    virtual_time: u64,
    last_arrival: u64,
    /// Number of waiting tokens, of all flows.
    waiting: usize,
    /// Total work of the tokens that wait or are being hashed.
    work: u64,
}

/// The waiting tokens of one client, by first arrival. Never empty.
struct Flow<T> {
    waiting: BTreeMap<u64, QueuedToken<T>>,
    finish_tag: u64,
    /// Total work of the waiting tokens.
    work: u64,
}

struct QueuedToken<T> {
    item: T,
    /// Virtual time of the token's first arrival.
    arrived_at: u64,
    work: u64,
}

/// A token's first arrival.
#[derive(Clone, Copy)]
struct Arrival {
    number: u64,
    /// Virtual time of the arrival.
    at: u64,
}

/// A start tag, and the number of the arrival to break ties: no two are equal.
type Tag = (u64, u64);

impl<T> FairQueue<T> {
    pub(super) fn new() -> Self {
        Self {
            flows: HashMap::new(),
            finish_tags: GenerationalCache::new(FLOWS),
            arrivals: GenerationalCache::new(ARRIVALS),
            hasher: RandomState::new(),
            virtual_time: 0,
            last_arrival: 0,
            waiting: 0,
            work: 0,
        }
    }

    /// Adds a token. It must not be in the queue already: the caller lets requests with equal tokens share one entry.
    /// `capacity` is the work that may be ahead of a token. Returns the items evicted for lack of capacity, perhaps the
    /// new one among them.
    pub(super) fn push(
        &mut self,
        token: &[u8],
        client: Option<ClientAddr>,
        work: u64,
        item: T,
        capacity: u64,
    ) -> Vec<T> {
        let arrival = self.first_arrival(token);
        let finish_tags = &mut self.finish_tags;
        let flow = self.flows.entry(client).or_insert_with(|| {
            let finish_tag = finish_tags.get(&client).map_or(0, |(tag, _)| tag);
            Flow { waiting: BTreeMap::new(), finish_tag, work: 0 }
        });
        flow.waiting.insert(arrival.number, QueuedToken { item, arrived_at: arrival.at, work });
        flow.work += work;
        self.work += work;
        self.waiting += 1;
        let mut evicted = Vec::new();
        while let Some(client) = self.over_capacity(capacity) {
            evicted.extend(self.evict_last(client));
        }
        evicted
    }

    /// Removes the token with the smallest start tag if `is_allowed` for its client. Returns its item and its work. The
    /// work counts against the capacity until [`complete`](Self::complete), since a new token has to wait for it as
    /// well.
    pub(super) fn pop(
        &mut self,
        capacity: u64,
        is_allowed: impl FnOnce(Option<ClientAddr>) -> bool,
    ) -> Option<(T, u64)> {
        let earliest = self.virtual_time.saturating_sub(capacity);
        let (client, flow) = self.flows.iter_mut().min_by_key(|(_, flow)| flow.first_tag(earliest))?;
        let (client, (start_tag, _)) = (*client, flow.first_tag(earliest));
        if !is_allowed(client) {
            return None;
        }
        let (_, first) = flow.waiting.pop_first()?;
        flow.work -= first.work;
        flow.finish_tag = start_tag + first.work;
        self.virtual_time = self.virtual_time.max(start_tag);
        self.finish_tags.insert(client, flow.finish_tag);
        self.waiting -= 1;
        if flow.waiting.is_empty() {
            self.flows.remove(&client);
        }
        Some((first.item, first.work))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Whether a token of a client other than this one waits.
    pub(super) fn has_other_flow(&self, client: Option<ClientAddr>) -> bool {
        self.flows.keys().any(|waiting| *waiting != client)
    }

    /// Subtracts the work of a token that has been hashed.
    pub(super) fn complete(&mut self, work: u64) {
        self.work = self.work.saturating_sub(work);
    }

    fn first_arrival(&mut self, token: &[u8]) -> Arrival {
        let hash = self.hasher.hash_one(token);
        if let Some((arrival, _)) = self.arrivals.get(&hash) {
            return arrival;
        }
        self.last_arrival += 1;
        let arrival = Arrival { number: self.last_arrival, at: self.virtual_time };
        self.arrivals.insert(hash, arrival);
        arrival
    }

    /// The client whose last token has the largest tag of all, if more than `capacity` is ahead of that token.
    fn over_capacity(&self, capacity: u64) -> Option<Option<ClientAddr>> {
        if self.work <= capacity && self.waiting <= MAX_WAITING {
            return None;
        }
        let earliest = self.virtual_time.saturating_sub(capacity);
        let (client, flow) = self.flows.iter().max_by_key(|(_, flow)| flow.last_tag(earliest))?;
        let (_, last) = flow.waiting.last_key_value()?;
        (self.work - last.work > capacity || self.waiting > MAX_WAITING).then_some(*client)
    }

    /// Removes the last token of a client.
    fn evict_last(&mut self, client: Option<ClientAddr>) -> Option<T> {
        let flow = self.flows.get_mut(&client)?;
        let (_, last) = flow.waiting.pop_last()?;
        flow.work -= last.work;
        self.work -= last.work;
        self.waiting -= 1;
        if flow.waiting.is_empty() {
            self.flows.remove(&client);
        }
        Some(last.item)
    }
}

impl<T> Flow<T> {
    fn first_tag(&self, earliest: u64) -> Tag {
        match self.waiting.first_key_value() {
            Some((arrival, first)) => (self.start_tag(first, earliest), *arrival),
            None => (u64::MAX, u64::MAX),
        }
    }

    /// The start tag of the flow's last token: that of its first, plus the work of all tokens before the last.
    fn last_tag(&self, earliest: u64) -> Tag {
        match (self.waiting.first_key_value(), self.waiting.last_key_value()) {
            (Some((_, first)), Some((arrival, last))) => {
                (self.start_tag(first, earliest) + self.work - last.work, *arrival)
            }
            _ => (0, 0),
        }
    }

    /// The start tag of the flow's first token. An arrival before `earliest` counts as `earliest`: otherwise a client
    /// that collects early arrivals could hold up all others for as long as it has collected.
    fn start_tag(&self, first: &QueuedToken<T>, earliest: u64) -> u64 {
        self.finish_tag.max(first.arrived_at).max(earliest)
    }
}

#[cfg(test)]
mod tests;
