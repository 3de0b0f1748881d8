//! Faults of files.
