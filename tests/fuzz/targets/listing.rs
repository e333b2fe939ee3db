//! What `git ls-files` says of a hostile index: sorted, each path once, from the output's own bytes.

use anchorhold::workspace::readers::parse_listing;

pub fn run(data: &[u8]) {
    let Ok(listed) = super::within(data.len(), 4096, 12, || parse_listing(data)) else { return };
    assert!(listed.windows(2).all(|pair| pair[0].path < pair[1].path), "sorted, each once");
    let records: Vec<&[u8]> = data.split(|b| *b == 0).filter(|r| !r.is_empty()).collect();
    assert!(listed.len() <= records.len());
    for entry in &listed {
        let same = records.iter().filter(|r| r.splitn(2, |b| *b == b'\t').nth(1) == Some(entry.path)).count();
        assert!(same > 0, "a path that nobody named");
        assert!(same == 1 || entry.unmerged, "of several stages one was taken for the file");
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    const ID: &str = "0123456789012345678901234567890123456789";
    vec![
        format!("H 100644 {ID} 0\ta\0H 100755 {ID} 0\tb/c\0S 120000 {ID} 0\td\0H 160000 {ID} 0\te\0").into_bytes(),
        format!("M 100644 {ID} 1\ta\0M 100644 {ID} 2\ta\0M 100644 {ID} 3\ta\0").into_bytes(),
        format!("H 100644 {ID}{} 0\tz\tz\n\0H 100644 {ID} 0\ta\0S 100644 {ID} 0\tz\tz\n\0", &ID[..24]).into_bytes(),
    ]
}
