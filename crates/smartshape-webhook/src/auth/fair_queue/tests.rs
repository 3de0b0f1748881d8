use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use super::*;

/// The work of a token with bcrypt cost 10 and one secret.
const WORK: u64 = 64;
/// Ten such tokens may be ahead of one.
const CAPACITY: u64 = 10 * WORK;

fn client(number: u8) -> Option<ClientAddr> {
    Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, number)).into())
}

/// A queue of tokens that are their own items.
struct TestQueue(FairQueue<String>);

impl TestQueue {
    fn new() -> Self {
        Self(FairQueue::new())
    }

    /// Pushes a token, and returns those that are evicted.
    fn push(&mut self, from: u8, token: &str) -> Vec<String> {
        self.push_with_work(from, token, WORK)
    }

    fn push_with_work(&mut self, from: u8, token: &str, work: u64) -> Vec<String> {
        self.0.push(token.as_bytes(), client(from), work, token.to_owned(), CAPACITY)
    }

    /// Pushes this many tokens that have never been seen.
    fn forge(&mut self, from: u8, series: &str, count: usize) {
        for number in 0..count {
            self.push(from, &format!("{series}{number}"));
        }
    }

    fn hash(&mut self) -> Option<String> {
        let (token, work) = self.0.pop(CAPACITY, |_| true)?;
        self.0.complete(work);
        Some(token)
    }

    fn hash_all(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.hash()).collect()
    }
}

#[test]
fn fair_queue_serves_one_flow_in_order_and_evicts_its_newest() {
    let mut queue = TestQueue::new();
    for number in 0..11 {
        assert_eq!(queue.push(1, &number.to_string()), [] as [&str; 0]);
    }
    assert_eq!(queue.push(1, "over"), ["over"]);
    assert_eq!(queue.hash_all(), ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]);
}

#[test]
fn fair_queue_serves_a_quiet_flow_next_and_evicts_the_newest_of_the_busiest() {
    let mut queue = TestQueue::new();
    queue.forge(1, "one", 4);
    queue.forge(2, "two", 7);
    assert_eq!(queue.hash().as_deref(), Some("one0"));
    queue.forge(2, "more", 1);
    assert_eq!(queue.push(3, "quiet"), ["more0"]);
    assert_eq!(queue.push(2, "another"), ["another"], "the busiest client gets no more");
    assert_eq!(queue.hash().as_deref(), Some("two0"), "it had not had its turn");
    assert_eq!(queue.hash().as_deref(), Some("quiet"));
    assert_eq!(queue.hash().as_deref(), Some("one1"));
    assert_eq!(queue.hash().as_deref(), Some("two1"));
}

#[test]
fn fair_queue_does_not_hold_past_service_against_a_flow() {
    let mut queue = TestQueue::new();
    queue.forge(1, "one", 4);
    assert_eq!(queue.hash().as_deref(), Some("one0"));
    queue.forge(2, "two", 5);
    queue.forge(3, "three", 3);
    assert_eq!(queue.push(4, "quiet"), ["two4"]);
}

#[test]
fn fair_queue_counts_work_and_not_tokens() {
    let mut queue = TestQueue::new();
    for number in 0..2 {
        queue.push_with_work(1, &format!("costly{number}"), 2 * WORK);
    }
    for number in 0..6 {
        queue.push_with_work(2, &format!("cheap{number}"), WORK);
    }
    let order = ["costly0", "cheap0", "cheap1", "costly1", "cheap2", "cheap3", "cheap4", "cheap5"];
    assert_eq!(queue.hash_all(), order);
}

#[test]
fn fair_queue_takes_a_token_above_capacity_when_it_is_empty() {
    let mut queue = TestQueue::new();
    assert_eq!(queue.push_with_work(1, "huge", 2 * CAPACITY), [] as [&str; 0]);
    assert_eq!(queue.push(1, "later"), ["later"]);
    assert_eq!(queue.push(2, "elsewhere"), ["elsewhere"], "what is ahead of it takes too long");
    let (token, work) = queue.0.pop(CAPACITY, |_| true).unwrap();
    assert_eq!(token, "huge");
    assert_eq!(queue.push(2, "elsewhere"), ["elsewhere"], "a token that is being hashed counts");
    queue.0.complete(work);
    assert_eq!(queue.push(2, "elsewhere"), [] as [&str; 0]);
}

#[test]
fn fair_queue_takes_a_costly_token_as_the_last_one() {
    let mut queue = FairQueue::new();
    let capacity = MAX_WAITING as u64;
    for number in 1..MAX_WAITING {
        assert!(queue.push(&number.to_le_bytes(), client(1), 1, number, capacity).is_empty());
    }
    assert!(queue.push(b"costly", client(1), 2 * capacity, MAX_WAITING, capacity).is_empty());
    assert_eq!(queue.push(b"over", client(1), 1, 0, 4 * capacity), [0]);
}

#[test]
fn fair_queue_keeps_the_arrival_of_a_repeated_token_within_one_flow() {
    let mut queue = TestQueue::new();
    queue.forge(1, "before", 11);
    assert_eq!(queue.push(1, "real"), ["real"]);
    for round in 0..5 {
        queue.hash();
        queue.forge(1, &format!("after{round}-"), 20);
    }
    assert_eq!(queue.push(1, "real"), ["after4-0"]);
    let order = queue.hash_all();
    assert_eq!(
        order.iter().position(|token| token == "real"),
        Some(6),
        "behind those who were before: {order:?}"
    );
}

