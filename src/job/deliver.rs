//! Delivery: the workspace, the request and the pass, into a created container; then its start.
//!
//! One tar stream, made while the repository is read: `./`, `in/`, the frames as they are compressed, the facts, and the request
//! last, because it holds the manifest's digest. Beside it the gateway admits the job. The container starts when all of that is done.

use std::cell::Cell;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use zeroize::Zeroizing;

use super::attempts::Packed;
use super::away::Absence;
use super::continuing::Kept;
use super::deliveries::Sent;
use super::labels::JobLabels;
use super::reviewing::UnderReview;
use super::service::Core;
use super::{bury, gateway, trace};
use crate::engine::{ContainerRef, ContainerSpec, ContainerState, Tolerance, UploadStream, engine_is_away, outcome_unknown};
use crate::error::{Code, Error, Result};
use crate::fault;
use crate::protocol::admin::{AdminRequest, Admission};
use crate::protocol::paths;
use crate::protocol::request::JobRequest;
use crate::telemetry::metrics::{Seen, observe};
use crate::workspace::Plan;

/// Chunks that may wait for the engine; a frame has about 4 MiB of plain content.
const CHUNKS_IN_FLIGHT: usize = 4;

/// What the engine was asked for, and what it said to that.
pub(super) struct Asked {
    pub spec: ContainerSpec,
    pub warnings: Vec<String>,
    pub tolerance: Tolerance,
}

/// Where the files come from.
pub(super) enum Source {
    /// The user's working tree or commits.
    Tree(Box<Plan>),
    /// A snapshot for several jobs.
    Packed(Arc<Packed>),
    /// The job that is gone on with.
    Kept(Box<Kept>),
}

/// Everything that a job is delivered with.
pub(super) struct Parcel {
    pub labels: JobLabels,
    pub container: ContainerRef,
    pub image_id: String,
    pub asked: Asked,
    pub source: Source,
    /// The change, where the job is a review.
    pub under_review: Option<UnderReview>,
    /// Complete but for the manifest's digest.
    pub request: JobRequest,
    pub admission: Admission,
}

/// Delivers and starts a job. When that fails, a tombstone says why and everything else of the job is gone.
pub(super) async fn deliver(core: &Arc<Core>, parcel: Parcel, stop: &CancellationToken) -> Result<()> {
    let Parcel { labels, container, image_id, asked, source, under_review, request, admission } = parcel;
    let content = Content { source, under_review, request };
    let left = labels.prepare_by.saturating_mul(1000).saturating_sub(core.now_ms());
    // Beside the upload, so that it costs no time; the first failure of the two ends both.
    let work = async {
        let beside = async {
            match verify(core, &container, &asked).await {
                // An engine holds the container while it unpacks the upload, on a busy host for longer than an answer may take.
                Err(e) if engine_is_away(&e) => Ok(false),
                verified => verified.map(|()| true),
            }
        };
        match tokio::try_join!(beside, send(core, &labels, &container, content, admission))? {
            (true, ()) => Ok(()),
            (false, ()) => verify(core, &container, &asked).await,
        }
    };
    // Whatever is dropped here in the middle leaves a container that is buried below; the packer ends when nobody reads.
    let prepared = tokio::select! {
        biased;
        outcome = work => outcome,
        () = tokio::time::sleep(std::time::Duration::from_millis(left)) => {
            let hint = "look at the load and the disk of the engine's host, and start a new job";
            Err(Error::new(Code::Timeout, "deliver the workspace in time").with_hint(hint))
        }
        () = stop.cancelled() => Err(Error::new(Code::JobCancelled, "deliver the workspace: the job was cancelled").with_hint("start a new job")),
    };
    // Not part of the race: once the start was asked for, the job may run, and a cancel is a signal to it.
    let outcome = match prepared {
        Ok(()) => {
            fault::point("deliver.prepared");
            start(core, &container).await.inspect(|()| fault::point("deliver.started"))
        }
        Err(e) => Err(e),
    };
    if let Err(error) = &outcome {
        crate::telemetry::failed(error.code);
        trace::refused(labels.trace(), labels.trace.as_ref(), &labels.id, labels.created_ms, "undelivered", error);
    }
    match &outcome {
        Ok(()) => tracing::debug!(job_id = %labels.id, "delivered"),
        Err(error) if error.code == Code::JobCancelled => {
            if let Err(e) = bury::cancelled_before_start(core, &labels, &container, &image_id).await {
                tracing::warn!(job_id = %labels.id, error = e.chain(), "could not leave word of a cancelled delivery");
            }
        }
        Err(error) => {
            // The whole error may name files of the repository; whoever asks for the job is told it.
            tracing::warn!(job_id = %labels.id, code = error.code.as_str(), "the delivery failed");
            bury::failed_delivery(core, &labels, &container, &image_id, error).await;
        }
    }
    outcome
}

