//! Wall-clock times as the domain tells them: unix milliseconds inside, RFC 3339 outside.

/// Unix milliseconds now.
pub(super) fn now_ms() -> u64 {
    crate::fault::unix_ms()
}

/// RFC 3339 in UTC; times beyond the calendar (a hostile clock) are shown as the epoch.
pub(super) fn rfc3339(ms: u64) -> String {
    i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_and_never_panic() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_500), "1970-01-01T00:00:01.5Z");
        assert_eq!(rfc3339(u64::MAX), "1970-01-01T00:00:00Z");
        assert!(now_ms() > 1_600_000_000_000);
    }
}
