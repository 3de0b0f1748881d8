use std::pin::Pin;
use std::task::{Context, Poll, Wake, Waker};

use bcrypt_lanes::MAX_LANES;

use super::*;
use crate::auth::Verifier;
use crate::auth::workers::PendingRequest;
use crate::auth::workers::tests::{self, client};
use crate::lock::locked;

const SECRETS: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];

fn verifier(secrets: &[&str]) -> Verifier {
    tests::verifier(secrets, Duration::from_millis(80), 1)
}

/// No thread takes what is submitted: the test's own worker does.
fn without_threads(secrets: &[&str]) -> Verifier {
    verifier(secrets).without_threads()
}

fn token(plain: &str) -> Token {
    tests::token(plain, 4)
}

impl Verifier {
    fn submit_from(&self, token: &Token, client: Option<ClientAddr>) -> PendingRequest {
        self.workers.submit(&self.current, token, client).unwrap().expect("the token is not cached yet")
    }

    /// What a worker has found out about the token.
    fn status(&self, token: &Token) -> Option<TokenStatus> {
        let state = locked(&self.workers.shared.state);
        let mut hashed = state.hashed.iter();
        hashed.find(|(hashed, _)| hashed == token).map(|(_, hashed)| hashed.status)
    }
}

/// Fills the lanes, and returns the trials.
fn fill(worker: &mut Worker<'_>) -> Vec<Trial> {
    let free = MAX_LANES - worker.clock.lanes as usize;
    (0..free).map_while(|_| worker.next()).map(|job| job.tag).collect()
}

/// The tokens that are being hashed.
fn tokens(worker: &Worker<'_>) -> Vec<Token> {
    worker.verifications.iter().map(|verification| verification.token).collect()
}

#[test]
fn worker_takes_tokens_of_different_clients_in_turns() {
    let verifier = without_threads(&["a"]);
    let [first, second, third, other] = ["1", "2", "3", "other"].map(token);
    let _waiting = [(first, 1), (second, 1), (third, 1), (other, 2)]
        .map(|(token, from)| verifier.submit_from(&token, client(from)));
    let mut worker = Worker::new(&verifier.workers.shared);
    assert_eq!(fill(&mut worker).len(), MAX_LANES);
    assert_eq!(tokens(&worker), [first, other, second, third]);
}

#[test]
fn worker_leaves_the_last_lane_to_another_client() {
    let verifier = without_threads(&["a"]);
    let all: Vec<_> = (0..6).map(|number| token(&number.to_string())).collect();
    let _waiting: Vec<_> = all.iter().map(|token| verifier.submit_from(token, client(1))).collect();
    let mut worker = Worker::new(&verifier.workers.shared);
    let trials = fill(&mut worker);
    assert_eq!(tokens(&worker), all[..MAX_LANES - 1]);
    let other = token("other");
    let _waiting = verifier.submit_from(&other, client(2));
    assert_eq!(fill(&mut worker).len(), 1);
    assert_eq!(tokens(&worker).last(), Some(&other), "without waiting for a lane");
    // No pause is due after a token that matches.
    worker.record_trial(&trials[0], true);
    assert_eq!(fill(&mut worker).len(), 1, "the other client has a lane");
}

#[test]
fn worker_fills_a_free_lane_while_others_go_on() {
    let verifier = without_threads(&["a"]);
    let all: Vec<_> = (0..6).map(|number| token(&number.to_string())).collect();
    let _waiting: Vec<_> = all.iter().map(|token| verifier.submit_from(token, None)).collect();
    let mut worker = Worker::new(&verifier.workers.shared);
    let trials = fill(&mut worker);
    // No pause is due after a token that matches.
    worker.record_trial(&trials[1], true);
    assert_eq!(fill(&mut worker).len(), 1);
    assert_eq!(tokens(&worker), [all[0], all[2], all[3]]);
}

