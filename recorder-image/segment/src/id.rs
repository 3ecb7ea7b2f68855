//! Identities. Names get reused and volumes re-adopted; identities do not.

use std::fmt;
use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

/// The UID of a stream, minted by the operator when its name first appears.
pub type StreamUid = Uuid;

/// The identity of a segment: no two segments ever have the same, whatever was lost before.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SegmentId {
    /// The stream.
    pub stream: StreamUid,
    /// The volume that it was written to first.
    pub store: Uuid,
    /// The member that wrote it, for example `front-0`; a DNS label.
    #[serde(deserialize_with = "member")]
    pub member: String,
    /// The start of the recorder that wrote it; random, so that a lost folder entry can never lead to a number being
    /// used twice.
    pub incarnation: u64,
    /// Its number within the incarnation, from 0 to [`MAX_SEQUENCE`].
    #[serde(deserialize_with = "sequence")]
    pub sequence: u64,
}

/// The highest number of a segment: it has ten digits in the name of its file.
pub const MAX_SEQUENCE: u64 = 9_999_999_999;

/// What a peer, a file or another process says is checked where it is read: an identity stands in names of files, in logs and in reports.
fn member<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let name = String::deserialize(from)?;
    if valid_member(&name) {
        return Ok(name);
    }
    Err(D::Error::custom("the member of a segment is no DNS label"))
}

fn sequence<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let number = u64::deserialize(from)?;
    if number <= MAX_SEQUENCE {
        return Ok(number);
    }
    Err(D::Error::custom("the number of a segment is too high"))
}

impl SegmentId {
    /// The name of its file without folder and extension; unique within the stream's folder.
    pub fn stem(&self) -> String {
        format!(
            "{}.{}.{:016x}.{:010}",
            self.store.simple(),
            self.member,
            self.incarnation,
            self.sequence
        )
    }

    /// The segment of `stream` whose file has this stem.
    pub fn from_stem(stream: StreamUid, stem: &str) -> Option<Self> {
        let mut parts = stem.split('.');
        let mut next = || parts.next();
        let (store, member, incarnation, sequence) = (next()?, next()?, next()?, next()?);
        let id = Self {
            stream,
            store: Uuid::from_str(store).ok()?,
            member: member.to_owned(),
            incarnation: u64::from_str_radix(incarnation, 16).ok()?,
            sequence: sequence.parse().ok()?,
        };
        (next().is_none() && valid_member(member) && id.stem() == stem).then_some(id)
    }

    /// Whether all its parts can stand in a file name.
    pub fn is_valid(&self) -> bool {
        valid_member(&self.member) && self.sequence <= MAX_SEQUENCE
    }
}

/// A DNS label (RFC 1123), so that a name from a peer cannot leave its folder.
fn valid_member(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.stream, self.stem())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn id() -> SegmentId {
        SegmentId {
            stream: Uuid::from_u128(1),
            store: Uuid::from_u128(2),
            member: "front-0".into(),
            incarnation: 0xabc,
            sequence: 7,
        }
    }

    #[test]
    fn an_identity_that_can_stand_in_no_file_name_is_not_read() {
        let read = |id: &SegmentId| {
            let text = serde_json::to_string(id).unwrap();
            serde_json::from_str::<SegmentId>(&text).ok()
        };
        assert_eq!(read(&id()), Some(id()));
        for member in ["", "../x", "Front-0", &"m".repeat(64), &"m".repeat(7 << 20)] {
            let id = SegmentId {
                member: member.into(),
                ..id()
            };
            assert_eq!(read(&id), None);
        }
        let last = |sequence: u64| read(&SegmentId { sequence, ..id() }).is_some();
        assert!(last(MAX_SEQUENCE) && !last(MAX_SEQUENCE + 1));
    }

    #[test]
    fn a_stem_names_exactly_one_segment() {
        let id = id();
        assert_eq!(SegmentId::from_stem(id.stream, &id.stem()), Some(id.clone()));
        for bad in [
            "",
            "a.b.c.d",
            "..",
            &id.stem().replace("front-0", "../x"),
            &format!("{}.x", id.stem()),
        ] {
            assert_eq!(SegmentId::from_stem(id.stream, bad), None, "{bad}");
        }
    }
}
