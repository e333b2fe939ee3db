//! The queue for slots: first come, first served, with those that held a slot before a restart at the front.
//!
//! Pure: it knows job ids and numbers, no connections. Every method returns what the jobs must be told.

use std::collections::VecDeque;

/// What a job must be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The job holds a slot.
    Granted(String),
    /// The job waits at this place, from 1.
    Queued(String, u64),
}

#[derive(Debug)]
struct Waiter {
    job: String,
    resume: bool,
    told: u64,
}

/// Slots and those who wait for one.
#[derive(Debug)]
pub struct SlotQueue {
    capacity: usize,
    running: Vec<String>,
    waiting: VecDeque<Waiter>,
    /// Jobs that held a slot when the gateway stopped and have not come back yet: their slots are kept for a short while, so that a restart does
    /// not let others overtake a Codex that is in the middle of its work.
    awaited: Vec<String>,
}

impl SlotQueue {
    /// A queue that keeps slots for the `awaited` jobs until [`Self::forget_awaited`].
    pub fn new(capacity: usize, awaited: Vec<String>) -> Self {
        Self { capacity, running: Vec::new(), waiting: VecDeque::new(), awaited }
    }

    /// A job asks for a slot. A job that already holds one or waits keeps its place.
    pub fn join(&mut self, job: &str, resume: bool) -> Vec<Change> {
        if self.running.iter().any(|j| j == job) {
            return vec![Change::Granted(job.to_owned())];
        }
        if let Some(at) = self.waiting.iter().position(|w| w.job == job) {
            return vec![Change::Queued(job.to_owned(), at as u64 + 1)];
        }
        if let Some(at) = self.awaited.iter().position(|j| j == job) {
            self.awaited.swap_remove(at);
            self.running.push(job.to_owned());
            return vec![Change::Granted(job.to_owned())];
        }
        let waiter = Waiter { job: job.to_owned(), resume, told: 0 };
        if resume {
            let at = self.waiting.iter().take_while(|w| w.resume).count();
            self.waiting.insert(at, waiter);
        } else {
            self.waiting.push_back(waiter);
        }
        self.advance()
    }

    /// A job gave up its slot or its place.
    pub fn leave(&mut self, job: &str) -> Vec<Change> {
        self.running.retain(|j| j != job);
        self.awaited.retain(|j| j != job);
        self.waiting.retain(|w| w.job != job);
        self.advance()
    }

    /// There are now this many slots. Jobs that hold one keep it.
    pub fn set_capacity(&mut self, capacity: usize) -> Vec<Change> {
        self.capacity = capacity;
        self.advance()
    }

    /// No longer keeps slots for those that have not come back.
    pub fn forget_awaited(&mut self) -> Vec<Change> {
        self.awaited.clear();
        self.advance()
    }

    /// Whether the job holds a slot.
    pub fn holds(&self, job: &str) -> bool {
        self.running.iter().any(|j| j == job)
    }

    /// The job's place in the queue, from 1.
    pub fn position(&self, job: &str) -> Option<u64> {
        self.waiting.iter().position(|w| w.job == job).map(|at| at as u64 + 1)
    }

    /// Slots in use, jobs that wait, slots there are.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.running.len(), self.waiting.len(), self.capacity)
    }

    fn advance(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        while self.running.len() + self.awaited.len() < self.capacity {
            let Some(next) = self.waiting.pop_front() else { break };
            self.running.push(next.job.clone());
            changes.push(Change::Granted(next.job));
        }
        for (place, waiter) in (1u64..).zip(&mut self.waiting) {
            if waiter.told != place {
                waiter.told = place;
                changes.push(Change::Queued(waiter.job.clone(), place));
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(job: &str) -> Change {
        Change::Granted(job.to_owned())
    }
    fn queued(job: &str, place: u64) -> Change {
        Change::Queued(job.to_owned(), place)
    }

    #[test]
    fn first_come_first_served_and_told_of_every_change() {
        let mut q = SlotQueue::new(1, Vec::new());
        assert_eq!(q.join("a", false), [granted("a")]);
        assert_eq!(q.join("b", false), [queued("b", 1)]);
        assert_eq!(q.join("c", false), [queued("c", 2)]);
        assert_eq!(q.join("d", true), [queued("d", 1), queued("b", 2), queued("c", 3)]);
        assert_eq!(q.join("e", true), [queued("e", 2), queued("b", 3), queued("c", 4)]);
        assert_eq!(q.leave("a"), [granted("d"), queued("e", 1), queued("b", 2), queued("c", 3)]);
        assert_eq!(q.leave("b"), [queued("c", 2)]);
        assert_eq!(q.set_capacity(3), [granted("e"), granted("c")]);
        assert_eq!(q.counts(), (3, 0, 3));
    }

    #[test]
    fn joining_twice_keeps_the_place() {
        let mut q = SlotQueue::new(1, Vec::new());
        q.join("a", false);
        q.join("b", false);
        assert_eq!(q.join("a", false), [granted("a")]);
        assert_eq!(q.join("b", true), [queued("b", 1)]);
        assert_eq!(q.counts(), (1, 1, 1));
    }

    #[test]
    fn fewer_slots_take_none_away() {
        let mut q = SlotQueue::new(2, Vec::new());
        q.join("a", false);
        q.join("b", false);
        assert_eq!(q.set_capacity(1), []);
        q.join("c", false);
        assert_eq!(q.leave("a"), []);
        assert_eq!(q.leave("b"), [granted("c")]);
    }

    #[test]
    fn slots_are_kept_over_a_restart() {
        let mut q = SlotQueue::new(1, vec!["old".to_owned()]);
        assert_eq!(q.join("new", false), [queued("new", 1)]);
        assert_eq!(q.join("old", true), [granted("old")]);
        let mut q = SlotQueue::new(1, vec!["old".to_owned()]);
        q.join("new", false);
        assert_eq!(q.forget_awaited(), [granted("new")]);
    }
}
