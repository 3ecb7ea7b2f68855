//! What a member claims, in a form that does not grow with the number of streams that are where they usually are.

use serde::{Deserialize, Serialize};

/// Who owns a stream by the holder's book.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Owner {
    /// The holder of authority.
    Holder,
    /// The other member.
    Follower,
    /// Nobody: a delegation is being revoked. Every member that receives it writes it.
    Nobody,
}

/// A stream that is not as all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed<K> {
    /// Which.
    pub stream: K,
    /// Its epoch under the pair's; 0 before it first moved.
    pub epoch: u64,
    /// Who owns it.
    pub owner: Owner,
}

/// What one member claims.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share<K> {
    /// Whether the member holds authority: then it claims all streams that are not listed.
    pub holder: bool,
    /// The exceptions, in the order of the streams.
    pub listed: Vec<Listed<K>>,
}

impl<K> Default for Share<K> {
    fn default() -> Self {
        Self {
            holder: false,
            listed: Vec::new(),
        }
    }
}

impl<K: Ord + Copy> Share<K> {
    /// The share of a member that claims nothing.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// The share of a holder that delegated nothing.
    pub fn everything() -> Self {
        Self {
            holder: true,
            listed: Vec::new(),
        }
    }

    fn find(&self, stream: K) -> Option<&Listed<K>> {
        self.listed.iter().find(|listed| listed.stream == stream)
    }

    /// Whether the member claims this stream.
    pub fn claims(&self, stream: K) -> bool {
        let owner = self.find(stream).map_or(Owner::Holder, |listed| listed.owner);
        match owner {
            Owner::Holder => self.holder,
            Owner::Follower => !self.holder,
            Owner::Nobody => false,
        }
    }

    /// The stream's epoch, as far as this share tells.
    pub fn epoch(&self, stream: K) -> u64 {
        self.find(stream).map_or(0, |listed| listed.epoch)
    }

    /// What a holder's share leaves to its follower.
    pub(super) fn delegated(&self) -> Self {
        let listed = self
            .listed
            .iter()
            .filter(|listed| listed.owner == Owner::Follower);
        Self {
            holder: false,
            listed: listed.copied().collect(),
        }
    }
}
