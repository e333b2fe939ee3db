//! The lines of the gateway's two sockets and of a slot connection: what parses means the same when it is written anew.

use anchorhold::protocol::admin::{AdminRequest, AdminResponse};
use anchorhold::protocol::connection::{Preamble, SlotMessage};
use anchorhold::protocol::result::SealedResult;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub fn run(data: &[u8]) {
    super::within(data.len(), 16 << 10, 24, || {
        stable::<Preamble>(data);
        stable::<SlotMessage>(data);
        stable::<AdminRequest>(data);
        stable::<AdminResponse>(data);
        stable::<SealedResult>(data);
    });
}

/// The first writing may differ from the input (spaces, order, defaults), the second may not differ from the first.
fn stable<T: Serialize + DeserializeOwned>(data: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(data) else { return };
    let first = serde_json::to_string(&value).expect("its own form");
    assert!(!first.contains('\n'), "a line is a line");
    let again: T = serde_json::from_str(&first).expect("its own form");
    assert_eq!(serde_json::to_string(&again).expect("its own form"), first);
}

pub fn seeds() -> Vec<Vec<u8>> {
    let id = "0123456789abcdef0123456789abcdef";
    vec![
        format!(r#"{{"version":1,"job_id":"{id}","pass":"{id}{id}","channel":"model"}}"#).into_bytes(),
        format!(r#"{{"version":1,"job_id":"{id}","pass":"{id}{id}","channel":"slot","resume":true}}"#).into_bytes(),
        br#"{"type":"queued","position":3}"#.to_vec(),
        br#"{"type":"answered","answers":1,"usage":{"input_tokens":1,"cached_input_tokens":0,"output_tokens":2,"reasoning_output_tokens":0}}"#.to_vec(),
        br#"{"type":"failed","error":{"kind":"quota","message":"m","status":429,"retry_after_seconds":3,"resets_at":-1}}"#.to_vec(),
        br#"{"op":"status"}"#.to_vec(),
        format!(r#"{{"op":"admit","job_id":"{id}","pass_sha256":"{id}{id}","upstream":{{"kind":"http","base_url":"https://a/v1"}},"credential":null,"allowed_models":["m"],"token_budget":9,"expires_unix":1,"max_running_jobs":2,"instance":"i"}}"#).into_bytes(),
        format!(r#"{{"op":"record_manifest","job_id":"{id}","manifest_sha256":"{id}{id}"}}"#).into_bytes(),
        br#"{"type":"job","manifest_sha256":null,"requests":1,"refused":0,"answers":1,"usage":{"input_tokens":1,"cached_input_tokens":0,"output_tokens":2,"reasoning_output_tokens":0},"last_error":null,"queue_position":null,"running":true}"#.to_vec(),
    ]
}
