//! The engine itself breaks: it goes away and comes back, it answers late, wrongly or not at all, its disk is full.

mod calls;
mod disk;
mod restart;
pub mod steps;

use crate::case::Case;

/// All cases of this area.
pub fn cases() -> Vec<Case> {
    [restart::CASES, calls::CASES, disk::CASES, steps::CASES].concat()
}
