//! The queue for slots: first come, first served, with those that held a slot before a restart at the front.
//!
//! A place is a number that only grows. It is kept in the job's record, so that those who come back after a restart of the gateway stand in the order in
//! which they stood, whoever is back first. For a short while their places, and the slots of those that ran, are held for them.
//!
//! Pure: it knows job ids and numbers, no connections. Every method returns what the jobs must be told.

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
    /// Its place among all that ever waited.
    number: u64,
    told: u64,
    /// Whether it is connected; otherwise its place is held for it.
    here: bool,
}

/// Slots and those who wait for one.
#[derive(Debug)]
pub struct SlotQueue {
    capacity: usize,
    running: Vec<String>,
    /// By `resume`, then by number.
    waiting: Vec<Waiter>,
    /// Jobs that held a slot when the gateway stopped and have not come back yet: their slots are kept for a short while, so that a restart does
    /// not let others overtake a Codex that is in the middle of its work.
    awaited: Vec<String>,
    next: u64,
}

impl SlotQueue {
    /// A queue that keeps slots for the `awaited` jobs, and places for those of the `line`, until [`Self::forget_awaited`].
    pub fn new(capacity: usize, awaited: Vec<String>, line: Vec<(u64, String)>) -> Self {
        let mut queue = Self { capacity, running: Vec::new(), waiting: Vec::new(), awaited, next: 1 };
        for (number, job) in line {
            queue.stand(Waiter { job, resume: false, number, told: 0, here: false });
        }
        queue
    }

    /// A job asks for a slot. A job that already holds one or waits keeps its place; one that had a place earlier takes it again.
    pub fn join(&mut self, job: &str, resume: bool, number: Option<u64>) -> Vec<Change> {
        if self.running.iter().any(|j| j == job) {
            return vec![Change::Granted(job.to_owned())];
        }
        if let Some((at, waiter)) = self.waiting.iter_mut().enumerate().find(|(_, w)| w.job == job) {
            if waiter.here {
                return vec![Change::Queued(job.to_owned(), at as u64 + 1)];
            }
            (waiter.here, waiter.told) = (true, 0);
            return self.advance();
        }
        if let Some(at) = self.awaited.iter().position(|j| j == job) {
            self.awaited.swap_remove(at);
            self.running.push(job.to_owned());
            return vec![Change::Granted(job.to_owned())];
        }
        let number = number.unwrap_or(self.next);
        self.stand(Waiter { job: job.to_owned(), resume, number, told: 0, here: true });
        self.advance()
    }

    fn stand(&mut self, waiter: Waiter) {
        self.next = self.next.max(waiter.number.saturating_add(1));
        let at = self.waiting.partition_point(|w| (!w.resume, w.number) <= (!waiter.resume, waiter.number));
        self.waiting.insert(at, waiter);
    }

    /// A job gave up its slot or its place.
    pub fn leave(&mut self, job: &str) -> Vec<Change> {
        self.running.retain(|j| j != job);
        self.awaited.retain(|j| j != job);
        self.waiting.retain(|w| w.job != job);
        self.advance()
    }

    /// A job went away and is expected back: its slot or its place is held until [`Self::forget_awaited`].
    pub fn step_out(&mut self, job: &str) {
        if let Some(at) = self.running.iter().position(|j| j == job) {
            self.awaited.push(self.running.swap_remove(at));
        }
        if let Some(waiter) = self.waiting.iter_mut().find(|w| w.job == job) {
            waiter.here = false;
        }
    }

    /// There are now this many slots. Jobs that hold one keep it.
    pub fn set_capacity(&mut self, capacity: usize) -> Vec<Change> {
        self.capacity = capacity;
        self.advance()
    }

    /// No longer holds slots and places for those that have not come back.
    pub fn forget_awaited(&mut self) -> Vec<Change> {
        self.awaited.clear();
        self.waiting.retain(|w| w.here);
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

    /// The number of the job's place, for its record.
    pub fn number(&self, job: &str) -> Option<u64> {
        self.waiting.iter().find(|w| w.job == job).map(|w| w.number)
    }

    /// Slots in use, jobs that wait, slots there are.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.running.len(), self.waiting.iter().filter(|w| w.here).count(), self.capacity)
    }

