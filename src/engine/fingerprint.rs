//! A specification in one number: what two jobs with the same settings have in common.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{ContainerSpec, spec};
use crate::error::{Error, Result};

/// SHA-256, in hex, of the body of the create call: its keys sorted, without what differs from job to job (labels, the volumes' names) and without the
/// image, which has a digest of its own.
pub fn spec_sha256(spec: &ContainerSpec) -> Result<String> {
    let failed = |e: serde_json::Error| Error::internal("describe the specification").with_source(e);
    let mut body = serde_json::to_value(crate::weaken::container(spec::create_body(spec)?)?).map_err(failed)?;
    for field in ["Labels", "Image"] {
        remove(&mut body, field);
    }
    for mount in body.pointer_mut("/HostConfig/Mounts").and_then(Value::as_array_mut).into_iter().flatten() {
        remove(mount, "Source");
        if let Some(options) = mount.get_mut("VolumeOptions") {
            remove(options, "Labels");
        }
    }
    Ok(super::hex(&Sha256::digest(sorted(body).to_string())))
}

fn remove(value: &mut Value, field: &str) {
    if let Some(fields) = value.as_object_mut() {
        fields.shift_remove(field);
    }
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<(String, Value)> = fields.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::super::spec::tests::sample;
    use super::*;
    use crate::engine::ObjectName;

    #[test]
    fn only_the_settings_count() {
        let hash = spec_sha256(&sample()).unwrap();
        assert_eq!(hash.len(), 64);
        let mut twin = sample();
        twin.name = ObjectName::parse("another").unwrap();
        twin.labels.insert("anchorhold.job".into(), "another".into());
        twin.volumes[0].volume = ObjectName::parse("another-volume").unwrap();
        twin.volumes[0].labels.clear();
        twin.image = format!("sha256:{}", "b".repeat(64));
        assert_eq!(spec_sha256(&twin).unwrap(), hash);
        let mut weaker = sample();
        weaker.volumes[0].read_only = !weaker.volumes[0].read_only;
        assert_ne!(spec_sha256(&weaker).unwrap(), hash);
        let weaker = ContainerSpec { memory: Some(1 << 40), ..sample() };
        assert_ne!(spec_sha256(&weaker).unwrap(), hash);
    }
}
