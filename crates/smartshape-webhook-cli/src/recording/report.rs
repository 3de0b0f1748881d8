//! Evaluates a recording: how SmartShape makes its tokens, retries, and orders events.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;

use serde::Serialize;
use serde::de::IgnoredAny;

use super::format::{Entry, EventFields, RecordingHeader, VERSION};

/// An entry without its body, which the report does not need.
type BodylessEntry = Entry<IgnoredAny>;

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(super) listeners: usize,
    pub(super) deliveries: usize,
    /// Distinct uuids.
    pub(super) events: usize,
    /// Deliveries whose body is no event.
    pub(super) no_events: usize,
    /// Lines that cannot be parsed.
    pub(super) left_out: usize,
    pub(super) tokens: Vec<TokenForm>,
    pub(super) salt: SaltPattern,
    /// One for each listener and event.
    pub(super) webhooks: Vec<Webhook>,
    pub(super) retries: Retries,
    pub(super) order: ArrivalOrder,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct TokenForm {
    pub(super) prefix: String,
    pub(super) cost: u32,
    pub(super) deliveries: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct Webhook {
    pub(super) listener: usize,
    pub(super) event: String,
    pub(super) deliveries: usize,
    pub(super) events: usize,
    pub(super) salts: usize,
    pub(super) salt: SaltPattern,
    /// Another webhook of the same listener has one of its salts. All webhooks of a listener have the same secret.
    pub(super) shares_salt: bool,
}

/// How often a webhook's salt, and with it its token, changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SaltPattern {
    /// Too few deliveries to tell.
    Unknown,
    /// All deliveries have the same salt.
    Fixed,
    /// Each event has its own salt. No event was retried, so the salt of retries is unknown.
    FreshForEachEvent,
    /// Each event has its own salt, which its retries repeat.
    FreshForEachEventKeptByRetries,
    /// Each delivery has its own salt, including retries.
    FreshForEachDelivery,
    /// None of the above.
    Mixed,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Retries {
    pub(super) uuid: RetryUuid,
    /// Events that were delivered more than once.
    pub(super) repeated: usize,
    pub(super) most_deliveries_of_one: usize,
    /// Events with content and runTimestamp of an earlier one, but another uuid.
    pub(super) renamed: usize,
    /// Events with the content of an earlier one, but another runTimestamp and uuid: retries, or similar events.
    pub(super) alike: usize,
    pub(super) rejected_deliveries: usize,
    /// Deliveries of an event that was accepted before.
    pub(super) repeated_after_acceptance: usize,
    /// Events whose last delivery was rejected.
    pub(super) given_up: usize,
    pub(super) gaps: Vec<Gap>,
}

/// Whether a retry has the uuid of the first attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RetryUuid {
    /// There were no retries.
    #[default]
    Unknown,
    Repeated,
    New,
    Mixed,
}

/// The time between two consecutive deliveries of a uuid.
#[derive(Debug, Serialize)]
pub(super) struct Gap {
    /// The number of the later delivery, from 2.
    pub(super) delivery: usize,
    pub(super) events: usize,
    pub(super) shortest_ms: u64,
    pub(super) median_ms: u64,
    pub(super) longest_ms: u64,
}

/// Whether events come in the order of their runTimestamp.
#[derive(Debug, Serialize)]
pub(super) struct ArrivalOrder {
    /// First deliveries that have a runTimestamp.
    pub(super) events: usize,
    /// First deliveries that arrived after an event with a later runTimestamp.
    pub(super) late: usize,
}

impl Report {
    /// # Errors
    ///
    /// In words, when the text cannot be read or is no recording.
    pub(crate) fn read(text: impl BufRead) -> Result<Self, String> {
        let (mut listeners, mut left_out) = (0, 0);
        let mut entries: Vec<(usize, BodylessEntry)> = Vec::new();
        for line in text.split(b'\n') {
            let line = line.map_err(|error| format!("cannot be read: {error}"))?;
            if let Ok(header) = serde_json::from_slice::<RecordingHeader>(&line) {
                if header.version != VERSION {
                    return Err("is of another version of this program: inspect it with that one".to_owned());
                }
                listeners += 1;
            } else if let Ok(entry) = serde_json::from_slice(&line)
                && listeners > 0
            {
                entries.push((listeners, entry));
            } else if !line.is_empty() {
                left_out += 1;
            }
        }
        if listeners == 0 {
            return Err("is no recording: make one with `smartshape webhook listen --record FILE`".to_owned());
        }
        // Entries are written in the order of their responses.
        entries.sort_by_key(|(listener, entry)| (*listener, entry.received_ms));
        Ok(Self::from_entries(listeners, left_out, &entries))
    }

