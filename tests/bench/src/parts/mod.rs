//! What receiving costs, question by question. docs/performance.md says what each table means.

pub(crate) mod beside_bare;
pub(crate) mod flood;
pub(crate) mod fresh;
pub(crate) mod inbox;
pub(crate) mod memory;
pub(crate) mod peers;
pub(crate) mod relay;
