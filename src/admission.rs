//! Who may call, what they may ask for and how much of it: teams, keys and limits.
//!
//! Does not store keys (the ledger does) and knows no money; budgets are carried, not read.

pub mod admin;
pub mod bucket;
pub mod kept_text;
pub mod key_ring;
pub mod limiter;
mod shared_limits;

pub use admin::{AdminConfig, AdminKey};
pub use kept_text::{KeepText, TextConfig};
pub use key_ring::{Caller, KeyBudgets, KeyConfig, KeyRefused, KeyRing, Team, TeamConfig, shown_webhook};
pub use limiter::{LimitHit, Limiter, Limits, Pass, RateState};