/// What goes into the stream.
struct Content {
    source: Source,
    under_review: Option<UnderReview>,
    request: JobRequest,
}

async fn send(core: &Arc<Core>, labels: &JobLabels, container: &ContainerRef, content: Content, admission: Admission) -> Result<()> {
    let engine = core.engine().await?;
    let began = std::time::Instant::now();
    let (chunks, body) = mpsc::channel(CHUNKS_IN_FLIGHT);
    let (digest, digest_known) = oneshot::channel();
    let packing_span = tracing::error_span!("pack", bytes = tracing::field::Empty);
    let frames = match &content.source {
        Source::Tree(_) | Source::Packed(_) => None,
        Source::Kept(kept) => Some(kept.frames(core)),
    };
    let packing = core.tasks.spawn_blocking(move || packing_span.in_scope(|| pack(content, frames, &chunks, digest)));
    let body: UploadStream = Box::pin(futures_util::stream::unfold(body, |mut body| async move { Some((body.recv().await?, body)) }));

    let uploading = async {
        let uploaded = engine.upload(container, paths::JOB, body).await;
        tracing::debug!(job_id = %labels.id, ms = began.elapsed().as_millis(), "uploaded");
        fault::point("deliver.uploaded");
        uploaded
    }
    .instrument(tracing::error_span!("upload"));
    let admitting = async {
        fault::point("deliver.admitting");
        let admit = AdminRequest::Admit(admission);
        core.gateway.request(&engine, &core.settings, &admit, gateway::DELIVERY_WITHIN).await.map_err(|e| {
            // The only job besides its own that an admission names is the one before.
            if e.details.get("gateway_code") == Some(&"unknown_job".into()) { super::continuing::consumed() } else { e }
        })?;
        tracing::debug!(job_id = %labels.id, ms = began.elapsed().as_millis(), "admitted");
        fault::point("deliver.admitted");
        // Without a digest the packing failed, and says so itself.
        let Ok(manifest_sha256) = digest_known.await else { return Ok(()) };
        core.deliveries.set_manifest(&labels.id, &manifest_sha256);
        let record = AdminRequest::RecordManifest { job_id: labels.id.to_string(), manifest_sha256 };
        core.gateway.request(&engine, &core.settings, &record, gateway::DELIVERY_WITHIN).await.map(|_| ())
    }
    .instrument(tracing::error_span!("admit"));
    let transferring = async {
        let (packed, uploaded) = tokio::join!(packing, uploading);
        let packed = packed.map_err(|e| Error::internal("pack the workspace").with_source(e))?;
        match (packed, uploaded) {
            (Ok(sent), Ok(())) => {
                core.deliveries.keep(&labels.id, sent);
                Ok(())
            }
            // A stream that was cut by the other side is not the cause.
            (Err(Broken::Packing(e)), _) | (_, Err(e)) => Err(e),
            (Err(Broken::Stream), Ok(())) => Err(Error::new(Code::EngineError, "deliver the workspace: the engine stopped reading")),
        }
    };
    // An upload that failed is not kept waiting for a gateway that may have gone with the engine.
    tokio::try_join!(transferring, admitting).map(|_| ())
}

/// Whether the container is what was asked for; before anything runs in it.
async fn verify(core: &Core, container: &ContainerRef, asked: &Asked) -> Result<()> {
    let verified = core.engine().await?.verify_container(container, &asked.spec, &asked.warnings, asked.tolerance).await;
    fault::point("deliver.verified");
    verified
}

/// Starts it, over an engine that goes away meanwhile: one that runs, or has run, was started.
async fn start(core: &Core, container: &ContainerRef) -> Result<()> {
    let engine = core.engine().await?;
    let mut absence = Absence::new(core.settings.engine.away_seconds);
    while let Err(mut failed) = engine.start_container(container).await {
        // A failure that the engine did not get over is one of this container.
        if !outcome_unknown(&failed) && failed.code == Code::EngineError {
            return Err(failed);
        }
        loop {
            absence.wait(failed).await?;
            match engine.inspect_container(container).await {
                Ok(Some(facts)) if facts.state == ContainerState::Created => break,
                Ok(Some(_)) => return Ok(()),
                Ok(None) => return Err(super::id::not_found()),
                Err(e) => failed = e,
            }
        }
    }
    Ok(())
}

