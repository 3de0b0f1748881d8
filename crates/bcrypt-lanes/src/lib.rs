#![doc = include_str!("../README.md")]

mod hash;
mod lane;
mod pi;

use std::fmt;

use lane::Lane;
use zeroize::Zeroize as _;

pub use hash::{Hash, HashError};

/// How many hashes one thread computes at once, at most.
///
/// Four states of 4 KiB each fit into every first-level cache of today. Six and eight lanes gained
/// little over four.
pub const MAX_LANES: usize = 4;

/// Rounds between two calls of `next` while a lane is free. At cost 10, whose hash takes 1,024 rounds,
/// that is some milliseconds.
const ROUNDS_BEFORE_ASKING: u32 = 16;

/// A password to be verified against a hash.
///
/// The password is read once, when its computation begins, and `password` is dropped then.
#[derive(Clone)]
pub struct Job<P, T> {
    /// The password. As everywhere with bcrypt, its first 72 bytes count.
    pub password: P,
    /// The hash that it is compared with.
    pub hash: Hash,
    /// Comes back with the outcome.
    pub tag: T,
}

/// Does not show the password.
impl<P, T: fmt::Debug> fmt::Debug for Job<P, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("hash", &self.hash).field("tag", &self.tag).finish_non_exhaustive()
    }
}

/// Verifies one password, no slower than the `bcrypt` crate does.
///
/// ```
/// let hash = "$2b$04$OVB9whZSbDSYKIYk6yNNjOvf7G.8vrlOGVX9GPAWg5YRgt9YqXECe".parse()?;
/// assert!(!bcrypt_lanes::verify("a guess", &hash));
/// # Ok::<(), bcrypt_lanes::HashError>(())
/// ```
#[must_use]
pub fn verify(password: impl AsRef<[u8]>, hash: &Hash) -> bool {
    verify_all([(password, hash.clone())]).contains(&true)
}

/// Verifies all passwords against their hashes. The outcomes come in the order of the pairs.
///
/// ```
/// use bcrypt_lanes::Hash;
///
/// let hash: Hash = "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe".parse()?;
/// let guesses = ["b", "a", "c"].map(|guess| (guess, hash.clone()));
/// assert_eq!(bcrypt_lanes::verify_all(guesses), [false, true, false]);
/// # Ok::<(), bcrypt_lanes::HashError>(())
/// ```
#[must_use]
pub fn verify_all<P: AsRef<[u8]>>(pairs: impl IntoIterator<Item = (P, Hash)>) -> Vec<bool> {
    let mut pairs = pairs.into_iter().fuse().enumerate();
    let mut outcomes = Vec::new();
    let next = || pairs.next().map(|(tag, (password, hash))| Job { password, hash, tag });
    run(next, |tag, matches| {
        if outcomes.len() <= tag {
            outcomes.resize(tag + 1, false);
        }
        outcomes[tag] = matches;
    });
    outcomes
}

/// Verifies what `next` yields, up to [`MAX_LANES`] jobs at once, and hands each outcome to `done` as soon
/// as it is there: with the job's tag, and whether the password matches.
///
/// `next` is asked again whenever a lane is free, also while other jobs are computed, so that a job need
/// not wait for others to end, whatever their costs. `None` means that nothing waits just now. It returns
/// when nothing waits and nothing is computed any more. Neither closure should block, since what is computed
/// waits for it. If one panics, `run` gives up: what was computed is wiped, and its tags are dropped.
///
/// What has begun cannot be stopped, and each step of the cost doubles its time: at cost 31 it takes more than a
/// day. Check [`Hash::cost`] before if the hash is not your own.
///
/// ```
/// use bcrypt_lanes::{Hash, Job};
///
/// let hash: Hash = "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe".parse()?;
/// let mut queue = vec![("Alice", "a"), ("Mallory", "b")];
/// let mut let_in = Vec::new();
/// bcrypt_lanes::run(
///     || queue.pop().map(|(tag, password)| Job { password, hash: hash.clone(), tag }),
///     |name, matches| if matches { let_in.push(name) },
/// );
/// assert_eq!(let_in, ["Alice"]);
/// # Ok::<(), bcrypt_lanes::HashError>(())
/// ```
pub fn run<P: AsRef<[u8]>, T>(mut next: impl FnMut() -> Option<Job<P, T>>, mut done: impl FnMut(T, bool)) {
    let mut lanes = Box::new([const { Lane::EMPTY }; MAX_LANES]);
    // The first `tags.len()` lanes are computing.
    let mut tags = Vec::with_capacity(MAX_LANES);
    loop {
        while tags.len() < MAX_LANES
            && let Some(job) = next()
        {
            lanes[tags.len()].load(job.password.as_ref(), &job.hash);
            tags.push(job.tag);
        }
        let left = lanes[..tags.len()].iter().map(Lane::rounds_left).min();
        let Some(left) = left else { return };
        let rounds = left.min(ROUNDS_BEFORE_ASKING);
        lane::compute(&mut lanes[..tags.len()], rounds);
        let mut lane = 0;
        while lane < tags.len() {
            if lanes[lane].rounds_left() > 0 {
                lane += 1;
                continue;
            }
            let matches = lanes[lane].matches();
            let tag = tags.swap_remove(lane);
            if let (before, [last, ..]) = lanes.split_at_mut(tags.len()) {
                if let Some(free) = before.get_mut(lane) {
                    free.copy_from(last);
                }
                last.zeroize();
            }
            done(tag, matches);
        }
    }
}
