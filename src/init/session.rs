//! A conversation of Codex: kept when the job ends, and put back where a job goes on with one.
//!
//! Its file is the agent's, who may have written anything into it or put anything in its place: it is copied as bytes, within a bound, never read.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, Mode as FileMode, OFlags, openat};

use super::home::own_directory;
use crate::protocol::paths;
use crate::protocol::request::is_conversation;
use crate::weaken;

/// Where Codex 0.169 keeps them below its home: `sessions/2026/11/27/rollout-2026-11-27T13-41-55-<id>.jsonl`.
const PLACE: &[u8] = b"sessions";
const LEVELS: usize = 3;
/// Where one is put that is gone on with; Codex finds it by the id at the end of its name.
const PUT: [&str; 4] = ["sessions", "2000", "01", "01"];
/// Names that are looked at.
const MAX_NAMES: usize = 10_000;

/// Puts a conversation where Codex finds it, in a home that is still root's; what was made, for the agent to get, outermost first.
pub(super) fn lay_out(codex_home: &Path, delivered: &Path, conversation: &str) -> io::Result<Vec<PathBuf>> {
    if !is_conversation(conversation) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the conversation's id is none"));
    }
    let mut dir = codex_home.to_owned();
    let mut made = Vec::new();
    for name in PUT {
        dir.push(name);
        own_directory(&dir, 0o700)?;
        made.push(dir.clone());
    }
    let file = dir.join(format!("rollout-2000-01-01T00-00-00-{conversation}.jsonl"));
    fs::copy(delivered, &file)?;
    made.push(file);
    Ok(made)
}

/// Keeps the conversation with this id, if there is one of a bearable size.
pub(super) fn keep(conversation: Option<&str>) -> io::Result<()> {
    let Some(conversation) = conversation.filter(|id| is_conversation(id)) else { return Ok(()) };
    let home = super::part::open_root(Path::new(paths::HOME))?;
    let Some(file) = find(&home, conversation)? else { return Ok(()) };
    own_directory(Path::new(paths::SESSION), 0o700)?;
    copy(file, Path::new(paths::SESSION_FILE), paths::MAX_SESSION)
}

/// All of a file, or nothing.
fn copy(file: File, target: &Path, most: u64) -> io::Result<()> {
    let copied = File::create(target).and_then(|mut out| io::copy(&mut file.take(most.saturating_add(1)), &mut out));
    if !matches!(copied, Ok(bytes) if bytes <= most) {
        fs::remove_file(target)?;
    }
    match copied {
        Ok(bytes) if bytes > most => Err(io::Error::other(format!("it has more than {most} bytes"))),
        other => other.map(|_| ()),
    }
}

/// The regular file of a conversation, met through no link.
fn find(home: &OwnedFd, conversation: &str) -> io::Result<Option<File>> {
    let directory =
        |at: &OwnedFd, name: &[u8]| openat(at, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, FileMode::empty());
    let Ok(top) = directory(home, b".codex").and_then(|codex| directory(&codex, PLACE)) else { return Ok(None) };
    let ending = format!("-{conversation}.jsonl");
    let mut todo = vec![(top, 0)];
    let mut looked_at = 0;
    while let Some((dir, depth)) = todo.pop() {
        for entry in Dir::read_from(&dir)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            looked_at += 1;
            if looked_at > MAX_NAMES {
                return Ok(None);
            }
            if depth < LEVELS {
                // Whatever is no directory is passed over.
                todo.extend(directory(&dir, name).ok().map(|fd| (fd, depth + 1)));
            } else if name.starts_with(b"rollout-") && name.ends_with(ending.as_bytes()) {
                let links = if weaken::off("session.links") { OFlags::empty() } else { OFlags::NOFOLLOW };
                let flags = OFlags::RDONLY | links | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let Ok(file) = openat(&dir, name, flags, FileMode::empty()) else { continue };
                if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) == FileType::RegularFile {
                    return Ok(Some(file.into()));
                }
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::super::part::open_root;
    use super::*;

    const ID: &str = "01a21d3d-bd04-7e02-a49f-e0f5a4e29b3d";

    fn found(home: &Path) -> Option<Vec<u8>> {
        find(&open_root(home).unwrap(), ID).unwrap().map(|mut file| {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).unwrap();
            bytes
        })
    }

    #[test]
    fn what_is_put_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let (home, delivered) = (dir.path().join("home"), dir.path().join("delivered"));
        fs::create_dir_all(home.join(".codex")).unwrap();
        fs::write(&delivered, b"{}\n\xff").unwrap();
        assert_eq!(found(&home), None);
        let made = lay_out(&home.join(".codex"), &delivered, ID).unwrap();
        assert!(made.len() == 5 && made.iter().all(|path| path.exists()));
        assert_eq!(found(&home).unwrap(), b"{}\n\xff");
        assert!(lay_out(&home.join(".codex"), &delivered, "../../x").is_err());
    }

    #[test]
    fn links_and_special_files_are_no_conversation() {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        fs::create_dir_all(secret.join("2026/11/27")).unwrap();
        let name = format!("rollout-x-{ID}.jsonl");
        fs::write(secret.join("2026/11/27").join(&name), "root's").unwrap();
        let home = dir.path().join("home");
        fs::create_dir_all(home.join(".codex")).unwrap();
        std::os::unix::fs::symlink(&secret, home.join(".codex/sessions")).unwrap();
        assert_eq!(found(&home), None, "a directory behind a link");
        fs::remove_file(home.join(".codex/sessions")).unwrap();
        let day = home.join(".codex/sessions/2026/11/27");
        fs::create_dir_all(&day).unwrap();
        std::os::unix::fs::symlink(secret.join("2026/11/27").join(&name), day.join(&name)).unwrap();
        assert_eq!(found(&home), None, "a link");
        fs::remove_file(day.join(&name)).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, day.join(&name), FileType::Fifo, FileMode::RUSR, 0).unwrap();
        assert_eq!(found(&home), None, "a pipe");
    }

    #[test]
    fn one_that_is_too_long_is_not_kept_in_part() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, [7; 100]).unwrap();
        copy(File::open(&from).unwrap(), &to, 100).unwrap();
        assert_eq!(fs::read(&to).unwrap().len(), 100);
        assert!(copy(File::open(&from).unwrap(), &to, 99).is_err());
        assert!(!to.exists());
    }
}
