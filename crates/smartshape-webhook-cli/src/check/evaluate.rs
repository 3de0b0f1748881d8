//! Evaluates the replies of a case. Sends nothing.

use std::time::Duration;

use smartshape_fake::Fault;

use super::endpoint::Reply;
use super::request::Expect;
use crate::http_client::Response;

/// A reply that is not as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// A warning rather than a fault.
    pub(crate) advice: bool,
    pub(crate) seen: String,
    /// Why it matters; `None` stands for the case's own reason.
    pub(crate) why: Option<&'static str>,
}

impl Finding {
    fn fault(seen: impl Into<String>) -> Self {
        Self { advice: false, seen: seen.into(), why: None }
    }

    fn advice(seen: impl Into<String>) -> Self {
        Self { advice: true, ..Self::fault(seen) }
    }

    fn because(self, why: &'static str) -> Self {
        Self { why: Some(why), ..self }
    }

    /// The finding, with the name of its request in front.
    pub(crate) fn for_request(self, what: &str) -> Self {
        if what.is_empty() { self } else { Self { seen: format!("{what}: {}", self.seen), ..self } }
    }
}

const WHY_RESPOND: &str =
    "whoever sends it waits for nothing, and each such request holds a connection and memory";
const WHY_NO_2XX: &str =
    "the sender takes the event for delivered: a wrong secret goes unnoticed, and events are lost";
const WHY_NO_503: &str = "nothing was accepted, but the endpoint was too busy to say whether it would be: check it again when it \
                    is idle. If it always responds so, the sender retries in vain";
const WHY_NO_5XX: &str = "anybody can provoke errors at will, among which real ones go unnoticed";

/// Hashing at cost 14 takes longer than this on any machine.
const LEAST_OF_COST_14: Duration = Duration::from_millis(200);

/// Evaluates one reply by itself.
pub(crate) fn evaluate_reply(expect: Expect, reply: &Reply) -> Vec<Finding> {
    let response = match &reply.response {
        Ok(response) => response,
        Err(fault) => return evaluate_missing_response(expect, fault),
    };
    let faults = response.faults();
    match expect {
        // Other cases evaluate how forged tokens are rejected; here only the time counts.
        Expect::Anything | Expect::AnyResponse | Expect::ImmediateResponse | Expect::NotHashed(_) => {
            Vec::new()
        }
        Expect::Accepted if faults.is_empty() => Vec::new(),
        Expect::Accepted => {
            let texts: Vec<String> = faults.iter().map(Fault::to_string).collect();
            vec![Finding::fault(texts.join("; "))]
        }
        Expect::AcceptedOnThisConnection if faults.is_empty() && reply.reconnected => {
            vec![Finding::advice("the endpoint closes the connection after each response")]
        }
        Expect::AcceptedOnThisConnection => evaluate_reply(Expect::Accepted, reply),
        Expect::AcceptedOrDeferred => match response.status {
            409 | 425 | 429 | 503 => {
                let seen = format!("status {}, which SmartShape counts as failed", response.status);
                vec![Finding::advice(seen)]
            }
            _ => evaluate_reply(Expect::Accepted, reply),
        },
        Expect::MethodRejected => match response.status {
            501 => Vec::new(),
            200..=299 if !faults.is_empty() => {
                vec![Finding::advice(format!("the status is {}, and no rejection", response.status))]
            }
            _ => evaluate_rejection(response, faults.is_empty()),
        },
        Expect::Rejected | Expect::RejectedWithoutTheBody => evaluate_rejection(response, faults.is_empty()),
    }
}

fn evaluate_missing_response(expect: Expect, fault: &Fault) -> Vec<Finding> {
    match (expect, fault) {
        (Expect::Anything, _) => Vec::new(),
        (Expect::RejectedWithoutTheBody, Fault::TimedOut(_)) => {
            vec![Finding::advice("no response before the body is sent")]
        }
        (Expect::Accepted | Expect::AcceptedOrDeferred | Expect::AcceptedOnThisConnection, fault) => {
            vec![Finding::fault(describe_missing_response(fault))]
        }
        (_, fault) => vec![Finding::fault(describe_missing_response(fault)).because(WHY_RESPOND)],
    }
}

