//! When `run` asks for jobs, and when it hands outcomes out.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};

use bcrypt_lanes::{Hash, Job, MAX_LANES, run};

fn hash(cost: u32) -> Hash {
    bcrypt::hash_with_salt("right", cost, [7; 16]).unwrap().to_string().parse().unwrap()
}

fn job<T>(cost: u32, tag: T) -> Job<&'static str, T> {
    Job { password: "right", hash: hash(cost), tag }
}

#[test]
fn without_a_job_nothing_happens() {
    run(|| None::<Job<&str, ()>>, |(), _| unreachable!());
}

#[test]
fn a_lane_that_is_done_takes_the_next_job_while_others_go_on() {
    let mut waiting: Vec<_> = (0..9).map(|number| job(4, number)).collect();
    waiting.push(job(9, 100));
    let ended = RefCell::new(Vec::new());
    run(
        || waiting.pop(),
        |number, matches| {
            assert!(matches);
            ended.borrow_mut().push(number);
        },
    );
    assert_eq!(ended.borrow().len(), 10);
    assert_eq!(ended.borrow().last(), Some(&100), "the costly one came first and ended last");
}

#[test]
fn a_job_that_comes_later_begins_beside_the_others() {
    let asked = Cell::new(0);
    let mut waiting = vec![job(5, "later"), job(9, "first")];
    let mut ended = Vec::new();
    run(
        || {
            asked.set(asked.get() + 1);
            if asked.get() == 2 { None } else { waiting.pop() }
        },
        |tag, _| ended.push(tag),
    );
    assert_eq!(ended, ["later", "first"]);
}

#[test]
fn never_more_jobs_than_lanes_are_taken_at_once() {
    let (taken, ended) = (Cell::new(0), Cell::new(0));
    run(
        || {
            assert!(taken.get() - ended.get() < MAX_LANES);
            taken.set(taken.get() + 1);
            (taken.get() <= 11).then(|| job(4, ()))
        },
        |(), _| ended.set(ended.get() + 1),
    );
    assert_eq!(ended.get(), 11);
}

#[test]
fn outcomes_belong_to_their_jobs_whatever_ends_first() {
    let mut waiting: Vec<_> = (0..24)
        .map(|number| {
            let password = if number % 3 == 0 { "right" } else { "wrong" };
            Job { password, hash: hash(4 + number % 4), tag: number }
        })
        .collect();
    run(|| waiting.pop(), |number, matches| assert_eq!(matches, number % 3 == 0, "{number}"));
}

#[test]
fn a_panic_of_the_caller_passes_through() {
    let mut waiting = vec![job(4, ()), job(4, ())];
    let ended = catch_unwind(AssertUnwindSafe(|| run(|| waiting.pop(), |(), _| panic!("the caller's"))));
    assert!(ended.is_err());
}
