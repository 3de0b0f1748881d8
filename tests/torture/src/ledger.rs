//! Compares what the store wrote down with what was seen from outside.

use std::collections::{HashMap, HashSet};

use crate::observed::{Observed, uuid_of};
use crate::store::{Change, Event};

const WAITING: i64 = 0;
const RUNNING: i64 = 1;
pub(crate) const COMPLETED: i64 = 2;
const DEAD_LETTER: i64 = 3;
/// The default of the inbox, which the example leaves as it is.
const MAX_LOST_LEASES: usize = 3;

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) attempts: usize,
    /// Attempts at events whose lease was lost before.
    pub(crate) repeated_attempts: usize,
    /// Events that were running at three kills.
    pub(crate) dead_letters: usize,
}

/// What happened to one event.
#[derive(Default)]
struct History {
    starts: usize,
    lost: usize,
    completions: usize,
}

/// Everything must fit together; what does not is a fault.
pub(crate) fn check(observed: &Observed, events: &[Event], changes: &[Change]) -> (Counts, Vec<String>) {
    let mut faults = observed.faults.clone();
    let mut of_event: HashMap<i64, Vec<&Change>> = HashMap::new();
    for change in changes {
        of_event.entry(change.seq).or_default().push(change);
    }
    let (mut counts, mut known) = (Counts::default(), HashSet::new());
    for event in events {
        let uuid = &event.uuid;
        let changes = of_event.remove(&event.seq).unwrap_or_default();
        if !known.insert(uuid.as_str()) {
            faults.push(format!("{uuid} is stored twice"));
        }
        let history = follow(event, &changes, &mut faults);
        counts.attempts += history.starts;
        counts.repeated_attempts += history.starts.saturating_sub(1);
        let handled = observed.handled.get(uuid).copied().unwrap_or(0);
        if handled > history.starts {
            faults.push(format!("{uuid} was handled {handled} times in {} attempts", history.starts));
        }
        match event.state {
            COMPLETED if handled == 0 => faults.push(format!("{uuid} was completed, but no handler saw it")),
            COMPLETED if history.completions != 1 => {
                faults.push(format!("{uuid} was completed {} times", history.completions));
            }
            COMPLETED => {}
            DEAD_LETTER => {
                counts.dead_letters += 1;
                let allowed = history.lost == MAX_LOST_LEASES && event.lost == MAX_LOST_LEASES as i64;
                if !allowed {
                    faults.push(format!("{uuid} is dead after {} lost leases", history.lost));
                }
                if event.body.as_deref().and_then(uuid_of).as_ref() != Some(uuid) {
                    faults.push(format!("{uuid} is dead, and its body is gone"));
                }
            }
            state => faults.push(format!("{uuid} is stuck in state {state}")),
        }
    }
    faults.extend(of_event.keys().map(|seq| format!("the event of number {seq} has vanished")));
    let missing = observed.acknowledged.iter().filter(|uuid| !known.contains(uuid.as_str()));
    faults.extend(missing.map(|uuid| format!("{uuid} was acknowledged and is not in the store")));
    let foreign = observed.handled.keys().filter(|uuid| !known.contains(uuid.as_str()));
    faults.extend(foreign.map(|uuid| format!("{uuid} was handled and is not in the store")));
    (counts, faults)
}

