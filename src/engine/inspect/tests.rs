use super::super::spec::tests::sample;
use super::*;

const STRICT: Tolerance = Tolerance { swap: false, memory: false, pids: false, warnings: false };

fn body() -> Value {
    serde_json::to_value(spec::create_body(&sample()).unwrap()).unwrap()
}

/// What an honest engine answers, in the ways that 20.10 and later engines write things.
fn answer(body: &Value) -> Value {
    let mut config = body.clone();
    let host = config.as_object_mut().unwrap().shift_remove("HostConfig").unwrap();
    config["Labels"]["of.the.image"] = json!("x");
    config["ExposedPorts"] = Value::Null;
    config["Volumes"] = Value::Null;
    config["OnBuild"] = Value::Null;
    let mut host = host;
    for (field, value) in [
        ("Binds", Value::Null),
        ("ConsoleSize", json!([0, 0])),
        ("PortBindings", json!({})),
        ("UsernsMode", json!("")),
        ("BlkioWeight", json!(0)),
        ("Devices", json!([])),
        ("MemorySwappiness", json!(-1)),
        ("OomKillDisable", json!(false)),
        ("Links", Value::Null),
    ] {
        host[field] = value;
    }
    host["CapAdd"] = host["CapAdd"].as_array().unwrap().iter().rev().map(|cap| json!(format!("CAP_{}", cap.as_str().unwrap()))).collect();
    host["RestartPolicy"]["MaximumRetryCount"] = json!(0);
    let mounts: Vec<Value> = host["Mounts"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|m| {
            let read_only = m["ReadOnly"] == true;
            json!({ "Type": "volume", "Name": m["Source"], "Source": "/var/lib/x", "Destination": m["Target"], "Driver": "local", "Mode": "z",
                "RW": !read_only, "Propagation": "" })
        })
        .collect();
    json!({ "Image": body["Image"], "Config": config, "HostConfig": host, "Mounts": mounts, "AppArmorProfile": "",
        "NetworkSettings": { "Networks": { "none": { "NetworkID": "" } } } })
}

fn fields(answer: &Value) -> Vec<String> {
    differences(&body(), answer, STRICT).into_iter().map(|difference| difference.field).collect()
}

#[test]
fn an_honest_engine_is_believed() {
    assert_eq!(fields(&answer(&body())), Vec::<String>::new());
}

/// Something else than this, of the same type where there is one.
fn changed(value: &Value) -> Value {
    match value {
        Value::Null => json!("x"),
        Value::Bool(on) => json!(!on),
        Value::Number(number) => json!(number.as_i64().unwrap() + 1),
        Value::String(text) => json!(format!("{text}x")),
        Value::Array(items) if items.is_empty() => json!(["x"]),
        Value::Array(items) => {
            let mut items = items.clone();
            items.pop();
            Value::Array(items)
        }
        Value::Object(fields) => {
            let mut fields = fields.clone();
            match fields.keys().next().cloned() {
                Some(key) => fields.shift_remove(&key),
                None => fields.insert("x".into(), json!("x")),
            };
            Value::Object(fields)
        }
    }
}

/// Every field of the body, dropped or changed in the answer.
#[test]
fn each_field_that_is_sent_is_compared() {
    let (body, honest) = (body(), answer(&body()));
    let mut tried = 0;
    for (place, asked) in [("Config", &body), ("HostConfig", &body["HostConfig"])] {
        for (name, value) in asked.as_object().unwrap() {
            if name == "HostConfig" {
                continue;
            }
            tried += 1;
            let field = format!("{place}.{name}");
            let mut other = honest.clone();
            other[place][name] = if name == "Labels" { json!({}) } else { changed(value) };
            assert_eq!(fields(&other), std::slice::from_ref(&field), "changed");
            other[place].as_object_mut().unwrap().shift_remove(name);
            let nothing = settled(name, value).is_null();
            assert_eq!(fields(&other).contains(&field), !nothing, "{field} dropped");
        }
    }
    assert!(tried > 35, "{tried}");
}

