//! What is made at random, once: keys, tokens, UIDs. Whatever is there and still good is kept.

use std::collections::BTreeMap;

use crds::{Secret, names};
use rand::RngCore as _;
use uuid::Uuid;

use crate::pki::{Authority, Identity, PkiError};
use crate::world::World;

/// Everything random that a pair needs, complete.
#[derive(Debug, Clone)]
pub struct Minted {
    /// The pair's authority.
    pub authority: Authority,
    /// The operator's identity.
    pub operator: Identity,
    /// The members' identities, in their order.
    pub members: [(String, Identity); 2],
    /// The viewers' token.
    pub token: Secret,
    /// The UIDs of the streams, or that they cannot be known yet.
    pub streams: Streams,
}

/// The UIDs of streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Streams {
    /// The UID of every stream that this pair ever had, by name.
    Known(BTreeMap<String, Uuid>),
    /// The volumes were used before, and nobody has told yet which streams they have.
    Recovering,
    /// As before, but members are running: nothing is rendered until they tell.
    Wait,
}

/// Keeps what is good and makes what is missing.
pub fn mint(world: &World) -> Result<Minted, PkiError> {
    let uid = &world.id.uid;
    let authority = match &world.keys.authority {
        Some(authority) => authority.clone(),
        None => Authority::mint(uid, world.now)?,
    };
    let keep = |old: Option<&Identity>, uri: &str| match old {
        Some(old) if authority.still_good(old, uri, world.now) => Ok(old.clone()),
        _ => authority.issue(uid, uri, world.now),
    };
    let member = |name: String| {
        let identity = keep(world.keys.members.get(&name), &names::member_uri(uid, &name))?;
        Ok::<_, PkiError>((name, identity))
    };
    let [first, second] = world.members();
    let operator = keep(world.keys.operator.as_ref(), &names::operator_uri(uid))?;
    let members = [member(first)?, member(second)?];
    let token = world.keys.token.clone().unwrap_or_else(random_token);
    let streams = streams(world);
    Ok(Minted {
        authority,
        operator,
        members,
        token,
        streams,
    })
}

fn random_token() -> Secret {
    let mut bytes = [0; 24];
    rand::rng().fill_bytes(&mut bytes);
    let hex = bytes
        .iter()
        .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    Secret::new(hex)
}

/// The UIDs of all streams: as they were rendered, else as the volumes know them, else new ones.
fn streams(world: &World) -> Streams {
    let mut known = match &world.rendered {
        Some(rendered) if !rendered.recovering => rendered.minted.clone(),
        _ if world.claims.is_empty() => BTreeMap::new(),
        _ => match recover(world) {
            Some(known) => known,
            None if world.pods.is_empty() || world.rendered.is_some() => return Streams::Recovering,
            None => return Streams::Wait,
        },
    };
    for stream in &world.pair.spec.streams {
        known.entry(stream.name.clone()).or_insert_with(Uuid::new_v4);
    }
    Streams::Known(known)
}

/// What the volumes know. All members that have one must have told: a UID that is forgotten comes back as another.
fn recover(world: &World) -> Option<BTreeMap<String, Uuid>> {
    let mut known = BTreeMap::new();
    for member in world.claims.keys() {
        let report = &world.view.reports.get(member)?.report;
        let configured = report.streams.iter().map(|stream| (&stream.name, stream.uid));
        let stored = report
            .known_streams
            .iter()
            .map(|stream| (&stream.name, stream.uid));
        for (name, uid) in configured.chain(stored) {
            known.entry(name.clone()).or_insert(uid);
        }
    }
    Some(known)
}
