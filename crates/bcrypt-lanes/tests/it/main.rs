//! Every outcome is compared with published hashes, or with the `bcrypt` crate.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod equal;
mod hash;
mod lanes;
mod vectors;
