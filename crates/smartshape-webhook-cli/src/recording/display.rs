//! Prints a report as text.

use std::fmt;

use super::report::{Gap, Report, Retries, RetryUuid, SaltPattern, Webhook};
use crate::escape::escape;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", counted(self.deliveries, "delivery", "deliveries"), events(self.events))?;
        write!(f, ", taken by {}", counted(self.listeners, "listener", "listeners"))?;
        if self.no_events > 0 {
            write!(f, "; {} of them no event by the body", self.no_events)?;
        }
        if self.left_out > 0 {
            write!(f, "; {} left out that cannot be read", counted(self.left_out, "line", "lines"))?;
        }
        for form in &self.tokens {
            let deliveries = counted(form.deliveries, "delivery", "deliveries");
            write!(f, "\ntoken    prefix {}, cost {}: {deliveries}", escape(&form.prefix), form.cost)?;
        }
        write!(f, "\nsalt     {}", self.salt)?;
        for webhook in &self.webhooks {
            write!(f, "\n         {}", webhook_line(webhook, self.listeners))?;
        }
        write!(f, "\nretries  {}", self.retries)?;
        let order = &self.order;
        match (order.events, order.late) {
            (0 | 1, _) => f.write_str("\norder    unknown: too few events"),
            (events, 0) => {
                write!(f, "\norder    all {events} events came in the order of their runTimestamp")
            }
            (events, late) => {
                write!(f, "\norder    {late} of {events} events came after one of a later runTimestamp")
            }
        }
    }
}

impl fmt::Display for SaltPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown: it takes two events of one webhook",
            Self::Fixed => "fixed: a webhook's token is always the same",
            Self::FreshForEachEvent => "fresh for each event; unknown for retries, since there were none",
            Self::FreshForEachEventKeptByRetries => "fresh for each event, and kept by its retries",
            Self::FreshForEachDelivery => "fresh for each delivery, retries included",
            Self::Mixed => "neither always fixed nor always fresh",
        })
    }
}

impl fmt::Display for Retries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.uuid {
            RetryUuid::Unknown if self.rejected_deliveries == 0 => {
                f.write_str(
                    "unknown: nothing was rejected, so nothing was sent again (listen with --fail-first 5)",
                )?;
            }
            RetryUuid::Unknown => f.write_str("none seen, though deliveries were rejected")?,
            RetryUuid::Repeated => f.write_str("a retry repeats the uuid")?,
            RetryUuid::New => f.write_str("a retry has a new uuid")?,
            RetryUuid::Mixed => f.write_str("some repeat the uuid, and some have a new one")?,
        }
        let mut more = |count: usize, text: &str| {
            if count > 0 { write!(f, "\n         {}: {text}", events(count)) } else { Ok(()) }
        };
        more(self.repeated, &format!("came more than once, at most {} times", self.most_deliveries_of_one))?;
        more(self.renamed, "equal in content and runTimestamp to an earlier one, under another uuid")?;
        more(self.alike, "equal in content, with another runTimestamp and uuid: retries, or alike")?;
        more(self.repeated_after_acceptance, "sent again after an acceptance")?;
        more(self.given_up, "rejected at the last delivery")?;
        for gap in &self.gaps {
            write!(f, "\n         before delivery {}: {gap}", gap.delivery)?;
        }
        Ok(())
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [shortest, median, longest] = [self.shortest_ms, self.median_ms, self.longest_ms].map(seconds);
        match self.events {
            1 => write!(f, "{median}"),
            events => write!(f, "{median} ({shortest} to {longest}, {events} events)"),
        }
    }
}

fn webhook_line(webhook: &Webhook, listeners: usize) -> String {
    let mut text = format!(
        "{}: {} of {} with {}",
        escape(&webhook.event),
        counted(webhook.deliveries, "delivery", "deliveries"),
        events(webhook.events),
        counted(webhook.salts, "salt", "salts")
    );
    if webhook.shares_salt {
        text += ", shared with another webhook of the same secret";
    }
    if listeners > 1 {
        text += &format!(" (listener {})", webhook.listener);
    }
    text
}

fn seconds(milliseconds: u64) -> String {
    format!("{}.{:03} s", milliseconds / 1000, milliseconds % 1000)
}

fn events(count: usize) -> String {
    counted(count, "event", "events")
}

fn counted(count: usize, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}