/// Why packing stopped.
enum Broken {
    /// The repository could not be read.
    Packing(Error),
    /// The engine no longer takes bytes.
    Stream,
}

/// Frames that come out of another container.
type Frames = Option<mpsc::Receiver<Result<Bytes>>>;

/// Blocking: writes the whole tar stream.
fn pack(content: Content, frames: Frames, chunks: &mpsc::Sender<io::Result<Bytes>>, digest: oneshot::Sender<String>) -> Result<Sent, Broken> {
    let Content { source, under_review, mut request } = content;
    let tar = TarStream { chunks, sent: Cell::new(0) };
    let written = (|| {
        for (name, mode) in [("./", 0o711), ("in/", 0o700), ("in/frames/", 0o700), ("in/facts/", 0o700)] {
            tar.directory(name, mode).map_err(|_| Broken::Stream)?;
        }
        let (manifest, manifest_sha256, summary, kept) = match source {
            Source::Tree(plan) => {
                let mut cut = false;
                let packed = crate::workspace::pack(*plan, &mut |index, frame| {
                    fault::point("deliver.uploading");
                    tar.file(&format!("in/frames/{index:05}.zst"), frame.into()).inspect_err(|_| cut = true)
                });
                let packed = packed.map_err(|e| if cut { Broken::Stream } else { Broken::Packing(e) })?;
                (Bytes::from(packed.manifest), packed.manifest_sha256, packed.summary, None)
            }
            Source::Packed(packed) => {
                for (index, frame) in packed.frames().enumerate() {
                    let frame =
                        frame.map_err(|e| Broken::Packing(Error::new(Code::SetupFailed, "read the snapshot that was kept").with_source(e)))?;
                    tar.file(&format!("in/frames/{index:05}.zst"), frame).map_err(|_| Broken::Stream)?;
                }
                (packed.manifest.clone(), packed.manifest_sha256.clone(), packed.summary.clone(), None)
            }
            Source::Kept(kept) => {
                copy_frames(&tar, frames)?;
                (kept.manifest.clone(), kept.manifest_sha256.clone(), kept.summary.clone(), Some(kept))
            }
        };
        request.manifest_sha256.clone_from(&manifest_sha256);
        // Nobody listens when the admission failed first; the stream ends all the same.
        let _ = digest.send(manifest_sha256.clone());
        let json = |e: serde_json::Error| Broken::Packing(Error::internal("write the request").with_source(e));
        let facts = serde_json::to_vec(&summary).map_err(json)?;
        // The request holds the pass; this copy becomes the upload itself.
        let request = serde_json::to_vec(&request).map_err(json)?;
        (|| {
            tar.file("in/facts/manifest", manifest.clone())?;
            tar.file("in/facts/snapshot.json", facts.into())?;
            if let Some(kept) = &kept {
                tar.file("in/previous", kept.previous.clone())?;
                tar.file("in/session.jsonl", kept.session.clone())?;
            }
            if let Some(UnderReview { diff, document, .. }) = &under_review {
                tar.file("in/change.diff", diff.clone())?;
                tar.file("in/facts/review.json", document.clone())?;
            }
            tar.file("in/request.json", request.into())?;
            tar.end()
        })()
        .map_err(|_| Broken::Stream)?;
        let review = under_review.map(|under_review| under_review.document);
        Ok(Sent { manifest, manifest_sha256, summary, review })
    })();
    tracing::Span::current().record("bytes", tar.sent.get());
    observe("anchorhold.delivered", "By", &[], Seen::More(tar.sent.get()));
    if written.is_err() {
        // Ends the upload with an error instead of as a short but whole archive.
        let _ = chunks.blocking_send(Err(io::Error::other("the delivery was given up")));
    }
    written
}

/// Hands on the frames of another job, one after the other.
fn copy_frames(tar: &TarStream<'_>, frames: Frames) -> Result<(), Broken> {
    let mut frames = frames.ok_or_else(|| Broken::Packing(Error::internal("deliver the workspace: there are no frames")))?;
    let mut number = 0u32;
    while let Some(frame) = frames.blocking_recv() {
        fault::point("deliver.uploading");
        tar.file(&format!("in/frames/{number:05}.zst"), frame.map_err(Broken::Packing)?).map_err(|_| Broken::Stream)?;
        number += 1;
    }
    Ok(())
}

