//! Cases that the probe judges: it says whether it got more than the limit.

use super::each;
use crate::arena::Arena;
use crate::case::{Verdict, Verdicts};
use crate::cell::probe;

/// One job with small limits for each case.
pub fn bounds(arena: &Arena, wanted: &[&str]) -> Verdicts {
    each(arena, wanted, |arena, id| {
        let mut env = arena.env.with("ANCHORHOLD_LIMITS_PIDS", "96").with("ANCHORHOLD_LIMITS_MEMORY", "256MiB");
        let options = match id {
            "R01-processes" => "--limit 300",
            "R08-cpu" => {
                env = env.with("ANCHORHOLD_LIMITS_CPUS", "0.5");
                "--limit 2 --cpus 0.5"
            }
            _ => "--limit 512",
        };
        let repo = probe::repository(arena);
        let script = format!("./probe --dir /workspace {options} {} > report 2>&1; echo partial > partial; true", probe::name(id));
        let result = env.delegate(&repo, &format!("Take all.\n```rehearsal\nshell {script}\nmessage done\n```\n"));
        let copy = repo.tracked_copy();
        copy.git_apply(&env.diff(result["job_id"].as_str().expect("a job id")));
        let report = std::fs::read_to_string(copy.path().join("report")).unwrap_or_default();
        let (told, errors) = probe::verdicts(&report);
        let verdict = told.into_iter().next().unwrap_or_else(|| panic!("{id} was not tried: {errors:?} {result:#}")).1;
        // The job itself must come through it.
        assert!(result["state"] == "completed" && copy.path().join("partial").exists(), "{id}: {result:#}");
        verdict
    })
}
