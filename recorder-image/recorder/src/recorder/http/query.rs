//! The parameters of a request: times and byte ranges. Pure.

use super::error::ApiError;

/// The first value of `name` in a query string.
pub fn value(query: &str, name: &str) -> Option<String> {
    url::form_urlencoded::parse(query.as_bytes())
        .find(|(k, _)| k == name)
        .map(|(_, v)| v.into_owned())
}

/// A query of these parameters, with its question mark; nothing without any.
pub fn parameters<const N: usize>(pairs: [Option<(&str, &str)>; N]) -> String {
    let mut text = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in pairs.into_iter().flatten() {
        text.append_pair(name, value);
    }
    let text = text.finish();
    if text.is_empty() { text } else { format!("?{text}") }
}

/// Whether sound is wanted, where anything is said of it.
pub fn audio(query: Option<&str>) -> Option<bool> {
    value(query?, "audio")?.parse().ok()
}

/// A time, as microseconds since the Unix epoch: RFC 3339, or milliseconds since the Unix epoch.
///
/// # Errors
/// [`ApiError::bad_parameter`].
pub fn time(query: &str, name: &str) -> Result<Option<i64>, ApiError> {
    let Some(text) = value(query, name) else {
        return Ok(None);
    };
    let ms = text.parse::<i64>().ok().and_then(|ms| ms.checked_mul(1000));
    // A '+' in an offset that was not encoded arrives as a space.
    let stamp = || {
        text.replace(' ', "+")
            .parse::<jiff::Timestamp>()
            .ok()
            .map(jiff::Timestamp::as_microsecond)
    };
    let bad = || {
        ApiError::bad_parameter(
            name,
            &text,
            "RFC 3339 (2026-01-31T12:00:00Z) or Unix milliseconds",
        )
    };
    ms.or_else(stamp).map(Some).ok_or_else(bad)
}

/// A span of time from `from` and `to`, microseconds since the Unix epoch; open ends are the ends of time.
///
/// # Errors
/// [`ApiError::bad_parameter`], also where `from` is after `to`.
pub fn span(query: &str) -> Result<(Option<i64>, Option<i64>), ApiError> {
    let (from, to) = (time(query, "from")?, time(query, "to")?);
    if let (Some(f), Some(t)) = (from, to)
        && f > t
    {
        let text = value(query, "from").unwrap_or_default();
        return Err(ApiError::bad_parameter("from", &text, "before 'to'"));
    }
    Ok((from, to))
}

/// What a `Range` header asks for (RFC 9110 section 14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// The whole file.
    Whole,
    /// The bytes from the first to the second, both included.
    Part(u64, u64),
}

impl ByteRange {
    /// The first byte and the end of what is asked for of a file of `length` bytes.
    pub fn span(self, length: u64) -> (u64, u64) {
        match self {
            Self::Whole => (0, length),
            Self::Part(first, last) => (first, last + 1),
        }
    }
}

/// Reads a `Range` header for a file of `length` bytes. What is no single byte range is ignored, as the RFC allows.
///
/// # Errors
/// [`ApiError::bad_range`], where it asks for nothing that exists.
pub fn range(header: Option<&str>, length: u64) -> Result<ByteRange, ApiError> {
    let Some(spec) = header.and_then(|h| h.trim().strip_prefix("bytes=")) else {
        return Ok(ByteRange::Whole);
    };
    let Some((first, last)) = spec.split_once('-') else {
        return Ok(ByteRange::Whole);
    };
    Ok(match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), _) if first >= length => return Err(ApiError::bad_range(length)),
        (Ok(first), Ok(last)) if last >= first => ByteRange::Part(first, last.min(length - 1)),
        (Ok(first), Err(_)) if last.trim().is_empty() => ByteRange::Part(first, length - 1),
        (Err(_), Ok(0)) if first.trim().is_empty() => return Err(ApiError::bad_range(length)),
        (Err(_), Ok(n)) if first.trim().is_empty() && length > 0 => {
            ByteRange::Part(length.saturating_sub(n), length - 1)
        }
        _ => ByteRange::Whole,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_both_kinds() {
        assert_eq!(time("from=1500", "from"), Ok(Some(1_500_000)));
        assert_eq!(time("from=1970-01-01T00:00:01.5Z", "from"), Ok(Some(1_500_000)));
        assert_eq!(
            time("from=1970-01-01T01:00:01+01:00", "from"),
            Ok(Some(1_000_000))
        );
        assert_eq!(time("to=1", "from"), Ok(None));
        assert!(time("from=yesterday", "from").is_err());
        assert!(span("from=2&to=1").is_err());
        assert_eq!(span("to=7&token=x"), Ok((None, Some(7000))));
    }

    #[test]
    fn queries_are_written_and_read() {
        assert_eq!(parameters([None, None]), "");
        assert_eq!(
            parameters([Some(("audio", "true")), None, Some(("token", "a&b"))]),
            "?audio=true&token=a%26b"
        );
        assert_eq!(audio(Some("from=1&audio=false")), Some(false));
        assert_eq!((audio(None), audio(Some("audio=maybe"))), (None, None));
    }

    #[test]
    fn the_table_of_ranges() {
        let outside = || Err(ApiError::bad_range(100));
        let table = [
            (None, Ok(ByteRange::Whole)),
            (Some("bytes=0-99"), Ok(ByteRange::Part(0, 99))),
            (Some("bytes=10-"), Ok(ByteRange::Part(10, 99))),
            (Some("bytes=-5"), Ok(ByteRange::Part(95, 99))),
            (Some("bytes=-500"), Ok(ByteRange::Part(0, 99))),
            (Some("bytes=90-1000"), Ok(ByteRange::Part(90, 99))),
            (Some("bytes=100-"), outside()),
            (Some("bytes=-0"), outside()),
            (Some("bytes=5-4"), Ok(ByteRange::Whole)),
            (Some("bytes=0-1,4-5"), Ok(ByteRange::Whole)),
            (Some("lines=1-2"), Ok(ByteRange::Whole)),
        ];
        for (header, want) in table {
            assert_eq!(range(header, 100), want, "{header:?}");
        }
    }
}