fn describe_missing_response(fault: &Fault) -> String {
    match fault {
        Fault::Connection(why) => format!("no response: {why}"),
        fault => fault.to_string(),
    }
}

fn evaluate_rejection(response: &Response, accepted: bool) -> Vec<Finding> {
    match response.status {
        400..=499 => Vec::new(),
        _ if accepted => vec![Finding::fault("it was accepted")],
        status @ 200..=299 => {
            let seen = format!("the status is {status}, which says that all is well");
            vec![Finding::fault(seen).because(WHY_NO_2XX)]
        }
        503 => vec![Finding::advice("the status is 503, also when asked again").because(WHY_NO_503)],
        status @ 500..=599 => {
            let seen = format!("the status is {status}: an error, rather than a rejection");
            vec![Finding::advice(seen).because(WHY_NO_5XX)]
        }
        status => vec![Finding::advice(format!("the status is {status}, and no rejection from 400 to 499"))],
    }
}

/// Finds out by response times whether the endpoint hashed the tokens of a case.
pub(crate) fn evaluate_timing(replies: &[(Expect, &Reply)]) -> Vec<Finding> {
    // The minimum of several, because a busy machine only delays responses.
    let quickest = |expect: Expect| {
        let matching = replies.iter().filter(|(other, _)| *other == expect);
        matching.filter_map(|(_, reply)| Some(reply.response.as_ref().ok()?.took)).min()
    };
    let times = (
        quickest(Expect::ImmediateResponse),
        quickest(Expect::NotHashed(13)),
        quickest(Expect::NotHashed(14)),
    );
    let (Some(control), Some(thirteen), Some(fourteen)) = times else { return Vec::new() };
    if !was_hashed(control, thirteen, fourteen) {
        return Vec::new();
    }
    vec![Finding::fault(format!(
        "responded after {} ms at cost 13, {} ms at cost 14, and {} ms when malformed: it was hashed",
        thirteen.as_millis(),
        fourteen.as_millis(),
        control.as_millis()
    ))]
}

