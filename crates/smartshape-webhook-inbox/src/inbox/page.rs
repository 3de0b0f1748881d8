//! Pages of events, newest first, in both directions.

use super::Inbox;
use crate::error::InboxError;
use crate::event::{EventState, StoredEvent};
use crate::filter::EventFilter;
use crate::stats::{Count, CountByEvent};
use crate::storage::MAX_EXAMINED;

/// Where a page begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PageCursor {
    /// At the newest event.
    #[default]
    Newest,
    /// Behind the event with this sequence number, towards older ones.
    OlderThan(i64),
    /// Before the event with this sequence number, towards newer ones.
    NewerThan(i64),
}

/// A page of events; made by [`Inbox::page`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct EventPage {
    /// The newest first.
    pub events: Vec<StoredEvent>,
    /// The sequence number for [`PageCursor::OlderThan`]; `None` when no older event matches.
    pub older: Option<i64>,
    /// The sequence number for [`PageCursor::NewerThan`]; `None` when no newer event matched.
    pub newer: Option<i64>,
    /// Whether the page ended early, because 50,000 events were examined. The cursor goes on from there.
    pub is_partial: bool,
}

impl Inbox {
    /// A page of the events that match `filter`, the newest first. [`EventFilter::limit`] is the length of the page;
    /// [`EventFilter::after`] and [`EventFilter::up_to`] bound the selection.
    ///
    /// Pages of one state, of one reason and of all events are read from an index. For any other condition at most
    /// 50,000 events are examined; the page then [is partial](EventPage::is_partial), and its cursor goes on from
    /// there.
    ///
    /// ```
    /// use smartshape_webhook::{Delivery, Handler};
    /// use smartshape_webhook_inbox::{EventFilter, Inbox, PageCursor};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = &folder.path().join("inbox.db").display().to_string();
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// let inbox = Inbox::open(path).await?;
    /// for n in 1..=3 {
    ///     let event = Delivery::for_test(format!(r#"{{"file": "5c6f", "event": "file_uploaded", "data": {{}},
    ///         "owner": "test@smartshape.io", "runTimestamp": 1, "uuid": "{n}"}}"#))?;
    ///     inbox.handle(event).await.map_err(|error| error.to_string())?;
    /// }
    /// let two = EventFilter::default().limit(2);
    /// let newest = inbox.page(two.clone(), PageCursor::Newest).await?;
    /// assert_eq!(newest.events.iter().map(|event| &*event.uuid).collect::<Vec<_>>(), ["3", "2"]);
    /// let older = inbox.page(two, PageCursor::OlderThan(newest.older.unwrap())).await?;
    /// assert_eq!((older.events.len(), older.older), (1, None));
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InboxError`] when the database fails.
    pub async fn page(&self, filter: EventFilter, cursor: PageCursor) -> Result<EventPage, InboxError> {
        self.page_within(filter, cursor, MAX_EXAMINED).await
    }

    pub(crate) async fn page_within(
        &self,
        mut filter: EventFilter,
        cursor: PageCursor,
        max_examined: u32,
    ) -> Result<EventPage, InboxError> {
        let limit = filter.limit.max(1) as usize;
        filter.limit = filter.limit.max(1).saturating_add(1);
        filter.newest_first = !matches!(cursor, PageCursor::NewerThan(_));
        match cursor {
            PageCursor::Newest => {}
            PageCursor::OlderThan(seq) => filter.up_to = filter.up_to.min(seq.saturating_sub(1)),
            PageCursor::NewerThan(seq) => filter.after = filter.after.max(seq),
        }
        let end = if filter.is_scan() { self.narrow(&mut filter, max_examined).await? } else { None };
        let mut events = self.storage().list(filter.clone()).await?;
        let is_full = events.len() > limit;
        events.truncate(limit);
        // Where the next page in the same direction begins.
        let next = if is_full { events.last().map(|event| event.seq) } else { end };
        if !filter.newest_first {
            events.reverse();
        }
        let is_partial = !is_full && end.is_some();
        Ok(match cursor {
            PageCursor::NewerThan(seq) => {
                let older = events.last().map_or(seq.saturating_add(1), |event| event.seq);
                EventPage { events, older: Some(older), newer: next, is_partial }
            }
            PageCursor::OlderThan(seq) => {
                let newer = events.first().map_or(seq.saturating_sub(1), |event| event.seq);
                EventPage { events, older: next, newer: Some(newer), is_partial }
            }
            PageCursor::Newest => EventPage { events, older: next, newer: None, is_partial },
        })
    }

    /// The number of events that match `filter`, by the name of the event. At most the newest 50,000 events of the
    /// filter's state or reason are examined.
    ///
    /// # Errors
    ///
    /// [`InboxError`] when the database fails.
    pub async fn count_by_event(&self, filter: EventFilter) -> Result<CountByEvent, InboxError> {
        self.count_by_event_within(filter, MAX_EXAMINED).await
    }

    pub(crate) async fn count_by_event_within(
        &self,
        mut filter: EventFilter,
        max_examined: u32,
    ) -> Result<CountByEvent, InboxError> {
        filter.newest_first = true;
        let end = self.narrow(&mut filter, max_examined).await?;
        let names = self.storage().count_by_event(filter).await?;
        let total = names.iter().map(|(_, count)| count).sum();
        let total = if end.is_some() { Count::AtLeast(total) } else { Count::Exactly(total) };
        Ok(CountByEvent { names, total })
    }

    /// Narrows a filter to what one call examines, and returns the cursor at which the next page goes on, if any event
    /// is left. The narrowed filter and that cursor meet at one sequence number: with a gap an event would be on no
    /// page, with an overlap on two.
    async fn narrow(&self, filter: &mut EventFilter, max_examined: u32) -> Result<Option<i64>, InboxError> {
        // Completed events have no index by sequence number, and nearly all events are completed.
        let spans_most_events = filter.state.is_none_or(|state| state == EventState::Completed);
        let (skipped, width) =
            if spans_most_events { (0, i64::from(max_examined)) } else { (max_examined, 0) };
        let Some(seq) = self.storage().seq_after(filter.clone(), skipped).await? else { return Ok(None) };
        // `first` is not examined any more; the cursor is before it.
        let mut rest = filter.clone();
        let next = if filter.newest_first {
            let first = seq.saturating_sub(width);
            rest.up_to = rest.up_to.min(first);
            filter.after = filter.after.max(first);
            first.saturating_add(1)
        } else {
            let first = seq.saturating_add(width);
            rest.after = rest.after.max(first.saturating_sub(1));
            filter.up_to = filter.up_to.min(first.saturating_sub(1));
            first.saturating_sub(1)
        };
        let is_left = self.storage().seq_after(rest, 0).await?.is_some();
        Ok(is_left.then_some(next))
    }
}
