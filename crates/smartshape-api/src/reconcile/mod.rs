//! Reconciles an account's webhooks with the desired set: desired webhooks, records, the plan and its execution.

mod apply;
mod plan;
mod step;
mod webhook;

pub use self::plan::Plan;
pub use self::step::{CompletedStep, DeleteReason, Step};
pub use self::webhook::{DesiredWebhook, WebhookRecord};
