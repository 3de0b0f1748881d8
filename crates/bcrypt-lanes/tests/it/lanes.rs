//! When `run` asks for jobs, and when it hands outcomes out.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use bcrypt_lanes::{Hash, Job, MAX_LANES, run, verify_all};

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
fn idle_lane_takes_the_next_job_while_others_run() {
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
fn later_job_starts_beside_the_others() {
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
fn panic_of_the_caller_passes_through_and_drops_started_jobs() {
    let tag = Rc::new(());
    for panics_at in 1..=6 {
        let mut waiting: Vec<_> = (0..5).map(|_| job(4, Rc::clone(&tag))).collect();
        let mut asked = 0;
        let next = || {
            asked += 1;
            assert!(asked < panics_at, "the caller's");
            waiting.pop()
        };
        assert!(catch_unwind(AssertUnwindSafe(|| run(next, |_, _| {}))).is_err());
        drop(waiting);
        assert_eq!(Rc::strong_count(&tag), 1);
    }
    let mut waiting = vec![job(4, ()), job(4, ())];
    let ended = catch_unwind(AssertUnwindSafe(|| run(|| waiting.pop(), |(), _| panic!("the caller's"))));
    assert!(ended.is_err());
}

#[test]
fn pairs_are_not_asked_for_after_their_end() {
    let mut left = 2;
    let pairs = std::iter::from_fn(|| {
        assert!(left > 0, "it has said that there is no more");
        left -= 1;
        (left > 0).then(|| ("right", hash(6)))
    });
    assert_eq!(verify_all(pairs), [true]);
}

#[test]
fn debug_of_a_job_shows_no_password() {
    assert_eq!(format!("{:?}", job(4, "a tag")), r#"Job { hash: Hash { cost: 4, .. }, tag: "a tag", .. }"#);
}
