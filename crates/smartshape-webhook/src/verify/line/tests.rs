use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use super::*;

/// What a token of cost 10 is charged with one secret.
const UNITS: u64 = 64;
/// So that ten such tokens may be ahead of one.
const ROOM: u64 = 10 * UNITS;

fn source(number: u8) -> Option<Source> {
    Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, number)).into())
}

/// A line of tokens that are their own items.
struct Desk(Line<String>);

impl Desk {
    fn new() -> Self {
        Self(Line::new())
    }

    /// Who is sent away when this token comes.
    fn ask(&mut self, from: u8, token: &str) -> Vec<String> {
        self.ask_units(from, token, UNITS)
    }

    fn ask_units(&mut self, from: u8, token: &str, units: u64) -> Vec<String> {
        self.0.enter(token.as_bytes(), source(from), units, token.to_owned(), ROOM)
    }

    /// As many tokens that nobody has seen before.
    fn forge(&mut self, from: u8, series: &str, count: usize) {
        for number in 0..count {
            self.ask(from, &format!("{series}{number}"));
        }
    }

    fn hash(&mut self) -> Option<String> {
        let (token, units) = self.0.next(ROOM)?;
        self.0.done(units);
        Some(token)
    }

    fn hash_all(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.hash()).collect()
    }
}

#[test]
fn one_source_is_served_in_the_order_of_arrival_and_its_newcomers_are_sent_away() {
    let mut desk = Desk::new();
    for number in 0..11 {
        assert_eq!(desk.ask(1, &number.to_string()), [] as [&str; 0]);
    }
    assert_eq!(desk.ask(1, "over"), ["over"]);
    assert_eq!(desk.hash_all(), ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]);
}

#[test]
fn a_quiet_source_is_next_and_pushes_out_the_newest_of_the_busiest() {
    let mut desk = Desk::new();
    desk.forge(1, "one", 4);
    desk.forge(2, "two", 7);
    assert_eq!(desk.hash().as_deref(), Some("one0"));
    desk.forge(2, "more", 1);
    assert_eq!(desk.ask(3, "quiet"), ["more0"]);
    assert_eq!(desk.ask(2, "another"), ["another"], "the busiest source gets no more");
    assert_eq!(desk.hash().as_deref(), Some("two0"), "it had not had its turn");
    assert_eq!(desk.hash().as_deref(), Some("quiet"));
    assert_eq!(desk.hash().as_deref(), Some("one1"));
    assert_eq!(desk.hash().as_deref(), Some("two1"));
}

#[test]
fn a_source_that_was_served_is_no_busier_for_it() {
    let mut desk = Desk::new();
    desk.forge(1, "one", 4);
    assert_eq!(desk.hash().as_deref(), Some("one0"));
    desk.forge(2, "two", 5);
    desk.forge(3, "three", 3);
    assert_eq!(desk.ask(4, "quiet"), ["two4"]);
}

#[test]
fn turns_are_counted_in_what_they_cost() {
    let mut desk = Desk::new();
    for number in 0..2 {
        desk.ask_units(1, &format!("costly{number}"), 2 * UNITS);
    }
    for number in 0..6 {
        desk.ask_units(2, &format!("cheap{number}"), UNITS);
    }
    let order = ["costly0", "cheap0", "cheap1", "costly1", "cheap2", "cheap3", "cheap4", "cheap5"];
    assert_eq!(desk.hash_all(), order);
}

#[test]
fn a_token_too_costly_for_the_room_is_hashed_when_nothing_is_ahead_of_it() {
    let mut desk = Desk::new();
    assert_eq!(desk.ask_units(1, "huge", 2 * ROOM), [] as [&str; 0]);
    assert_eq!(desk.ask(1, "later"), ["later"]);
    assert_eq!(desk.ask(2, "elsewhere"), ["elsewhere"], "what is ahead of it takes too long");
    let (token, units) = desk.0.next(ROOM).unwrap();
    assert_eq!(token, "huge");
    assert_eq!(desk.ask(2, "elsewhere"), ["elsewhere"], "what is at work counts");
    desk.0.done(units);
    assert_eq!(desk.ask(2, "elsewhere"), [] as [&str; 0]);
}

#[test]
fn a_costly_token_may_be_the_last_that_finds_a_place() {
    let mut line = Line::new();
    let room = MAX_WAITING as u64;
    for number in 1..MAX_WAITING {
        assert!(line.enter(&number.to_le_bytes(), source(1), 1, number, room).is_empty());
    }
    assert!(line.enter(b"costly", source(1), 2 * room, MAX_WAITING, room).is_empty());
    assert_eq!(line.enter(b"over", source(1), 1, 0, 4 * room), [0]);
}

#[test]
fn a_token_that_comes_again_keeps_its_place_where_all_are_one_source() {
    let mut desk = Desk::new();
    desk.forge(1, "before", 11);
    assert_eq!(desk.ask(1, "real"), ["real"]);
    for round in 0..5 {
        desk.hash();
        desk.forge(1, &format!("after{round}-"), 20);
    }
    assert_eq!(desk.ask(1, "real"), ["after4-0"]);
    let order = desk.hash_all();
    assert_eq!(
        order.iter().position(|token| token == "real"),
        Some(6),
        "behind those who were before: {order:?}"
    );
}

#[test]
fn a_token_that_comes_again_keeps_its_place_when_every_forgery_has_its_own_source() {
    let mut desk = Desk::new();
    for forger in 1..=11 {
        desk.ask(forger, &format!("before{forger}"));
    }
    assert_eq!(desk.ask(200, "real"), ["real"]);
    for forger in 20..150 {
        desk.ask(forger, &format!("after{forger}"));
        if forger % 20 == 0 {
            desk.hash();
        }
    }
    assert_eq!(desk.ask(200, "real").len(), 1);
    let order = desk.hash_all();
    assert_eq!(order.iter().position(|token| token == "real"), Some(4), "{order:?}");
}

