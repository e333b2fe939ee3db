//! What came of a soak's jobs, counted.

use std::any::Any;
use std::collections::BTreeMap;

use super::faults::Fault;
use super::life::{Outcome, Way};
use super::places::Kind;

#[derive(Default)]
pub struct Tally {
    seen: BTreeMap<String, usize>,
    pub mismatched: usize,
    pub lost: usize,
    pub twice: usize,
    pub untrue: usize,
    pub problems: Vec<String>,
}

impl Tally {
    /// Counts a job; one over which a worker panicked is untrue.
    pub fn add(&mut self, n: usize, fault: Fault, way: Way, outcome: Result<Outcome, Box<dyn Any + Send>>) {
        let begin = format!("{:<26} {:<13}", fault.word(), way.word());
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                self.untrue += 1;
                *self.seen.entry(format!("{begin} A PROBLEM")).or_default() += 1;
                self.problems.push(format!("job {n}, {begin}: {}", text.unwrap_or_default()));
                return;
            }
        };
        let Outcome { state, reason, kind, told, by_victim, consumed } = outcome;
        let taken = if consumed { "result" } else { "taken by the killed" };
        *self.seen.entry(format!("{begin} {state:<12} {reason:<14} {:<11} {taken}", kind.word())).or_default() += 1;
        let lost = matches!(state.as_str(), "lost" | "none");
        let fits = fault.allows(&state) || by_victim && state == "interrupted";
        let whole = state != "completed" || kind == Kind::Whole;
        self.lost += usize::from(lost);
        self.twice += usize::from(kind == Kind::Twice);
        self.mismatched += usize::from(kind == Kind::Wrong || !whole);
        self.untrue += usize::from(!lost && !fits);
        if lost || !fits || !whole || matches!(kind, Kind::Wrong | Kind::Twice) {
            self.problems.push(format!("job {n}, {begin}: {state}, {reason}, {}: {told}", kind.word()));
        }
    }

    /// How many different ones there were.
    pub fn outcomes(&self) -> usize {
        self.seen.len()
    }

    pub fn print(&self) {
        println!("{:<26} {:<13} {:<12} {:<14} {:<11} {:<20} jobs", "fault", "by", "state", "reason", "patch", "consume gave");
        for (outcome, times) in &self.seen {
            println!("{outcome:<101} {times}");
        }
        self.problems.iter().for_each(|problem| println!("PROBLEM: {problem}"));
    }
}
