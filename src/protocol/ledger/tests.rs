use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::verify::{Report, Verifier, Wrong};
use super::*;
use crate::protocol::manifest::hex;

/// A ledger of files with these numbers of lines, as the gateway would name them.
fn ledger(sizes: &[u64]) -> Vec<(String, Vec<u8>)> {
    let (mut seq, mut prev) = (0, GENESIS.to_owned());
    let mut files = Vec::new();
    for (at, size) in sizes.iter().enumerate() {
        let name = if at + 1 == sizes.len() { CURRENT.to_owned() } else { full_name(seq + 1) };
        let mut text = Vec::new();
        for _ in 0..*size {
            seq += 1;
            let line = json!({"seq": seq, "time": "2026-11-20T14:00:00Z", "prev": prev, "kind": "manifest", "job": "0".repeat(32), "manifest_sha256": "a".repeat(64)}).to_string();
            prev = hex(&Sha256::digest(&line));
            text.extend_from_slice(line.as_bytes());
            text.push(b'\n');
        }
        files.push((name, text));
    }
    files
}

fn verify_with(files: &[(String, Vec<u8>)], verifier: Verifier, piece: usize) -> Report {
    let mut verifier = verifier;
    let mut seen = 0;
    for (name, text) in files {
        verifier.file(name);
        for bytes in text.chunks(piece) {
            verifier.bytes(bytes, &mut |_, _| seen += 1);
        }
    }
    let report = verifier.finish();
    assert_eq!(seen, report.lines);
    report
}

fn verify(files: &[(String, Vec<u8>)]) -> Report {
    verify_with(files, Verifier::default(), 1000)
}

fn lines(text: &[u8]) -> Vec<Vec<u8>> {
    text.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect()
}

#[test]
fn a_whole_ledger_holds_in_any_division() {
    for sizes in [&[0][..], &[1], &[5], &[3, 4, 0], &[2, 2, 2, 2, 2, 2, 2, 2, 2]] {
        let files = ledger(sizes);
        for piece in [1, 7, 100_000] {
            let report = verify_with(&files, Verifier::default(), piece);
            let total: u64 = sizes.iter().sum();
            assert_eq!((report.broken, report.lines, report.head.seq, report.files), (None, total, total, sizes.len() as u64), "{sizes:?}");
        }
    }
}

/// Each change to one line of a ledger of two files with five lines each, and where it must be seen: kind, line of the file, due number.
#[test]
fn every_change_is_found_where_it_is() {
    type Change = fn(&mut Vec<Vec<u8>>);
    fn edit(line: &mut Vec<u8>, from: &str, to: &str) {
        let text = String::from_utf8(line.clone()).unwrap();
        assert!(text.contains(from), "{text}");
        *line = text.replacen(from, to, 1).into_bytes();
    }
    let changes: [(&str, Change, Wrong, u64, u64); 17] = [
        ("a value is changed", |l| edit(&mut l[2], "\"aaaa", "\"baaa"), Wrong::Chain, 4, 9),
        ("a time is changed", |l| edit(&mut l[0], "14:00", "15:00"), Wrong::Chain, 2, 7),
        ("the job is changed", |l| edit(&mut l[3], "\"0000", "\"1000"), Wrong::Chain, 5, 10),
        ("the first line's link is changed", |l| edit(&mut l[0], "\"prev\":\"", "\"prev\":\"x"), Wrong::Chain, 1, 6),
        ("a line is deleted", |l| drop(l.remove(2)), Wrong::Sequence, 3, 8),
        ("a line is put in twice", |l| l.insert(3, l[2].clone()), Wrong::Sequence, 4, 9),
        (
            "a line is put in with the next number",
            |l| {
                let mut forged = l[2].clone();
                edit(&mut forged, "\"seq\":8", "\"seq\":9");
                l.insert(3, forged);
            },
            Wrong::Chain,
            4,
            9,
        ),
        ("two lines change places", |l| l.swap(1, 2), Wrong::Sequence, 2, 7),
        ("the file's first lines are cut", |l| drop(l.drain(..2)), Wrong::Sequence, 1, 6),
        ("half of the last line is cut", |l| l[4].truncate(40), Wrong::Torn, 5, 10),
        ("the last line's end is cut", |l| l[4].retain(|b| *b != b'\n'), Wrong::Torn, 5, 10),
        ("a field is gone", |l| edit(&mut l[4], ",\"manifest_sha256\":\"", ",\"other\":\""), Wrong::Schema, 5, 10),
        ("a field has another form", |l| edit(&mut l[4], "\"aaaa", "\"AAAA"), Wrong::Schema, 5, 10),
        ("a space", |l| edit(&mut l[4], ":", ": "), Wrong::Unreadable, 5, 10),
        ("a key twice", |l| edit(&mut l[4], "{\"seq\"", "{\"seq\":1,\"seq\""), Wrong::Unreadable, 5, 10),
        ("no JSON", |l| l[3] = b"garbage\n".to_vec(), Wrong::Unreadable, 4, 9),
        ("an empty line", |l| l.insert(1, b"\n".to_vec()), Wrong::Unreadable, 2, 7),
    ];
    for (what, change, wrong, line, seq) in changes {
        let mut files = ledger(&[5, 5]);
        let mut second = lines(&files[1].1);
        change(&mut second);
        files[1].1 = second.concat();
        let broken = verify(&files).broken.unwrap_or_else(|| panic!("{what} is not seen"));
        assert_eq!((broken.wrong, broken.file.as_str(), broken.line, broken.seq), (wrong, CURRENT, line, seq), "{what}: {}", broken.message);
        let before: usize = second.iter().take(usize::try_from(line).unwrap() - 1).map(Vec::len).sum();
        assert_eq!(broken.offset, before as u64, "{what}");
    }
}

