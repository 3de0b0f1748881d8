use super::*;
use crate::secret::{NamedSecret, Secret};
use crate::verify::Verifier;

const UNIT: u64 = 900_000;

fn verifier(secrets: &[&str], threads: usize) -> Verifier {
    let named = |plain: &&str| NamedSecret::new(*plain, Secret::new(*plain).unwrap());
    let settings = Settings {
        hash_wait: Duration::from_secs(9),
        hash_threads: threads,
        lowest_priority: false,
        known_tokens: 8,
        refused_tokens: 8,
    };
    Verifier::new(secrets.iter().map(named).collect(), &settings).unwrap()
}

fn token(plain: &str, cost: u32) -> Token {
    // Only the form of a costly one matters.
    let hash = bcrypt::hash(plain, 4).unwrap().replacen("$04$", &format!("${cost:02}$"), 1);
    Token::parse(hash.as_bytes()).unwrap()
}

#[test]
fn a_token_is_charged_for_its_cost_and_every_secret() {
    for (secrets, cost, units) in [
        (&["a"][..], 4, 1),
        (&["a"], 5, 2),
        (&["a"], 10, 64),
        (&["a", "b", "c"], 4, 3),
        (&["a", "b"], 12, 512),
    ] {
        let verifier = verifier(secrets, 1);
        assert_eq!(verifier.pool.queue.units(&token("x", cost)), units, "{secrets:?} at {cost}");
    }
}

#[test]
fn the_line_is_as_long_as_all_threads_do_in_the_wait() {
    let one = verifier(&["a"], 1);
    assert_eq!(one.pool.queue.room(), 9_000_000_000 / UNIT);
    let two = verifier(&["a"], 2);
    let queue = &two.pool.queue;
    assert_eq!(queue.room(), 2 * one.pool.queue.room());
    // One token of 64 units that took twice as long as was assumed.
    queue.measured(Duration::from_nanos(64 * 2 * UNIT), 64);
    assert_eq!(queue.room(), 18_000_000_000 / (UNIT / 8 * 9));
    for _ in 0..100 {
        queue.measured(Duration::from_nanos(64 * 2 * UNIT), 64);
    }
    let (room, expected) = (queue.room(), 18_000_000_000 / (2 * UNIT));
    assert!((expected..expected + 10).contains(&room), "{room}, and {expected} was measured");
}

#[tokio::test]
async fn only_a_token_that_was_tried_with_every_secret_says_what_one_costs() {
    let verifier = verifier(&["a", "b"], 1);
    let queue = &verifier.pool.queue;
    let measured = || queue.unit_nanos.load(Ordering::Relaxed);
    assert!(matches!(verifier.pool.hash(token("a", 4), None).await, Ok(Verdict::Matches(_))));
    assert_eq!(measured(), UNIT);
    assert_eq!(verifier.pool.hash(token("of nobody", 4), None).await.ok(), Some(Verdict::MatchesNone));
    assert_ne!(measured(), UNIT);
}

#[test]
fn askers_are_bounded_for_each_token_and_in_all() {
    let verifier = verifier(&["a"], 1);
    // Nothing leaves the line.
    locked(&verifier.pool.queue.state).started = true;
    let tokens: Vec<_> = (0..6).map(|number| token(&number.to_string(), 4)).collect();
    let ask = |token: Token| -> Vec<_> {
        let asked = (0..300).map(|_| verifier.pool.ask(token, None));
        asked.filter_map(Result::ok).collect()
    };
    let mut askers: Vec<_> = tokens.iter().map(|token| ask(*token)).collect();
    // Of 1,024 later ones four are left for the fifth. The first of each token is none of them.
    assert_eq!(askers.iter().map(Vec::len).collect::<Vec<_>>(), [256, 256, 256, 256, 5, 1]);
    // Whoever leaves makes room, be it the first.
    askers[0].clear();
    let (sixth, first) = (ask(tokens[5]), ask(tokens[0]));
    assert_eq!([sixth.len(), first.len()], [255, 1]);
    askers[1].truncate(200);
    assert_eq!(ask(tokens[0]).len(), 56);
    assert_eq!(locked(&verifier.pool.queue.state).forget(&tokens[2]).len(), 256);
    assert_eq!(ask(tokens[1]).len(), 56);
    drop(askers);
    drop((sixth, first));
    assert_eq!(locked(&verifier.pool.queue.state).later, 0);
}

#[tokio::test(start_paused = true)]
async fn the_log_tells_a_long_line_from_cores_that_are_busy() {
    let verifier = verifier(&["a"], 1);
    // No thread ever gets to it.
    locked(&verifier.pool.queue.state).started = true;
    let late = verifier.pool.hash(token("a", 4), None).await.unwrap_err();
    assert_eq!(late.why, TOO_LATE);
    let other = token("b", 4);
    let _askers: Vec<_> = (0..ASKERS_PER_TOKEN).map(|_| verifier.pool.ask(other, None)).collect();
    assert_eq!(verifier.pool.hash(other, None).await.unwrap_err().why, TOO_MANY);
}

#[tokio::test]
async fn threads_end_with_their_receiver() {
    let verifier = verifier(&["a"], 2);
    assert!(verifier.pool.hash(token("a", 4), None).await.is_ok());
    let queue = Arc::downgrade(&verifier.pool.queue);
    drop(verifier);
    let begun = Instant::now();
    while queue.strong_count() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "a thread goes on without its receiver");
        std::thread::yield_now();
    }
}
