//! Protections taken away by name: the positive controls of the attack suite, and its mutation run.
//!
//! A test that shows an attack to fail proves something only when the same attack succeeds once the protection is gone. The feature `weaken` builds
//! a binary in which each protection can be gone, and only that binary: without the feature every function here is a constant, so that a product
//! binary has nothing to switch. The feature is part of the build id, so neither kind of binary accepts the other's image.
//!
//! `ANCHORHOLD_WEAKEN` holds names, separated by commas. A point is named `<part>.<rule>` where the code says `weaken::off("<part>.<rule>")`; the
//! attack suite finds the points by reading the sources, and each must turn a case red. `ANCHORHOLD_WEAKEN_JOB` and `ANCHORHOLD_WEAKEN_GATEWAY` hold
//! a JSON merge patch (RFC 7396; with `{"2":…}` also for one element of a list) for the body of the create call of a job's or a gateway's container. All three are handed on into containers.

#[cfg(feature = "weaken")]
pub use enabled::{container, environment, off};

/// Whether the protection of this name is taken away; never in a product build.
#[cfg(not(feature = "weaken"))]
#[inline]
pub const fn off(_point: &str) -> bool {
    false
}

/// Variables for a child that starts with an empty environment; none in a product build.
#[cfg(not(feature = "weaken"))]
#[inline]
pub const fn environment() -> [(&'static str, String); 0] {
    []
}

/// The body of a create call as it is sent: unchanged in a product build.
#[cfg(not(feature = "weaken"))]
#[inline]
pub fn container<T>(body: T) -> crate::error::Result<T> {
    Ok(body)
}

#[cfg(feature = "weaken")]
mod enabled {
    use std::sync::OnceLock;

    use serde::Serialize;
    use serde::de::DeserializeOwned;
    use serde_json::Value;

    use crate::error::{Error, Result};
    use crate::protocol::paths;

    const POINTS: &str = "ANCHORHOLD_WEAKEN";
    /// What [`crate::fault`] reads.
    const FAULTS: [&str; 3] = ["ANCHORHOLD_FAULT", "ANCHORHOLD_FAULT_ONCE", "ANCHORHOLD_CLOCK_MS"];

    /// Whether the protection of this name is taken away.
    pub fn off(point: &str) -> bool {
        static OFF: OnceLock<Vec<String>> = OnceLock::new();
        let off = OFF.get_or_init(|| std::env::var(POINTS).unwrap_or_default().split(',').map(|name| name.trim().to_owned()).collect());
        off.iter().any(|name| name == point)
    }

    /// What a child that starts with an empty environment needs to know of this.
    pub fn environment() -> Vec<(&'static str, String)> {
        [POINTS].into_iter().chain(FAULTS).filter_map(|name| Some((name, std::env::var(name).ok()?))).collect()
    }

    /// The body of a create call with the merge patch for its kind, and with the names of what is off in its environment.
    pub fn container<T: Serialize + DeserializeOwned>(body: T) -> Result<T> {
        let failed = |e: serde_json::Error| Error::internal("weaken a container's specification").with_source(e);
        let mut value = serde_json::to_value(body).map_err(failed)?;
        let gateway = value.pointer("/Labels").and_then(|labels| labels.get("anchorhold.gateway")).is_some();
        let (kind, once) = if gateway { ("GATEWAY", paths::GATEWAY_STATE) } else { ("JOB", paths::JOB_STATE) };
        if let Ok(patch) = std::env::var(format!("ANCHORHOLD_WEAKEN_{kind}")) {
            merge(&mut value, serde_json::from_str(&patch).map_err(failed)?);
        }
        let mut given = Vec::new();
        given.extend(std::env::var(POINTS).ok().map(|points| format!("{POINTS}={points}")));
        for name in ["ANCHORHOLD_FAULT", "ANCHORHOLD_CLOCK_MS"] {
            given.extend(std::env::var(format!("{name}_{kind}")).ok().map(|wanted| format!("{name}={wanted}")));
        }
        if given.iter().any(|one| one.starts_with("ANCHORHOLD_FAULT=")) {
            given.push(format!("ANCHORHOLD_FAULT_ONCE={once}"));
        }
        if !given.is_empty()
            && let Some(env) = value.as_object_mut().map(|body| body.entry("Env").or_insert_with(|| Value::Array(Vec::new())))
            && let Some(env) = env.as_array_mut()
        {
            env.extend(given.into_iter().map(Value::from));
        }
        serde_json::from_value(value).map_err(failed)
    }

    /// RFC 7396; and where a list stands, an object whose names are numbers changes these elements of it.
    fn merge(target: &mut Value, patch: Value) {
        let Value::Object(patch) = patch else {
            *target = patch;
            return;
        };
        if let Value::Array(list) = target
            && patch.keys().all(|key| key.parse::<usize>().is_ok())
        {
            // From the end, so that what is removed moves nothing that is still to be changed.
            for (key, value) in patch.into_iter().rev() {
                match (key.parse::<usize>().unwrap_or(usize::MAX), value) {
                    (at, Value::Null) if at < list.len() => drop(list.remove(at)),
                    (at, value) if at < list.len() => merge(&mut list[at], value),
                    (_, value) => list.push(value),
                }
            }
            return;
        }
        if !target.is_object() {
            *target = Value::Object(serde_json::Map::new());
        }
        let Some(target) = target.as_object_mut() else { return };
        for (key, value) in patch {
            if value.is_null() {
                target.shift_remove(&key);
            } else {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
    }
}
