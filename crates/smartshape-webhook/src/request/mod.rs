//! The request: its head, and how its body is read or discarded.

pub(crate) mod body;
pub(crate) mod head;
pub(crate) mod lingering;
