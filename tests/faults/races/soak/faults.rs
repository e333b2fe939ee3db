//! What is done to a job in a soak, and what may be true of it afterwards.

use std::time::Duration;

use crate::processes::{below, signal};
use crate::support::docker;
use crate::world::World;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Nothing,
    ProviderFails,
    StreamCut,
    KillStarter,
    KillConsume,
    EngineKill,
    EngineStop,
    EngineRemove,
    Pause,
    Cancel,
    KillCodex,
    KillInit,
    RestartGateway,
    KillGateway,
}

pub const FAULTS: [Fault; 14] = [
    Fault::Nothing,
    Fault::ProviderFails,
    Fault::StreamCut,
    Fault::KillStarter,
    Fault::KillConsume,
    Fault::EngineKill,
    Fault::EngineStop,
    Fault::EngineRemove,
    Fault::Pause,
    Fault::Cancel,
    Fault::KillCodex,
    Fault::KillInit,
    Fault::RestartGateway,
    Fault::KillGateway,
];

impl Fault {
    pub fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::ProviderFails => "provider fails twice",
            Self::StreamCut => "stream is cut once",
            Self::KillStarter => "kill -9 of who started it",
            Self::KillConsume => "kill -9 of consume",
            Self::EngineKill => "docker kill",
            Self::EngineStop => "docker stop",
            Self::EngineRemove => "docker rm -f",
            Self::Pause => "pause and unpause",
            Self::Cancel => "cancel",
            Self::KillCodex => "kill -9 of Codex",
            Self::KillInit => "kill -9 of init",
            Self::RestartGateway => "gateway restarted",
            Self::KillGateway => "kill -9 of the gateway",
        }
    }

    /// The step in the middle of its task.
    pub fn trouble(self) -> &'static str {
        match self {
            Self::ProviderFails => "fault 503 times=2\n",
            Self::StreamCut => "fault cut times=1\n",
            _ => "",
        }
    }

    pub fn ends_gateway(self) -> bool {
        matches!(self, Self::RestartGateway | Self::KillGateway)
    }

    /// The states in which its job may end. What is done may come too late.
    pub fn allows(self, state: &str) -> bool {
        let other = match self {
            Self::EngineKill | Self::EngineStop | Self::EngineRemove | Self::KillInit | Self::KillStarter => "interrupted",
            Self::Cancel => "cancelled",
            Self::KillCodex => "failed",
            _ => "completed",
        };
        state == "completed" || state == other
    }

    /// Does it to a job that has been delivered, or is about to be.
    pub fn strike(self, world: &World, job: &str, pause: Duration) {
        let cell = World::container(job);
        let pid = |container: &str| docker(&["inspect", "-f", "{{.State.Pid}}", container]).trim().parse::<u32>().ok().filter(|pid| *pid > 0);
        match self {
            Self::EngineKill => drop(docker(&["kill", &cell])),
            Self::EngineStop => drop(docker(&["stop", &cell])),
            Self::EngineRemove => drop(docker(&["rm", "-f", &cell])),
            Self::Pause => {
                docker(&["pause", &cell]);
                std::thread::sleep(pause);
                docker(&["unpause", &cell]);
            }
            Self::Cancel => {
                let (_, out, err) = world.run(&["cancel", "--json", job], &[]);
                assert!(out.contains("\"state\""), "{out}{err}");
            }
            Self::KillInit => pid(&cell).into_iter().for_each(|pid| signal(pid, "KILL")),
            Self::KillCodex => {
                let codex = pid(&cell).and_then(|init| below(init).into_iter().find(|(_, line)| line.contains("codex")));
                codex.into_iter().for_each(|(pid, _)| signal(pid, "KILL"));
            }
            Self::RestartGateway => drop(docker(&["restart", "-t", "0", &world.env.gateway_name()])),
            Self::KillGateway => pid(&world.env.gateway_name()).into_iter().for_each(|pid| signal(pid, "KILL")),
            Self::Nothing | Self::ProviderFails | Self::StreamCut | Self::KillStarter | Self::KillConsume => {}
        }
    }
}
