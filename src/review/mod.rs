//! What a review says: its findings, verdict and coverage, and the forms in which people and pipelines read them.
//!
//! Pure: nothing here reads a repository, an engine or a job. Words of a finding are an agent's, so hostile: raw in the model, escaped by each form.

pub mod answer;
mod facts;
pub mod format;
mod model;
pub mod schema;

pub use self::facts::Facts;
#[cfg(test)]
pub(crate) use self::facts::tests::sample as sample_facts;
pub use self::model::{Change, ChangedFile, Coverage, CoverageStatus, Finding, LineRange, Review, ReviewScope, Severity, Verdict};