#[test]
fn who_was_idle_is_owed_nothing() {
    let mut desk = Desk::new();
    for number in 0..50 {
        desk.ask(1, &format!("alone{number}"));
        desk.hash();
    }
    desk.forge(1, "one", 3);
    desk.forge(2, "two", 3);
    assert_eq!(desk.hash_all(), ["two0", "one0", "two1", "one1", "two2", "one2"]);
}

#[test]
fn hoarded_places_give_one_source_no_more_than_its_turns() {
    let mut desk = Desk::new();
    desk.forge(1, "hoard", 500);
    for round in 0..1000 {
        desk.ask(2, &format!("busy{round}"));
        desk.hash();
    }
    // The hoarder comes back with one token after the other, each first asked for long ago.
    let mut hoarded = 0;
    for number in 0..400 {
        desk.ask(1, &format!("hoard{}", 50 + number));
        desk.ask(3, &format!("quiet{number}"));
        hoarded += usize::from(desk.hash().unwrap().starts_with("hoard"));
    }
    assert!((190..=220).contains(&hoarded), "{hoarded} of 400, and half is its share");
}

#[test]
fn memory_is_bounded() {
    let mut desk = Desk::new();
    desk.forge(1, "forged", 3 * PLACES);
    assert!(desk.0.places.len() <= 2 * PLACES);
    let other = |number: usize| {
        let bits = u128::try_from(number).unwrap() << 64;
        Some(Source::from(IpAddr::V6(std::net::Ipv6Addr::from_bits(bits))))
    };
    for number in 0..2 * MAX_WAITING {
        desk.0.enter(&number.to_le_bytes(), other(number), 1, number.to_string(), u64::MAX);
    }
    assert_eq!(desk.0.waiting, MAX_WAITING);
    assert!(desk.0.lanes.len() <= MAX_WAITING);
    for number in 0..4 * SOURCES {
        desk.hash();
        desk.0.enter(format!("more{number}").as_bytes(), other(number), 1, number.to_string(), u64::MAX);
    }
    assert!(desk.0.served.len() <= 2 * SOURCES);
    desk.hash_all();
    assert!(desk.0.lanes.is_empty());
}

/// Random numbers that are the same at each run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[test]
fn whatever_comes_none_is_lost_doubled_stuck_or_over_the_bound() {
    for seed in 1..=200 {
        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ seed);
        let mut desk = Desk::new();
        let mut waiting: HashMap<String, u64> = HashMap::new();
        let mut at_work: Vec<(String, u64)> = Vec::new();
        for step in 0..500 {
            match random.below(5) {
                0..3 => {
                    // Some tokens come again, as long as the pool does not have them.
                    let token = if random.below(3) == 0 {
                        random.below(step + 1).to_string()
                    } else {
                        step.to_string()
                    };
                    if waiting.contains_key(&token) || at_work.iter().any(|(known, _)| *known == token) {
                        continue;
                    }
                    let units = 1 << random.below(10);
                    waiting.insert(token.clone(), units);
                    let sent_away = desk.ask_units(random.below(6) as u8, &token, units);
                    for token in sent_away {
                        assert!(waiting.remove(&token).is_some(), "seed {seed}: {token} was not in line");
                    }
                    let all = waiting.values().chain(at_work.iter().map(|(_, units)| units)).sum::<u64>();
                    let largest = waiting.values().max().copied().unwrap_or(0);
                    assert!(waiting.is_empty() || all - largest <= ROOM, "seed {seed}: {all} units");
                }
                3 => {
                    if at_work.len() < 3
                        && let Some((token, units)) = desk.0.next(ROOM)
                    {
                        assert_eq!(waiting.remove(&token), Some(units), "seed {seed}");
                        at_work.push((token, units));
                    }
                }
                _ => {
                    if let Some((_, units)) = at_work.pop() {
                        desk.0.done(units);
                    }
                }
            }
            assert_eq!(desk.0.waiting, waiting.len(), "seed {seed}");
            let all = waiting.values().chain(at_work.iter().map(|(_, units)| units)).sum::<u64>();
            assert_eq!(desk.0.units, all, "seed {seed}");
        }
        let left: Vec<_> = desk.hash_all();
        assert_eq!(left.len(), waiting.len(), "seed {seed}");
        assert!(left.iter().all(|token| waiting.contains_key(token)), "seed {seed}");
    }
}

#[test]
fn sources_that_always_have_tokens_waiting_are_served_alike() {
    for seed in 1..=10 {
        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ seed);
        let mut desk = Desk::new();
        let mut served = [0_u64; 4];
        for step in 0..400 {
            // Each has one waiting at least, some many times as many.
            for (number, many) in [1_u64, 1, 4, 20].iter().enumerate() {
                for again in 0..1 + random.below(*many) {
                    let token = format!("{number}/{step}/{again}");
                    desk.0.enter(
                        token.as_bytes(),
                        source(number as u8),
                        1 << random.below(4),
                        token.clone(),
                        200,
                    );
                }
            }
            let (token, units) = desk.0.next(200).unwrap();
            desk.0.done(units);
            served[usize::from(token.as_bytes()[0] - b'0')] += units;
        }
        let (least, most) = (served.iter().min().unwrap(), served.iter().max().unwrap());
        assert!(most - least <= 16, "seed {seed}: {served:?}");
    }
}
