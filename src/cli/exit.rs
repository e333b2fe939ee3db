//! What each exit code means, once: for the manual pages and `docs/REFERENCE.md`, and held against `docs/CLI.md` by a test.

/// Code and meaning; names of verbs and flags stand in backticks. Which errors have which code is [`crate::error::Code::exit_code`]'s to say.
pub(super) const EXIT_CODES: &[(u8, &str)] = &[
    (0, "done; for `delegate --wait`, `result`, `consume` and `demo`: the job completed"),
    (1, "a defect of Anchorhold; `gc`: something could not be removed"),
    (2, "wrong arguments, settings or repository"),
    (3, "engine, image or gateway"),
    (4, "key, quota or provider"),
    (5, "the job failed"),
    (6, "its token budget is used up"),
    (7, "it met its deadline, got no slot in time, or nothing happened in it (`reason`: `deadline`, `queue_timeout`, `idle`)"),
    (8, "it was cancelled"),
    (9, "no such job, or nothing is left of it"),
    (10, "the job has not ended yet, or another start with its idempotency key is under way"),
    (11, "the patch does not apply to the tree as it is now"),
    (12, "the ledger is not what was written"),
    (20, "`review`: whole, with findings at or above `--fail-on`"),
    (21, "`review`: partial, whatever it found"),
    (124, "`wait`: the time is up, the jobs go on"),
    (130, "interrupted"),
];
