//! What `git ls-tree` says of a hostile commit: sorted, each path once, none beneath another, and every name either taken or refused.

use anchorhold::workspace::readers::parse_tree;

pub fn run(data: &[u8]) {
    let Ok(tree) = super::within(data.len(), 4096, 24, || parse_tree(data)) else { return };
    let named: Vec<&[u8]> = data.split(|b| *b == 0).filter(|r| !r.is_empty()).filter_map(|r| r.splitn(2, |b| *b == b'\t').nth(1)).collect();
    assert_eq!(tree.entries.len() + tree.refused.len(), named.len(), "a name that is neither taken nor refused");
    assert!(tree.refused.iter().all(|name| named.contains(&name.as_slice())), "a refused name that nobody gave");
    judge(&tree.entries.iter().map(|entry| entry.path.as_bytes()).collect::<Vec<_>>(), &named);
}

/// Fails where the paths cannot all be files of one working tree, or are not of the names.
pub fn judge(paths: &[&[u8]], named: &[&[u8]]) {
    assert!(paths.windows(2).all(|pair| pair[0] < pair[1]), "sorted, each once");
    let all: std::collections::HashSet<&[u8]> = paths.iter().copied().collect();
    for path in paths {
        assert!(named.contains(path), "a path that nobody named");
        super::assert_clean_path(path);
        let above = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at]);
        assert!(above.into_iter().all(|dir| !all.contains(dir)), "a file lies beneath another");
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    const ID: &str = "0123456789012345678901234567890123456789";
    vec![
        format!("100644 blob {ID}       7\ta\0100755 blob {ID}      12\tb/c\0120000 blob {ID}       1\td\0160000 commit {ID}       -\te\0")
            .into_bytes(),
        format!("100644 blob {ID} 1\ta\0100644 blob {ID} 1\ta\0100644 blob {ID} 1\ta/b\0100644 blob {ID} 1\ta/b/c\0100644 blob {ID} 1\ta-b\0")
            .into_bytes(),
        format!("100664 blob {ID}{} 1\t.git/config\0100644 blob {ID} 1\tx/../y\0100644 blob {ID} BAD\tz\0", &ID[..24]).into_bytes(),
    ]
}
