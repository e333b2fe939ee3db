//! A bounded copy of a stream on disk: its head, and its tail in numbered halves of which the last two are kept. Nothing is held in memory, and what was written is
//! there after a kill.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

/// Where the parts of a spool lie, and how large they may get.
#[derive(Debug, Clone)]
pub struct Spool {
    dir: PathBuf,
    name: &'static str,
    head_bytes: u64,
    /// Of each half of the tail.
    half_bytes: u64,
}

/// Writes a spool.
pub struct SpoolWriter {
    spool: Spool,
    head: File,
    written: u64,
    tail: Option<(File, u64)>,
    halves: u32,
}

impl Spool {
    /// In a directory of ours.
    pub fn new(dir: &Path, name: &'static str, head_bytes: u64, half_bytes: u64) -> Self {
        Self { dir: dir.to_path_buf(), name, head_bytes, half_bytes }
    }

    fn part(&self, part: &str) -> PathBuf {
        self.dir.join(format!(".{}-{part}", self.name))
    }

    /// The numbers of the halves that are there, in order.
    fn halves(&self) -> io::Result<Vec<u32>> {
        let prefix = format!(".{}-tail", self.name);
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            numbers.extend(entry?.file_name().to_str().and_then(|name| name.strip_prefix(&prefix)?.parse::<u32>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn half(&self, number: u32) -> PathBuf {
        self.part(&format!("tail{number}"))
    }

    /// Starts anew.
    pub fn writer(&self) -> io::Result<SpoolWriter> {
        for number in self.halves()? {
            std::fs::remove_file(self.half(number))?;
        }
        Ok(SpoolWriter { spool: self.clone(), head: File::create(self.part("head"))?, written: 0, tail: None, halves: 0 })
    }

    /// The parts in order; those that are not there are left out.
    fn parts(&self) -> io::Result<Vec<File>> {
        let mut files = Vec::new();
        files.extend(File::open(self.part("head")).ok());
        for number in self.halves()? {
            files.push(File::open(self.half(number))?);
        }
        Ok(files)
    }

    /// Calls `each` with every kept chunk, in order.
    pub fn read(&self, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 16];
        for mut file in self.parts()? {
            loop {
                match file.read(&mut buffer)? {
                    0 => break,
                    read => each(buffer.get(..read).unwrap_or_default()),
                }
            }
        }
        Ok(())
    }

    /// Puts the kept parts together in one file, cut at line ends where something was dropped, and removes them.
    pub fn assemble(&self, target: &Path, dropped: bool) -> io::Result<()> {
        let mut out = io::BufWriter::new(File::create(target)?);
        for (number, mut file) in self.parts()?.into_iter().enumerate() {
            if number == 1 && dropped {
                // The first line after the gap is not whole. The head may end within a line too.
                out.write_all(b"\n")?;
                let mut byte = [0];
                let mut reader = io::BufReader::new(file);
                while reader.read(&mut byte)? == 1 && byte != *b"\n" {}
                io::copy(&mut reader, &mut out)?;
            } else {
                io::copy(&mut file, &mut out)?;
            }
        }
        out.into_inner().map_err(io::IntoInnerError::into_error)?;
        for part in self.halves()?.into_iter().map(|number| self.half(number)).chain([self.part("head")]) {
            // A leftover costs a little space and nothing else.
            let _ = std::fs::remove_file(part);
        }
        Ok(())
    }
}

impl SpoolWriter {
    /// Adds bytes. A full disk loses them; it must not stop the reading of a pipe.
    pub fn write(&mut self, mut bytes: &[u8]) {
        let room = self.spool.head_bytes.saturating_sub(self.written);
        let (head, rest) = bytes.split_at(bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
        self.written += bytes.len() as u64;
        let _ = self.head.write_all(head);
        bytes = rest;
        while !bytes.is_empty() {
            if self.tail.as_ref().is_none_or(|(_, used)| *used >= self.spool.half_bytes) {
                let Ok(file) = File::create(self.spool.half(self.halves)) else { return };
                if let Some(old) = self.halves.checked_sub(2) {
                    let _ = std::fs::remove_file(self.spool.half(old));
                }
                self.halves = self.halves.wrapping_add(1);
                self.tail = Some((file, 0));
            }
            let Some((file, used)) = &mut self.tail else { return };
            let room = usize::try_from(self.spool.half_bytes.saturating_sub(*used)).unwrap_or(usize::MAX).max(1);
            let (now, later) = bytes.split_at(bytes.len().min(room));
            *used += now.len() as u64;
            let _ = file.write_all(now);
            bytes = later;
        }
    }

    /// Bytes that were let go between head and tail.
    pub fn dropped(&self) -> u64 {
        let kept_tail = match (&self.tail, self.written.saturating_sub(self.spool.head_bytes)) {
            (None, _) => 0,
            (Some((_, used)), over) if over <= self.spool.half_bytes => *used,
            (Some((_, used)), _) => *used + self.spool.half_bytes,
        };
        self.written.saturating_sub(self.written.min(self.spool.head_bytes) + kept_tail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: usize) -> (Vec<u8>, u64, String) {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::new(dir.path(), "events", 100, 60);
        let mut writer = spool.writer().unwrap();
        let mut all = Vec::new();
        for number in 0..lines {
            let line = format!("line {number:04}\n");
            writer.write(line.as_bytes());
            all.extend_from_slice(line.as_bytes());
        }
        let mut kept = Vec::new();
        spool.read(|chunk| kept.extend_from_slice(chunk)).unwrap();
        assert_eq!(kept.len() as u64 + writer.dropped(), all.len() as u64);
        spool.assemble(&dir.path().join("events.jsonl"), writer.dropped() > 0).unwrap();
        let text = std::fs::read_to_string(dir.path().join("events.jsonl")).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        (all, writer.dropped(), text)
    }

    #[test]
    fn short_streams_are_kept_whole() {
        for lines in [0, 1, 10, 11, 15, 21] {
            let (all, dropped, text) = check(lines);
            assert_eq!((dropped, text.as_bytes()), (0, all.as_slice()), "{lines} lines");
        }
    }

    #[test]
    fn long_streams_keep_head_and_tail_in_whole_lines() {
        for lines in [50, 53, 100, 1000] {
            let (_, dropped, text) = check(lines);
            assert!(dropped > 0);
            assert!(text.starts_with("line 0000\n"));
            assert!(text.ends_with(&format!("line {:04}\n", lines - 1)), "{text}");
            assert!(text.len() >= 160 && text.len() <= 230);
        }
    }
}