fn follow(event: &Event, changes: &[&Change], faults: &mut Vec<String>) -> History {
    let mut history = History::default();
    let mut before: Option<&Change> = None;
    let steps = || changes.iter().map(|change| (change.old, change.new, change.fence)).collect::<Vec<_>>();
    let mut fault = |text: &str| {
        faults.push(format!("{}: {text}; (old, new, fence) were {:?}", event.uuid, steps()));
    };
    for change in changes {
        let fence = before.map_or(0, |before| before.fence);
        if change.old != before.map(|before| before.new) || change.key != event.key {
            fault("a change does not follow the one before");
        }
        if change.old == Some(COMPLETED) {
            fault("something happened after its completion");
        }
        let fits = match (change.old, change.new) {
            (None, WAITING) => change.fence == 0 && change.attempts == 0,
            (Some(WAITING | RUNNING), RUNNING) => {
                history.starts += 1;
                change.fence == fence + 1 && change.attempts == history.starts as i64
            }
            (Some(RUNNING), COMPLETED) => {
                history.completions += 1;
                change.fence == fence
            }
            (Some(RUNNING), DEAD_LETTER) => change.fence == fence,
            _ => false,
        };
        if !fits {
            fault("a change that must not be");
        }
        if change.old == Some(RUNNING) && matches!(change.new, RUNNING | DEAD_LETTER) {
            history.lost += 1;
        }
        before = Some(change);
    }
    if before.map(|before| before.new) != Some(event.state) {
        fault("its state is not the one that was written down last");
    }
    history
}

#[cfg(test)]
mod tests {
    use smartshape_fake::EventPayload;
    use smartshape_webhook::EventKind;

    use super::*;

    /// An event that was acknowledged and took these steps from state to state, with these fences.
    fn faults_of(state: i64, steps: &[(i64, i64)], handled: usize) -> Vec<String> {
        let payload = EventPayload::sample(EventKind::FileUploaded);
        let (uuid, mut observed) = (payload.uuid().to_owned(), Observed::default());
        let (body, key) = (payload.to_body().to_vec(), vec![1]);
        observed.will_send(&payload);
        observed.acknowledge(payload);
        if handled > 0 {
            observed.handled.insert(uuid.clone(), handled);
        }
        let (mut changes, mut old, mut attempts) = (Vec::new(), None, 0);
        for (new, fence) in steps {
            attempts += i64::from(*new == RUNNING);
            changes.push(Change { seq: 1, key: key.clone(), old, new: *new, fence: *fence, attempts });
            old = Some(*new);
        }
        let body = (state != COMPLETED).then_some(body);
        let event = Event { seq: 1, key, uuid, state, lost: 3, body };
        check(&observed, &[event], &changes).1
    }

    #[test]
    fn consistent_ledger_passes() {
        assert_eq!(faults_of(2, &[(0, 0), (1, 1), (2, 1)], 1), [""; 0]);
        assert_eq!(faults_of(2, &[(0, 0), (1, 1), (1, 2), (2, 2)], 2), [""; 0]);
        assert_eq!(faults_of(3, &[(0, 0), (1, 1), (1, 2), (1, 3), (3, 3)], 0), [""; 0]);
    }

    #[test]
    fn inconsistent_ledger_is_a_fault() {
        // Started after its completion; by a completed one's fence; completed without a handler;
        // completed twice; handled more often than started; stuck; dead too early; fence not grown.
        for (state, steps, handled) in [
            (2, vec![(0, 0), (1, 1), (2, 1), (1, 2), (2, 2)], 2),
            (2, vec![(0, 0), (1, 1), (1, 2), (2, 1)], 1),
            (2, vec![(0, 0), (1, 1), (2, 1)], 0),
            (2, vec![(0, 0), (1, 1), (2, 1), (2, 1)], 1),
            (2, vec![(0, 0), (1, 1), (2, 1)], 2),
            (1, vec![(0, 0), (1, 1)], 1),
            (0, vec![(0, 0)], 0),
            (3, vec![(0, 0), (1, 1), (1, 2), (3, 2)], 0),
            (2, vec![(0, 0), (1, 1), (1, 1), (2, 1)], 1),
            (2, vec![(0, 0), (1, 1)], 1),
        ] {
            assert!(!faults_of(state, &steps, handled).is_empty(), "{state} {steps:?}");
        }
    }

    #[test]
    fn lost_acknowledged_event_is_a_fault() {
        let mut observed = Observed::default();
        observed.acknowledge(EventPayload::sample(EventKind::FileUploaded));
        let (_, faults) = check(&observed, &[], &[]);
        assert!(faults[0].ends_with("was acknowledged and is not in the store"), "{faults:?}");
    }
}
