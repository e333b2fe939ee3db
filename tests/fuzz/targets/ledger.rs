//! The reader of the gateway's ledger: the same report in any division; and when a ledger holds, then after any one byte was changed it holds no more,
//! given its head.

use anchorhold::protocol::ledger::verify::{Report, Verifier};
use anchorhold::protocol::ledger::{CURRENT, GENESIS, full_name};
use anchorhold::protocol::manifest::hex;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Two bytes say how, two where; then come lines, whose links are set right here: nobody guesses a digest.
pub fn run(data: &[u8]) {
    let mut source = super::Source(data);
    let (how, flip) = (source.byte(), source.byte());
    let at = usize::from(source.byte()) << 8 | usize::from(source.byte());
    let raw = super::within(data.len(), 64 << 10, 64, || verify(Verifier::default(), how, &[source.0]));
    assert_eq!(verify(Verifier::default(), how, &super::pieces(source.0, how)), raw, "the division decides");
    let linked = linked(source.0);
    let report = verify(Verifier::default(), how, &[&linked]);
    assert_eq!(verify(Verifier::default(), how, &super::pieces(&linked, how)), report, "the division decides");
    if report.broken.is_some() || report.lines == 0 {
        return;
    }
    let expecting = || Verifier::default().expect(report.head.clone());
    assert_eq!(verify(expecting(), how, &[&linked]).broken, None);
    let mut changed = linked.clone();
    let at = at % changed.len();
    changed[at] ^= if flip == 0 { 1 } else { flip };
    assert!(verify(expecting(), how, &[&changed]).broken.is_some(), "byte {at} was changed and nobody saw it: {}", changed.escape_ascii());
    let shorter = linked[..linked.len() - 1].iter().rposition(|b| *b == b'\n').map_or(0, |newline| newline + 1);
    assert!(verify(expecting(), how, &[&linked[..shorter]]).broken.is_some(), "the last line is gone and nobody saw it");
}

fn verify(mut verifier: Verifier, how: u8, pieces: &[&[u8]]) -> Report {
    let full = full_name(1);
    verifier.file(if how & 1 == 0 { CURRENT } else { &full });
    let mut lines = 0;
    for piece in pieces {
        verifier.bytes(piece, &mut |_, _| lines += 1);
    }
    let report = verifier.finish();
    assert_eq!(report.lines, lines);
    assert!(report.unknown.len() <= 32);
    report
}

fn linked(text: &[u8]) -> Vec<u8> {
    let (mut out, mut seq, mut prev) = (Vec::new(), 0u64, GENESIS.to_owned());
    for line in text.split(|b| *b == b'\n').take(12) {
        let Ok(Value::Object(mut fields)) = serde_json::from_slice(line) else { continue };
        seq += 1;
        fields.insert("seq".to_owned(), seq.into());
        fields.insert("prev".to_owned(), prev.into());
        let line = Value::Object(fields).to_string();
        prev = hex(&Sha256::digest(&line));
        out.extend(line.into_bytes());
        out.push(b'\n');
    }
    out
}

pub fn seeds() -> Vec<Vec<u8>> {
    let job = "0".repeat(32);
    let digest = "a".repeat(64);
    let lines = [
        format!(
            r#"{{"seq":1,"time":"2026-11-20T14:00:00Z","prev":"{GENESIS}","kind":"start","version":"0.1.0","jobs":0,"policy_sha256":"{digest}"}}"#
        ),
        format!(r#"{{"seq":2,"time":"2026-11-20T14:00:01Z","prev":"{digest}","kind":"manifest","job":"{job}","manifest_sha256":"{digest}"}}"#),
        r#"{"seq":3,"time":"2026-11-20T14:00:02Z","prev":"","kind":"gap"}"#.to_owned(),
        format!(r#"{{"seq":4,"time":"2026-11-20T14:00:03Z","prev":"","kind":"later","job":"{job}","unknown":[1.5,"x"]}}"#),
        format!(r#"{{"seq":18446744073709551615,"time":"2026-11-20T14:00:03Z","prev":"{digest}","kind":"gap"}}"#),
    ];
    let of = |head: [u8; 4], lines: &[String]| [&head[..], lines.join("\n").as_bytes(), b"\n"].concat();
    // The last one counted past the end of its numbers once.
    vec![of([0, 1, 0, 90], &lines[..4]), of([1, 32, 1, 7], &lines[..1]), of([3, 0, 0, 0], &[lines[4].clone(), lines[1].clone()])]
}
