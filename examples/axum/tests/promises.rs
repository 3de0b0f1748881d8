//! What each example server promises.
#![cfg(unix)]

test_examples::tests!(env!("CARGO_BIN_EXE_example-axum"));
