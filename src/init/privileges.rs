//! Giving up what PID 1 has, before anything of the job's is touched or run.

use rustix::process::{Resource, Rlimit, getegid, geteuid, getgid, getuid, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::error::{Error, Result};
use crate::weaken;

/// Turns this process for good into the agent: no capability in any set, the bounding set included, no supplementary group, no new
/// privileges. Must run before the first thread is made, because the kernel keeps credentials for each thread.
///
/// Errors: any step that the kernel refuses, and a process that could still become root afterwards.
pub fn become_agent(uid: u32) -> Result<()> {
    if weaken::off("init.privileges") {
        return Ok(());
    }
    if uid == 0 {
        return Err(Error::internal("the agent must not be root"));
    }
    let failed = |what: &'static str| move |e: rustix::io::Errno| Error::internal(format!("{what}: {e}"));
    for bit in 0..63 {
        if weaken::off("init.bounding_set") {
            break;
        }
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The kernel ends its list of capabilities here.
            Err(rustix::io::Errno::INVAL) => break,
            Err(e) => return Err(failed("drop the bounding set")(e)),
        }
    }
    // The engine sets this for PID 1 already, and the change of user empties the sets below: nothing can tell that these are missing alone.
    rustix::thread::set_no_new_privs(true).map_err(failed("set no_new_privs"))?;
    rustix::thread::clear_ambient_capability_set().map_err(failed("clear the ambient set"))?;
    if !weaken::off("init.groups") {
        rustix::thread::set_thread_groups(&[]).map_err(failed("drop the groups"))?;
    }
    let (gid, user) = (rustix::process::Gid::from_raw(uid), rustix::process::Uid::from_raw(uid));
    if !weaken::off("init.gid") {
        rustix::thread::set_thread_res_gid(Some(gid), Some(gid), Some(gid)).map_err(failed("set the group"))?;
    }
    rustix::thread::set_thread_res_uid(Some(user), Some(user), Some(user)).map_err(failed("set the user"))?;
    let none = CapabilitySets { effective: CapabilitySet::empty(), permitted: CapabilitySet::empty(), inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, none).map_err(failed("clear the capability sets"))?;
    if ["init.gid", "init.groups"].into_iter().any(weaken::off) { Ok(()) } else { verify(uid) }
}

/// Believes nothing: asks the kernel for the result.
fn verify(uid: u32) -> Result<()> {
    let ids = [getuid().as_raw(), geteuid().as_raw(), getgid().as_raw(), getegid().as_raw()];
    let sets = rustix::thread::capabilities(None).map_err(|e| Error::internal(format!("read the capability sets: {e}")))?;
    let none = sets.effective.is_empty() && sets.permitted.is_empty() && sets.inheritable.is_empty();
    let groups = rustix::process::getgroups().map_err(|e| Error::internal(format!("read the groups: {e}")))?;
    if ids != [uid; 4] || !none || !groups.is_empty() || rustix::thread::set_thread_uid(rustix::process::Uid::ROOT).is_ok() {
        return Err(Error::internal("privileges are left after they were dropped"));
    }
    Ok(())
}

/// Limits of the agent that the cell's cgroup does not set.
pub fn limit_agent(max_file_bytes: u64) -> Result<()> {
    let limit = |resource, value: u64| {
        let hard = rustix::process::getrlimit(resource).maximum.map_or(value, |hard| hard.min(value));
        setrlimit(resource, Rlimit { current: Some(hard), maximum: Some(hard) }).map_err(|e| Error::internal(format!("set a limit: {e}")))
    };
    limit(Resource::Core, 0)?;
    // A sparse file may be far larger than the disk; nothing that reads it afterwards should have to care.
    if !weaken::off("init.limit_fsize") {
        limit(Resource::Fsize, max_file_bytes.max(1 << 30))?;
    }
    // Descriptors and pinned memory are the kernel's own, counted by no cgroup; queues and real-time classes serve nobody in a cell.
    limit(Resource::Nofile, 16_384)?;
    limit(Resource::Memlock, 64 << 10)?;
    for none in [Resource::Msgqueue, Resource::Rtprio, Resource::Nice] {
        limit(none, 0)?;
    }
    // The kernel takes the agent's processes first when memory is short, before PID 1, which has the container's lower score. Raising needs no
    // privilege. The agent may lower it again, down to what the engine set with `SYS_RESOURCE` (src/job/spec.rs says what follows from that).
    if !weaken::off("init.oom_score") {
        let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    }
    Ok(())
}

/// Lets this process open as many descriptors as its hard limit allows.
pub fn raise_descriptor_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    // Best effort: what does not fit is reported where it does not fit.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Fails when a descriptor other than the standard ones is open: nothing of PID 1 may reach the agent.
pub fn check_descriptors() -> Result<()> {
    let entries = std::fs::read_dir("/proc/self/fd").map_err(|e| Error::internal("list descriptors").with_source(e))?;
    let mut open: Vec<u32> = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    open.sort_unstable();
    // The listing itself holds one, which is closed by now.
    open.retain(|fd| *fd > 2 && std::fs::read_link(format!("/proc/self/fd/{fd}")).is_ok());
    if open.is_empty() { Ok(()) } else { Err(Error::internal(format!("descriptors {open:?} would leak to the agent"))) }
}
