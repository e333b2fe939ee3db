//! Version numbers as engines and runtimes write them: `29.5.1`, `20.10.24+dfsg1`, `v1.1.5-0-gf19387a6`, `1.2.0-rc.3`, `1.1.5+ds1`.

use std::fmt;

/// A version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    number: (u32, u32, u32),
    /// A release candidate: it comes before its number.
    candidate: bool,
    /// It carries the mark of whoever built it, who may have put fixes in.
    pub packaged: bool,
}

impl Version {
    pub(super) const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { number: (major, minor, patch), candidate: false, packaged: false }
    }

    /// `None`: no version number, such as a commit.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix('v').unwrap_or(text);
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, rest) = text.split_at(end);
        let parts: Option<Vec<u32>> = number.trim_end_matches('.').split('.').map(|part| part.parse().ok()).collect();
        let number = match parts?[..] {
            [major, minor] => (major, minor, 0),
            [major, minor, patch] | [major, minor, patch, _] => (major, minor, patch),
            _ => return None,
        };
        let rest = rest.trim_start_matches(['-', '~', '+', '.']);
        let candidate = ["rc", "alpha", "beta", "dev"].iter().any(|mark| rest.starts_with(mark));
        // A tag's own commit (`0-gf19387a6`) is nobody's mark, nor is the edition of older engines.
        let plain = rest.is_empty() || rest.starts_with("0-g") || rest == "ce" || rest == "ee";
        Some(Self { number, candidate, packaged: !plain && !candidate })
    }

    pub(super) fn at_least(&self, floor: Self) -> bool {
        (self.number, !self.candidate) >= (floor.number, !floor.candidate)
    }

    /// Whether it is at or above the fix on its own branch, or newer than every branch. `fixes` ascend.
    pub(super) fn fixed_by(&self, fixes: &[Self]) -> bool {
        let branch = |version: &Self| (version.number.0, version.number.1);
        match fixes.iter().find(|fix| branch(fix) == branch(self)) {
            Some(fix) => self.at_least(*fix),
            None => fixes.last().is_some_and(|newest| branch(self) > branch(newest)),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, patch) = self.number;
        write!(f, "{major}.{minor}.{patch}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_engines_write_is_read() {
        for (text, number, candidate, packaged) in [
            ("29.5.1", (29, 5, 1), false, false),
            ("20.10.24+dfsg1", (20, 10, 24), false, true),
            ("1.1.5+ds1", (1, 1, 5), false, true),
            ("v1.1.5-0-gf19387a6", (1, 1, 5), false, false),
            ("1.2.0-rc.3", (1, 2, 0), true, false),
            ("1.3.0-rc1+dev", (1, 3, 0), true, false),
            ("18.09.9-ce", (18, 9, 9), false, false),
            ("28.2.2-0ubuntu1~24.04.1", (28, 2, 2), false, true),
            ("1.2", (1, 2, 0), false, false),
            ("1.1.12-1.el9", (1, 1, 12), false, true),
        ] {
            assert_eq!(Version::parse(text), Some(Version { number, candidate, packaged }), "{text}");
        }
        for text in ["", "unknown", "dev", "f19387a6bec4944c770f7668ab51c4348d9c2f38", "1", "1..2", "99999999999.1.1", "..", "v"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_fix_counts_on_its_own_branch() {
        let fixes = [Version::new(1, 2, 8), Version::new(1, 3, 3), Version::new(1, 4, 0)];
        let fixed = |text: &str| Version::parse(text).unwrap().fixed_by(&fixes);
        for text in ["1.2.8", "1.2.9", "1.3.3", "1.4.0", "1.4.1", "1.5.0", "2.0.0", "1.3.3+ds1"] {
            assert!(fixed(text), "{text}");
        }
        for text in ["1.2.7", "1.3.0", "1.3.2", "1.1.99", "1.0.0", "0.1.1", "1.4.0-rc.1"] {
            assert!(!fixed(text), "{text}");
        }
    }
}
