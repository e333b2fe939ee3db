//! What happens to containers, as the engine tells it: one stream, and a feed that opens it again when it breaks.
//!
//! A stream alone has gaps: nothing says when it is open, and what happens while it is broken is never told. [`EventFeed`] asks the engine's clock first
//! and then for everything since, so that a look at the engine after [`News::Opened`] together with the events that follow misses nothing.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use bollard::query_parameters as query;
use futures_util::{Stream, StreamExt as _};

use super::client::label_filter;
use super::{ContainerId, Engine, answers, failure};
use crate::error::Result;

/// What changes where a container stands; everything else an engine tells (execs, copies, health) is not asked for.
const ACTIONS: [&str; 8] = ["create", "start", "restart", "die", "pause", "unpause", "rename", "destroy"];
/// Between two attempts to open a broken stream: the first pause, doubled up to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Something that happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineEvent {
    /// Which container.
    pub container: ContainerId,
    /// The engine's word: one of [`ACTIONS`].
    pub action: String,
    /// The container's labels, and the engine's facts such as `exitCode`.
    pub attributes: BTreeMap<String, String>,
    /// Unix milliseconds, by the engine's clock.
    pub unix_ms: u64,
}

type EventStream = Pin<Box<dyn Stream<Item = Result<EngineEvent>> + Send>>;

impl Engine {
    /// What happens from now on to containers that carry all these labels.
    pub fn events(&self, labels: &[(&str, &str)]) -> EventStream {
        self.events_since(labels, None)
    }

    /// The same, from a moment of the engine's clock on: `seconds.nanoseconds`.
    fn events_since(&self, labels: &[(&str, &str)], since: Option<&str>) -> EventStream {
        const WHAT: &str = "watch the engine";
        let mut filters = label_filter(labels);
        filters.insert("type".to_owned(), vec!["container".to_owned()]);
        filters.insert("event".to_owned(), ACTIONS.map(ToOwned::to_owned).to_vec());
        let mut options = query::EventsOptionsBuilder::default().filters(&filters);
        if let Some(since) = since {
            options = options.since(since);
        }
        let host = self.host.clone();
        Box::pin(self.docker.events(Some(options.build())).map(move |event| {
            let event = event.map_err(|e| failure::translate(WHAT, &host, e))?;
            let actor = event.actor.unwrap_or_default();
            Ok(EngineEvent {
                container: ContainerId::parse(&actor.id.unwrap_or_default())?,
                action: event.action.unwrap_or_default(),
                attributes: answers::sorted(actor.attributes),
                unix_ms: event.time_nano.and_then(|n| u64::try_from(n / 1_000_000).ok()).unwrap_or(0),
            })
        }))
    }

    /// The engine's own time, as [`Self::events_since`] takes it; `None`: it does not say.
    async fn clock(&self) -> Result<Option<String>> {
        const WHAT: &str = "ask the engine for its time";
        let info = self.short(WHAT, self.docker.info()).await?.map_err(|e| self.failed(WHAT, e))?;
        Ok(info.system_time.as_deref().and_then(moment))
    }
}

/// RFC 3339 as `seconds.nanoseconds`.
fn moment(text: &str) -> Option<String> {
    let time: jiff::Timestamp = text.parse().ok()?;
    (time.as_second() > 0).then(|| format!("{}.{:09}", time.as_second(), time.subsec_nanosecond()))
}

/// What a feed tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// From now on nothing is missed; what was before must be looked at.
    Opened,
    /// Something happened.
    Happened(EngineEvent),
    /// The engine cannot be heard. The feed goes on trying.
    Lost,
}

/// The events of one engine without end.
pub struct EventFeed {
    engine: Engine,
    labels: Vec<(String, String)>,
    stream: Option<EventStream>,
    pause: Duration,
    failed: bool,
}

impl EventFeed {
    /// Of containers that carry all these labels. Nothing is asked yet.
    pub fn new(engine: Engine, labels: &[(&str, &str)]) -> Self {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { engine, labels, stream: None, pause: PAUSES.0, failed: false }
    }

    /// The next news. Dropping the future loses none.
    pub async fn next(&mut self) -> News {
        loop {
            if let Some(stream) = &mut self.stream {
                match stream.next().await {
                    Some(Ok(event)) => {
                        self.pause = PAUSES.0;
                        return News::Happened(event);
                    }
                    Some(Err(e)) => tracing::debug!(error = e.chain(), "the engine's events broke off"),
                    None => tracing::debug!("the engine's events ended"),
                }
                self.stream = None;
                self.failed = true;
                return News::Lost;
            }
            if self.failed {
                tokio::time::sleep(self.pause).await;
                self.pause = (self.pause * 2).min(PAUSES.1);
                self.failed = false;
            }
            match self.engine.clock().await {
                Ok(since) => {
                    let labels: Vec<(&str, &str)> = self.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                    self.stream = Some(self.engine.events_since(&labels, since.as_deref()));
                    return News::Opened;
                }
                Err(e) => {
                    tracing::debug!(error = e.chain(), "the engine's events cannot be opened");
                    self.failed = true;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_as_the_event_call_takes_it() {
        assert_eq!(moment("2026-11-20T10:00:00.000000005Z").as_deref(), Some("1795168800.000000005"));
        assert_eq!(moment("2026-11-20T11:00:00.5+01:00").as_deref(), Some("1795168800.500000000"));
        assert_eq!(moment("0001-01-01T00:00:00Z"), None);
        assert_eq!(moment("soon"), None);
    }
}
