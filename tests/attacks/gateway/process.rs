//! G18: the gateway's process and its ledger.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::credential::good_bytes;
use super::found;
use super::rig::{PATH, Rig, Terms, UNPRIVILEGED, good, with};
use crate::case::Verdict;

/// Runs a program as the gateway's own user, without any capability; what it printed.
#[expect(clippy::disallowed_methods, reason = "the attacker's own process")]
fn as_the_gateways_user(program: &str, args: &[&str]) -> Vec<u8> {
    let out = Command::new(program).args(args).uid(UNPRIVILEGED).gid(UNPRIVILEGED).current_dir("/").stdin(Stdio::null()).output().expect("a process");
    out.stdout
}

/// Another process of the gateway's user reads its memory and its environment.
pub fn memory(rig: &Rig) -> Verdict {
    let job = rig.job(&Terms::default());
    rig.must_serve(&job);
    let pid = rig.pid();
    let environ = as_the_gateways_user("cat", &[&format!("/proc/{pid}/environ")]);
    if String::from_utf8_lossy(&environ).contains("canary-of-the-gateway") {
        return Verdict::Breached("its environment could be read by its user".into());
    }
    for line in rig.proc("maps").lines().filter(|l| l.contains("rw-p")) {
        let Some((from, to)) = line.split(' ').next().and_then(|range| range.split_once('-')) else { continue };
        let (from, to) = (u64::from_str_radix(from, 16).expect("hex"), u64::from_str_radix(to, 16).expect("hex"));
        let (skip, count) = (from / 4096, ((to - from) / 4096).min(4096));
        let bytes = as_the_gateways_user(
            "dd",
            &[&format!("if=/proc/{pid}/mem"), "bs=4096", &format!("skip={skip}"), &format!("count={count}"), "status=none"],
        );
        if memchr::memmem::find(&bytes, job.key.as_bytes()).is_some() {
            return Verdict::Breached("its memory could be read by its user, and the key in it".into());
        }
        if bytes.is_empty() {
            break;
        }
    }
    Verdict::Blocked("neither its memory nor its environment".into())
}

/// What lay in the environment of who started it is not in its own.
pub fn environment(rig: &Rig) -> Verdict {
    let job = rig.job(&Terms::default());
    rig.must_serve(&job);
    let environ = rig.proc("environ");
    assert!(environ.contains("ANCHORHOLD_GATEWAY_STATE"), "its environment can be read");
    let stranger = ["canary-of-the-gateway", "PROXY", "_proxy"].into_iter().find(|name| environ.contains(name));
    found(stranger.map(|name| format!("{name} is in its environment")), "only its own variables")
}

/// A crash writes no core file, although the shell that started it allowed one.
pub fn core(rig: &Rig) -> Verdict {
    let limits = rig.proc("limits");
    let line = limits.lines().find(|l| l.starts_with("Max core file size")).expect("the limit");
    let values: Vec<&str> = line.trim_start_matches("Max core file size").split_whitespace().take(2).collect();
    Verdict::of(values != ["0", "0"], format!("core limit {values:?}"))
}

/// Pages with the key may not reach a swap file.
pub fn swapped(rig: &Rig) -> Verdict {
    let job = rig.job(&Terms::default());
    rig.must_serve(&job);
    let pid = rig.pid();
    let mut holding = 0;
    let mut unlocked = Vec::new();
    let smaps = rig.proc("smaps");
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).expect("as root");
    let mut area: Option<(u64, u64, String)> = None;
    for line in smaps.lines() {
        if let Some((from, to)) = line
            .split(' ')
            .next()
            .and_then(|range| range.split_once('-'))
            .and_then(|(a, b)| Some((u64::from_str_radix(a, 16).ok()?, u64::from_str_radix(b, 16).ok()?)))
        {
            area = Some((from, to, line.to_owned()));
        } else if let (Some(flags), Some((from, to, name))) = (line.strip_prefix("VmFlags:"), &area) {
            let mut bytes = vec![0u8; usize::try_from((to - from).min(64 << 20)).expect("small")];
            let read = std::os::unix::fs::FileExt::read_at(&memory, &mut bytes, *from).unwrap_or(0);
            if memchr::memmem::find(&bytes[..read], job.key.as_bytes()).is_some() {
                holding += 1;
                if !flags.split_whitespace().any(|flag| flag == "lo") {
                    unlocked.push(name.clone());
                }
            }
        }
    }
    assert!(holding > 0, "the key was found nowhere in the gateway's memory");
    // Where the engine lets the gateway lock no more than a little, the copy that it keeps is locked, and the buffers that it passes through are not:
    // the gateway's status says so (`not_enforced`).
    let limits = rig.proc("limits");
    let unlimited = limits.lines().any(|l| l.starts_with("Max locked memory") && l.contains("unlimited"));
    if !unlimited && unlocked.len() < holding {
        return Verdict::Blocked(format!("the copy that it keeps is locked; {} of {holding} areas are not, for want of a limit", unlocked.len()));
    }
    found(
        unlocked.first().map(|name| format!("the key lies in {} areas, {} of them not locked: {name}", holding, unlocked.len())),
        format!("the key lies in {holding} areas, all locked"),
    )
}

