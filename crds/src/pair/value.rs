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
    fn spans_are_as_written() {
        let span: Span = serde_json::from_str(r#""1h30m""#).unwrap();
        assert_eq!(span.get(), Duration::from_mins(90));
        assert_eq!(
            serde_json::to_string(&Span::of(Duration::from_millis(600))).unwrap(),
            r#""600ms""#
        );
    }
}
