//! What holds for all jobs of the gateway together: read, and changed by somebody who asks for just that.

use serde::Serialize;

use super::gateway;
use super::service::Core;
use crate::error::{Code, Error, Result};
use crate::protocol::admin::{AdminRequest, AdminResponse, Ceilings, GatewayLimits};

/// What somebody asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitChange {
    /// Nothing but to see them.
    None,
    /// The limits of the caller's settings.
    Settings,
    /// So many slots; the ceilings stay.
    Slots(u32),
}

/// The gateway's own state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GatewayState {
    /// Jobs that may run at once.
    pub slots: u32,
    /// Jobs that hold a slot.
    pub running: u32,
    /// Jobs that wait for one.
    pub queued: u32,
    /// Ceilings over all jobs.
    pub ceilings: Ceilings,
}

/// Changes what is asked for; gives what holds then. There must be a gateway: it comes with the first job.
pub(super) async fn change(core: &Core, change: LimitChange) -> Result<GatewayState> {
    let engine = core.engine().await?;
    let ask = async |request| state(&core.gateway.request(&engine, &core.settings, &request, gateway::START_WITHIN).await?);
    let limits = match change {
        LimitChange::None => return ask(AdminRequest::Status).await,
        LimitChange::Settings => gateway::limits(&core.settings),
        LimitChange::Slots(slots) => GatewayLimits { slots, ceilings: ask(AdminRequest::Status).await?.ceilings },
    };
    ask(AdminRequest::Limits { limits, by: None }).await
}

fn state(answer: &AdminResponse) -> Result<GatewayState> {
    match answer {
        AdminResponse::Status { slots, running, queued, ceilings, .. } => {
            Ok(GatewayState { slots: *slots, running: *running, queued: *queued, ceilings: *ceilings })
        }
        _ => Err(Error::new(Code::GatewayUnavailable, "read the gateway's limits: it gave another answer").with_hint("run `anchorhold doctor`")),
    }
}