    fn from_entries(listeners: usize, left_out: usize, entries: &[(usize, BodylessEntry)]) -> Self {
        let mut by_webhook: BTreeMap<(usize, &str), Vec<RecordedDelivery<'_>>> = BTreeMap::new();
        for (listener, entry) in entries {
            if let Some(named) = &entry.event {
                by_webhook
                    .entry((*listener, &named.event))
                    .or_default()
                    .push(RecordedDelivery { entry, named });
            }
        }
        let webhooks = webhooks(&by_webhook);
        Self {
            listeners,
            deliveries: entries.len(),
            events: webhooks.iter().map(|webhook| webhook.events).sum(),
            no_events: entries.iter().filter(|(_, entry)| entry.event.is_none()).count(),
            left_out,
            tokens: tokens(entries),
            salt: overall_salt_pattern(&webhooks),
            webhooks,
            retries: retries(&by_webhook),
            order: arrival_order(entries),
        }
    }
}

/// A delivery of an event.
#[derive(Clone, Copy)]
struct RecordedDelivery<'a> {
    entry: &'a BodylessEntry,
    named: &'a EventFields<IgnoredAny>,
}

impl RecordedDelivery<'_> {
    fn accepted(&self) -> bool {
        self.entry.status == 200
    }
}

fn tokens(entries: &[(usize, BodylessEntry)]) -> Vec<TokenForm> {
    let mut forms = BTreeMap::new();
    for (_, entry) in entries {
        *forms.entry((entry.token.prefix.clone(), entry.token.cost)).or_insert(0) += 1;
    }
    let forms = forms.into_iter();
    forms.map(|((prefix, cost), deliveries)| TokenForm { prefix, cost, deliveries }).collect()
}

fn webhooks(by_webhook: &BTreeMap<(usize, &str), Vec<RecordedDelivery<'_>>>) -> Vec<Webhook> {
    let salts = |sent: &[RecordedDelivery<'_>]| -> BTreeSet<String> {
        sent.iter().map(|one| one.entry.token.salt.clone()).collect()
    };
    let mut webhooks = Vec::new();
    for (&(listener, event), sent) in by_webhook {
        let own = salts(sent);
        let shares_salt = by_webhook.iter().any(|(&(of_listener, of_event), sent)| {
            of_listener == listener && of_event != event && !own.is_disjoint(&salts(sent))
        });
        let events = by_uuid(sent);
        webhooks.push(Webhook {
            listener,
            event: event.to_owned(),
            deliveries: sent.len(),
            events: events.len(),
            salts: own.len(),
            salt: salt_pattern(
                sent.len(),
                own.len(),
                &events.values().map(|sent| salts(sent).len()).collect::<Vec<_>>(),
            ),
            shares_salt,
        });
    }
    webhooks
}

/// `of_events` holds the number of salts of each event.
fn salt_pattern(deliveries: usize, salts: usize, of_events: &[usize]) -> SaltPattern {
    let (events, once_each) = (of_events.len(), of_events.iter().all(|salts| *salts == 1));
    if salts == deliveries && deliveries > events {
        SaltPattern::FreshForEachDelivery
    } else if events < 2 {
        SaltPattern::Unknown
    } else if salts == 1 {
        SaltPattern::Fixed
    } else if salts == events && once_each && deliveries > events {
        SaltPattern::FreshForEachEventKeptByRetries
    } else if salts == events && once_each {
        SaltPattern::FreshForEachEvent
    } else {
        SaltPattern::Mixed
    }
}

fn overall_salt_pattern(webhooks: &[Webhook]) -> SaltPattern {
    let mut known: Vec<SaltPattern> = webhooks.iter().map(|webhook| webhook.salt).collect();
    known.retain(|salt| *salt != SaltPattern::Unknown);
    // A webhook without retries says less, but nothing that contradicts.
    if known.iter().any(|salt| {
        matches!(salt, SaltPattern::FreshForEachDelivery | SaltPattern::FreshForEachEventKeptByRetries)
    }) {
        known.retain(|salt| *salt != SaltPattern::FreshForEachEvent);
    }
    known.dedup();
    match known[..] {
        [] => SaltPattern::Unknown,
        [salt] => salt,
        _ => SaltPattern::Mixed,
    }
}