/// Writes a tar stream by hand, so that a file's bytes go to the engine without being copied.
struct TarStream<'a> {
    chunks: &'a mpsc::Sender<io::Result<Bytes>>,
    /// Bytes so far.
    sent: Cell<u64>,
}

impl TarStream<'_> {
    fn directory(&self, name: &str, mode: u32) -> io::Result<()> {
        self.header(name, tar::EntryType::Directory, mode, 0)
    }

    fn file(&self, name: &str, content: Bytes) -> io::Result<()> {
        let size = content.len();
        self.header(name, tar::EntryType::Regular, 0o600, size as u64)?;
        if size > 0 {
            self.send(content)?;
        }
        match size % 512 {
            0 => Ok(()),
            part => self.send(Bytes::from_static(&[0; 512]).slice(part..)),
        }
    }

    fn end(&self) -> io::Result<()> {
        self.send(Bytes::from_static(&[0; 1024]))
    }

    fn header(&self, name: &str, kind: tar::EntryType, mode: u32, size: u64) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        // `set_path` would drop the leading "./" that sets the mode of the volume's own top.
        let field = header.as_old_mut().name.get_mut(..name.len()).ok_or_else(|| io::Error::other("name too long"))?;
        field.copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        // A fixed time: nothing of this machine's clock is in the archive.
        header.set_mtime(1);
        header.set_size(size);
        header.set_cksum();
        self.send(Bytes::copy_from_slice(header.as_bytes()))
    }

    fn send(&self, bytes: Bytes) -> io::Result<()> {
        self.sent.set(self.sent.get() + bytes.len() as u64);
        self.chunks.blocking_send(Ok(bytes)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// A pass: 256 random bits in hex.
pub(super) fn new_pass() -> Zeroizing<String> {
    use sha2::Digest as _;
    // Each UUID brings 122 random bits from the operating system; three hashed together fill 256.
    let mut hash = sha2::Sha256::new();
    for _ in 0..3 {
        hash.update(uuid::Uuid::new_v4().as_bytes());
    }
    Zeroizing::new(crate::protocol::manifest::hex(&hash.finalize()))
}

/// SHA-256 in hex.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    crate::protocol::manifest::hex(&sha2::Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_a_tar_of_roots_files_with_fixed_times() {
        let (sender, mut receiver) = mpsc::channel(64);
        let tar = TarStream { chunks: &sender, sent: Cell::new(0) };
        tar.directory("./", 0o711).unwrap();
        tar.directory("in/", 0o700).unwrap();
        let contents = [vec![], vec![7; 1], vec![8; 511], vec![9; 512], vec![1; 513]];
        for (index, content) in contents.iter().enumerate() {
            tar.file(&format!("in/frames/{index:05}.zst"), content.clone().into()).unwrap();
        }
        tar.end().unwrap();
        assert!(tar.file(&"x".repeat(101), Bytes::new()).is_err());
        drop(sender);
        let mut stream = Vec::new();
        while let Some(chunk) = receiver.blocking_recv() {
            stream.extend_from_slice(&chunk.unwrap());
        }
        assert_eq!(stream.len() % 512, 0);
        assert_eq!(&stream[..3], b"./\0", "the first entry sets the mode of the volume's top");
        let mut archive = tar::Archive::new(stream.as_slice());
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let header = entry.header().clone();
            assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (0, 0, 1));
            let mut content = Vec::new();
            io::Read::read_to_end(&mut entry, &mut content).unwrap();
            seen.push((String::from_utf8(header.path_bytes().into_owned()).unwrap(), header.mode().unwrap(), content));
        }
        assert_eq!(seen[0], ("./".into(), 0o711, vec![]));
        assert_eq!(seen[1], ("in/".into(), 0o700, vec![]));
        for (index, content) in contents.into_iter().enumerate() {
            assert_eq!(seen[index + 2], (format!("in/frames/{index:05}.zst"), 0o600, content));
        }
        assert_eq!(seen.len(), 7);
    }

    #[test]
    fn a_stream_that_nobody_reads_is_an_error() {
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        assert_eq!(TarStream { chunks: &sender, sent: Cell::new(0) }.end().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn passes_are_64_hex_digits_and_differ() {
        let (one, two) = (new_pass(), new_pass());
        assert!(one.len() == 64 && one.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
        assert_ne!(one, two);
    }
}
