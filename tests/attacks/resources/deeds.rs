//! Cases that the probe judges: it says whether it got more than the limit.

use super::each;
use super::host::{patched, task};
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
                env = env.with("ANCHORHOLD_LIMITS_CPUS", "0.25");
                "--limit 2 --cpus 0.25"
            }
            _ => "--limit 512",
        };
        let repo = probe::repository(arena);
        let result = env.delegate(&repo, &task(&format!("./probe --dir /workspace {options} {} > report 2>&1; true", probe::name(id))));
        let copy = patched(&env, &repo, result["job_id"].as_str().expect("a job id"));
        let partial = copy.path().join("partial").exists();
        // The kernel may take Codex for the memory that the probe filled without having it in its own name.
        if result["reason"] == "memory" && partial {
            return Verdict::Blocked("the job ended for memory, with its partial work".to_owned());
        }
        let report = std::fs::read_to_string(copy.path().join("report")).unwrap_or_default();
        let (told, errors) = probe::verdicts(&report);
        assert!(result["state"] == "completed" && partial, "{id}: the job came to a bad end: {} for {}, {report}", result["state"], result["reason"]);
        told.into_iter().next().unwrap_or_else(|| panic!("{id} was not tried: {errors:?}")).1
    })
}