fn by_uuid<'a>(sent: &[RecordedDelivery<'a>]) -> BTreeMap<&'a str, Vec<RecordedDelivery<'a>>> {
    let mut events: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for one in sent {
        events.entry(one.named.uuid.as_str()).or_default().push(*one);
    }
    events
}

fn retries(by_webhook: &BTreeMap<(usize, &str), Vec<RecordedDelivery<'_>>>) -> Retries {
    let mut retries = Retries::default();
    let mut gaps: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    for sent in by_webhook.values() {
        let events = by_uuid(sent);
        let (mut contents, mut runs) = (BTreeSet::new(), BTreeSet::new());
        for sent in events.values() {
            retries.repeated += usize::from(sent.len() > 1);
            retries.most_deliveries_of_one = retries.most_deliveries_of_one.max(sent.len());
            retries.given_up += usize::from(sent.last().is_some_and(|last| !last.accepted()));
            for (number, pair) in (2..).zip(sent.windows(2)) {
                let [before, after] = pair else { continue };
                retries.repeated_after_acceptance += usize::from(before.accepted());
                let gap = after.entry.received_ms.saturating_sub(before.entry.received_ms);
                gaps.entry(number).or_default().push(gap);
            }
            let Some(RecordedDelivery { named, .. }) = sent.first() else { continue };
            let known = !contents.insert(&named.content);
            let same_run = !runs.insert((&named.content, named.run_timestamp_ms));
            retries.renamed += usize::from(same_run);
            retries.alike += usize::from(known && !same_run);
        }
        retries.rejected_deliveries += sent.iter().filter(|one| !one.accepted()).count();
    }
    retries.uuid = match (retries.repeated > 0, retries.renamed > 0) {
        (false, false) => RetryUuid::Unknown,
        (true, false) => RetryUuid::Repeated,
        (false, true) => RetryUuid::New,
        (true, true) => RetryUuid::Mixed,
    };
    retries.gaps = gaps.into_iter().filter_map(|(delivery, gaps)| gap(delivery, gaps)).collect();
    retries
}

fn gap(delivery: usize, mut gaps: Vec<u64>) -> Option<Gap> {
    gaps.sort_unstable();
    Some(Gap {
        delivery,
        events: gaps.len(),
        shortest_ms: *gaps.first()?,
        median_ms: *gaps.get(gaps.len() / 2)?,
        longest_ms: *gaps.last()?,
    })
}

fn arrival_order(entries: &[(usize, BodylessEntry)]) -> ArrivalOrder {
    let mut order = ArrivalOrder { events: 0, late: 0 };
    let (mut seen, mut latest_of_listeners) = (BTreeSet::new(), BTreeMap::new());
    for (listener, entry) in entries {
        let Some(named) = &entry.event else { continue };
        let Some(time) = named.run_timestamp_ms else { continue };
        if seen.insert((listener, &named.event, &named.uuid)) {
            let latest = latest_of_listeners.entry(listener).or_insert(time);
            order.events += 1;
            order.late += usize::from(*latest > time);
            *latest = time.max(*latest);
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn salt_is_no_more_specific_than_the_deliveries() {
        for (deliveries, salts, of_events, expected) in [
            (1, 1, &[1][..], SaltPattern::Unknown),
            (3, 1, &[1], SaltPattern::Unknown),
            (3, 3, &[3], SaltPattern::FreshForEachDelivery),
            (2, 1, &[1, 1], SaltPattern::Fixed),
            (2, 2, &[1, 1], SaltPattern::FreshForEachEvent),
            (3, 2, &[1, 1], SaltPattern::FreshForEachEventKeptByRetries),
            (3, 3, &[1, 2], SaltPattern::FreshForEachDelivery),
            (3, 2, &[2, 1], SaltPattern::Mixed),
            (3, 2, &[1, 1, 1], SaltPattern::Mixed),
        ] {
            let found = salt_pattern(deliveries, salts, of_events);
            assert_eq!(found, expected, "{deliveries} deliveries, {salts} salts, {of_events:?}");
        }
    }
}