/// Every element of every list and table of the body, dropped in the answer, and one too many.
#[test]
fn each_element_is_compared() {
    let honest = answer(&body());
    for (name, value) in honest["HostConfig"].as_object().unwrap() {
        let field = format!("HostConfig.{name}");
        match value {
            Value::Array(items) if !settled(name, value).is_null() => {
                for at in 0..items.len() {
                    let mut other = honest.clone();
                    other["HostConfig"][name].as_array_mut().unwrap().remove(at);
                    assert!(fields(&other).contains(&field), "{field}[{at}]");
                }
                let mut other = honest.clone();
                other["HostConfig"][name].as_array_mut().unwrap().push(json!("more"));
                assert!(fields(&other).contains(&field), "{field} and more");
            }
            Value::Object(items) => {
                for key in items.keys().filter(|key| !RECORDS.contains(&name.as_str()) || !settled(key, &items[*key]).is_null()) {
                    let mut other = honest.clone();
                    other["HostConfig"][name].as_object_mut().unwrap().shift_remove(key);
                    assert!(fields(&other).contains(&field), "{field}.{key}");
                }
            }
            _ => {}
        }
    }
}

/// What nobody asked for; a field that no engine has today stands for those of tomorrow.
#[test]
fn what_was_not_asked_for_must_be_empty() {
    let cases = [
        ("/HostConfig/Binds", json!(["/:/host"])),
        ("/HostConfig/Devices", json!([{ "PathOnHost": "/dev/kvm" }])),
        ("/HostConfig/DeviceCgroupRules", json!(["c 1:3 mr"])),
        ("/HostConfig/DeviceRequests", json!([{ "Count": -1 }])),
        ("/HostConfig/Links", json!(["a:b"])),
        ("/HostConfig/VolumesFrom", json!(["other"])),
        ("/HostConfig/GroupAdd", json!(["0"])),
        ("/HostConfig/ExtraHosts", json!(["host:host-gateway"])),
        ("/HostConfig/PortBindings", json!({ "1/tcp": [{ "HostPort": "1" }] })),
        ("/HostConfig/Privileged", json!(true)),
        ("/HostConfig/PidMode", json!("host")),
        ("/HostConfig/UTSMode", json!("host")),
        ("/HostConfig/UsernsMode", json!("host")),
        ("/HostConfig/CgroupParent", json!("/")),
        ("/HostConfig/Sysctls", json!({ "net.ipv4.ip_forward": "1" })),
        ("/HostConfig/StorageOpt", json!({ "size": "1" })),
        ("/HostConfig/OomKillDisable", json!(true)),
        ("/HostConfig/CpuShares", json!(1)),
        ("/HostConfig/MemoryReservation", json!(1)),
        ("/HostConfig/Annotations", json!({ "a": "b" })),
        ("/HostConfig/OfTomorrow", json!(true)),
        ("/Config/Volumes", json!({ "/data": {} })),
        ("/Config/ExposedPorts", json!({ "1/tcp": {} })),
        ("/Config/OnBuild", json!(["RUN x"])),
        ("/Config/Domainname", json!("x")),
        ("/Config/Shell", json!(["/another"])),
    ];
    for (pointer, value) in cases {
        let mut other = answer(&body());
        let (place, name) = pointer.rsplit_once('/').unwrap();
        // Where the sample asks for it, another value stands for too much.
        other.pointer_mut(place).unwrap()[name] = value;
        assert_eq!(fields(&other), [pointer.trim_start_matches('/').replace('/', ".")], "{pointer}");
    }
}

