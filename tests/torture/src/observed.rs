//! What was sent, acknowledged and handled, as seen from outside.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use smartshape_fake::EventPayload;
use smartshape_webhook::RawJson;

/// Acknowledged events that a duplicate may be sent of.
const RECENT: usize = 64;

#[derive(Default)]
pub(crate) struct Observations(Mutex<Observed>);

#[derive(Default)]
pub(crate) struct Observed {
    /// Hash of the line that a handler prints for each sent event, by its uuid.
    sent: HashMap<String, u64>,
    pub(crate) acknowledged: HashSet<String>,
    recent: VecDeque<EventPayload>,
    /// How often each was handed to a handler.
    pub(crate) handled: HashMap<String, usize>,
    /// Lines that a kill has cut.
    pub(crate) torn: usize,
    pub(crate) requests: usize,
    pub(crate) duplicates: usize,
    /// Number of requests in flight.
    pub(crate) in_flight: usize,
    pub(crate) faults: Vec<String>,
}

impl Observations {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Observed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observed {
    pub(crate) fn sent(&self) -> usize {
        self.sent.len()
    }

    pub(crate) fn will_send(&mut self, event: &EventPayload) {
        self.sent.insert(event.uuid().to_owned(), hash(&line_of(event)));
    }

    pub(crate) fn acknowledge(&mut self, event: EventPayload) {
        self.acknowledged.insert(event.uuid().to_owned());
        self.recent.push_back(event);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }

    /// An event that was acknowledged not long ago.
    pub(crate) fn recent(&self, chosen: usize) -> Option<EventPayload> {
        self.recent.get(chosen.checked_rem(self.recent.len())?).cloned()
    }

    /// A line that a handler printed, with its line break unless a kill has cut it.
    pub(crate) fn record_line(&mut self, line: &[u8]) {
        let Some(line) = line.strip_suffix(b"\n") else {
            self.torn += 1;
            return;
        };
        match uuid_of(line).filter(|uuid| self.sent.get(uuid) == Some(&hash(line))) {
            Some(uuid) => *self.handled.entry(uuid).or_default() += 1,
            None => self.faults.push(format!(
                "a handler got what was never sent: {}…",
                String::from_utf8_lossy(&line[..line.len().min(200)])
            )),
        }
    }
}

/// Returns the uuid, which the fake writes as the last member of a body.
pub(crate) fn uuid_of(body: &[u8]) -> Option<String> {
    let end = body.strip_suffix(b"\"}")?;
    let start = end.iter().rposition(|byte| *byte == b'"')? + 1;
    String::from_utf8(end[start..].to_vec()).ok()
}

/// The line that a handler prints for an event.
fn line_of(event: &EventPayload) -> Vec<u8> {
    RawJson::parse(event.to_body()).map(|json| json.compact().into_bytes()).unwrap_or_default()
}

fn hash(line: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    line.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use smartshape_webhook::EventKind;

    #[test]
    fn handled_body_is_compared_byte_for_byte() {
        let (event, mut observed) = (EventPayload::sample(EventKind::FileUploaded), Observed::default());
        observed.will_send(&event);
        let mut line = line_of(&event);
        observed.record_line(&line);
        assert_eq!((observed.torn, observed.handled.len()), (1, 0));
        line.push(b'\n');
        observed.record_line(&line);
        assert_eq!((observed.handled[event.uuid()], observed.faults.len()), (1, 0));
        line[10] ^= 1;
        observed.record_line(&line);
        assert_eq!(observed.faults.len(), 1);
    }
}
