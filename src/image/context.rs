//! Build contexts: tar streams made on the way to the engine, never whole in memory.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flate2::read::GzDecoder;
use tokio::sync::mpsc;

use super::codex::FILES;
use crate::engine::UploadStream;

/// Pieces of this size go to the engine.
const CHUNK: usize = 256 << 10;
/// No file of the Codex package is larger.
const FILE_MAX: u64 = 1 << 30;
/// Set on every entry, so that the same content is the same layer.
const MTIME: u64 = 1_577_836_800;

/// The userland's context: its Dockerfile, and Codex's files straight out of the (verified) package.
pub(super) fn userland(dockerfile: &'static str, package: PathBuf, directory: String) -> UploadStream {
    stream(move |out| {
        let mut tar = begin(out)?;
        add(&mut tar, "Dockerfile", dockerfile.len() as u64, 0o644, dockerfile.as_bytes())?;
        copy_codex(&mut tar, GzDecoder::new(File::open(package)?), &directory)?;
        tar.into_inner()?.flush()
    })
}

/// The runtime image's context: its Dockerfile and our binary.
pub(super) fn runtime(dockerfile: &'static str, binary: File, size: u64) -> UploadStream {
    stream(move |out| {
        let mut tar = begin(out)?;
        add(&mut tar, "Dockerfile", dockerfile.len() as u64, 0o644, dockerfile.as_bytes())?;
        add(&mut tar, "anchorhold", size, 0o755, binary)?;
        tar.into_inner()?.flush()
    })
}

/// A file on the disk, as it is.
pub(super) fn file(path: PathBuf) -> UploadStream {
    stream(move |mut out| {
        io::copy(&mut File::open(path)?, &mut out)?;
        out.flush()
    })
}

/// A first entry that no engine takes for a compressed archive.
fn begin<W: Write>(out: W) -> io::Result<tar::Builder<W>> {
    let mut tar = tar::Builder::new(out);
    let mut root = header(0, 0o755);
    root.set_entry_type(tar::EntryType::Directory);
    tar.append_data(&mut root, "./", io::empty())?;
    Ok(tar)
}

fn header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(MTIME);
    header
}

/// Adds a file; content that ends early is an error, not a damaged archive.
fn add<W: Write>(tar: &mut tar::Builder<W>, path: &str, size: u64, mode: u32, content: impl Read) -> io::Result<()> {
    let mut content = content.take(size);
    tar.append_data(&mut header(size, mode), path, &mut content)?;
    if content.limit() == 0 { Ok(()) } else { Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{path} changed while it was read"))) }
}

/// Copies the files that we want, and nothing else, from archive to archive.
fn copy_codex<W: Write>(tar: &mut tar::Builder<W>, package: impl Read, directory: &str) -> io::Result<()> {
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut missing = FILES.to_vec();
    let mut archive = tar::Archive::new(package);
    for entry in archive.entries()? {
        let entry = entry?;
        let path = entry.path()?.into_owned();
        let Ok(inside) = path.strip_prefix(Path::new(directory)) else { continue };
        let Some(place) = missing.iter().position(|name| Path::new(name) == inside) else { continue };
        let size = entry.size();
        if !entry.header().entry_type().is_file() || size > FILE_MAX {
            return Err(invalid(format!("{} in the package is not a file of a sane size", path.display())));
        }
        add(tar, &format!("codex/{}", missing.swap_remove(place)), size, 0o755, entry)?;
    }
    if missing.is_empty() { Ok(()) } else { Err(invalid(format!("the package holds no {}", missing.join(", ")))) }
}

/// Runs a writer on a blocking thread and hands its bytes on; its error ends the stream, and with it the engine's call.
fn stream(write: impl FnOnce(io::BufWriter<Pieces>) -> io::Result<()> + Send + 'static) -> UploadStream {
    let (sender, receiver) = mpsc::channel(4);
    let failure = sender.clone();
    tokio::task::spawn_blocking(move || {
        if let Err(e) = write(io::BufWriter::with_capacity(CHUNK, Pieces(sender))) {
            // Nobody listens any more when the engine refused the rest; its own answer says why.
            let _ = failure.blocking_send(Err(e));
        }
    });
    Box::pin(futures_util::stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) }))
}

struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes))).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt as _;

    use super::*;

    async fn entries(stream: UploadStream) -> Result<Vec<(String, u32, Vec<u8>)>, io::Error> {
        let bytes: Vec<u8> = stream.try_collect::<Vec<Bytes>>().await?.concat();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut all = Vec::new();
        for entry in archive.entries()? {
            let mut entry = entry?;
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            all.push((entry.path()?.display().to_string(), entry.header().mode()?, content));
        }
        Ok(all)
    }

    fn package(dir: &Path, files: &[(&str, &[u8])]) -> PathBuf {
        let path = dir.join("p.tgz");
        let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(File::create(&path).unwrap(), flate2::Compression::fast()));
        for (name, content) in files {
            add(&mut tar, name, content.len() as u64, 0o755, *content).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap();
        path
    }

    #[tokio::test]
    async fn only_the_named_files_go_in() {
        let dir = tempfile::tempdir().unwrap();
        let big = vec![7; 3 * CHUNK + 1];
        let path = package(
            dir.path(),
            &[
                ("package/package.json", b"{}"),
                ("package/v/codex-path/rg", b"rg"),
                ("package/v/bin/codex", &big),
                ("package/v/codex-resources/bwrap", b"no"),
                ("package/other/bin/codex", b"no"),
                ("package/v/bin/codex-code-mode-host", b"host"),
            ],
        );
        let got = entries(userland("FROM x", path, "package/v".to_owned())).await.unwrap();
        let names: Vec<_> = got.iter().map(|(name, mode, _)| (name.as_str(), *mode)).collect();
        let want = [
            ("./", 0o755),
            ("Dockerfile", 0o644),
            ("codex/codex-path/rg", 0o755),
            ("codex/bin/codex", 0o755),
            ("codex/bin/codex-code-mode-host", 0o755),
        ];
        assert_eq!(names, want);
        assert!(got[3].2 == big);
    }

    #[tokio::test]
    async fn an_incomplete_package_ends_the_stream_with_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = package(dir.path(), &[("package/v/bin/codex", b"x"), ("package/v/codex-path/rg", b"x")]);
        let error = entries(userland("FROM x", path, "package/v".to_owned())).await.unwrap_err();
        assert!(error.to_string().contains("codex-code-mode-host"), "{error}");
        assert!(entries(userland("FROM x", dir.path().join("absent"), "v".to_owned())).await.is_err());
    }

    #[tokio::test]
    async fn a_binary_that_shrinks_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b");
        std::fs::write(&path, "12345").unwrap();
        let got = entries(runtime("FROM x", File::open(&path).unwrap(), 5)).await.unwrap();
        assert_eq!(got[2], ("anchorhold".to_owned(), 0o755, b"12345".to_vec()));
        assert!(entries(runtime("FROM x", File::open(&path).unwrap(), 6)).await.is_err());
    }
}
