//! One computation of bcrypt, and the rounds of several side by side.
//!
//! bcrypt is one chain of table look-ups, each of which needs the one before, so a core waits for its
//! first-level cache most of the time. The functions over `[Lane; N]` do the same step for `N`
//! independent computations before they go on to the next step: the compiler unrolls the loops over
//! `N`, and the look-ups of one lane fill the waits of the others.

use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::hash::Hash;
use crate::{MAX_LANES, pi};

/// The text `OrpheanBeholderScryDoubt`.
const PLAINTEXT: [[u32; 2]; 3] =
    [[0x4f72_7068, 0x6561_6e42], [0x6568_6f6c, 0x6465_7253], [0x6372_7944, 0x6f75_6274]];

/// The state of one computation. Some 4 KiB, so that four fit into a first-level cache.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Lane {
    boxes: [[u32; 256]; 4],
    round_keys: [u32; 18],
    password: [u32; 18],
    salt: [u32; 4],
    digest: [u8; 23],
    rounds_left: u32,
}

impl Lane {
    pub(crate) const EMPTY: Self = Self {
        boxes: [[0; 256]; 4],
        round_keys: [0; 18],
        password: [0; 18],
        salt: [0; 4],
        digest: [0; 23],
        rounds_left: 0,
    };

    /// Begins the computation for a password and a hash.
    pub(crate) fn load(&mut self, password: &[u8], hash: &Hash) {
        self.boxes = pi::BOXES;
        self.round_keys = pi::ROUND_KEYS;
        // Repeated with a zero byte in between, of which 72 bytes count; written in place, so that no copy stays on the
        // stack.
        let mut bytes = password.iter().chain([&0]).cycle();
        for word in &mut self.password {
            *word = (0..4).fold(0, |word, _| word << 8 | u32::from(*bytes.next().unwrap_or(&0)));
        }
        for (word, bytes) in self.salt.iter_mut().zip(hash.salt.as_chunks().0) {
            *word = u32::from_be_bytes(*bytes);
        }
        self.digest = hash.digest;
        self.rounds_left = 1 << hash.cost;
        expand(
            std::array::from_mut(self),
            |lane, word| lane.password[word],
            |lane, word| lane.salt[word % 4],
        );
    }

    /// How many rounds are still to be made.
    pub(crate) fn rounds_left(&self) -> u32 {
        self.rounds_left
    }

    /// Takes over another lane's computation, field by field, so that no copy stays on the stack.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.boxes = other.boxes;
        self.round_keys = other.round_keys;
        self.password = other.password;
        self.salt = other.salt;
        self.digest = other.digest;
        self.rounds_left = other.rounds_left;
    }

    /// Whether the password is the hash's. Takes as long either way.
    pub(crate) fn matches(&self) -> bool {
        let mut digest = Zeroizing::new([0; 24]);
        for (block, bytes) in PLAINTEXT.iter().zip(digest.chunks_exact_mut(8)) {
            let (mut left, mut right) = ([block[0]], [block[1]]);
            for _ in 0..64 {
                (left, right) = encrypt(std::array::from_ref(self), left, right);
            }
            bytes[..4].copy_from_slice(&left[0].to_be_bytes());
            bytes[4..].copy_from_slice(&right[0].to_be_bytes());
        }
        // The last byte is part of no hash, by a mistake of the first implementation that all others repeat.
        digest[..23].ct_eq(&self.digest).into()
    }
}

/// So many of the `2^cost` rounds in each of up to `MAX_LANES` lanes. No lane may be done before.
///
/// Without type parameters, so that it is compiled with this crate, and optimized as the profile says for this
/// crate, whatever it says for the caller's.
#[inline(never)]
pub(crate) fn compute(lanes: &mut [Lane], rounds: u32) {
    match lanes {
        [_] => repeat::<1>(lanes, rounds),
        [_, _] => repeat::<2>(lanes, rounds),
        [_, _, _] => repeat::<3>(lanes, rounds),
        _ => repeat::<MAX_LANES>(lanes, rounds),
    }
}

fn repeat<const N: usize>(lanes: &mut [Lane], rounds: u32) {
    if let Some(lanes) = lanes.first_chunk_mut::<N>() {
        for _ in 0..rounds {
            round(lanes);
        }
    }
}

#[inline(never)]
fn round<const N: usize>(lanes: &mut [Lane; N]) {
    expand(lanes, |lane, word| lane.password[word], |_, _| 0);
    expand(lanes, |lane, word| lane.salt[word % 4], |_, _| 0);
    for lane in lanes {
        lane.rounds_left -= 1;
    }
}

/// Blowfish's key schedule: mixes `key` into the round keys, then replaces these and the S-boxes by
/// what encrypting yields, with two words of `salt` mixed into each block before.
#[inline(always)]
fn expand<const N: usize>(
    lanes: &mut [Lane; N],
    key: impl Fn(&Lane, usize) -> u32,
    salt: impl Fn(&Lane, usize) -> u32,
) {
    for word in 0..18 {
        for lane in &mut *lanes {
            lane.round_keys[word] ^= key(lane, word);
        }
    }
    let (mut left, mut right) = ([0; N], [0; N]);
    let mut block = 0;
    // 9 blocks of round keys, then 4 times 128 of S-boxes.
    while block < 9 + 4 * 128 {
        let mut n = 0;
        while n < N {
            left[n] ^= salt(&lanes[n], 2 * block);
            right[n] ^= salt(&lanes[n], 2 * block + 1);
            n += 1;
        }
        (left, right) = encrypt(lanes, left, right);
        n = 0;
        while n < N {
            let words = if block < 9 {
                &mut lanes[n].round_keys[2 * block..]
            } else {
                let pair = block - 9;
                &mut lanes[n].boxes[pair / 128][2 * (pair % 128)..]
            };
            words[0] = left[n];
            words[1] = right[n];
            n += 1;
        }
        block += 1;
    }
}

/// Encrypts one block with Blowfish in each lane.
///
/// `while` instead of `for`: without optimization a step of an iterator takes longer than all the rest.
#[inline(always)]
fn encrypt<const N: usize>(
    lanes: &[Lane; N],
    mut left: [u32; N],
    mut right: [u32; N],
) -> ([u32; N], [u32; N]) {
    let mut round = 0;
    while round < 16 {
        let mut n = 0;
        while n < N {
            left[n] ^= lanes[n].round_keys[round];
            n += 1;
        }
        n = 0;
        while n < N {
            right[n] ^= feistel(&lanes[n].boxes, left[n]) ^ lanes[n].round_keys[round + 1];
            n += 1;
        }
        n = 0;
        while n < N {
            left[n] ^= feistel(&lanes[n].boxes, right[n]);
            n += 1;
        }
        round += 2;
    }
    let mut n = 0;
    while n < N {
        left[n] ^= lanes[n].round_keys[16];
        right[n] ^= lanes[n].round_keys[17];
        n += 1;
    }
    (right, left)
}

#[inline(always)]
fn feistel(boxes: &[[u32; 256]; 4], word: u32) -> u32 {
    let a = boxes[0][(word >> 24) as usize];
    let b = boxes[1][(word >> 16 & 0xff) as usize];
    let c = boxes[2][(word >> 8 & 0xff) as usize];
    let d = boxes[3][(word & 0xff) as usize];
    (a.wrapping_add(b) ^ c).wrapping_add(d)
}