#[test]
fn worker_tries_every_secret_of_a_token_once_before_it_takes_the_next_token() {
    let verifier = without_threads(&SECRETS);
    let [first, second] = ["of nobody", "of nobody else"].map(token);
    let _waiting = [first, second].map(|token| verifier.submit_from(&token, None));
    let ids: Vec<_> = locked(&verifier.current).keyring.ids().collect();
    let mut worker = Worker::new(&verifier.workers.shared);
    let mut tried = Vec::new();
    while tried.len() < SECRETS.len() {
        assert_eq!(verifier.status(&first), None, "after {} secrets", tried.len());
        let job = worker.next().unwrap();
        tried.push(job.tag.secret);
        worker.record_trial(&job.tag, false);
    }
    assert_eq!(tried, ids);
    assert_eq!(verifier.status(&first), Some(TokenStatus::Rejected));
    assert!(worker.next().is_some());
    assert_eq!(tokens(&worker), [second]);
}

#[test]
fn worker_tries_no_further_secret_after_one_has_matched() {
    let verifier = without_threads(&SECRETS);
    let good = token("c");
    let _waiting = verifier.submit_from(&good, None);
    let mut worker = Worker::new(&verifier.workers.shared);
    let trials = fill(&mut worker);
    assert_eq!(trials.len(), MAX_LANES);
    worker.record_trial(&trials[0], false);
    assert_eq!(worker.verifications[0].tried, 1);
    worker.record_trial(&trials[2], true);
    let found = Some(TokenStatus::Verified(trials[2].secret));
    assert_eq!(verifier.status(&good), found, "at once, though other lanes go on");
    assert!(worker.next().is_none());
    // What the others compute changes nothing.
    worker.record_trial(&trials[1], false);
    worker.record_trial(&trials[3], true);
    assert_eq!((verifier.status(&good), verifier.hashes()), (found, 1));
}

