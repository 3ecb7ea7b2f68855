//! Spans of time and sizes, as users write them.

use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A span of time as Go writes it: `600ms`, `10s`, `72h`, `1h30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Span(kube::core::Duration);

impl Span {
    /// A span.
    pub fn of(span: Duration) -> Self {
        Self(span.into())
    }

    /// As a duration; a negative one, which the API server refuses, is zero.
    pub fn get(self) -> Duration {
        if self.0.is_negative() {
            return Duration::ZERO;
        }
        self.0.into()
    }

    /// In whole milliseconds.
    pub fn millis(self) -> u64 {
        u64::try_from(self.get().as_millis()).unwrap_or(u64::MAX)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 20,
            "pattern": r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$",
        })
    }
}

/// A number of bytes as Kubernetes writes it: `500Gi`, `64Mi`, `1T`, `1048576`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Size {
    text: String,
    #[serde(skip)]
    bytes: u64,
}

/// Text that is not a size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotASize(String);

impl std::fmt::Display for NotASize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} is not a size like 500Gi", self.0)
    }
}

impl std::error::Error for NotASize {}

impl Size {
    /// So many mebibytes.
    pub fn mebibytes(count: u64) -> Self {
        let text = format!("{count}Mi");
        let bytes = count << 20;
        Self { text, bytes }
    }

    /// In bytes, rounded down.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Size {
    type Err = NotASize;

    fn from_str(text: &str) -> Result<Self, NotASize> {
        let wrong = || NotASize(text.to_owned());
        let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, unit) = text.split_at(unit_at.unwrap_or(text.len()));
        let factor = factor(unit).ok_or_else(wrong)?;
        let bytes = match number.parse::<u64>() {
            Ok(whole) => whole.saturating_mul(factor),
            Err(_) => (number.parse::<f64>().map_err(|_| wrong())? * factor as f64) as u64,
        };
        let text = text.to_owned();
        Ok(Self { text, bytes })
    }
}

fn factor(unit: &str) -> Option<u64> {
    Some(match unit {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "P" => 1_000_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "Pi" => 1 << 50,
        _ => return None,
    })
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 20,
            "pattern": r"^[0-9]+(\.[0-9]+)?(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$",
        })
    }
}

/// A time of the day: `22:30`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockTime(u32);

/// What local time is ahead of UTC: `+02:00`, `-05:30`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UtcOffset(i32);

/// Text that is not a time of the day, or not an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotATime(String, &'static str);

impl std::fmt::Display for NotATime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} is not {}", self.0, self.1)
    }
}

impl std::error::Error for NotATime {}

impl ClockTime {
    /// The minute of the day, 0 to 1439, in UTC where the local time is ahead of it by `offset`.
    pub fn utc_minute(self, offset: UtcOffset) -> u32 {
        let minute = i64::from(self.0) - i64::from(offset.0);
        u32::try_from(minute.rem_euclid(24 * 60)).unwrap_or(0)
    }
}

/// Minutes of `hh:mm`.
fn minutes(text: &str, most_hours: u32) -> Option<u32> {
    let (hours, minutes) = text.split_once(':')?;
    let two = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|c| c.is_ascii_digit());
        digits.then(|| text.parse::<u32>().ok()).flatten()
    };
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    (hours <= most_hours && minutes < 60).then_some(hours * 60 + minutes)
}

impl FromStr for ClockTime {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        let wrong = || NotATime(text.to_owned(), "a time of the day like 22:30");
        minutes(text, 23).map(Self).ok_or_else(wrong)
    }
}

impl FromStr for UtcOffset {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        let wrong = || NotATime(text.to_owned(), "an offset from UTC like +02:00");
        let signed = [("+", 1), ("-", -1)].into_iter().find_map(|(sign, factor)| {
            let ahead = minutes(text.strip_prefix(sign)?, 14)?;
            Some(factor * i32::try_from(ahead).ok()?)
        });
        signed.map(Self).ok_or_else(wrong)
    }
}

impl std::fmt::Display for ClockTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl std::fmt::Display for UtcOffset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (sign, ahead) = (if self.0 < 0 { '-' } else { '+' }, self.0.unsigned_abs());
        write!(f, "{sign}{:02}:{:02}", ahead / 60, ahead % 60)
    }
}

/// A type that is text in JSON, with the pattern that an API server checks.
macro_rules! as_text {
    ($name:ident, $pattern:literal) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "maxLength": 6, "pattern": $pattern })
            }
        }
    };
}

as_text!(ClockTime, r"^([01][0-9]|2[0-3]):[0-5][0-9]$");
as_text!(UtcOffset, r"^[+-](0[0-9]|1[0-4]):[0-5][0-9]$");

/// The schema of a quantity of any kind, as text: `200m`, `1`, `256Mi`.
#[derive(Debug)]
pub(super) struct QuantityText;

impl JsonSchema for QuantityText {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 20,
            "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes() {
        let bytes = |text: &str| text.parse::<Size>().map(|size| size.bytes());
        assert_eq!(bytes("1Ki"), Ok(1024));
        assert_eq!(bytes("1.5Gi"), Ok(3 << 29));
        assert_eq!(bytes("1048576"), Ok(1 << 20));
        assert!(bytes("5Gb").is_err());
        assert!(bytes("").is_err());
    }

    #[test]
    fn times_of_the_day_are_minutes_of_utc() {
        let utc = |time: &str, offset: &str| {
            let time: ClockTime = time.parse().unwrap();
            time.utc_minute(offset.parse().unwrap())
        };
        assert_eq!(utc("22:30", "+00:00"), 22 * 60 + 30);
        assert_eq!(utc("00:30", "+02:00"), 22 * 60 + 30);
        assert_eq!(utc("22:30", "-05:30"), 4 * 60);
        for wrong in ["24:00", "7:00", "07:60", "0700", "", "+1:00"] {
            assert!(wrong.parse::<ClockTime>().is_err(), "{wrong}");
            assert!(format!("+{wrong}").parse::<UtcOffset>().is_err(), "{wrong}");
        }
        let offset: UtcOffset = "-05:30".parse().unwrap();
        assert_eq!(serde_json::to_string(&offset).unwrap(), r#""-05:30""#);
    }

    #[test]
    fn spans_are_as_written() {
        let span: Span = serde_json::from_str(r#""1h30m""#).unwrap();
        assert_eq!(span.get(), Duration::from_mins(90));
        assert_eq!(
            serde_json::to_string(&Span::of(Duration::from_millis(600))).unwrap(),
            r#""600ms""#
        );
    }
}
