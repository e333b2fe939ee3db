//! The sealed changes: a document that is taken is in order, within its bounds, and survives being written anew.

use std::io::Read;

use anchorhold::protocol::changes::{Change, ChangesCaps, Side, Writer, read};
use anchorhold::protocol::manifest::Mode;
use anchorhold::protocol::repo_path::RepoPath;

/// Small, so that small inputs meet them.
fn caps() -> ChangesCaps {
    ChangesCaps { records: 64, side_bytes: 4096, total_bytes: 16 << 10, ..ChangesCaps::default() }
}

pub fn run(data: &[u8]) {
    let taken = super::within(data.len(), 256 << 10, 8, || read(data, caps()));
    let Ok(changes) = taken else { return };
    judge(&changes);
    // It ends where it says: nothing may be missing and nothing may follow.
    assert!(read(&data[..data.len() - 1], caps()).is_err(), "a cut document is taken");
    assert!(read([data, b"\0"].concat().as_slice(), caps()).is_err(), "a document with more after its end is taken");
    let written = write(&changes);
    assert_eq!(read(written.as_slice(), caps()).expect("what we write is taken"), changes);
    assert_eq!(read(Drop(written.as_slice()), caps()).expect("in single bytes too"), changes);
}

fn judge(changes: &[Change]) {
    assert!(changes.len() as u64 <= caps().records);
    assert!(changes.windows(2).all(|pair| pair[0].path.as_bytes() < pair[1].path.as_bytes()), "paths ascend");
    let mut total = 0;
    for change in changes {
        super::assert_clean_path(change.path.as_bytes());
        assert!(change.base != change.new, "a change changes something");
        for side in [&change.base, &change.new].into_iter().flatten() {
            assert!(side.mode != Mode::Submodule && side.bytes.len() as u64 <= caps().side_bytes);
            total += side.bytes.len() as u64;
        }
    }
    assert!(total <= caps().total_bytes);
}

/// Gives one byte at a time.
struct Drop<'a>(&'a [u8]);

impl Read for Drop<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = buffer.len().min(1);
        self.0.read(&mut buffer[..most])
    }
}

fn write(changes: &[Change]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).expect("memory");
    for change in changes {
        let (mut base, mut new) = (change.base.as_ref().map(|s| &s.bytes[..]), change.new.as_ref().map(|s| &s.bytes[..]));
        let mode = |side: &Option<Side>| side.as_ref().map_or(Mode::File, |s| s.mode);
        let base = base.as_mut().map(|r| (mode(&change.base), r.len() as u64, r as &mut dyn Read));
        let new = new.as_mut().map(|r| (mode(&change.new), r.len() as u64, r as &mut dyn Read));
        writer.change(&change.path, base, new).expect("memory");
    }
    writer.finish().expect("memory").0
}

pub fn seeds() -> Vec<Vec<u8>> {
    let side = |mode, bytes: &[u8]| Some(Side { mode, bytes: bytes.to_vec() });
    let change = |path: &[u8], base, new| Change { path: RepoPath::parse(path).expect("a path"), base, new };
    vec![
        write(&[]),
        write(&[change(b"a", None, side(Mode::File, b"new\n")), change(b"b/c", side(Mode::File, b"old"), None)]),
        write(&[
            change(b"\n\xff", side(Mode::File, b"x"), side(Mode::Executable, b"x")),
            change(b"d", side(Mode::Symlink, b"to"), side(Mode::File, b"AHCHG1\n")),
        ]),
    ]
}