#[test]
fn fair_queue_keeps_the_arrival_of_a_repeated_token_among_many_flows() {
    let mut queue = TestQueue::new();
    for forger in 1..=11 {
        queue.push(forger, &format!("before{forger}"));
    }
    assert_eq!(queue.push(200, "real"), ["real"]);
    for forger in 20..150 {
        queue.push(forger, &format!("after{forger}"));
        if forger % 20 == 0 {
            queue.hash();
        }
    }
    assert_eq!(queue.push(200, "real").len(), 1);
    let order = queue.hash_all();
    assert_eq!(order.iter().position(|token| token == "real"), Some(4), "{order:?}");
}

#[test]
fn fair_queue_gives_an_idle_flow_no_credit() {
    let mut queue = TestQueue::new();
    for number in 0..50 {
        queue.push(1, &format!("alone{number}"));
        queue.hash();
    }
    queue.forge(1, "one", 3);
    queue.forge(2, "two", 3);
    assert_eq!(queue.hash_all(), ["two0", "one0", "two1", "one1", "two2", "one2"]);
}

#[test]
fn fair_queue_gives_hoarded_arrivals_no_advantage() {
    let mut queue = TestQueue::new();
    queue.forge(1, "hoard", 500);
    for round in 0..1000 {
        queue.push(2, &format!("busy{round}"));
        queue.hash();
    }
    // The hoarder comes back with one token after the other, each first asked for long ago.
    let mut hoarded = 0;
    for number in 0..400 {
        queue.push(1, &format!("hoard{}", 50 + number));
        queue.push(3, &format!("quiet{number}"));
        hoarded += usize::from(queue.hash().unwrap().starts_with("hoard"));
    }
    assert!((190..=220).contains(&hoarded), "{hoarded} of 400, and half is its share");
}

#[test]
fn fair_queue_bounds_its_memory() {
    let mut queue = TestQueue::new();
    queue.forge(1, "forged", 3 * ARRIVALS);
    assert!(queue.0.arrivals.len() <= 2 * ARRIVALS);
    let other = |number: usize| {
        let bits = u128::try_from(number).unwrap() << 64;
        Some(ClientAddr::from(IpAddr::V6(std::net::Ipv6Addr::from_bits(bits))))
    };
    for number in 0..2 * MAX_WAITING {
        queue.0.push(&number.to_le_bytes(), other(number), 1, number.to_string(), u64::MAX);
    }
    assert_eq!(queue.0.waiting, MAX_WAITING);
    assert!(queue.0.flows.len() <= MAX_WAITING);
    for number in 0..4 * FLOWS {
        queue.hash();
        queue.0.push(format!("more{number}").as_bytes(), other(number), 1, number.to_string(), u64::MAX);
    }
    assert!(queue.0.finish_tags.len() <= 2 * FLOWS);
    queue.hash_all();
    assert!(queue.0.flows.is_empty());
}

#[test]
fn fair_queue_loses_and_doubles_no_token() {
    for seed in 1..=200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut queue = TestQueue::new();
        let mut waiting: HashMap<String, u64> = HashMap::new();
        let mut in_flight: Vec<(String, u64)> = Vec::new();
        for step in 0..500 {
            match random.u64(..5) {
                0..3 => {
                    // Some tokens come again, as long as they are neither queued nor being hashed.
                    let token = if random.u64(..3) == 0 {
                        random.u64(..step + 1).to_string()
                    } else {
                        step.to_string()
                    };
                    if waiting.contains_key(&token) || in_flight.iter().any(|(known, _)| *known == token) {
                        continue;
                    }
                    let work = 1 << random.u64(..10);
                    waiting.insert(token.clone(), work);
                    let evicted = queue.push_with_work(random.u64(..6) as u8, &token, work);
                    for token in evicted {
                        assert!(waiting.remove(&token).is_some(), "seed {seed}: {token} was not queued");
                    }
                    let all = waiting.values().chain(in_flight.iter().map(|(_, work)| work)).sum::<u64>();
                    let largest = waiting.values().max().copied().unwrap_or(0);
                    assert!(waiting.is_empty() || all - largest <= CAPACITY, "seed {seed}: work of {all}");
                }
                3 => {
                    if in_flight.len() < 3
                        && let Some((token, work)) = queue.0.pop(CAPACITY, |_| true)
                    {
                        assert_eq!(waiting.remove(&token), Some(work), "seed {seed}");
                        in_flight.push((token, work));
                    }
                }
                _ => {
                    if let Some((_, work)) = in_flight.pop() {
                        queue.0.complete(work);
                    }
                }
            }
            assert_eq!(queue.0.waiting, waiting.len(), "seed {seed}");
            let all = waiting.values().chain(in_flight.iter().map(|(_, work)| work)).sum::<u64>();
            assert_eq!(queue.0.work, all, "seed {seed}");
        }
        let left: Vec<_> = queue.hash_all();
        assert_eq!(left.len(), waiting.len(), "seed {seed}");
        assert!(left.iter().all(|token| waiting.contains_key(token)), "seed {seed}");
    }
}

#[test]
fn fair_queue_serves_backlogged_flows_alike() {
    for seed in 1..=10 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut queue = TestQueue::new();
        let mut served = [0_u64; 4];
        for step in 0..400 {
            // Each has one waiting at least, some many times as many.
            for (number, many) in [1_u64, 1, 4, 20].iter().enumerate() {
                for again in 0..1 + random.u64(..*many) {
                    let token = format!("{number}/{step}/{again}");
                    queue.0.push(
                        token.as_bytes(),
                        client(number as u8),
                        1 << random.u64(..4),
                        token.clone(),
                        200,
                    );
                }
            }
            let (token, work) = queue.0.pop(200, |_| true).unwrap();
            queue.0.complete(work);
            served[usize::from(token.as_bytes()[0] - b'0')] += work;
        }
        let (least, most) = (served.iter().min().unwrap(), served.iter().max().unwrap());
        assert!(most - least <= 16, "seed {seed}: {served:?}");
    }
}
