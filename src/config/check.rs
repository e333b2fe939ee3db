//! What the checks of several tables share.

use crate::error::{Code, Error, Result};

/// The error for a setting of the right type that is wrong all the same.
pub(super) fn fail(key: &str, why: &str) -> Result<()> {
    Err(Error::new(Code::InvalidConfig, format!("invalid setting {key}: {why}")).with_detail("field", key))
}

/// Whether an engine could take this for a name: 1 to 128 letters, digits and bytes of `extra`, the first a letter or a digit.
pub(super) fn is_name(name: &str, extra: &str) -> bool {
    !name.is_empty()
        && name.len() <= 128
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || extra.as_bytes().contains(&b))
}
