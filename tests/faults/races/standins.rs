//! Kept jobs by the hundred, for measuring: containers and volumes with the labels of a real job, under ids of their own. Their containers are of the same
//! image, have run for an instant and exited with a reason's code.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::raw;
use crate::world::World;

const AT_ONCE: usize = 4;

/// All of them; gone with it.
pub struct StandIns {
    containers: Vec<String>,
    volumes: Vec<String>,
}

impl StandIns {
    /// So many, older than the job that they are made after.
    pub fn of(job: &str, count: usize) -> Self {
        let (status, model) = raw::get(&format!("/containers/{}/json", World::container(job)));
        assert_eq!(status, 200, "{model}");
        let volume = |kind: &str| raw::get(&format!("/volumes/{}-{kind}", World::container(job))).1;
        let models = [("workspace", volume("workspace")), ("job", volume("job"))];
        let made = Mutex::new(Self { containers: Vec::new(), volumes: Vec::new() });
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    while next.fetch_add(1, Ordering::Relaxed) < count {
                        one(&model, &models, &made);
                    }
                });
            }
        });
        made.into_inner().expect("no poison")
    }
}

/// A real one's labels for another id, a minute older.
fn labels(of: &Value, id: &str) -> Value {
    let mut labels = of.clone();
    labels["anchorhold.job"] = json!(id);
    let created: u64 = labels["anchorhold.created"].as_str().and_then(|ms| ms.parse().ok()).expect("a time");
    labels["anchorhold.created"] = json!((created - 60_000).to_string());
    labels
}

fn one(model: &Value, models: &[(&str, Value); 2], made: &Mutex<StandIns>) {
    let id = uuid::Uuid::new_v4().simple().to_string();
    let name = World::container(&id);
    let mut mounts = Vec::new();
    for (kind, volume) in models {
        let volume_name = format!("{name}-{kind}");
        let body = json!({"Name": volume_name, "Labels": labels(&volume["Labels"], &id)});
        let (status, told) = raw::request("POST", "/volumes/create", Some(&body));
        assert_eq!(status, 201, "{told}");
        mounts.push(json!({"Type": "volume", "Source": volume_name, "Target": format!("/{kind}")}));
        made.lock().expect("no poison").volumes.push(volume_name);
    }
    let body = json!({
        "Image": model["Image"],
        "Entrypoint": ["/bin/true"],
        "Labels": labels(&model["Config"]["Labels"], &id),
        "HostConfig": {"NetworkMode": "none", "Mounts": mounts},
    });
    let (status, told) = raw::request("POST", &format!("/containers/create?name={name}"), Some(&body));
    assert_eq!(status, 201, "{told}");
    made.lock().expect("no poison").containers.push(name.clone());
    assert_eq!(raw::request("POST", &format!("/containers/{name}/start"), None).0, 204);
    let (_, ended) = raw::request("POST", &format!("/containers/{name}/wait"), None);
    assert_eq!(ended["StatusCode"], 0, "{ended}");
}

impl Drop for StandIns {
    fn drop(&mut self) {
        for name in &self.containers {
            raw::exchange("DELETE", &format!("/containers/{name}?force=1"), None);
        }
        for name in &self.volumes {
            raw::exchange("DELETE", &format!("/volumes/{name}"), None);
        }
    }
}
