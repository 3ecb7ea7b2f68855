//! Who is who: members, stores, incarnations, epochs, versions.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A member's or store's name is empty, longer than 253 bytes, or has a character other than
    /// letters, digits, `-`, `_` and `.`.
    #[error("{what} {name:?} must be 1 to 253 of the characters A-Z a-z 0-9 - _ .")]
    Characters {
        /// What the name was to be for.
        what: &'static str,
        /// The name as it was given.
        name: String,
    },
    /// A holder identity is not `member/store/incarnation`.
    #[error("holder identity {0:?} is not member/store/incarnation")]
    Identity(String),
    /// An incarnation is not 16 hexadecimal digits.
    #[error("incarnation {0:?} is not 16 hexadecimal digits")]
    Incarnation(String),
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and wraps a name.
            ///
            /// # Errors
            /// [`NameError::Characters`] where it is empty, too long, or has other characters.
            pub fn new(name: &str) -> Result<Self, NameError> {
                if is_plain(name) {
                    return Ok(Self(name.into()));
                }
                Err(NameError::Characters { what: $what, name: name.to_owned() })
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(name: &str) -> Result<Self, NameError> {
                Self::new(name)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=253).contains(&name.len()) && name.chars().all(plain)
}

name!(
    /// The name of a member: an identity that outlives its pods. The role moves, the name stays.
    MemberName,
    "member"
);
name!(
    /// The id of a store, minted when a volume is first used. A replaced volume has another one.
    StoreId,
    "store"
);

/// One start of a replicator: random, so that no two starts are taken for one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Incarnation {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = || NameError::Incarnation(text.to_owned());
        if text.len() != 16 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| wrong())
    }
}

/// A member as the Lease and the peers know it. As text: `member/store/incarnation`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MemberRef {
    /// The identity that outlives pods.
    pub member: MemberName,
    /// The volume it runs on.
    pub store: StoreId,
    /// This start of its replicator.
    pub incarnation: Incarnation,
}

impl MemberRef {
    /// Whether both are the same member on the same store, whatever the incarnation.
    pub fn same_store(&self, other: &Self) -> bool {
        self.member == other.member && self.store == other.store
    }
}

impl fmt::Display for MemberRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.member, self.store, self.incarnation)
    }
}

impl FromStr for MemberRef {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let parts: Vec<&str> = text.split('/').collect();
        let [member, store, incarnation] = parts[..] else {
            return Err(NameError::Identity(text.to_owned()));
        };
        Ok(Self {
            member: member.parse()?,
            store: store.parse()?,
            incarnation: incarnation.parse()?,
        })
    }
}

/// The number of an authority. It only rises (I5); 0 is "nobody yet".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The highest epoch that an annotation may carry: integers up to 2^53 survive every JSON parser.
    pub const MAX: Self = Self(1 << 53);

    /// The epoch after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A Lease's `resourceVersion`: opaque, compared for equality only.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version(Arc<str>);

impl Version {
    /// Wraps what the API server said.
    pub fn new(version: &str) -> Self {
        Self(version.into())
    }

    /// The version as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::new(&String::deserialize(deserializer)?))
    }
}