/// Each step of cost doubles the time of a hash, whereas a pause before each rejection is the same for all costs.
fn was_hashed(control: Duration, thirteen: Duration, fourteen: Duration) -> bool {
    let (thirteen, fourteen) = (thirteen.saturating_sub(control), fourteen.saturating_sub(control));
    fourteen >= LEAST_OF_COST_14 && fourteen >= thirteen.mul_f64(1.4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUCCESS: &str = r#"{"success": true}"#;

    fn response(status: u16, content_type: &str, body: &'static str) -> Reply {
        let response = Response {
            status,
            content_type: Some(content_type.to_owned()),
            body: body.into(),
            took: Duration::ZERO,
            retry_after: None,
        };
        Reply { response: Ok(response), reconnected: false }
    }

    fn json(status: u16, body: &'static str) -> Reply {
        response(status, "application/json", body)
    }

    fn none(fault: Fault) -> Reply {
        Reply { response: Err(fault), reconnected: false }
    }

    /// `well`, or `fault` or `advice` with what was seen.
    fn outcome(expect: Expect, reply: &Reply) -> String {
        let findings = evaluate_reply(expect, reply).into_iter();
        let texts = findings
            .map(|finding| format!("{}: {}", if finding.advice { "advice" } else { "fault" }, finding.seen));
        let texts: Vec<String> = texts.collect();
        if texts.is_empty() { "well".to_owned() } else { texts.join("; ") }
    }

    #[test]
    fn replies_are_evaluated_by_what_is_expected() {
        use Expect::{Accepted, AcceptedOnThisConnection, AcceptedOrDeferred, AnyResponse, Anything};
        use Expect::{MethodRejected, Rejected, RejectedWithoutTheBody};
        let late = || none(Fault::TimedOut(Duration::from_secs(1)));
        let closed = |why: &str| none(Fault::Connection(why.to_owned()));
        for (expect, reply, expected) in [
            (Accepted, json(200, SUCCESS), "well"),
            (Accepted, response(200, "application/json; charset=utf-8", SUCCESS), "well"),
            (Accepted, json(202, SUCCESS), "fault: the status is 202, and must be exactly 200"),
            (
                Accepted,
                response(200, "text/plain", r#"{"success":"true"}"#),
                "fault: the content type is text/plain, and must be application/json; \
                 the body's \"success\" is not true",
            ),
            (Accepted, closed("reset"), "fault: no response: reset"),
            (Accepted, late(), "fault: no response within 1000 ms"),
            (AcceptedOnThisConnection, json(200, SUCCESS), "well"),
            (
                AcceptedOnThisConnection,
                Reply { reconnected: true, ..json(200, SUCCESS) },
                "advice: the endpoint closes the connection after each response",
            ),
            (AcceptedOrDeferred, json(200, SUCCESS), "well"),
            (AcceptedOrDeferred, json(409, "{}"), "advice: status 409, which SmartShape counts as failed"),
            (AcceptedOrDeferred, json(500, SUCCESS), "fault: the status is 500, and must be exactly 200"),
            (Rejected, json(400, "{}"), "well"),
            (Rejected, response(404, "text/html", "<p>"), "well"),
            (Rejected, json(200, SUCCESS), "fault: it was accepted"),
            (Rejected, json(200, "{}"), "fault: the status is 200, which says that all is well"),
            (Rejected, json(204, ""), "fault: the status is 204, which says that all is well"),
            (Rejected, json(302, ""), "advice: the status is 302, and no rejection from 400 to 499"),
            (Rejected, json(500, ""), "advice: the status is 500: an error, rather than a rejection"),
            (Rejected, json(503, ""), "advice: the status is 503, also when asked again"),
            (Rejected, late(), "fault: no response within 1000 ms"),
            (Rejected, closed("closed"), "fault: no response: closed"),
            (RejectedWithoutTheBody, late(), "advice: no response before the body is sent"),
            (MethodRejected, json(501, ""), "well"),
            (MethodRejected, json(200, "hello"), "advice: the status is 200, and no rejection"),
            (MethodRejected, json(200, SUCCESS), "fault: it was accepted"),
            (AnyResponse, json(500, ""), "well"),
            (AnyResponse, late(), "fault: no response within 1000 ms"),
            (Anything, late(), "well"),
        ] {
            assert_eq!(outcome(expect, &reply), expected, "{expect:?} {reply:?}");
        }
        // The case's own reason would be about an endpoint that accepts the request.
        assert_eq!(evaluate_reply(Rejected, &json(503, ""))[0].why, Some(WHY_NO_503));
    }

    #[test]
    fn hashing_is_recognized_by_response_times() {
        let milliseconds = Duration::from_millis;
        for (control, thirteen, fourteen, hashed) in [
            (1, 450, 900, true),
            (1000, 1450, 1900, true),
            // Slow for all, and busy for a moment.
            (1000, 1003, 1001, false),
            (2, 900, 910, false),
            (2, 2, 150, false),
            (50, 2, 3, false),
        ] {
            let found = was_hashed(milliseconds(control), milliseconds(thirteen), milliseconds(fourteen));
            assert_eq!(found, hashed, "{control} {thirteen} {fourteen}");
        }
    }

    #[test]
    fn fastest_response_of_each_kind_counts() {
        let timed = |(expect, took)| {
            let mut reply = json(401, "{}");
            if let Ok(response) = &mut reply.response {
                response.took = Duration::from_millis(took);
            }
            (expect, reply)
        };
        let (thirteen, fourteen) = (Expect::NotHashed(13), Expect::NotHashed(14));
        let control = Expect::ImmediateResponse;
        let times = [
            (control, 800),
            (control, 3),
            (thirteen, 460),
            (thirteen, 900),
            (fourteen, 2000),
            (fourteen, 930),
        ];
        let replies = times.map(timed);
        let all: Vec<(Expect, &Reply)> = replies.iter().map(|(expect, reply)| (*expect, reply)).collect();
        assert_eq!(evaluate_timing(&all[..4]), [], "nothing to compare with");
        let findings = evaluate_timing(&all);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].seen.contains("after 460 ms at cost 13, 930 ms at cost 14"), "{findings:?}");
    }
}
