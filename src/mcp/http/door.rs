//! How many connections there are: clients up to a bound, and a few strangers, of which the oldest goes first.
//!
//! A connection is a stranger's until one of its requests was let through. So whoever knows no token cannot hold the places of those who do, however many
//! connections it opens and however slowly it speaks.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::weaken;

/// Connections of which no request was let through yet.
const MOST_STRANGERS: usize = 64;

/// Of one server.
pub struct Door {
    room: Arc<Semaphore>,
    most: usize,
    strangers: Mutex<VecDeque<(u64, CancellationToken)>>,
    entered: AtomicU64,
}

/// One connection, until dropped.
pub struct Guest {
    door: Arc<Door>,
    number: u64,
    displaced: CancellationToken,
    place: OnceLock<OwnedSemaphorePermit>,
}

impl Door {
    /// With room for so many clients.
    pub fn new(most: usize) -> Arc<Self> {
        let most = if weaken::off("http.connections") { Semaphore::MAX_PERMITS } else { most };
        Arc::new(Self { room: Arc::new(Semaphore::new(most)), most, strangers: Mutex::default(), entered: AtomicU64::new(0) })
    }

    /// Lets a connection in, as a stranger's.
    pub fn enter(self: &Arc<Self>) -> Guest {
        let (number, displaced) = (self.entered.fetch_add(1, Ordering::Relaxed), CancellationToken::new());
        let mut strangers = self.strangers();
        strangers.push_back((number, displaced.clone()));
        if strangers.len() > MOST_STRANGERS
            && !weaken::off("http.strangers")
            && let Some((_, oldest)) = strangers.pop_front()
        {
            oldest.cancel();
        }
        drop(strangers);
        Guest { door: self.clone(), number, displaced, place: OnceLock::new() }
    }

    /// Clients and strangers now.
    pub fn count(&self) -> (usize, usize) {
        (self.most.saturating_sub(self.room.available_permits()), self.strangers().len())
    }

    fn strangers(&self) -> MutexGuard<'_, VecDeque<(u64, CancellationToken)>> {
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guest {
    /// One of its requests is let through; `false`: there is no room for another client.
    pub fn known(&self) -> bool {
        if self.place.get().is_some() {
            return true;
        }
        let Ok(permit) = self.door.room.clone().try_acquire_owned() else { return false };
        // Requests of one connection come one after another.
        let _ = self.place.set(permit);
        self.forget();
        true
    }

    /// Resolves when it has to go for a newer stranger.
    pub async fn displaced(&self) {
        self.displaced.cancelled().await;
    }

    fn forget(&self) {
        self.door.strangers().retain(|(number, _)| *number != self.number);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_stranger_goes_and_clients_stay() {
        let door = Door::new(2);
        let first = door.enter();
        assert!(first.known() && first.known());
        let strangers: Vec<Guest> = (0..MOST_STRANGERS).map(|_| door.enter()).collect();
        assert_eq!(door.count(), (1, MOST_STRANGERS));
        let newest = door.enter();
        strangers[0].displaced().await;
        assert!(!first.displaced.is_cancelled() && !strangers[1].displaced.is_cancelled() && !newest.displaced.is_cancelled());
        assert_eq!(door.count(), (1, MOST_STRANGERS));
        assert!(newest.known());
        assert!(!strangers[5].known(), "there is room for two");
        drop(first);
        assert!(strangers[5].known());
        drop((strangers, newest));
        assert_eq!(door.count(), (0, 0));
    }
}
