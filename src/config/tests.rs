//! Settings from their three sources.

use proptest::prelude::*;

use super::*;
use crate::protocol::admin::Upstream;

fn parts(text: &str, env: &[(&str, &str)]) -> Result<Settings> {
    let env: Vec<(String, String)> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Settings::from_parts(Some(text), None, &env)
}

#[test]
fn nothing_said_is_the_default_and_the_default_is_sound() {
    assert_eq!(parts("", &[]).unwrap(), Settings::default());
    Settings::default().check().unwrap();
}

#[test]
fn the_environment_goes_over_the_file() {
    let text = "[limits]\npids = 100\ntokens = 7\n[model]\nallowed_models = [\"a\"]\n";
    let env = [
        ("ANCHORHOLD_LIMITS_PIDS", "200"),
        ("ANCHORHOLD_LIMITS_MEMORY", "1GiB"),
        ("ANCHORHOLD_LIMITS_CPUS", "0.5"),
        ("ANCHORHOLD_MODEL_ALLOWED_MODELS", "x, y,"),
        ("ANCHORHOLD_ROOTS_ALLOW", "/srv/a,/srv/b"),
    ];
    let settings = parts(text, &env).unwrap();
    assert_eq!((settings.limits.pids, settings.limits.tokens, settings.limits.memory.0), (200, 7, 1 << 30));
    assert!((settings.limits.cpus - 0.5).abs() < f64::EPSILON);
    assert_eq!(settings.model.allowed_models, ["x", "y"]);
    assert_eq!(settings.roots.allow, [PathBuf::from("/srv/a"), PathBuf::from("/srv/b")]);
}

#[test]
fn what_is_wrong_is_refused_by_name() {
    for (text, env, named) in [
        ("[limits]\npid = 1\n", &[][..], "pid"),
        ("[nonsense]\n", &[], "nonsense"),
        ("limits = 3\n", &[], "limits"),
        ("[limits]\nmemory = \"4 potatoes\"\n", &[], "potatoes"),
        ("[limits]\nmemory = \"1MiB\"\n", &[], "limits.memory"),
        ("[engine]\ninstance = \"a/b\"\n", &[], "engine.instance"),
        ("[gateway]\nname = \"../x\"\n", &[], "gateway.name"),
        ("[limits]\ndeadline_seconds = 1\n", &[], "limits.deadline_seconds"),
        ("", &[("ANCHORHOLD_LIMITS_PIDS", "many")], "ANCHORHOLD_LIMITS_PIDS"),
    ] {
        let e = parts(text, env).unwrap_err();
        assert_eq!(e.code, Code::InvalidConfig);
        assert!(e.message.contains(named), "{named} is not named in {:?}", e.message);
    }
}

#[test]
fn an_upstream_is_https_or_on_loopback() {
    let upstream = |text: &str| ModelSettings { upstream: text.to_owned(), ..ModelSettings::default() }.upstream();
    assert_eq!(upstream("rehearsal").unwrap(), Upstream::Rehearsal);
    for (text, base) in [
        ("https://api.example.com/v1/", "https://api.example.com/v1"),
        ("http://localhost:8080/v1", "http://localhost:8080/v1"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ] {
        assert_eq!(upstream(text).unwrap(), Upstream::Http { base_url: base.to_owned(), authorities: None }, "{text}");
    }
    for bad in [
        "",
        "api.example.com",
        "http://api.example.com",
        "ftp://localhost",
        "https://me:word@example.com",
        "https://example.com?x=1",
        "https://example.com#x",
        "http://localhost.example.com",
    ] {
        assert_eq!(upstream(bad).unwrap_err().code, Code::InvalidConfig, "{bad}");
    }
}

#[test]
fn flags_name_known_keys_only() {
    assert_eq!(variable_name("engine.runtime").unwrap(), "ANCHORHOLD_ENGINE_RUNTIME");
    for bad in ["engine", "engine.", "engine.nonsense", "nonsense.runtime", "", "."] {
        assert_eq!(variable_name(bad).unwrap_err().code, Code::InvalidConfig, "{bad}");
    }
}

#[test]
fn sizes_are_written_as_people_do() {
    for (text, bytes) in [("1024", 1024), ("4GiB", 4 << 30), ("1.5 KiB", 1536), ("2kB", 2000), ("0", 0)] {
        assert_eq!(text.parse::<ByteSize>(), Ok(ByteSize(bytes)), "{text}");
    }
    for bad in ["", "GiB", "-1", "1 EiB", "99999999TiB", "1.2.3KiB", "é"] {
        assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn a_size_reads_back_as_it_was_written(bytes in any::<u64>()) {
        prop_assert_eq!(ByteSize(bytes).to_string().parse::<ByteSize>(), Ok(ByteSize(bytes)));
    }

    #[test]
    fn no_text_makes_the_readers_panic(text in "\\PC{0,40}") {
        let _ = text.parse::<ByteSize>();
        let _ = parts(&text, &[]);
        let _ = ModelSettings { upstream: text, ..ModelSettings::default() }.upstream();
    }
}