/// What the process holds open: its own files, its sockets, nothing of the host.
pub fn descriptors(rig: &Rig) -> Verdict {
    let job = rig.job(&Terms::default());
    rig.must_serve(&job);
    let own = rig.directory().display().to_string();
    let mut strangers = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{}/fd", rig.pid())).expect("its descriptors").flatten() {
        let target = std::fs::read_link(entry.path()).unwrap_or_default().display().to_string();
        let known = target.starts_with(&own) || ["/dev/null", "socket:", "anon_inode:", "pipe:"].iter().any(|prefix| target.starts_with(prefix));
        if !known {
            strangers.push(target);
        }
    }
    let arguments = rig.proc("cmdline");
    let finding = strangers.pop().or_else(|| arguments.contains(&job.key).then_some(arguments));
    found(finding, "nothing but its own files and sockets")
}

/// Each request leaves one line, and no line says what stood in it.
pub fn ledger_lines(rig: &Rig) -> Verdict {
    let job = rig.job(&Terms::default());
    let requests: Vec<Vec<u8>> = vec![
        good_bytes(),
        super::rig::post(with("input", "planted words of the job").to_string().as_bytes()),
        super::rig::post(with("instructions", "planted").to_string().as_bytes()),
        super::rig::post(with("planted", 1).to_string().as_bytes()),
        super::rig::post(with("tools", json!([{"type": "planted"}])).to_string().as_bytes()),
        super::rig::post(with("model", "planted model").to_string().as_bytes()),
        super::rig::post(b"planted"),
        super::rig::request("GET /planted HTTP/1.1", "", b""),
        super::rig::request(&format!("PLANTED {PATH} HTTP/1.1"), "X: planted\r\n", b""),
    ];
    for bytes in &requests {
        rig.raw(&job, bytes);
    }
    let settled = super::budget::wait_within(std::time::Duration::from_secs(3), || rig.requests_of(&job).len() >= requests.len());
    let lines = rig.requests_of(&job).len();
    let finding = if !settled || lines != requests.len() {
        Some(format!("{lines} lines for {} requests", requests.len()))
    } else {
        [("ledger", rig.ledger_text()), ("log", rig.log())]
            .iter()
            .find(|(_, text)| text.to_ascii_lowercase().contains("planted"))
            .map(|(name, _)| format!("the {name} repeats what the job wrote"))
    };
    found(finding, format!("{lines} lines, without a word of the job"))
}

/// The lines are chained: each carries the digest of the one before, so a changed, lost or added line is seen.
pub fn ledger_chain(rig: &Rig) -> Verdict {
    let job = rig.job(&Terms::default());
    for _ in 0..5 {
        rig.ask(&job, &good());
    }
    let text = rig.ledger_text();
    let whole = chained(&text);
    assert!(text.lines().count() > 5, "there are lines");
    let lines: Vec<&str> = text.lines().collect();
    let changed = text.replacen("\"outcome\":\"ok\"", "\"outcome\":\"no\"", 1);
    let mut lost = lines.clone();
    lost.remove(3);
    let mut added = lines.clone();
    added.insert(3, lines[3]);
    let mut swapped = lines.clone();
    swapped.swap(3, 4);
    let unseen: Vec<&str> = [("changed", changed), ("lost", lost.join("\n")), ("added", added.join("\n")), ("swapped", swapped.join("\n"))]
        .iter()
        .filter(|(_, text)| chained(text).is_ok())
        .map(|(name, _)| *name)
        .collect();
    let finding = whole.err().or_else(|| unseen.first().map(|name| format!("a {name} line would not be seen")));
    found(finding, format!("{} lines, chained", lines.len()))
}

/// Checks sequence and chain.
fn chained(text: &str) -> Result<(), String> {
    let mut prev = "0".repeat(64);
    for (n, line) in (1u64..).zip(text.lines()) {
        let value: Value = serde_json::from_str(line).map_err(|e| e.to_string())?;
        if value["seq"] != json!(n) || value["prev"] != json!(prev) {
            return Err(format!("line {n} does not follow the one before it"));
        }
        prev = anchorhold::protocol::manifest::hex(&Sha256::digest(line));
    }
    Ok(())
}