    fn advance(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        // A slot that falls to somebody who is away is held for them; those behind them get what is left.
        let mut free = self.capacity.saturating_sub(self.running.len() + self.awaited.len());
        let mut at = 0;
        while free > 0 && at < self.waiting.len() {
            free -= 1;
            if self.waiting.get(at).is_some_and(|w| w.here) {
                let next = self.waiting.remove(at);
                self.running.push(next.job.clone());
                changes.push(Change::Granted(next.job));
            } else {
                at += 1;
            }
        }
        for (place, waiter) in (1u64..).zip(&mut self.waiting) {
            if waiter.here && waiter.told != place {
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
        let mut q = SlotQueue::new(1, Vec::new(), Vec::new());
        assert_eq!(q.join("a", false, None), [granted("a")]);
        assert_eq!(q.join("b", false, None), [queued("b", 1)]);
        assert_eq!(q.join("c", false, None), [queued("c", 2)]);
        assert_eq!(q.join("d", true, None), [queued("d", 1), queued("b", 2), queued("c", 3)]);
        assert_eq!(q.join("e", true, None), [queued("e", 2), queued("b", 3), queued("c", 4)]);
        assert_eq!(q.leave("a"), [granted("d"), queued("e", 1), queued("b", 2), queued("c", 3)]);
        assert_eq!(q.leave("b"), [queued("c", 2)]);
        assert_eq!(q.set_capacity(3), [granted("e"), granted("c")]);
        assert_eq!(q.counts(), (3, 0, 3));
    }

    #[test]
    fn joining_twice_keeps_the_place() {
        let mut q = SlotQueue::new(1, Vec::new(), Vec::new());
        q.join("a", false, None);
        q.join("b", false, None);
        assert_eq!(q.join("a", false, None), [granted("a")]);
        assert_eq!(q.join("b", true, None), [queued("b", 1)]);
        assert_eq!(q.counts(), (1, 1, 1));
    }

    #[test]
    fn fewer_slots_take_none_away() {
        let mut q = SlotQueue::new(2, Vec::new(), Vec::new());
        q.join("a", false, None);
        q.join("b", false, None);
        assert_eq!(q.set_capacity(1), []);
        q.join("c", false, None);
        assert_eq!(q.leave("a"), []);
        assert_eq!(q.leave("b"), [granted("c")]);
    }

    #[test]
    fn slots_are_kept_over_a_restart() {
        let mut q = SlotQueue::new(1, vec!["old".to_owned()], Vec::new());
        assert_eq!(q.join("new", false, None), [queued("new", 1)]);
        assert_eq!(q.join("old", true, None), [granted("old")]);
        let mut q = SlotQueue::new(1, vec!["old".to_owned()], Vec::new());
        q.join("new", false, None);
        assert_eq!(q.forget_awaited(), [granted("new")]);
    }

    fn after_a_restart(line: &[(u64, &str)]) -> SlotQueue {
        SlotQueue::new(1, vec!["old".to_owned()], line.iter().map(|(number, job)| (*number, (*job).to_owned())).collect())
    }

    #[test]
    fn places_are_kept_over_a_restart_whoever_is_back_first() {
        let mut q = after_a_restart(&[(7, "third"), (3, "first"), (5, "second")]);
        assert_eq!(q.join("third", false, Some(7)), [queued("third", 3)]);
        // Who is new stands behind those who are not back yet.
        assert_eq!(q.join("new", false, None), [queued("new", 4)]);
        assert_eq!(q.join("first", false, Some(3)), [queued("first", 1)]);
        assert_eq!((q.counts(), q.position("second")), ((0, 3, 1), Some(2)));
        assert_eq!(q.leave("old"), [granted("first"), queued("third", 2), queued("new", 3)]);
        // The next slot falls to one that is away, and is held for it.
        assert_eq!(q.leave("first"), []);
        assert_eq!(q.join("second", false, Some(5)), [granted("second"), queued("third", 1), queued("new", 2)]);
        assert_eq!(q.number("new"), Some(8));
    }

    #[test]
    fn the_place_of_one_that_stays_away_stops_nobody() {
        let mut q = after_a_restart(&[(1, "dead"), (2, "alive")]);
        q.set_capacity(3);
        assert_eq!(q.join("alive", false, Some(2)), [granted("alive")], "one slot is held for each that is away, and a third is free");
        let mut q = after_a_restart(&[(1, "dead"), (2, "alive")]);
        assert_eq!(q.join("alive", false, Some(2)), [queued("alive", 2)]);
        assert_eq!(q.forget_awaited(), [granted("alive")]);
        // Whoever comes late stands where its number says among those who wait.
        q.join("new", false, None);
        assert_eq!(q.join("dead", false, Some(1)), [queued("dead", 1), queued("new", 2)]);
    }

    #[test]
    fn who_steps_out_is_held_a_slot_or_a_place() {
        let mut q = SlotQueue::new(1, Vec::new(), Vec::new());
        for job in ["a", "b", "c"] {
            q.join(job, false, None);
        }
        q.step_out("a");
        q.step_out("b");
        assert_eq!((q.counts(), q.holds("a")), ((0, 1, 1), false));
        assert_eq!(q.join("b", false, Some(2)), [queued("b", 1)]);
        assert_eq!(q.join("a", true, None), [granted("a")]);
        q.step_out("a");
        q.step_out("b");
        assert_eq!(q.forget_awaited(), [granted("c")]);
    }
}
