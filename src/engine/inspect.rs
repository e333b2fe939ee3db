//! What the engine made is compared with what it was asked for, field by field, before anything is started in it.
//!
//! An engine, an older one, a proxy before it or a plug-in of it may drop or change a field and say nothing. The rule is the same for every field: what
//! was sent must be held, and what was not sent must be empty, as absent, `null`, `false`, zero and empty are all "nothing" to an engine. So
//! a field that we do not know of cannot carry a weakening either. The exceptions are named below.

use bollard::models::ContainerCreateBody;
use bollard::query_parameters as query;
use serde_json::{Map, Value, json};

use super::{ContainerRef, ContainerSpec, Engine, failure, spec};
use crate::error::{Code, Error, Result};

/// Longest value of a field in an error; a seccomp profile is far longer.
const MAX_SHOWN: usize = 200;
/// Most fields that an error names.
const MAX_NAMED: usize = 40;

/// Lists whose order means nothing.
const SETS: [&str; 8] = ["CapAdd", "CapDrop", "Env", "MaskedPaths", "Mounts", "ReadonlyPaths", "SecurityOpt", "Ulimits"];

/// Objects whose fields have fixed names, so that an empty field says nothing. In all others a name is a fact even with nothing behind it (`Volumes`).
const RECORDS: [&str; 8] = ["DriverConfig", "Healthcheck", "LogConfig", "Mounts", "RestartPolicy", "TmpfsOptions", "Ulimits", "VolumeOptions"];

/// What an engine fills in where the body is silent. Bodies of ours are not (a test sees to it); one that the attack suite has weakened may be.
const FILLED_IN: [&str; 16] = [
    "CgroupnsMode",
    "Cmd",
    "Entrypoint",
    "Env",
    "Hostname",
    "IpcMode",
    "LogConfig",
    "MaskedPaths",
    "MemorySwap",
    "NetworkMode",
    "ReadonlyPaths",
    "RestartPolicy",
    "Runtime",
    "ShmSize",
    "User",
    "WorkingDir",
];

/// What the engine said beforehand that it cannot do; each is in the job's `isolation` block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tolerance {
    /// Swap is not limited.
    pub swap: bool,
    /// Memory is not limited.
    pub memory: bool,
    /// Processes are not limited.
    pub pids: bool,
    /// Warnings that we do not know.
    pub warnings: bool,
}

/// A field that is not as it was asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Difference {
    /// Its place, such as `HostConfig.CapDrop`.
    pub field: String,
    /// What was sent.
    pub asked: Value,
    /// What the engine holds.
    pub held: Value,
}

impl Engine {
    /// Compares a container that was just created with its specification, and what the engine said about it. One call.
    ///
    /// Errors: [`Code::IsolationMismatch`] with the detail `mismatches` or `warnings`.
    pub async fn verify_container(&self, c: &ContainerRef, spec: &ContainerSpec, warnings: &[String], tolerance: Tolerance) -> Result<()> {
        const WHAT: &str = "inspect the container";
        if crate::weaken::off("engine.inspect") {
            return Ok(());
        }
        judge_warnings(warnings, tolerance)?;
        let body: ContainerCreateBody = crate::weaken::container(spec::create_body(spec)?)?;
        let answer = match self.short(WHAT, self.docker.inspect_container(c.as_str(), None::<query::InspectContainerOptions>)).await? {
            Ok(answer) => answer,
            Err(e) if failure::not_found(&e) => return Err(Error::new(Code::EngineError, "check the container: it vanished while it was made")),
            Err(e) => return Err(self.failed(WHAT, e)),
        };
        let json = |e: serde_json::Error| Error::internal("compare the container").with_source(e);
        let found = differences(&serde_json::to_value(body).map_err(json)?, &serde_json::to_value(answer).map_err(json)?, tolerance);
        if found.is_empty() { Ok(()) } else { Err(mismatch(&found)) }
    }
}

fn mismatch(found: &[Difference]) -> Error {
    let names: Vec<&str> = found.iter().map(|difference| difference.field.as_str()).take(MAX_NAMED).collect();
    let rows: Vec<Value> =
        found.iter().take(MAX_NAMED).map(|d| json!({ "field": d.field, "asked": shown(&d.asked), "engine_holds": shown(&d.held) })).collect();
    Error::new(Code::IsolationMismatch, format!("the engine made the container otherwise than asked: {}", names.join(", ")))
        .with_hint("look for a proxy or plug-in between Anchorhold and the engine, and run `anchorhold doctor`")
        .with_detail("mismatches", rows)
}

