//! The tail of a job's log: the same records in any division, bounded, and nothing else.

use anchorhold::job::readers::Lines;
use anchorhold::protocol::progress::Progress;

pub fn run(data: &[u8]) {
    let how = super::Source(data).byte();
    let whole = super::within(data.len(), 32 << 10, 24, || read(&[data]));
    assert_eq!(read(&super::pieces(data, how)), whole, "the division decides");
    assert!(whole.len() <= data.iter().filter(|b| **b == b'\n').count());
    for record in &whole {
        let line = serde_json::to_vec(record).expect("its own form");
        assert_eq!(serde_json::from_slice::<Progress>(&line).expect("its own form"), *record);
        assert!(record.message.as_ref().is_none_or(|m| m.len() <= Progress::MAX_LINE));
    }
}

fn read(pieces: &[&[u8]]) -> Vec<Progress> {
    let mut lines = Lines::default();
    let mut records = Vec::new();
    for piece in pieces {
        lines.push(piece, &mut |record| records.push(record));
    }
    records
}

pub fn seeds() -> Vec<Vec<u8>> {
    vec![
        b"{\"ms\":1,\"phase\":\"unpacking\"}\n{\"ms\":2,\"phase\":\"queued\",\"position\":3}\npanicked\n{\"ms\":3,\"phase\":\"running\",\"message\":\"$ ls\",\"events\":4,\"answers\":1}\n{\"ms\":9,\"phase\":\"sealed\",\"reason\":\"token_budget\"}\n".to_vec(),
        [&b"{\"ms\":1,\"phase\":\"sealing\",\"message\":\""[..], &[b'x'; 4100], b"\"}\n{\"ms\":2,\"phase\":\"sealing\"}\n"].concat(),
    ]
}
