//! A path from a job: what is taken stays below the root, names no git directory and survives the wire.

use std::path::Component;

use anchorhold::protocol::repo_path::RepoPath;

pub fn run(data: &[u8]) {
    let Ok(path) = super::within(data.len(), 1024, 8, || RepoPath::parse(data)) else { return };
    assert_eq!(path.as_bytes(), data);
    super::assert_clean_path(data);
    assert!(path.to_path().components().all(|c| matches!(c, Component::Normal(_))));
    assert_eq!(path.to_path().components().count(), data.split(|b| *b == b'/').count());
    let whole = path.parent().map_or_else(|| path.file_name().to_vec(), |parent| [parent, b"/", path.file_name()].concat());
    assert_eq!(whole, data);
    let text = serde_json::to_string(&path).expect("a string");
    assert_eq!(serde_json::from_str::<RepoPath>(&text).expect("its own form"), path);
}

pub fn seeds() -> Vec<Vec<u8>> {
    let names: [&[u8]; 12] = [
        b"a/b.c",
        b".git",
        b"sub/.GIT/x",
        b"git~1",
        b".git ::$INDEX_ALLOCATION",
        b".gi\xe2\x80\x8ct",
        b"../a",
        b"/a",
        b"a//b",
        b"\xff\n",
        b"a/./b",
        b".gitx/..",
    ];
    names.map(<[u8]>::to_vec).into()
}