fn shown(value: &Value) -> String {
    crate::display::bounded(value.to_string().as_bytes(), MAX_SHOWN)
}

/// What engines say when they create a container; anything that is not known here might be a wall that is missing.
fn judge_warnings(warnings: &[String], tolerance: Tolerance) -> Result<()> {
    let harmless = |text: &str| {
        let text = text.to_ascii_lowercase();
        // The swap warning of older engines names memory as well, so it is asked for first.
        if text.contains("swap") {
            tolerance.swap || tolerance.memory
        } else if text.contains("memory limit") {
            tolerance.memory
        } else if text.contains("pids limit") {
            tolerance.pids
        } else {
            // Forwarding is for bridges, which a cell has none of; an image of another platform runs emulated or not at all.
            text.contains("forwarding is disabled") || text.contains("platform")
        }
    };
    let unknown: Vec<String> = warnings.iter().filter(|text| !tolerance.warnings && !harmless(text)).map(|text| shown(&json!(text))).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(Error::new(Code::IsolationMismatch, format!("the engine has a reservation about the container: {}", unknown.join("; ")))
        .with_hint("mend the engine, or name \"warnings\" in `[engine] accept` if it does not matter to you")
        .with_detail("warnings", unknown))
}

/// Every field in which the engine's answer departs from the body of the create call; pure.
pub(super) fn differences(body: &Value, answer: &Value, tolerance: Tolerance) -> Vec<Difference> {
    let mut found = Vec::new();
    let none = Map::new();
    let table = |value: &Value, key: &str| value.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
    let (mut asked, mut config) = (body.as_object().unwrap_or(&none).clone(), table(answer, "Config"));
    for elsewhere in ["HostConfig", "NetworkingConfig"] {
        asked.shift_remove(elsewhere);
    }
    // The image's own labels are added to ours.
    let labels = table(body, "Labels");
    if let Some(held) = config.get_mut("Labels").and_then(Value::as_object_mut) {
        held.retain(|name, _| labels.contains_key(name));
    }
    compare("Config", &asked, &config, &mut found);
    let (asked, mut host) = (table(body, "HostConfig"), table(answer, "HostConfig"));
    excuse(&asked, &mut host, tolerance);
    compare("HostConfig", &asked, &host, &mut found);

    let mut check = |field: &str, asked: Value, held: Value| {
        if asked != held {
            found.push(Difference { field: field.to_owned(), asked, held });
        }
    };
    let image = body.get("Image").cloned().unwrap_or_default();
    if image.as_str().is_some_and(|id| id.starts_with("sha256:")) {
        check("Image", image, answer.get("Image").cloned().unwrap_or_default());
    }
    check("Mounts", wanted_mounts(&asked), held_mounts(answer));
    let network = asked.get("NetworkMode").cloned().unwrap_or_default();
    let networks = answer.pointer("/NetworkSettings/Networks").and_then(Value::as_object);
    for name in networks.into_iter().flat_map(Map::keys) {
        check("NetworkSettings.Networks", network.clone(), json!(name));
    }
    // The engine chooses the profile where it has one; what it must not do is to choose none for this container alone.
    let unconfined = answer.get("AppArmorProfile").and_then(Value::as_str) == Some("unconfined");
    let asked_for = asked.get("SecurityOpt").is_some_and(|options| options.to_string().contains("apparmor=unconfined"))
        || asked.get("Privileged") == Some(&Value::Bool(true));
    check("AppArmorProfile", json!(unconfined && asked_for), json!(unconfined));
    found
}

/// Leaves out what the engine said it cannot do.
fn excuse(asked: &Map<String, Value>, held: &mut Map<String, Value>, tolerance: Tolerance) {
    let excused: [(bool, &str); 4] = [
        (tolerance.swap || tolerance.memory, "MemorySwap"),
        (tolerance.memory, "Memory"),
        (tolerance.memory, "OomKillDisable"),
        (tolerance.pids, "PidsLimit"),
    ];
    for (_, field) in excused.into_iter().filter(|(excused, _)| *excused) {
        // It holds "no limit" in one of three ways; a value that is neither that nor ours is still a difference.
        let nothing = held.get(field).and_then(Value::as_i64).is_none_or(|limit| limit <= 0);
        if let Some(asked) = asked.get(field).filter(|_| nothing) {
            held.insert(field.to_owned(), asked.clone());
        }
    }
    // cgroup v1's word for "as the host has it".
    if held.get("MemorySwappiness").and_then(Value::as_i64) == Some(-1) {
        held.shift_remove("MemorySwappiness");
    }
}