#[test]
fn mount_points_image_network_and_profile_are_compared() {
    let mount = |name: &str, value: Value| {
        let mut other = answer(&body());
        other["Mounts"][0][name] = value;
        fields(&other)
    };
    for (name, value) in
        [("Type", json!("bind")), ("Name", json!("other")), ("Destination", json!("/x")), ("RW", json!("neither")), ("Driver", json!("nfs"))]
    {
        assert_eq!(mount(name, value), ["Mounts"], "{name}");
    }
    let mut other = answer(&body());
    other["Mounts"].as_array_mut().unwrap().push(json!({ "Type": "bind", "Source": "/", "Destination": "/host", "RW": true }));
    assert_eq!(fields(&other), ["Mounts"]);
    let mut other = answer(&body());
    other["Mounts"].as_array_mut().unwrap().pop();
    assert_eq!(fields(&other), ["Mounts"]);
    for (pointer, value, field) in [
        ("/Image", json!(format!("sha256:{}", "0".repeat(64))), "Image"),
        ("/NetworkSettings/Networks", json!({ "bridge": {} }), "NetworkSettings.Networks"),
        ("/AppArmorProfile", json!("unconfined"), "AppArmorProfile"),
    ] {
        let mut other = answer(&body());
        *other.pointer_mut(pointer).unwrap() = value;
        assert_eq!(fields(&other), [field]);
    }
    // An answer without anything has everything wrong.
    assert!(differences(&body(), &json!({}), STRICT).len() > 20);
}

#[test]
fn only_what_the_engine_said_beforehand_is_excused() {
    let with = |tolerance, field: &str, value: Value| {
        let mut other = answer(&body());
        other["HostConfig"][field] = value;
        differences(&body(), &other, tolerance).len()
    };
    let all = Tolerance { swap: true, memory: true, pids: true, warnings: false };
    for (field, tolerance) in [
        ("MemorySwap", Tolerance { swap: true, ..STRICT }),
        ("Memory", Tolerance { memory: true, ..STRICT }),
        ("PidsLimit", Tolerance { pids: true, ..STRICT }),
    ] {
        for nothing in [json!(-1), json!(0), Value::Null] {
            assert_eq!(with(tolerance, field, nothing.clone()), 0, "{field}");
            assert_eq!(with(STRICT, field, nothing), 1, "{field}");
        }
        assert_eq!(with(all, field, json!(1_u64 << 50)), 1, "{field}");
    }
    assert_eq!(with(all, "CapDrop", json!([])), 1);
}

#[test]
fn a_reservation_that_is_not_known_is_refused() {
    let judge = |text: &str, tolerance| judge_warnings(&[text.to_owned()], tolerance).map_err(|e| e.code);
    let swap = "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.";
    assert_eq!(judge(swap, STRICT), Err(Code::IsolationMismatch));
    assert_eq!(judge(swap, Tolerance { swap: true, ..STRICT }), Ok(()));
    assert_eq!(
        judge("Your kernel does not support pids limit capabilities or the cgroup is not mounted. PIDs limit discarded.", STRICT),
        Err(Code::IsolationMismatch)
    );
    assert_eq!(judge("IPv4 forwarding is disabled. Networking will not work.", STRICT), Ok(()));
    assert_eq!(judge("something new", STRICT), Err(Code::IsolationMismatch));
    assert_eq!(judge("something new", Tolerance { warnings: true, ..STRICT }), Ok(()));
}

#[test]
fn our_bodies_leave_nothing_to_be_filled_in() {
    let body = body();
    for name in FILLED_IN {
        assert!(body.get(name).or_else(|| body["HostConfig"].get(name)).is_some(), "{name} is left to the engine");
    }
}

#[test]
fn an_error_names_the_fields_and_stays_short() {
    let mut other = answer(&body());
    other["HostConfig"]["SecurityOpt"] = Value::Null;
    let error = mismatch(&differences(&body(), &other, STRICT));
    assert_eq!(error.code, Code::IsolationMismatch);
    assert!(error.message.ends_with("otherwise than asked: HostConfig.SecurityOpt"));
    assert_eq!(error.details["mismatches"][0]["field"], "HostConfig.SecurityOpt");
    assert!(serde_json::to_string(&error.details).unwrap().len() < 2_000);
}
