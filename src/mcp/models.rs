//! `codex_models` and `codex://models`: which model names a caller may pass.

use serde_json::{Map, Value, json};

use super::call::{Answer, Reply};
use super::render;
use super::server::Call;
use crate::codex::models::{KNOWN, Model, VERSION};
use crate::config::ModelSettings;

/// Says them.
pub fn models(call: &Call<'_>) -> Answer {
    Ok(Reply::from(catalogue(&call.jobs.settings().model)))
}

/// The list: of the settings where they allow only some, else of the pinned Codex CLI. Nobody is asked.
pub fn catalogue(settings: &ModelSettings) -> Value {
    let models: Vec<Value> = if settings.allowed_models.is_empty() {
        KNOWN.iter().map(|model| row(model.slug, Some(model))).collect()
    } else {
        settings.allowed_models.iter().map(|slug| row(slug, KNOWN.iter().find(|model| model.slug == slug))).collect()
    };
    let advisory = match (settings.upstream.trim(), settings.allowed_models.is_empty()) {
        ("rehearsal", _) => "The model is scripted: any well-formed name is accepted, and none is asked.",
        (_, true) => {
            "Advice: the catalogue of the pinned Codex CLI. The provider decides; one that is not listed may work, and a listed one may not be yours."
        }
        (_, false) => "Only these are accepted (model.allowed_models). Whether the provider has them shows at the first job.",
    };
    let mut value = Map::new();
    value.insert("ok".into(), json!(true));
    value.insert("source".into(), json!("static"));
    value.insert("models".into(), Value::Array(models));
    value.insert("default_model".into(), json!((!settings.default_model.is_empty()).then_some(&settings.default_model)));
    value.insert("only_these".into(), json!(!settings.allowed_models.is_empty()));
    value.insert("codex_version".into(), json!(VERSION));
    for absent in ["fetched_at", "cache_client_version", "unavailable_reason"] {
        value.insert(absent.into(), Value::Null);
    }
    value.insert("advisory".into(), json!(advisory));
    render::signed(value)
}

fn row(slug: &str, known: Option<&Model>) -> Value {
    json!({
        "slug": crate::display::line(slug.as_bytes()),
        "display_name": known.map(|model| model.display_name),
        "default_reasoning_effort": known.map(|model| model.default_effort),
        "supported_reasoning_efforts": known.map(|model| model.efforts),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_list_goes_before_the_catalogue() {
        let all = catalogue(&ModelSettings::default());
        assert_eq!((all["models"].as_array().unwrap().len(), &all["only_these"]), (KNOWN.len(), &json!(false)));
        let some = ModelSettings { allowed_models: vec!["gpt-5.5".into(), "mine".into()], default_model: "mine".into(), ..ModelSettings::default() };
        let some = catalogue(&some);
        let slugs: Vec<_> = some["models"].as_array().unwrap().iter().map(|model| model["slug"].as_str().unwrap()).collect();
        assert_eq!((slugs, &some["default_model"]), (vec!["gpt-5.5", "mine"], &json!("mine")));
        assert_eq!((&some["models"][0]["default_reasoning_effort"], &some["models"][1]["display_name"]), (&json!("medium"), &Value::Null));
    }
}