#[tokio::test]
async fn worker_finds_each_of_many_secrets() {
    let verifier = verifier(&SECRETS);
    for plain in SECRETS {
        let token = token(plain);
        let found = loop {
            // A busy machine may take longer than the timeout.
            match verifier.verify(&token, None).await {
                Ok(found) => break found,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        assert_eq!(found.unwrap().name(), plain);
    }
}

#[test]
fn worker_leaves_tokens_to_an_idle_one() {
    let verifier = without_threads(&["a"]);
    let _waiting = ["1", "2"].map(|plain| verifier.submit_from(&token(plain), None));
    let shared = &verifier.workers.shared;
    let mut worker = Worker::new(shared);
    locked(&shared.state).idle = 1;
    assert_eq!(fill(&mut worker).len(), 1, "one to itself");
    locked(&shared.state).idle = 0;
    assert_eq!(fill(&mut worker).len(), 1);
}

#[test]
fn worker_finishes_the_tokens_it_has_started_at_the_end_and_takes_no_other() {
    let verifier = without_threads(&["a", "b", "c"]);
    let [started, queued] = ["c", "b"].map(token);
    let _waiting = [started, queued].map(|token| verifier.submit_from(&token, None));
    let mut worker = Worker::new(&verifier.workers.shared);
    let first = worker.next().unwrap();
    locked(&verifier.workers.shared.state).closed = true;
    let others = fill(&mut worker);
    assert_eq!(others.len(), 2, "its other secrets");
    worker.record_trial(&first.tag, false);
    worker.record_trial(&others[0], false);
    worker.record_trial(&others[1], true);
    assert_eq!(verifier.status(&started), Some(TokenStatus::Verified(others[1].secret)));
    assert!(worker.next().is_none());
    assert_eq!(verifier.status(&queued), None);
}

/// Rejects a token that was hashed on a core that others wanted half of.
fn reject_on_a_contended_core(worker: &mut Worker<'_>, trial: &Trial) {
    let verification = worker
        .verifications
        .iter_mut()
        .find(|verification| verification.number == trial.verification)
        .unwrap();
    let cpu = Some(Duration::from_secs(1));
    verification.spent = LaneTime { wall: Duration::from_secs(2), cpu };
    worker.record_trial(trial, false);
}

#[test]
fn worker_pauses_after_forgeries_and_then_takes_one_token_at_a_time_until_one_matches() {
    let verifier = without_threads(&["a"]);
    let all: Vec<_> = (0..20).map(|number| token(&number.to_string())).collect();
    let _waiting: Vec<_> = all.iter().map(|token| verifier.submit_from(token, None)).collect();
    let mut worker = Worker::new(&verifier.workers.shared);
    let trials = fill(&mut worker);
    reject_on_a_contended_core(&mut worker, &trials[0]);
    assert!(worker.next().is_none(), "a pause is due");
    for trial in &trials[1..] {
        reject_on_a_contended_core(&mut worker, trial);
    }
    let started_at = Instant::now();
    worker.pause();
    assert!(started_at.elapsed() >= verifier.workers.shared.timeout, "it has paused");
    for _ in 0..2 {
        let trials = fill(&mut worker);
        assert_eq!(trials.len(), 1, "a forgery and its pause at a time");
        reject_on_a_contended_core(&mut worker, &trials[0]);
        worker.pause();
    }
    let trials = fill(&mut worker);
    worker.record_trial(&trials[0], true);
    assert_eq!(fill(&mut worker).len(), MAX_LANES - 1, "all but the last lane");
}

#[test]
fn worker_charges_each_token_for_its_share_of_the_time() {
    let hour = Duration::from_secs(3600);
    let mut clock = LaneClock::new();
    let first = clock.start();
    clock.at -= hour;
    let others = [(); 2].map(|()| clock.start());
    clock.at -= hour * 3;
    let end = clock.end();
    let shares = [first, others[0], others[1]].map(|started_at| end.since(started_at).wall.as_secs() / 3600);
    assert_eq!(shares, [2, 1, 1], "an hour alone, and three that were shared");
}

#[test]
fn worker_rejects_a_token_if_there_are_no_secrets() {
    let verifier = without_threads(&[]);
    let any = token("any");
    let _waiting = verifier.submit_from(&any, None);
    Worker::new(&verifier.workers.shared).run();
    assert_eq!(verifier.status(&any), Some(TokenStatus::Rejected));
}

/// What a request has got: a status, or `None` if it got an error.
fn outcome(waiting: &mut PendingRequest) -> Option<TokenStatus> {
    match Pin::new(&mut waiting.result).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result.ok().map(|hashed| hashed.status),
        Poll::Pending => panic!("the request still waits"),
    }
}

/// A request's waker is foreign code.
#[test]
fn worker_survives_a_waker_that_panics() {
    struct Panicking;
    impl Wake for Panicking {
        fn wake(self: Arc<Self>) {
            panic!("a waker's");
        }
    }
    let verifier = without_threads(&["a"]);
    let all: Vec<_> = (0..6).map(|number| token(&number.to_string())).collect();
    let mut waiting: Vec<_> = all.iter().map(|token| verifier.submit_from(token, None)).collect();
    let waker = Waker::from(Arc::new(Panicking));
    for waiting in &mut waiting {
        assert!(Pin::new(&mut waiting.result).poll(&mut Context::from_waker(&waker)).is_pending());
    }
    let mut worker = Worker::new(&verifier.workers.shared);
    while !locked(&verifier.workers.shared.state).queue.is_empty() {
        worker.run();
    }
    for waiting in &mut waiting {
        assert_eq!(outcome(waiting), Some(TokenStatus::Rejected));
    }
}

#[test]
fn worker_tells_requests_when_their_token_was_lost() {
    let verifier = without_threads(&["a"]);
    let all = ["1", "2", "3"].map(token);
    let mut waiting = all.map(|token| verifier.submit_from(&token, None));
    let mut worker = Worker::new(&verifier.workers.shared);
    let trials = fill(&mut worker);
    // Nothing else begins, so that it runs as after a panic.
    reject_on_a_contended_core(&mut worker, &trials[0]);
    worker.run();
    let outcomes = waiting.each_mut().map(outcome);
    assert_eq!(outcomes, [Some(TokenStatus::Rejected), None, None]);
    assert!(locked(&verifier.workers.shared.state).pending.is_empty(), "so that they may come again");
}
