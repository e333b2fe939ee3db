//! Whose settings hold for all jobs of the gateway together: slots and ceilings.
//!
//! They are the gateway's, and several users and processes bring theirs. Were the last one who speaks right, two with different settings would
//! undo each other's with each command. So the gateway remembers what each instance brought, and takes over only what is *new*: limits that differ from
//! what the same instance brought before, read no earlier than those. An old server beside a new command line changes nothing back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::protocol::admin::GatewayLimits;

/// Instances that are remembered; over that the one that read its settings first is forgotten.
const MAX_INSTANCES: usize = 256;

/// What an instance brought last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Brought {
    limits: GatewayLimits,
    /// Unix milliseconds at which the settings were read.
    read_ms: u64,
}

/// What each instance brought.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Instances(BTreeMap<String, Brought>);

impl Instances {
    /// Takes in what a process of an instance brings; whether it is to be in force from now on.
    pub fn bring(&mut self, instance: &str, limits: GatewayLimits, read_ms: u64) -> bool {
        let brought = Brought { limits, read_ms };
        match self.0.get_mut(instance) {
            Some(known) if read_ms < known.read_ms => false,
            Some(known) => std::mem::replace(known, brought).limits != limits,
            None => {
                if self.0.len() >= MAX_INSTANCES
                    && let Some(oldest) = self.0.iter().min_by_key(|(_, known)| known.read_ms).map(|(name, _)| name.clone())
                {
                    self.0.remove(&oldest);
                }
                self.0.insert(instance.to_owned(), brought);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(slots: u32) -> GatewayLimits {
        GatewayLimits { slots, ceilings: Default::default() }
    }

    #[test]
    fn only_what_is_new_is_taken_over() {
        let mut known = Instances::default();
        assert!(known.bring("a", slots(4), 10));
        assert!(known.bring("b", slots(2), 20));
        // Two users with different settings do not undo each other's.
        assert!(!known.bring("a", slots(4), 30));
        assert!(!known.bring("b", slots(2), 40));
        // Changed settings hold, and a server that read the old ones changes nothing back.
        assert!(known.bring("a", slots(8), 50));
        assert!(!known.bring("a", slots(4), 30));
        assert!(!known.bring("a", slots(8), 60));
        assert!(known.bring("a", slots(4), 70));
    }

    #[test]
    fn instances_are_bounded() {
        let mut known = Instances::default();
        for n in 0..1_000u64 {
            assert!(known.bring(&format!("i{n}"), slots(1), n));
        }
        assert_eq!(known.0.len(), MAX_INSTANCES);
        assert!(!known.bring("i999", slots(1), 999) && known.bring("i0", slots(1), 2_000));
    }
}