#[test]
fn files_that_are_missing_changed_or_in_another_order_are_found() {
    let whole = ledger(&[3, 3, 3, 3]);
    let mut swapped = whole.clone();
    swapped.swap(1, 2);
    let mut contents = whole.clone();
    (contents[1].1, contents[2].1) = (whole[2].1.clone(), whole[1].1.clone());
    let mut missing = whole.clone();
    missing.remove(1);
    let mut renamed = whole.clone();
    renamed[0].0 = full_name(2);
    for (what, files, wrong) in [
        ("order", &swapped, Wrong::Sequence),
        ("contents", &contents, Wrong::Sequence),
        ("one missing", &missing, Wrong::Sequence),
        ("renamed", &renamed, Wrong::FileName),
        ("the first one missing", &whole[1..].to_vec(), Wrong::HeadMissing),
    ] {
        assert_eq!(verify(files).broken.unwrap_or_else(|| panic!("{what}")).wrong, wrong, "{what}");
    }
    // Where they were asked for as a part, and where the ledger was full.
    assert_eq!(verify_with(&whole[1..], Verifier::default().partial(), 100).broken, None);
    let long = verify(&ledger(&[1; KEEP + 2])[1..]);
    assert_eq!((long.broken, long.first_seq, long.from_the_beginning), (None, 2, false));
    assert_eq!(verify(&ledger(&[1; KEEP + 1])[1..]).broken.map(|b| b.wrong), Some(Wrong::HeadMissing));
}

#[test]
fn lines_missing_at_the_end_are_seen_by_a_head_that_was_noted() {
    let whole = ledger(&[3, 3]);
    let head = verify(&whole).head;
    let mut cut = whole.clone();
    cut[1].1 = lines(&cut[1].1)[..2].concat();
    // Nothing in what is left says that there was more.
    assert_eq!(verify(&cut).broken, None);
    let broken = verify_with(&cut, Verifier::default().expect(head.clone()), 100).broken.unwrap();
    assert_eq!((broken.wrong, broken.seq, broken.line), (Wrong::TailMissing, 6, 3));
    assert_eq!(verify_with(&whole, Verifier::default().expect(head.clone()), 100).broken, None);
    let other = Head { seq: 4, sha256: "b".repeat(64) };
    let broken = verify_with(&whole, Verifier::default().expect(head).expect(other), 100).broken.unwrap();
    assert_eq!((broken.wrong, broken.seq, broken.file.as_str()), (Wrong::OtherHistory, 4, CURRENT));
    // A whole new chain has other digests.
    let mut forged = ledger(&[6]);
    let text = String::from_utf8(forged[0].1.clone()).unwrap();
    let (mut prev, mut rewritten) = (GENESIS.to_owned(), String::new());
    for line in text.lines() {
        let mut value: Value = serde_json::from_str(line).unwrap();
        value["job"] = json!("1".repeat(32));
        value["prev"] = json!(prev);
        prev = hex(&Sha256::digest(value.to_string()));
        rewritten.push_str(&format!("{value}\n"));
    }
    forged[0].1 = rewritten.into_bytes();
    assert_eq!(verify(&forged).broken, None, "the chain has no key");
    let noted = verify(&ledger(&[6])).head;
    assert_eq!(verify_with(&forged, Verifier::default().expect(noted), 100).broken.map(|b| b.wrong), Some(Wrong::OtherHistory));
}

#[test]
fn what_a_later_version_writes_is_named_and_no_break() {
    let line = json!({"seq": 1, "time": "2026-11-20T14:00:00Z", "prev": GENESIS, "kind": "gap", "new": 1}).to_string() + "\n";
    let next = json!({"seq": 2, "time": "2026-11-20T14:00:00Z", "prev": hex(&Sha256::digest(line.trim_end())), "kind": "newer"}).to_string() + "\n";
    let report = verify(&[(CURRENT.to_owned(), (line + &next).into_bytes())]);
    assert_eq!((report.broken, report.gaps), (None, 1));
    assert_eq!(report.unknown, ["gap.new", "kind newer"]);
}

#[test]
fn a_line_without_end_is_given_up() {
    let report = verify(&[(CURRENT.to_owned(), vec![b'x'; 3 * MAX_LINE])]);
    assert_eq!(report.broken.unwrap().wrong, Wrong::Unreadable);
}
