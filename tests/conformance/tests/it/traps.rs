//! Traps of the frameworks: documented, and pinned here so that a change is noticed.
