//! What a response tells its client, and what the log says instead.

use std::sync::Arc;
use std::time::Duration;

use smartshape_webhook::{
    Delivery, EventKind, HandlerError, NamedSecret, Outcome, Receiver, Rejection, RejectionKind, Secret,
};

use crate::common::{SECRET, TOKEN, body_stream, claim, event, head, long_timeouts, token_of, uploaded};

fn receiver() -> Receiver {
    let scoped =
        NamedSecret::new("uploads", Secret::new(SECRET).unwrap()).scoped_to([EventKind::FileUploaded]);
    long_timeouts().named_secret(scoped).build().unwrap()
}

#[tokio::test]
async fn retry_after_is_in_whole_seconds_and_never_too_short() {
    for (wait, expected) in [
        (Duration::ZERO, "1"),
        (Duration::from_secs(7), "7"),
        (Duration::from_millis(7001), "8"),
        (Duration::from_secs(3601), "3600"),
        (Duration::MAX, "3600"),
    ] {
        let claimed = claim(&receiver(), uploaded("u")).await;
        let busy = move |_: Delivery| async move { Err(HandlerError::retry_after(wait, "busy")) };
        let response = claimed.handle(Arc::new(busy)).await;
        assert_eq!(response.status(), 503, "{wait:?}");
        assert_eq!(response.headers()["retry-after"], expected, "{wait:?}");
    }
}

#[tokio::test]
async fn rejection_names_the_reason_for_the_log() {
    let receiver = receiver();
    let (good, forged) = (TOKEN.as_str(), token_of("another secret", 8));
    let receive = async |token: &str, body: &str| {
        let received = receiver.receive(&head(token), body_stream(body.to_owned())).await;
        let rejection = received.unwrap_err();
        assert!(!rejection.kind().public_message().contains("secret"));
        rejection.to_string()
    };
    for (token, why) in [
        ("letmein", "the token does not have 60 bytes"),
        (&good.replacen("$2b$", "$2x$", 1), "the token does not begin with $2a$, $2b$ or $2y$"),
        (&good.replacen("$04$", "$32$", 1), "the token's cost is not two digits from 04 to 31"),
        (&good.replacen("$04$", "$04$=", 1)[..60], "the token's salt or hash is not in bcrypt's alphabet"),
    ] {
        assert_eq!(receive(token, "").await, format!("the token is malformed ({why})"));
    }
    let (costly, scoped) = (good.replacen("$04$", "$13$", 1), event("file_optimized", "{}", "u"));
    for (token, body, expected) in [
        (costly.as_str(), "", "the token's cost is above max_cost (13 is above 12)"),
        (&forged, "", "the token is well formed but matches none of the secrets (uploads)"),
        (good, &scoped, "the token's secret is not for this event (uploads is only for some events)"),
        (
            good,
            &event("", "{}", "u"),
            "the body is not a SmartShape event (the body is not a SmartShape event: `event` is empty)",
        ),
    ] {
        assert_eq!(receive(token, body).await, expected);
    }
    let unparsed = receiver.receive(&head(good), body_stream("letmein")).await.unwrap_err();
    assert_eq!(unparsed.kind(), RejectionKind::NotJson);
    assert!(unparsed.to_string().starts_with("the body is not JSON (the body is not JSON: "), "{unparsed}");
    assert_eq!(Rejection::from(RejectionKind::Draining).to_string(), "the receiver is being drained");
    assert_eq!(receiver.stats().rejected, 9);
}

#[tokio::test]
async fn dropped_claim_counts_as_failed() {
    let receiver = receiver();
    let claimed = claim(&receiver, uploaded("u")).await;
    let shown = format!("{claimed:?}");
    assert!(shown.contains("file_uploaded") && shown.contains("5c6f"), "{shown}");
    assert_eq!((receiver.stats().in_flight, receiver.stats().failed), (1, 0));
    drop(claimed);
    assert_eq!((receiver.stats().in_flight, receiver.stats().failed), (0, 1));
    let again = claim(&receiver, uploaded("u")).await;
    assert_eq!(again.acknowledge().await.status(), 200);
    let stats = receiver.stats();
    assert_eq!((stats.in_flight, stats.failed, stats.acknowledged), (0, 1, 1));
}

#[tokio::test]
async fn run_completes_its_future_if_the_caller_drops_it() {
    let receiver = receiver();
    let claimed = claim(&receiver, uploaded("u")).await;
    let (sender, completed) = tokio::sync::oneshot::channel();
    drop(claimed.run(async move {
        sender.send(()).unwrap();
        (Outcome::Acknowledged, ())
    }));
    completed.await.unwrap();
    assert_eq!(receiver.drain(Duration::from_secs(30)).await, 0);
    assert_eq!((receiver.stats().acknowledged, receiver.stats().failed), (1, 0));
}

#[test]
fn remedies_of_the_readme_are_those_of_the_kinds() {
    let rows = include_str!("../../../../README.md").lines().filter(|line| line.starts_with("| `"));
    let documented = rows.filter_map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").collect();
        let named = |kind: &&RejectionKind| cells[0].trim() == format!("`{}`", kind.name());
        let kind = RejectionKind::ALL.iter().find(named)?;
        assert_eq!(cells[2].trim(), kind.remedy(), "{kind:?}");
        Some(kind)
    });
    let of_table = |kind: &&RejectionKind| matches!(kind.status(), 401 | 503);
    assert!(documented.eq(RejectionKind::ALL.iter().filter(of_table)));
}
