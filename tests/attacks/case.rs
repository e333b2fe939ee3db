//! What an attack is: a named case, what it should break, how it ended, and under which weakening it must succeed.

use crate::arena::Arena;

/// What a case tries to break, in the words of `docs/SECURITY.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// Code runs on the host.
    Escape,
    /// A host file that was not handed over is read.
    HostLeak,
    /// A host file is changed.
    HostWrite,
    /// Something leaves otherwise than in a checked model request.
    Exfiltration,
    /// The credential is seen, used or leaked.
    Key,
    /// More is spent than was allowed.
    Spend,
    /// Another job is seen or influenced.
    Lateral,
    /// The host or a neighbour is denied its resources.
    DenialOfService,
    /// Something outlives its job.
    Persistence,
    /// The reviewer is shown something other than the bytes.
    Deception,
    /// A lost or partial result is not told as such.
    Loss,
    /// A job runs with weaker isolation than asked for or recorded.
    Downgrade,
}

/// One attack.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Unique, beginning with its row in the published suite: `E02-symlinked-parent`.
    pub id: &'static str,
    pub promise: Promise,
    /// What is tried, in a few words.
    pub tries: &'static str,
}

/// How an attack ended, judged by its effect. What could not be tried is no verdict but a panic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Blocked(String),
    Breached(String),
}

impl Verdict {
    /// Breached when `effect` is there.
    pub fn of(effect: bool, detail: impl Into<String>) -> Self {
        if effect { Self::Breached(detail.into()) } else { Self::Blocked(detail.into()) }
    }

    pub fn breached(&self) -> bool {
        matches!(self, Self::Breached(_))
    }

    pub fn detail(&self) -> &str {
        match self {
            Self::Blocked(detail) | Self::Breached(detail) => detail,
        }
    }
}

/// Case ids, each with how it ended.
pub type Verdicts = Vec<(String, Verdict)>;

/// Protections taken away, and the cases that must succeed then.
#[derive(Debug, Clone, Copy)]
pub struct Weakening {
    pub name: &'static str,
    /// Names for `ANCHORHOLD_WEAKEN`.
    pub points: &'static [&'static str],
    /// Merge patch for the create body of a job's container, or nothing.
    pub job: &'static str,
    /// Merge patch for the create body of the gateway's container, or nothing.
    pub gateway: &'static str,
    /// Case ids. As a control each must be breached, as a mutation one of them.
    pub breaches: &'static [&'static str],
}

impl Weakening {
    /// One protection alone.
    pub const fn point(point: &'static [&'static str; 1], breaches: &'static [&'static str]) -> Self {
        Self { name: point[0], points: point, job: "", gateway: "", breaches }
    }

    /// One field of a job's specification alone.
    pub const fn job(name: &'static str, patch: &'static str, breaches: &'static [&'static str]) -> Self {
        Self { name, points: &[], job: patch, gateway: "", breaches }
    }

    /// Takes away exactly one thing, so that it is a mutation too.
    pub fn single(&self) -> bool {
        self.points.len() + usize::from(!self.job.is_empty()) + usize::from(!self.gateway.is_empty()) == 1
    }
}

/// Cases that share a set-up.
#[derive(Clone, Copy)]
pub struct Group {
    pub name: &'static str,
    pub cases: &'static [Case],
    /// Tries the wanted cases; one verdict for each.
    pub run: fn(&Arena, &[&str]) -> Verdicts,
    /// Each case that they name must be breached under them.
    pub controls: &'static [Weakening],
    /// Further single weakenings for the mutation run; controls that take away one thing are in it anyway.
    pub mutations: &'static [Weakening],
    /// Cases for which no control can be, and why.
    pub no_control: &'static [(&'static str, &'static str)],
}

impl Group {
    /// All weakenings of one thing.
    pub fn single_weakenings(&self) -> Vec<Weakening> {
        let mut all: Vec<Weakening> = self.controls.iter().filter(|w| w.single()).copied().collect();
        all.extend(self.mutations.iter().copied());
        all
    }

    /// Tries all cases against the product; each must be blocked.
    pub fn product(&self) -> Verdicts {
        let ids: Vec<&str> = self.cases.iter().map(|case| case.id).collect();
        self.try_in(&Arena::product(), &ids)
    }

    /// Tries what a weakening should let succeed.
    pub fn weakened(&self, weakening: &Weakening) -> Verdicts {
        self.try_in(&Arena::weakened(weakening), weakening.breaches)
    }

    fn try_in(&self, arena: &Arena, wanted: &[&str]) -> Verdicts {
        let verdicts = (self.run)(arena, wanted);
        for id in wanted {
            assert!(verdicts.iter().any(|(tried, _)| tried == id), "{id} was not tried: {verdicts:#?}");
        }
        verdicts.into_iter().filter(|(id, _)| wanted.contains(&id.as_str())).collect()
    }
}
