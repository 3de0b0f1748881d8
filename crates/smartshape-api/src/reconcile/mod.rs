//! Reconciles an account's webhooks with the desired set: the plan and its execution.

mod apply;
mod plan;
mod step;

pub use self::plan::Plan;
pub use self::step::{CompletedStep, DeleteReason, Deletion, Step};
