//! What `git diff-tree` says, taken apart: the parts lie one behind the other and cover the patch, each added line comes from it.

use anchorhold::workspace::readers::{parts, records};

pub fn run(data: &[u8]) {
    let taken = super::within(data.len(), 4096, 8, || records(data));
    let Some((records, patch)) = taken else { return };
    assert!(data.ends_with(patch));
    assert!(records.iter().all(|r| (r.status == b'R') == r.old_path.is_some()));
    let mut lines = 0u64;
    let mut last = 0;
    let found = super::within(data.len() + records.len() * 64, 4096, 2, || {
        parts(patch, &records, &mut |at, line| {
            assert!(at >= last && at < records.len() && !line.contains(&b'\n'));
            last = at;
            lines += 1;
        })
    });
    let Some(parts) = found else { return };
    assert_eq!(parts.len(), records.len());
    let mut at = 0;
    for part in &parts {
        assert_eq!(part.offset, at, "a part does not begin where the last one ended");
        let text = &patch[at..at + part.len];
        assert!(text.starts_with(b"diff --git "));
        assert!(part.added + part.removed <= text.iter().filter(|b| **b == b'\n').count() as u64 + 1);
        at += part.len;
    }
    assert_eq!(at, patch.len(), "the parts do not cover the patch");
    assert_eq!(parts.iter().map(|p| p.added).sum::<u64>(), lines);
}

pub fn seeds() -> Vec<Vec<u8>> {
    let id = "0123456789012345678901234567890123456789";
    let record = |status: &str, names: &str| format!(":100644 100644 {id} {} {status}\0{names}\0", id.replace('0', "f"));
    vec![
        [record("M", "a"), "\0diff --git a/a b/a\nindex 1..2 100644\n--- a/a\n+++ b/a\n@@ -1,2 +1,3 @@ x\n c\n-o\n+n\n+m\n\\ No newline at end of file\n".to_owned()].concat().into_bytes(),
        [
            record("R90", "a\0b"),
            record("A", "c"),
            "\0diff --git a/a b/b\nsimilarity index 90%\nrename from a\nrename to b\nindex 1..2 100644\n--- a/a\n+++ b/b\n@@ -1 +1 @@\n-o\n+diff --git a/x b/x\ndiff --git a/c b/c\nnew file mode 100644\nindex 0..2\nGIT binary patch\nliteral 3\nzcmV\n\nliteral 0\nHcmV\n\n".to_owned(),
        ]
        .concat()
        .into_bytes(),
        [record("T", "l"), "\0diff --git a/l b/l\ndeleted file mode 100644\nindex 1..0\n--- a/l\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\ndiff --git a/l b/l\nnew file mode 120000\nindex 0..1\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+x\n".to_owned()].concat().into_bytes(),
        [record("M", "m"), "\0diff --git a/m b/m\nold mode 100644\nnew mode 100755\n".to_owned()].concat().into_bytes(),
    ]
}
