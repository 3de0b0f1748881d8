//! Charts as SVG, without a script and without inline styles. All texts in them are numbers.

use std::fmt::Write as _;

use maud::{Markup, PreEscaped, html};
use smartshape_webhook_inbox::ActivitySlot;

use super::text::thousands;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 200.0;

#[allow(clippy::cast_precision_loss, reason = "positions on a screen")]
fn float(number: u64) -> f64 {
    number as f64
}

/// The next round number.
fn round_up(max: u64) -> u64 {
    let mut step: u64 = 1;
    loop {
        if let Some(round) =
            [4, 8, 20].into_iter().map(|factor| step.saturating_mul(factor)).find(|round| *round >= max)
        {
            return round;
        }
        step = step.saturating_mul(10);
    }
}

pub(super) fn sparkline(values: &[u64], class: &str, label: &str) -> Markup {
    let max = float(values.iter().copied().max().unwrap_or(0).max(1));
    let step = 120.0 / float(values.len().max(2) as u64 - 1);
    let (mut line, mut area) = (String::new(), String::from("M0 30"));
    for (index, value) in values.iter().enumerate() {
        let (x, y) = (float(index as u64) * step, 28.0 - float(*value) / max * 25.0);
        // Writing to a string does not fail.
        let _ = write!(line, "{}{x:.1} {y:.1}", if index == 0 { "M" } else { "L" });
        let _ = write!(area, "L{x:.1} {y:.1}");
    }
    area.push_str("L120 30Z");
    html! {
        svg class={ "spark " (class) } viewBox="0 0 120 30" preserveAspectRatio="none" role="img" aria-label=(label) {
            path class="area" d=(area) {}
            path class="line" d=(line) {}
        }
    }
}

/// A bar for each slot, and the same numbers as a table. `has_days` if they are of more than a day.
pub(super) fn bars(slots: &[ActivitySlot], has_days: bool) -> Markup {
    let (tick, time) = if has_days { ("%-d %b", "%-d %b %H:%M") } else { ("%H:%M", "%H:%M") };
    let heights =
        slots.iter().map(|slot| (slot.completed + slot.retried + slot.dead_letters).max(slot.stored));
    let top = round_up(heights.max().unwrap_or(0).max(4));
    let width = WIDTH / float(slots.len().max(1) as u64);
    let mut drawn = String::new();
    for line in 0..=4 {
        let y = HEIGHT - f64::from(line) * HEIGHT / 4.0;
        let _ = write!(drawn, r#"<line class="grid" x1="0" x2="{WIDTH}" y1="{y}" y2="{y}"/>"#);
    }
    let mut stored = String::new();
    for (index, slot) in slots.iter().enumerate() {
        let x = float(index as u64) * width;
        let mut y = HEIGHT;
        drawn.push_str(r#"<g class="slot">"#);
        for (class, count) in
            [("done", slot.completed), ("retried", slot.retried), ("dead", slot.dead_letters)]
        {
            let height = float(count) / float(top) * HEIGHT;
            y -= height;
            if count > 0 {
                let (x, width) = (x + width * 0.14, width * 0.72);
                let _ = write!(
                    drawn,
                    r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}"/>"#
                );
            }
        }
        let (from, ActivitySlot { stored: new, completed, retried, dead_letters, .. }) =
            (slot.start.strftime(time), slot);
        let _ = write!(
            drawn,
            r#"<rect class="hit" x="{x:.1}" y="0" width="{width:.1}" height="200"/><title>From {from}: {new} stored, {completed} completed, {retried} to be retried, {dead_letters} dead letters</title></g>"#
        );
        let y = HEIGHT - float(slot.stored) / float(top) * HEIGHT;
        let _ = write!(stored, "{}{:.1} {y:.1}", if index == 0 { "M" } else { "L" }, x + width / 2.0);
    }
    let _ = write!(drawn, r#"<path class="arrived" d="{stored}"/>"#);
    let ticks = (0..=4).filter_map(|part| slots.get(slots.len().saturating_sub(1) * part / 4));
    let busy =
        slots.iter().rev().filter(|slot| slot.stored + slot.completed + slot.retried + slot.dead_letters > 0);
    html! {
        figure.chart {
            div.plot {
                div.ylabels aria-hidden="true" { @for line in (0..=4).rev() { span { (thousands(top * line / 4)) } } }
                svg viewBox="0 0 960 200" preserveAspectRatio="none" role="img" aria-label="Events over time; the table below has the same numbers" {
                    (PreEscaped(drawn))
                }
            }
            div.xlabels aria-hidden="true" { @for slot in ticks { span { (slot.start.strftime(tick)) } } }
            details.astable {
                summary { "The same as a table" }
                table {
                    thead { tr { @for title in ["From (UTC)", "Stored", "Completed", "Retried", "Dead letters"] { th scope="col" { (title) } } } }
                    tbody {
                        @for slot in busy.take(200) {
                            tr {
                                th scope="row" { (slot.start.strftime(time)) }
                                td { (slot.stored) } td { (slot.completed) } td { (slot.retried) } td { (slot.dead_letters) }
                            }
                        }
                    }
                }
            }
        }
    }
}
