//! What a job may ask of the kernel: an allow-list of system calls of our own.
//!
//! `seccomp.json` is the profile in Docker's form, with a reason beside every rule; [`profile`] is what the engine is given. Its rules of thumb:
//!
//! - What is not listed is refused with `EPERM`. Calls that a library tries first and can do without are refused as an older kernel would (`ENOSYS`,
//!   `EAFNOSUPPORT`, …), so that it takes its other way.
//! - A call that is safe with some arguments only is listed with those arguments. `int` arguments are compared on their low 32 bits, because that is what
//!   the kernel reads: a comparison of all 64 lets `0x1_0000_0005` pass for something else than 5.
//! - No two rules for one call overlap, so that the result does not depend on the order in which a runtime's libseccomp tries them.
//! - No rule depends on the container's capabilities. The engine's own default profile opens calls for each capability added, `open_by_handle_at` for the
//!   `DAC_READ_SEARCH` that PID 1 keeps; with that one call a container reads any file of the host.
//! - No second instruction set: without sub-architectures a 32-bit or x32 call ends the thread that makes it.
//!
//! Names that a runtime's libseccomp does not know are skipped by runc and crun; in an allow-list that means refused.

use std::sync::LazyLock;

/// The profile as it is written, with its reasons.
const SOURCE: &str = include_str!("seccomp.json");

static COMPACT: LazyLock<String> = LazyLock::new(|| compact(SOURCE));

/// The profile as compact JSON without comments, for `HostConfig.SecurityOpt` as `seccomp=<profile>`.
pub fn profile() -> &'static str {
    &COMPACT
}

/// Drops white space and the comments. Text that is not a profile comes back as it is: the engine refuses it, which is better than no profile.
fn compact(source: &str) -> String {
    let Ok(mut value) = serde_json::from_str::<serde_json::Value>(source) else {
        return source.to_owned();
    };
    if let Some(rules) = value.get_mut("syscalls").and_then(serde_json::Value::as_array_mut) {
        for rule in rules.iter_mut().filter_map(serde_json::Value::as_object_mut) {
            rule.remove("comment");
        }
    }
    value.to_string()
}

#[cfg(test)]
mod tests;
