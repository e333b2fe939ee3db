//! Reads the gateway's ledger through its control: piece by piece over an engine exec, so that nothing else of its volume, in which the credential
//! lies, is ever copied.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::service::Core;
use crate::engine::Engine;
use crate::error::{Code, Error, Result};
use crate::protocol::admin::{AdminRequest, AdminResponse};
use crate::protocol::ledger::{CURRENT, Head, full_name};

/// How long the gateway may take to answer at all.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is told while the ledger is read.
pub enum LedgerPart<'a> {
    /// A file begins.
    File(&'a str),
    /// Its next bytes.
    Bytes(&'a [u8]),
}

/// Reads all files as they were at one moment; gives back the head that the gateway has in memory.
pub(super) async fn read(core: &Core, engine: &Engine, each: &mut (dyn FnMut(LedgerPart<'_>) + Send)) -> Result<Head> {
    let ask = async |request: &AdminRequest| core.gateway.request(engine, &core.settings, request, PATIENCE).await;
    let unexpected =
        || Error::new(Code::GatewayUnavailable, "read the ledger: the gateway answers something else").with_hint("run `anchorhold doctor`");
    let AdminResponse::LedgerFiles { files, head } = ask(&AdminRequest::LedgerFiles).await? else { return Err(unexpected()) };
    let last = files.last().map(|file| file.first_seq);
    for file in &files {
        each(LedgerPart::File(&if Some(file.first_seq) == last { CURRENT.to_owned() } else { full_name(file.first_seq) }));
        let mut offset = 0;
        while offset < file.size {
            let request = AdminRequest::LedgerRead { first_seq: file.first_seq, offset };
            let AdminResponse::LedgerPiece { base64 } = ask(&request).await? else { return Err(unexpected()) };
            let mut piece = STANDARD.decode(base64).map_err(|e| unexpected().with_source(e))?;
            // What was appended since the list was made belongs to another moment.
            piece.truncate(usize::try_from(file.size - offset).unwrap_or(usize::MAX));
            if piece.is_empty() {
                break;
            }
            offset += piece.len() as u64;
            each(LedgerPart::Bytes(&piece));
        }
    }
    Ok(head)
}
