use std::path::PathBuf;

use super::*;
use crate::init::testing::{self, Items, file};
use crate::protocol::manifest::ObjectFormat;

fn places(dir: &Path, items: Items) -> Places {
    testing::deliver(dir, items, ObjectFormat::Sha1, 300);
    let none = PathBuf::new();
    Places { workspace: none.clone(), manifest: dir.join("facts/manifest"), frames: dir.join("frames"), table: none.clone(), out: none }
}

/// Of some paths in the order of a walk (directories with a slash), those that are excluded.
fn excluded<'a>(items: Items, caps: Caps, paths: &[&'a [u8]]) -> (Vec<&'a [u8]>, Option<&'static str>) {
    let dir = tempfile::tempdir().unwrap();
    let places = places(dir.path(), items);
    let mut rules = Rules::new(&places, caps);
    let mut ask = |path: &&[u8]| match path.strip_suffix(b"/") {
        Some(directory) => rules.exclude(directory, true),
        None => rules.exclude(path, false),
    };
    let excluded = paths.iter().copied().filter(|path| ask(path)).collect();
    (excluded, rules.stopped())
}

/// One rule and one path.
#[track_caller]
fn check(rule: &[u8], yes: &[&[u8]], no: &[&[u8]]) {
    for (paths, wanted) in [(yes, true), (no, false)] {
        for path in paths {
            let (got, stopped) = excluded(vec![file(".gitignore", rule)], Caps::default(), &[path]);
            assert_eq!((!got.is_empty(), stopped), (wanted, None), "{} on {}", rule.escape_ascii(), path.escape_ascii());
        }
    }
}

#[test]
fn rules_read_as_git_reads_them() {
    check(b"*.log", &[b"x.log", b"d/x.log", b".log", b"x.log/", b"\xff\n.log"], &[b"x.logs", b"log"]);
    check(b"/x\n", &[b"x", b"x/"], &[b"d/x"]);
    check(b"x/", &[b"x/", b"d/x/"], &[b"x", b"d/x"]);
    check(b"d/x", &[b"d/x"], &[b"e/d/x", b"x"]);
    check(b"**/d/x", &[b"d/x", b"e/f/d/x"], &[b"dd/x"]);
    check(b"a/**/b", &[b"a/b", b"a/x/b", b"a/x/y/b"], &[b"ab", b"a/xb", b"b"]);
    check(b"a/**", &[b"a/x", b"a/x/y"], &[b"a/", b"b"]);
    check(b"a/*", &[b"a/x"], &[b"a/x/y"]);
    check(b"**", &[b"x", b"d/x"], &[]);
    check(b"a**b", &[b"ab", b"axb"], &[b"a/b", b"ax/b"]);
    check(b"b**", &[b"b", b"bx", b"d/bx"], &[b"b/x", b"xb/x"]);
    check(b"d/a**/b", &[b"d/ab", b"d/ax/b", b"d/ax/y/b"], &[b"d/b"]);
    check(b"d/?a**/b", &[b"d/xax/b"], &[b"d/xab", b"d/xax/y/b"]);
    check(b"x?y", &[b"xzy", b"x\xffy"], &[b"xy", b"x/y"]);
    check(b"[a-c]x", &[b"ax", b"cx", b"d/bx"], &[b"dx", b"-x"]);
    check(b"[!a]x", &[b"bx", b"\xe9x"], &[b"ax", b"x"]);
    check(b"d[!a]x", &[b"dbx"], &[b"d/x"]);
    check(b"[]a]x", &[b"]x", b"ax"], &[b"x"]);
    check(b"[[:digit:][:upper:]]", &[b"7", b"X"], &[b"x", b":", b"["]);
    check(b"[[:nonsense:]]", &[], &[b"n", b":"]);
    check(b"[open", &[], &[b"[open", b"o"]);
    check(b"{a,b}", &[b"{a,b}"], &[b"a", b"b"]);
    check(b"(a|b)+.$^", &[b"(a|b)+.$^"], &[b"a", b"a+x"]);
    check(b"\\!x", &[b"!x"], &[b"x", b"\\!x"]);
    check(b"\\#x", &[b"#x"], &[b"x"]);
    check(b"#x", &[], &[b"#x", b"x"]);
    check(b"x  \r\n", &[b"x"], &[b"x  ", b"x "]);
    check(b"x\\ ", &[b"x "], &[b"x"]);
    check(b"x\t", &[b"x\t"], &[b"x"]);
    check(b"x\\", &[], &[b"x", b"x\\"]);
    check(b"\xef\xbb\xbfx", &[b"x"], &[]);
    check(b"caf\xe9", &[b"caf\xe9"], &[b"caf\xc3\xa9"]);
    check(b"!x", &[], &[b"x"]);
    check(b"/", &[], &[b"x", b"x/"]);
    check(b"X", &[b"X"], &[b"x"]);
}

