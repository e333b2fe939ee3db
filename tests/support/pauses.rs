//! Pauses between two looks at something that takes its time.

use std::time::Duration;

/// Each is longer than the one before: a look is a process or a call of the engine, and a hundred of them in a long wait are what the tests beside it wait for.
pub struct Pauses(Duration);

impl Pauses {
    const FIRST: Duration = Duration::from_millis(50);
    const LAST: Duration = Duration::from_millis(800);

    pub const fn new() -> Self {
        Self(Self::FIRST)
    }

    /// Waits a while.
    pub fn wait(&mut self) {
        std::thread::sleep(self.0);
        self.0 = Self::LAST.min(self.0 * 5 / 4);
    }
}
