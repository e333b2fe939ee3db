//! For random pairs of trees: the patch, applied by plain `git apply` to a checkout of the base, gives the new tree exactly.

use proptest::prelude::*;

use super::*;

/// Few components, so that files, directories and links meet at the same names.
fn component() -> impl Strategy<Value = &'static [u8]> {
    proptest::sample::select(vec![
        &b"a"[..],
        b"b",
        b"c.txt",
        b"d-e",
        b".x",
        b"n\nl",
        b"\"q\"",
        b"\xff",
        "\u{e9}".as_bytes(),
        b" s ",
        b"-r",
        b"t\tt",
        b"\\",
        b"a.",
        b"a-",
    ])
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(component(), 1..4).prop_map(|parts| parts.join(&b'/'))
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => "[a-c ]{0,6}".prop_map(String::into_bytes),
        1 => proptest::sample::select(vec![
            &b"diff --git a/a b/a"[..], b"@@ -1 +1 @@", b"--- a/a", b"+++ b/a", b"-- ", b"\\ No newline at end of file", b"GIT binary patch", b"\r", b"x\r",
            b"\xe9", b"\x1b[0m", b"\xc2\x85", b"\t ", b" ",
        ]).prop_map(<[u8]>::to_vec),
    ]
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    (proptest::collection::vec(line(), 0..30), any::<bool>()).prop_map(|(lines, end)| {
        let mut text = lines.join(&b'\n');
        if end && !text.is_empty() {
            text.push(b'\n');
        }
        text
    })
}

fn entry() -> impl Strategy<Value = (Mode, Vec<u8>)> {
    prop_oneof![
        5 => text().prop_map(|bytes| (Mode::File, bytes)),
        2 => text().prop_map(|bytes| (Mode::Executable, bytes)),
        1 => proptest::collection::vec(any::<u8>(), 0..200).prop_map(|bytes| (Mode::File, bytes)),
        1 => proptest::collection::vec(any::<u8>(), 8000..8400).prop_map(|bytes| (Mode::File, [b"text\n".repeat(1700), bytes].concat())),
        2 => path().prop_map(|target| (Mode::Symlink, target)),
        1 => Just((Mode::Symlink, b"../../out".to_vec())),
    ]
}

/// Puts an entry into a tree; what is in its way goes.
fn put(tree: &mut Tree, path: &[u8], entry: (Mode, Vec<u8>)) {
    let prefix = [path, b"/"].concat();
    tree.retain(|other, _| !other.starts_with(&prefix) && !path.starts_with(&[other, b"/".as_slice()].concat()));
    tree.insert(path.to_vec(), entry);
}

#[derive(Debug, Clone)]
enum Edit {
    Put(Vec<u8>, (Mode, Vec<u8>)),
    Delete(proptest::sample::Index),
    Append(proptest::sample::Index, Vec<u8>),
    Cut(proptest::sample::Index, proptest::sample::Index),
    Flip(proptest::sample::Index),
    Move(proptest::sample::Index, Vec<u8>),
    MoveAndAppend(proptest::sample::Index, Vec<u8>, Vec<u8>),
    DeleteAll,
}

fn edit() -> impl Strategy<Value = Edit> {
    let index = any::<proptest::sample::Index>;
    prop_oneof![
        4 => (path(), entry()).prop_map(|(p, e)| Edit::Put(p, e)),
        3 => index().prop_map(Edit::Delete),
        3 => (index(), text()).prop_map(|(i, t)| Edit::Append(i, t)),
        2 => (index(), index()).prop_map(|(i, at)| Edit::Cut(i, at)),
        2 => index().prop_map(Edit::Flip),
        3 => (index(), path()).prop_map(|(i, p)| Edit::Move(i, p)),
        2 => (index(), path(), text()).prop_map(|(i, p, t)| Edit::MoveAndAppend(i, p, t)),
        1 => Just(Edit::DeleteAll),
    ]
}

fn perform(tree: &mut Tree, edit: Edit) {
    let pick = |tree: &Tree, index: proptest::sample::Index| (!tree.is_empty()).then(|| tree.keys().nth(index.index(tree.len())).unwrap().clone());
    let mut change = |index, with: &mut dyn FnMut(&mut Mode, &mut Vec<u8>)| {
        if let Some((mode, bytes)) = pick(tree, index).and_then(|path| tree.get_mut(&path)) {
            with(mode, bytes);
        }
    };
    match edit {
        Edit::Append(index, text) => change(index, &mut |mode, bytes| {
            if *mode != Mode::Symlink {
                bytes.extend(&text);
            }
        }),
        Edit::Cut(index, at) => change(index, &mut |mode, bytes| {
            if *mode != Mode::Symlink && !bytes.is_empty() {
                bytes.remove(at.index(bytes.len()));
            }
        }),
        Edit::Flip(index) => change(index, &mut |mode, _| {
            *mode = match *mode {
                Mode::File => Mode::Executable,
                Mode::Executable => Mode::File,
                other => other,
            };
        }),
        Edit::Put(path, entry) => put(tree, &path, entry),
        Edit::Delete(index) => drop(pick(tree, index).and_then(|path| tree.remove(&path))),
        Edit::Move(index, to) => {
            if let Some(entry) = pick(tree, index).and_then(|path| tree.remove(&path)) {
                put(tree, &to, entry);
            }
        }
        Edit::MoveAndAppend(index, to, text) => {
            if let Some((mode, mut bytes)) = pick(tree, index).and_then(|path| tree.remove(&path)) {
                if mode != Mode::Symlink {
                    bytes.extend(text);
                }
                put(tree, &to, (mode, bytes));
            }
        }
        Edit::DeleteAll => tree.clear(),
    }
}

pub(super) fn pair() -> impl Strategy<Value = (Tree, Tree)> {
    (proptest::collection::vec((path(), entry()), 0..10), proptest::collection::vec(edit(), 0..8)).prop_map(|(entries, edits)| {
        let mut base = Tree::new();
        for (path, entry) in entries {
            put(&mut base, &path, entry);
        }
        let mut new = base.clone();
        for edit in edits {
            perform(&mut new, edit);
        }
        (base, new)
    })
}

#[test]
fn the_patch_gives_the_new_tree() {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(1000);
    let checkouts = [Checkout::new(ObjectFormat::Sha1), Checkout::new(ObjectFormat::Sha256)];
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_iters: 300,
        ..ProptestConfig::default()
    });
    let outcome = runner.run(&pair(), |(base, new)| {
        check_in(&checkouts[usize::from(base.len() % 4 == 3)], &base, &new);
        Ok(())
    });
    if let Err(e) = outcome {
        panic!("{e}");
    }
}