#[test]
fn the_last_rule_and_the_nearest_file_decide() {
    let items = vec![
        file(".gitignore", "*.log\n!keep.log\nout/\n"),
        file("d/.gitignore", "!*.log\n/only\nkeep.log"),
        file("d/e/f", "no rules"),
        (b"e/.gitignore".to_vec(), Mode::Symlink, b"x".to_vec()),
        (b"x/.gitignore".to_vec(), Mode::Executable, b"*".to_vec()),
    ];
    let paths: [&[u8]; 11] =
        [b"a.log", b"d/a.log", b"d/e/b.log", b"d/e/only", b"d/keep.log", b"d/only", b"d/out/", b"e/c", b"keep.log", b"only", b"x/y/z"];
    let (excluded, stopped) = excluded(items, Caps::default(), &paths);
    let expected: [&[u8]; 5] = [b"a.log", b"d/keep.log", b"d/only", b"d/out/", b"x/y/z"];
    assert_eq!((excluded.as_slice(), stopped), (&expected[..], None));
}

#[test]
fn over_a_bound_nothing_more_is_ignored() {
    let items = || vec![file(".gitignore", "*.log\n\n# a comment\n*.tmp\n"), file("d/.gitignore", "e\nf\n"), file("g/.gitignore", "h")];
    let check = |caps: Caps| excluded(items(), caps, &[b"a.log", b"d/a.log", b"d/e", b"g/a.log"]);
    let all: [&[u8]; 4] = [b"a.log", b"d/a.log", b"d/e", b"g/a.log"];
    assert_eq!(check(Caps::default()), (all.to_vec(), None));
    assert_eq!(check(Caps { bytes: 30, rules: 5, files: 3, nested: 2, ..Caps::default() }), (all.to_vec(), None), "exactly at the bounds");
    assert_eq!(check(Caps { bytes: 29, ..Caps::default() }), (all[..3].to_vec(), Some("too_large")));
    assert_eq!(check(Caps { bytes: 28, ..Caps::default() }), (all[..1].to_vec(), Some("too_large")));
    assert_eq!(check(Caps { rules: 3, ..Caps::default() }), (all[..1].to_vec(), Some("too_many")));
    assert_eq!(check(Caps { files: 2, ..Caps::default() }), (vec![], Some("too_many")));
    assert_eq!(check(Caps { nested: 1, ..Caps::default() }), (all[..1].to_vec(), Some("too_many")));
    assert_eq!(check(Caps { automaton: 100, ..Caps::default() }), (vec![], Some("too_complex")));
    assert_eq!(check(Caps { time: Duration::ZERO, ..Caps::default() }), (vec![], Some("too_slow")));
}

#[test]
fn rules_that_cannot_be_read_ignore_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let places = places(dir.path(), vec![file(".gitignore", "*")]);
    std::fs::remove_dir_all(dir.path().join("frames")).unwrap();
    let mut rules = Rules::new(&places, Caps::default());
    assert!(!rules.exclude(b"x", false));
    assert_eq!(rules.stopped(), Some("unreadable"));
}

/// What takes a backtracking matcher for ever.
#[test]
fn hostile_rules_end() {
    let deep = b"a/".repeat(2000);
    let deep = deep.strip_suffix(b"/").unwrap();
    let stars = ["**/".repeat(300), "**/a/".repeat(300), "*a".repeat(300), "*".repeat(3000)].map(|text| format!("{text}x\n/{text}x/**/y\n")).concat();
    let (excluded, stopped) = excluded(vec![file(".gitignore", stars)], Caps::default(), &[deep, &[b'a'; 255]]);
    assert!(excluded.is_empty());
    assert_eq!(stopped, None);
}

#[test]
fn many_rules_are_taken() {
    let many: String = (0..5_000).map(|i| format!("generated-{i}/*.o\n")).collect();
    let (excluded, stopped) = excluded(vec![file(".gitignore", many)], Caps::default(), &[b"generated-4711/x.o", b"x/generated-1/x.o"]);
    assert_eq!((excluded, stopped), (vec![&b"generated-4711/x.o"[..]], None));
}
