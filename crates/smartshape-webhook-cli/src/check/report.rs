//! Prints the results: a table, or a JSON line per case.

use anstyle::Style;
use serde_json::{Value, json};

use super::cases::Case;
use super::run::CaseResult;
use crate::escape::escape;
use crate::failure::CliResult;
use crate::output::{self, ERROR, SUCCESS, WARNING, print_notice, styled};

/// The result of a case, as it is printed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CaseOutcome {
    status: Status,
    /// The findings; for a skipped case, the reason.
    seen: Vec<String>,
    /// Why they matter.
    why: Vec<&'static str>,
    is_turned_away: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Pass,
    Warn,
    Fail,
    Skipped,
}

impl CaseOutcome {
    pub(crate) fn new(case: &Case, result: CaseResult) -> Self {
        let fails = result.is_gone || (!case.advice && result.findings.iter().any(|finding| !finding.advice));
        let (mut seen, mut why) = (Vec::new(), Vec::new());
        for finding in result.findings {
            seen.push(escape(&finding.seen));
            let reason = finding.why.unwrap_or(case.why);
            if !why.contains(&reason) {
                why.push(reason);
            }
        }
        if result.is_gone {
            seen.push("since then the endpoint takes no connections".to_owned());
            why.push("one request stops it for everybody");
        }
        let status = match (fails, seen.is_empty()) {
            (true, _) => Status::Fail,
            (false, true) => Status::Pass,
            (false, false) => Status::Warn,
        };
        Self { status, seen, why, is_turned_away: result.is_turned_away }
    }

    pub(crate) fn skipped(reason: String) -> Self {
        Self { status: Status::Skipped, seen: vec![reason], why: Vec::new(), is_turned_away: false }
    }

    fn lines(&self, name: &str, width: usize) -> String {
        let mut text = format!("{name:width$}  {}", styled(self.status.shown(), self.status.style()));
        if self.status == Status::Skipped {
            return text + &format!(" ({})", self.seen.join("; "));
        }
        for seen in &self.seen {
            text += &format!("\n    seen: {seen}");
        }
        for why in &self.why {
            text += &format!("\n    why it matters: {why}");
        }
        text
    }

    fn json(&self, name: &str) -> Value {
        let result = self.status.shown().to_lowercase();
        if self.status == Status::Skipped {
            return json!({"case": name, "result": result, "reason": self.seen.join("; ")});
        }
        json!({"case": name, "result": result, "seen": self.seen, "why": self.why})
    }
}

impl Status {
    fn style(self) -> Style {
        match self {
            Self::Pass => SUCCESS,
            Self::Warn => WARNING,
            Self::Fail => ERROR,
            Self::Skipped => Style::new().dimmed(),
        }
    }

    /// Capitals make faults stand out without colors.
    fn shown(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
            Self::Skipped => "skipped",
        }
    }
}

/// Prints each case as soon as it is evaluated, because some take long.
pub(crate) struct Report {
    json: bool,
    width: usize,
    statuses: Vec<Status>,
    /// Results of the cases that the endpoint should accept.
    accepting: Vec<Status>,
    is_turned_away: bool,
}

impl Report {
    pub(crate) fn begin(cases: &[&Case], json: bool) -> CliResult<Self> {
        let width = cases.iter().map(|case| case.name.chars().count()).max().unwrap_or(0);
        if !json {
            output::line(format_args!("{:width$}  RESULT", "CASE"))?;
        }
        Ok(Self { json, width, statuses: Vec::new(), accepting: Vec::new(), is_turned_away: false })
    }

    pub(crate) fn row(&mut self, case: &Case, outcome: &CaseOutcome) -> CliResult {
        self.statuses.push(outcome.status);
        self.is_turned_away |= outcome.is_turned_away;
        if case.name.starts_with("accepts ") {
            self.accepting.push(outcome.status);
        }
        if self.json {
            output::json(&outcome.json(case.name))
        } else {
            output::line(outcome.lines(case.name, self.width))
        }
    }

    /// Whether no case failed.
    pub(crate) fn end(self) -> CliResult<bool> {
        let count = |status| self.statuses.iter().filter(|one| **one == status).count();
        let failed = count(Status::Fail);
        if !self.json {
            let (all, passed, warned) = (self.statuses.len(), count(Status::Pass), count(Status::Warn));
            let cases = if all == 1 { "case" } else { "cases" };
            output::line(format_args!(
                "\n{all} {cases}: {passed} passed, {failed} failed, {warned} warned, {} skipped",
                count(Status::Skipped)
            ))?;
        }
        if self.is_turned_away && !self.accepting.contains(&Status::Pass) {
            print_notice(
                "no signed event was accepted: are the URL's path and the secret those of the endpoint? A secret that is scoped \
                 to some events needs --event, and one that is scoped to some owners --owner",
            );
        }
        Ok(failed == 0)
    }
}
