//! The agent's HOME and CODEX_HOME, outside the workspace, on the job's own volume.

use std::fs;
use std::io;
use std::os::unix::fs::lchown;
use std::path::Path;

use super::session;
use crate::protocol::paths;
use crate::protocol::request::{CodexSettings, RulesFile};
use crate::weaken;

/// Deepest directory of the template that is copied; Codex 0.169 has four.
const DEEPEST: usize = 8;

/// Fills HOME and CODEX_HOME, gives them and the workspace's root to the agent. Filled while they are still root's, because PID 1
/// cannot write to what is not its own.
pub(super) fn prepare(uid: u32, settings: &CodexSettings) -> io::Result<()> {
    let (home, codex_home) = (Path::new(paths::HOME), Path::new(paths::CODEX_HOME));
    own_directory(home, 0o700)?;
    own_directory(codex_home, 0o700)?;
    // Before the template, which may give directories of the same name to the agent.
    let laid_out = match &settings.conversation {
        Some(conversation) => session::lay_out(codex_home, Path::new(paths::DELIVERED_SESSION), conversation)?,
        None => Vec::new(),
    };
    copy_template(Path::new(paths::CODEX_HOME_TEMPLATE), codex_home, uid, DEEPEST)?;
    for path in laid_out.iter().rev() {
        lchown(path, Some(uid), Some(uid))?;
    }
    lay_out_settings(codex_home, uid, settings)?;
    for path in [codex_home, home] {
        lchown(path, Some(uid), Some(uid))?;
    }
    let workspace = Path::new(paths::WORKSPACE);
    own_directory(workspace, 0o755)?;
    lchown(workspace, Some(uid), Some(uid))
}

/// The user's own instructions and rules, where Codex looks for them.
fn lay_out_settings(codex_home: &Path, uid: u32, settings: &CodexSettings) -> io::Result<()> {
    let write = |file: &Path, text: &str| fs::write(file, text).and_then(|()| lchown(file, Some(uid), Some(uid)));
    if let Some(text) = &settings.instructions {
        write(&codex_home.join("AGENTS.md"), text)?;
    }
    if settings.rules.is_empty() {
        return Ok(());
    }
    let dir = codex_home.join("rules");
    own_directory(&dir, 0o700)?;
    for RulesFile { name, text } in &settings.rules {
        if !RulesFile::is_name(name) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a file of rules has an impossible name"));
        }
        write(&dir.join(name), text)?;
    }
    lchown(&dir, Some(uid), Some(uid))
}

/// What a reviewer gets beside the workspace: the diff, and the form of the answer. All of it stays root's, in a directory of root's.
pub(super) fn prepare_review() -> io::Result<()> {
    lay_out_review(Path::new(paths::REVIEW), Path::new(paths::DELIVERED_DIFF))
}

fn lay_out_review(dir: &Path, delivered: &Path) -> io::Result<()> {
    own_directory(dir, if weaken::off("review.root_owned") { 0o777 } else { 0o755 })?;
    let name = |path: &'static str| Path::new(path).file_name().map(|name| dir.join(name)).ok_or(io::ErrorKind::InvalidInput);
    let (diff, schema) = (name(paths::DIFF)?, name(paths::SCHEMA)?);
    fs::copy(delivered, &diff)?;
    fs::write(&schema, crate::review::schema::document().to_string())?;
    for file in [diff, schema] {
        read_only(&file)?;
    }
    Ok(())
}

fn read_only(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o444))
}

/// Makes a directory of root's, or sets the mode of one that is there.
pub(super) fn own_directory(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    match fs::create_dir(path) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Copies what the image's Codex writes at its very first start, so that it need not do so in every cell (0.05 to 0.1 s, most of it the
/// syncing of new databases). An image without it works as well.
fn copy_template(from: &Path, to: &Path, uid: u32, depth: usize) -> io::Result<()> {
    let entries = match fs::read_dir(from) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() && depth > 0 {
            own_directory(&target, 0o700)?;
            copy_template(&entry.path(), &target, uid, depth - 1)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), &target)?;
        } else {
            continue;
        }
        lchown(&target, Some(uid), Some(uid))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reviewer_can_read_the_diff_and_the_form_and_write_neither() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let (delivered, review) = (dir.path().join("delivered"), dir.path().join("review"));
        fs::write(&delivered, b"diff --git a/\xff b/\xff\n").unwrap();
        fs::set_permissions(&delivered, fs::Permissions::from_mode(0o600)).unwrap();
        lay_out_review(&review, &delivered).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(fs::read(review.join("change.diff")).unwrap(), fs::read(&delivered).unwrap());
        assert_eq!((mode(&review), mode(&review.join("change.diff")), mode(&review.join("schema.json"))), (0o755, 0o444, 0o444));
        let form: serde_json::Value = serde_json::from_slice(&fs::read(review.join("schema.json")).unwrap()).unwrap();
        assert_eq!(form["additionalProperties"], false);
    }

    #[test]
    fn instructions_and_rules_lie_where_codex_looks() {
        let dir = tempfile::tempdir().unwrap();
        let uid = rustix::process::getuid().as_raw();
        lay_out_settings(dir.path(), uid, &CodexSettings::default()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let rules = |name: &str| vec![RulesFile { name: name.to_owned(), text: "prefix_rule()".to_owned() }];
        let settings = CodexSettings { instructions: Some("be brief".to_owned()), rules: rules("default.rules"), ..CodexSettings::default() };
        lay_out_settings(dir.path(), uid, &settings).unwrap();
        assert_eq!(fs::read(dir.path().join("AGENTS.md")).unwrap(), b"be brief");
        assert_eq!(fs::read(dir.path().join("rules/default.rules")).unwrap(), b"prefix_rule()");
        for name in ["../x.rules", "a/b.rules", ".rules", ".x.rules", "x", "x.rules\n", "é.rules"] {
            assert!(lay_out_settings(dir.path(), uid, &CodexSettings { rules: rules(name), ..CodexSettings::default() }).is_err(), "{name}");
        }
    }

    #[test]
    fn files_and_directories_are_copied_and_links_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("a/b/file"), "x").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", from.join("link")).unwrap();
        let uid = rustix::process::getuid().as_raw();
        copy_template(&from, &to, uid, DEEPEST).unwrap();
        assert_eq!(fs::read(to.join("a/b/file")).unwrap(), b"x");
        assert!(to.join("link").symlink_metadata().is_err());
        copy_template(&dir.path().join("absent"), &to, uid, DEEPEST).unwrap();
    }
}
