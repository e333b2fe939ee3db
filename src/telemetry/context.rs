//! W3C trace context: who asked for a job, and how its parts find each other at a collector.
//!
//! The trace is the caller's, where one came with the call; else its id is the job's own, so that every process that has to do with the job agrees on it without
//! writing anything down. The span of the delegation as a whole has an id that follows from the job's, for the same reason.

use sha2::{Digest as _, Sha256};

/// Longest `tracestate` that is kept, as the recommendation has it.
const MAX_STATE: usize = 512;
/// Most members of a `tracestate`.
const MAX_MEMBERS: usize = 32;
/// Longest `traceparent` of a version to come.
const MAX_PARENT: usize = 255;

/// A place in a trace, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    sampled: bool,
    state: String,
}

impl TraceContext {
    /// Reads the headers' form; `None` for anything else. A `tracestate` that is not well-formed is left out, as the recommendation asks.
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        if traceparent.len() > MAX_PARENT || !traceparent.is_ascii() {
            return None;
        }
        let mut parts = traceparent.splitn(5, '-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let [version] = hex::<1>(version)?;
        // What a version to come appends is not known; version 0 appends nothing.
        if version == 0xff || version == 0 && parts.next().is_some() {
            return None;
        }
        let (trace_id, span_id, [flags]) = (hex::<16>(trace)?, hex::<8>(span)?, hex::<1>(flags)?);
        if trace_id == [0; 16] || span_id == [0; 8] {
            return None;
        }
        let state = tracestate.map(str::trim).filter(|state| is_state(state)).unwrap_or_default().to_owned();
        Some(Self { trace_id, span_id, sampled: flags & 1 == 1, state })
    }

    /// The delegation's own span, of which every step of the job is a part: in the caller's trace, or in one of the job's own.
    pub fn of_job(job_id: &str, caller: Option<&Self>) -> Self {
        let digest = Sha256::digest(format!("anchorhold.delegation:{job_id}").as_bytes());
        let own = hex::<16>(job_id).filter(|id| *id != [0; 16]).or_else(|| digest.get(8..24)?.try_into().ok()).unwrap_or([1; 16]);
        Self {
            trace_id: caller.map_or(own, |caller| caller.trace_id),
            span_id: digest.get(..8).and_then(|bytes| bytes.try_into().ok()).unwrap_or([1; 8]),
            sampled: caller.is_none_or(|caller| caller.sampled),
            state: caller.map(|caller| caller.state.clone()).unwrap_or_default(),
        }
    }

    /// The beginning of a trace that belongs to no job.
    pub fn random() -> Self {
        let (trace, span) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
        Self { trace_id: trace.into_bytes(), span_id: span.as_u64_pair().0.to_be_bytes(), sampled: true, state: String::new() }
    }

    /// A new span below this one.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { span_id: uuid::Uuid::new_v4().as_u64_pair().0.to_be_bytes(), ..self.clone() }
    }

    /// A span below this one that has the same id whoever makes it, so that a step that several processes tell of is one.
    #[must_use]
    pub fn named_child(&self, name: &str) -> Self {
        let digest = Sha256::digest(format!("{}:{name}", self.header()).as_bytes());
        Self { span_id: digest.get(..8).and_then(|bytes| bytes.try_into().ok()).unwrap_or([1; 8]), ..self.clone() }
    }

    /// `traceparent`.
    pub fn header(&self) -> String {
        format!("00-{}-{}-0{}", self.trace_id(), self.span_id(), u8::from(self.sampled))
    }

    /// `tracestate`; empty: none.
    pub fn state(&self) -> &str {
        &self.state
    }

    /// 32 hex digits.
    pub fn trace_id(&self) -> String {
        crate::protocol::manifest::hex(&self.trace_id)
    }

    /// 16 hex digits.
    pub fn span_id(&self) -> String {
        crate::protocol::manifest::hex(&self.span_id)
    }

    /// Whether whoever began the trace wants it recorded.
    pub fn is_sampled(&self) -> bool {
        self.sampled
    }
}

/// Lower-case hex of exactly this length.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

/// Whether a `tracestate` is a list of `key=value` in the recommendation's letters.
fn is_state(text: &str) -> bool {
    let key = |key: &str| {
        let letters = key.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@'));
        (1..=256).contains(&key.len()) && letters && key.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    let value = |value: &str| (1..=256).contains(&value.len()) && value.bytes().all(|b| matches!(b, 0x20..=0x7e) && b != b',' && b != b'=');
    let member = |member: &str| member.split_once('=').is_some_and(|(k, v)| key(k) && value(v));
    let members: Vec<&str> = text.split(',').map(|member| member.trim_matches([' ', '\t'])).filter(|member| !member.is_empty()).collect();
    text.len() <= MAX_STATE && members.len() <= MAX_MEMBERS && !members.is_empty() && members.into_iter().all(member)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_examples_of_the_recommendation_are_read() {
        let context = TraceContext::parse(GOOD, Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")).unwrap();
        assert_eq!((context.header().as_str(), context.is_sampled()), (GOOD, true));
        assert_eq!(context.state(), "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE");
        assert!(!TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", None).unwrap().is_sampled());
        // A version to come may append fields.
        assert_eq!(TraceContext::parse(&format!("cc{}-more", &GOOD[2..]), None).unwrap().header(), GOOD);
    }

    #[test]
    fn anything_else_is_nothing() {
        for bad in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331\n-01",
            "00-\u{e9}af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
        ] {
            assert_eq!(TraceContext::parse(bad, None), None, "{bad:?}");
        }
        assert_eq!(TraceContext::parse(&format!("cc{}-{}", &GOOD[2..], "x".repeat(MAX_PARENT)), None), None);
        for bad in ["x", "a=b=c", "A=b", "a=\u{1b}[31m", "a=b\r\nX: y", "a=", "=b", &"a=b,".repeat(33), &format!("a={}", "x".repeat(MAX_STATE))] {
            assert_eq!(TraceContext::parse(GOOD, Some(bad)).unwrap().state(), "", "{bad:?}");
        }
    }

    #[test]
    fn a_jobs_span_is_the_same_for_every_process() {
        let id = "00112233445566778899aabbccddeeff";
        let own = TraceContext::of_job(id, None);
        assert_eq!((own.trace_id().as_str(), &own), (id, &TraceContext::of_job(id, None)));
        let caller = TraceContext::parse(GOOD, None).unwrap();
        let within = TraceContext::of_job(id, Some(&caller));
        assert_eq!((within.trace_id(), within.span_id()), (caller.trace_id(), own.span_id()));
        assert_ne!(within.span_id(), caller.span_id());
        assert_eq!(TraceContext::parse(&within.header(), None).unwrap().header(), within.header());
        assert_eq!(within.named_child("seal"), within.named_child("seal"));
        assert_ne!(within.named_child("seal"), within.named_child("run"));
        assert_ne!(within.child(), within.child());
    }
}
