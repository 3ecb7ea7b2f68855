//! What the model's world is made of. Spans are ticks of true time, versions of the Lease are known or outdated, and epochs are few.

/// Ticks that the short leash lasts at most: by the slowest clock.
pub const SHORT: u8 = 2;
/// Ticks that the long leash lasts at most. Whatever is older than this means nothing any more.
pub const LONG: u8 = 3;
/// The highest epoch.
pub const EPOCHS: u8 = 3;

/// A leash as the Lease names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Leash {
    Short,
    Long,
}

impl Leash {
    /// The most ticks that it lasts.
    pub fn ticks(self) -> u8 {
        match self {
            Self::Short => SHORT,
            Self::Long => LONG,
        }
    }
}

/// A swap of the Lease, from its sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Swap {
    pub epoch: u8,
    pub leash: Leash,
    /// Whether it expects the version that is in place; once it was stored, whether the version that it made is.
    pub current: bool,
    /// Ticks since it was sent.
    pub age: u8,
}

/// The Lease as somebody read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Read {
    pub epoch: u8,
    pub leash: Leash,
    pub holder: Option<u8>,
    /// Whether it is still in place.
    pub current: bool,
}

/// The call to the API that a member waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Call {
    None,
    /// A read was served.
    Read(Read),
    /// A swap is on its way.
    Swap(Swap),
    /// It was stored.
    Stored(Swap),
    /// Its condition failed.
    Refused(Leash),
}

/// Swaps in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Asked {
    Nothing,
    /// Not for a shorter leash.
    Same,
    /// Also for the short leash.
    Short,
}

/// Authority in one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenure {
    pub epoch: u8,
    /// Ticks since the sending of the newest answered claim or successful swap.
    pub base: u8,
    /// The leash of the newest confirmed swap.
    pub leash: Leash,
    pub asked: Asked,
    /// Whether the version that the next swap expects is in place.
    pub current: bool,
    /// A read has to come before the next swap.
    pub doubt: bool,
    /// That version is a recreated Lease without a holder.
    pub vacant: bool,
    /// A higher epoch that is this member's already, and is being synced.
    pub entered: Option<Swap>,
    /// Ticks of a deadline that is kept against the rule.
    pub kept: u8,
}

/// What a member does about authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    Standby,
    Reading,
    Waiting { read: Read, left: u8 },
    Swapping,
    Syncing(Swap),
    Holder(Tenure),
}

/// One member, with its disk and its recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Member {
    /// The epoch on its disk.
    pub synced: u8,
    /// The highest epoch that it read or synced: the fence.
    pub floor: u8,
    pub role: Role,
    pub call: Call,
    /// A swap that was given up and may still be stored.
    pub late: Option<Swap>,
    /// Ticks for which its recorder still acts on a grant.
    pub grant: u8,
}

/// The Lease in the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lease {
    pub epoch: u8,
    pub leash: Leash,
    pub holder: Option<u8>,
    /// Ticks since the swap that wrote it was sent.
    pub age: u8,
}

/// A claim on its way to the follower, or its answer on the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Claim {
    pub epoch: u8,
    pub age: u8,
    pub answered: bool,
}

/// What must never be, besides two holders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Broken {
    /// I5: the Lease's epoch fell.
    Fell,
    /// I5: an epoch was acted on before it was synced, or after a higher one.
    Served,
    /// A fenced epoch was acknowledged.
    Acknowledged,
}

/// Two members, the Lease, and what is on its way between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct World {
    pub members: [Member; 2],
    pub lease: Option<Lease>,
    /// The highest epoch that the Lease ever had: what the operator knows from status and volumes.
    pub highest: u8,
    /// The highest epoch that was served.
    pub served: u8,
    /// The Lease was deleted once.
    pub deleted: bool,
    /// Each member's newest claim.
    pub claims: [Option<Claim>; 2],
    /// Whether each member released the version that is in place.
    pub released: [bool; 2],
    pub broken: Option<Broken>,
}

impl Member {
    /// A member that has just started, with this epoch on its disk.
    pub fn started(synced: u8) -> Self {
        Self {
            synced,
            floor: synced,
            role: Role::Standby,
            call: Call::None,
            late: None,
            grant: 0,
        }
    }

    pub fn tenure(&self) -> Option<&Tenure> {
        match &self.role {
            Role::Holder(tenure) => Some(tenure),
            _ => None,
        }
    }

    /// The leash in force: the shorter of the confirmed one and any that was asked for.
    pub fn leash(&self) -> u8 {
        let Some(tenure) = self.tenure() else { return 0 };
        let asks = match self.call {
            Call::Swap(swap) | Call::Stored(swap) => swap.leash == Leash::Short,
            Call::Refused(leash) => leash == Leash::Short,
            Call::None | Call::Read(_) => false,
        };
        if asks || tenure.asked == Asked::Short {
            SHORT
        } else {
            tenure.leash.ticks()
        }
    }

    /// Ticks until its own deadline.
    pub fn left(&self) -> u8 {
        self.tenure()
            .map_or(0, |t| self.leash().saturating_sub(t.base).max(t.kept))
    }

    /// Whether it or its recorder acts on authority.
    pub fn acts(&self) -> bool {
        self.left() > 0 || self.grant > 0
    }

    /// Whether no swap is in doubt.
    pub fn is_settled(&self) -> bool {
        self.tenure()
            .is_some_and(|t| t.asked == Asked::Nothing && !t.doubt && !t.vacant && t.entered.is_none())
            && self.call == Call::None
    }
}

impl World {
    pub fn new() -> Self {
        Self {
            members: [Member::started(0); 2],
            lease: Some(Lease {
                epoch: 0,
                leash: Leash::Short,
                holder: None,
                age: LONG,
            }),
            highest: 0,
            served: 0,
            deleted: false,
            claims: [None; 2],
            released: [false; 2],
            broken: None,
        }
    }
}