fn compare(place: &str, asked: &Map<String, Value>, held: &Map<String, Value>, found: &mut Vec<Difference>) {
    let mut names: Vec<&String> = asked.keys().chain(held.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let (sent, has) = (asked.get(name).unwrap_or(&Value::Null), held.get(name).unwrap_or(&Value::Null));
        let silent = sent.is_null() && FILLED_IN.contains(&name.as_str());
        if !silent && settled(name, sent) != settled(name, has) {
            found.push(Difference { field: format!("{place}.{name}"), asked: sent.clone(), held: has.clone() });
        }
    }
}

/// One form for what engines write in several ways; `Null` is "nothing".
fn settled(name: &str, value: &Value) -> Value {
    match value {
        Value::Bool(false) => Value::Null,
        Value::String(text) if text.is_empty() => Value::Null,
        Value::Number(number) if number.as_f64() == Some(0.0) => Value::Null,
        Value::String(text) if matches!(name, "CapAdd" | "CapDrop") => {
            let upper = text.to_ascii_uppercase();
            json!(upper.strip_prefix("CAP_").unwrap_or(&upper))
        }
        // `no-new-privileges`, `:true` and `=true` are one.
        Value::String(text) if name == "SecurityOpt" && text.starts_with("no-new-privileges") => {
            let off = text.ends_with("false");
            json!(if off { "no-new-privileges=false" } else { "no-new-privileges=true" })
        }
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(|item| settled(name, item)).collect();
            if items.iter().all(Value::is_null) {
                return Value::Null;
            }
            if SETS.contains(&name) {
                items.sort_by_cached_key(Value::to_string);
            }
            Value::Array(items)
        }
        Value::Object(fields) => {
            let mut fields: Vec<(String, Value)> = fields.iter().map(|(key, item)| (key.clone(), settled(key, item))).collect();
            if RECORDS.contains(&name) {
                fields.retain(|(_, item)| !item.is_null());
            }
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            if fields.is_empty() { Value::Null } else { Value::Object(fields.into_iter().collect()) }
        }
        other => other.clone(),
    }
}

/// The mount points that the body stands for: its volumes, and nothing else (a weakened body may have binds).
fn wanted_mounts(asked: &Map<String, Value>) -> Value {
    let list = |name: &str| asked.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut mounts: Vec<Value> = list("Mounts")
        .iter()
        .map(|mount| {
            let read_only = mount.get("ReadOnly") == Some(&Value::Bool(true));
            json!([mount.get("Type"), mount.get("Source"), mount.get("Target"), !read_only])
        })
        .collect();
    for bind in list("Binds") {
        let mut parts = bind.as_str().unwrap_or_default().split(':');
        let (source, target) = (parts.next(), parts.next());
        let kind = if source.is_some_and(|source| source.starts_with('/')) { "bind" } else { "volume" };
        mounts.push(json!([kind, source, target, !parts.any(|options| options.split(',').any(|option| option == "ro"))]));
    }
    mounts.sort_by_cached_key(Value::to_string);
    Value::Array(mounts)
}

/// The mount points that the engine has made out of it.
fn held_mounts(answer: &Value) -> Value {
    let mut mounts: Vec<Value> = answer
        .get("Mounts")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|mount| {
            let field = |name: &str| mount.get(name).cloned().unwrap_or_default();
            let volume = field("Type") == "volume";
            // A volume driver of another name may keep its content anywhere.
            let foreign = volume && !matches!(mount.get("Driver").and_then(Value::as_str), Some("local") | None);
            let kind = if foreign { field("Driver") } else { field("Type") };
            json!([kind, if volume { field("Name") } else { field("Source") }, field("Destination"), field("RW")])
        })
        .collect();
    mounts.sort_by_cached_key(Value::to_string);
    Value::Array(mounts)
}

#[cfg(test)]
mod tests;
