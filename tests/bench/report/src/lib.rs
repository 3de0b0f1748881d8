//! What the benchmarks share: figures, tables, charts, and the page and the file that hold them.

mod chart;
mod figures;
mod machine;
mod output;
mod table;

pub use chart::{Chart, Kind, Series};
pub use figures::{Aim, Figure, milliseconds, p99, rate};
pub use machine::{Start, resident_bytes};
pub use output::{Output, Part};
pub use table::{Cell, Table};

/// What went wrong, for people.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;
