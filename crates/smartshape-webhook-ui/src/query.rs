//! Queries and forms: names and values, percent-encoded. Every link of the console is a query of its one path.

use smartshape_webhook::DeliveryKey;
use smartshape_webhook_inbox::{EventFilter, EventState, PageCursor, ReasonId};

/// Rows of a page.
pub(crate) const PAGE_ROWS: u32 = 50;

/// Decoded names and values, in order.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().take(64).collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    fn parsed<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.get(name)?.parse().ok()
    }
}

/// A link: `?name=value&…`.
pub(crate) fn link(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::for_suffix("?".to_owned(), 1).extend_pairs(pairs).finish()
}

/// Which events are listed.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct Selection {
    pub(crate) state: Option<EventState>,
    pub(crate) name: Option<String>,
    pub(crate) text: Option<String>,
    pub(crate) reason: Option<ReasonId>,
    pub(crate) before: Option<i64>,
    pub(crate) after: Option<i64>,
}

/// States and their names in links.
pub(crate) const STATES: [(EventState, &str); 4] = [
    (EventState::Waiting, "waiting"),
    (EventState::Running, "running"),
    (EventState::Completed, "completed"),
    (EventState::DeadLetter, "dead-letter"),
];

pub(crate) fn state_name(state: EventState) -> &'static str {
    STATES.iter().find(|(other, _)| *other == state).map_or("", |(_, name)| name)
}

impl Selection {
    pub(crate) fn from_query(query: &Query) -> Self {
        let text = |name| query.get(name).map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
        let state = query.get("state").and_then(|name| STATES.iter().find(|(_, other)| *other == name));
        Self {
            state: state.map(|(state, _)| *state),
            name: text("name"),
            text: text("q"),
            reason: query.parsed("reason"),
            before: query.parsed("before"),
            after: query.parsed("after"),
        }
    }

    pub(crate) fn filter(&self) -> EventFilter {
        let mut filter = EventFilter::default().limit(PAGE_ROWS);
        if let Some(state) = self.state {
            filter = filter.state(state);
        }
        if let Some(name) = &self.name {
            filter = filter.event(name);
        }
        if let Some(text) = &self.text {
            filter = filter.text(text);
        }
        match self.reason {
            Some(reason) => filter.reason(reason),
            None => filter,
        }
    }

    pub(crate) fn cursor(&self) -> PageCursor {
        match (self.before, self.after) {
            (Some(seq), _) => PageCursor::OlderThan(seq),
            (None, Some(seq)) => PageCursor::NewerThan(seq),
            (None, None) => PageCursor::Newest,
        }
    }

    /// The selection's own part of a link, without its page.
    pub(crate) fn pairs(&self) -> Vec<(&'static str, String)> {
        let state = self.state.map(|state| state_name(state).to_owned());
        let reason = self.reason.map(|reason| reason.to_string());
        let pairs =
            [("state", state), ("name", self.name.clone()), ("q", self.text.clone()), ("reason", reason)];
        pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// A link to these events, with more parameters.
    pub(crate) fn link(&self, view: &str, more: &[(&str, &str)]) -> String {
        let own = self.pairs();
        let mut pairs = vec![("view", view)];
        pairs.extend(own.iter().map(|(name, value)| (*name, value.as_str())));
        pairs.extend(more);
        link(&pairs)
    }

    /// A link to an event in this page of the list.
    pub(crate) fn event_link(&self, key: DeliveryKey) -> String {
        let key = key.to_string();
        let mut more = vec![("event", key.as_str())];
        let page = match self.cursor() {
            PageCursor::OlderThan(seq) => Some(("before", seq.to_string())),
            PageCursor::NewerThan(seq) => Some(("after", seq.to_string())),
            PageCursor::Newest => None,
        };
        if let Some((name, seq)) = &page {
            more.push((name, seq));
        }
        self.link("events", &more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_comes_back_from_a_link() {
        for text in ["", "a b", "ä&=?#%", "100%", "+", "\u{202e}\n\0", "%zz", "%4"] {
            let made = link(&[("q", text), ("n", "1")]);
            assert!(made.bytes().all(|byte| byte.is_ascii_graphic()), "{made}");
            let query = Query::parse(&made[1..]);
            assert_eq!((query.get("q"), query.get("n")), (Some(text), Some("1")));
        }
        assert_eq!(Query::parse("q=%&r=%4&s=%zz").get("s"), Some("%zz"));
        assert_eq!(Query::parse("q=a+b").get("q"), Some("a b"));
    }
}
