//! What a fault is: one thing that breaks at one step of a job's life, and what is true afterwards.

/// One row of the fault table.
#[derive(Clone, Copy)]
pub struct Case {
    /// Unique: `host.start.created`.
    pub id: &'static str,
    /// What breaks.
    pub fault: &'static str,
    /// At which step of a job's life.
    pub step: &'static str,
    /// The faults of `src/fault.rs` that it uses, for the coverage test.
    pub points: &'static [&'static str],
    /// Breaks it and looks; a panic is a red cell.
    pub run: fn() -> Row,
}

/// What was found afterwards; all of it was checked by [`crate::world::World::aftermath`] or by the case.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    /// The job's last state; `none` where no job was handed out.
    pub state: String,
    /// Its reason.
    pub reason: String,
    /// `whole`, `partial`, `empty`, `none` or `lost`.
    pub patch: String,
    /// Seconds from the next command after the fault to a true answer. Printed, never asserted.
    pub answered: f64,
    /// Whatever else is worth a word.
    pub note: String,
}
