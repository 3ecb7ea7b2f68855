//! What is made at random, once: keys, tokens, UIDs. Whatever is there and still good is kept.

use std::collections::{BTreeMap, BTreeSet};

use crds::member::MemberReport;
use crds::{Secret, names};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use rand::RngCore as _;
use uuid::Uuid;

use crate::pki::{Authority, Identity, PkiError};
use crate::world::{World, never_ran};

/// The most streams that a pair remembers by the word of its members: the list has to fit into a Secret.
const MAX_KNOWN: usize = 4096;

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
    /// As before, but members may be recording: nothing is rendered until they tell.
    Wait,
}

/// Keeps what is good and makes what is missing.
pub fn mint(world: &World) -> Result<Minted, PkiError> {
    let uid = &world.id.uid;
    let authority = match &world.keys.authority {
        Some(authority) if authority.is_of(uid) => authority.clone(),
        _ => Authority::mint(uid, world.now)?,
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
            None if world.rendered.is_some() || world.pods.values().all(never_ran) => {
                return Streams::Recovering;
            }
            None => return Streams::Wait,
        },
    };
    // A member that told nothing yet then may know more, of streams that are configured no longer.
    let mut uids: BTreeSet<Uuid> = known.values().copied().collect();
    for (name, uid) in world.view.reports.values().flat_map(|seen| told(&seen.report)) {
        // No two streams have the same, whatever a member says.
        if known.len() < MAX_KNOWN && !known.contains_key(name) && uids.insert(uid) {
            known.insert(name.clone(), uid);
        }
    }
    for stream in &world.pair.spec.streams {
        known.entry(stream.name.clone()).or_insert_with(Uuid::new_v4);
    }
    Streams::Known(known)
}

/// What the volumes know. A UID that is forgotten comes back as another, so all members that have a volume must have told, or those that
/// did know every stream that is wanted. A volume that is lost tells nothing any more.
fn recover(world: &World) -> Option<BTreeMap<String, Uuid>> {
    let (mut known, mut silent) = (BTreeMap::new(), false);
    let there = world.claims.iter().filter(|(_, claim)| !is_lost(claim));
    for (member, _) in there {
        let Some(seen) = world.view.reports.get(member) else {
            silent = true;
            continue;
        };
        for (name, uid) in told(&seen.report) {
            known.entry(name.clone()).or_insert(uid);
        }
    }
    let mut wanted = world.pair.spec.streams.iter();
    (!silent || wanted.all(|stream| known.contains_key(&stream.name))).then_some(known)
}

/// Whether a stream may have this name: what a member says is checked as what a user asks for is, by the CRD.
fn is_a_name(name: &str) -> bool {
    let may_be = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(may_be)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// The streams that a member has, and those that its volume knows.
fn told(report: &MemberReport) -> impl Iterator<Item = (&String, Uuid)> {
    let configured = report.streams.iter().map(|stream| (&stream.name, stream.uid));
    let stored = report
        .known_streams
        .iter()
        .map(|stream| (&stream.name, stream.uid));
    configured.chain(stored).filter(|(name, _)| is_a_name(name))
}

/// Whether the volume behind a claim is gone for good.
pub fn is_lost(claim: &PersistentVolumeClaim) -> bool {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    phase == Some("Lost")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use crds::member::{KnownStream, Role};
    use serde_json::json;

    use super::*;
    use crate::fixtures::{NOW, ask, at_rest, change_pod, new_pair, pass, report, said, streams};
    use crate::pki::LEAF_LIFE;
    use crate::world::{SeenReport, View};

    fn known(world: &World) -> BTreeMap<String, Uuid> {
        match super::streams(world) {
            Streams::Known(known) => known,
            other => panic!("{other:?}"),
        }
    }

    /// Which parts of a pair's keys are made anew.
    fn replaced(world: &World) -> Vec<&'static str> {
        let (old, new) = (&world.keys, mint(world).unwrap());
        let [(first, one), (second, two)] = &new.members;
        let parts = [
            ("authority", old.authority.as_ref() == Some(&new.authority)),
            ("operator", old.operator.as_ref() == Some(&new.operator)),
            ("front-0", old.members.get(first) == Some(one)),
            ("front-1", old.members.get(second) == Some(two)),
            ("token", old.token.as_ref() == Some(&new.token)),
        ];
        let replaced = parts.iter().filter(|(_, kept)| !kept);
        replaced.map(|(part, _)| *part).collect()
    }

    #[test]
    fn what_is_good_is_kept_and_what_is_bad_is_made_anew() {
        const LEAVES: &[&str] = &["operator", "front-0", "front-1"];
        const ISSUED: &[&str] = &["authority", "operator", "front-0", "front-1"];
        type Change = fn(&mut World);
        let cases: [(&str, Change, &[&str]); 10] = [
            ("all is well", |_| (), &[]),
            ("half of a life later", |w| w.now += LEAF_LIFE / 2, &[]),
            (
                "two thirds of a life later",
                |w| w.now += LEAF_LIFE * 2 / 3,
                LEAVES,
            ),
            ("no token", |w| w.keys.token = None, &["token"]),
            ("no operator", |w| w.keys.operator = None, &["operator"]),
            ("no authority", |w| w.keys.authority = None, ISSUED),
            ("an authority that makes no sense", spoil_authority, ISSUED),
            ("the authority of a pair of that name before", other_pair, ISSUED),
            ("the certificate of the other member", swap_members, &["front-0"]),
            ("a key that is not the certificate's", swap_keys, &["front-1"]),
        ];
        for (what, change, expected) in cases {
            let mut world = at_rest(&json!({}));
            change(&mut world);
            assert_eq!(replaced(&world), expected, "{what}");
        }
    }

    fn spoil_authority(world: &mut World) {
        world.keys.authority.as_mut().unwrap().0.key = Secret::new("nonsense");
    }

    fn other_pair(world: &mut World) {
        world.keys.authority = Some(Authority::mint("uid-before", NOW).unwrap());
    }

    fn swap_members(world: &mut World) {
        let other = world.keys.members["front-1"].clone();
        world.keys.members.insert("front-0".to_owned(), other);
    }

    fn swap_keys(world: &mut World) {
        let other = world.keys.members["front-0"].key.clone();
        world.keys.members.get_mut("front-1").unwrap().key = other;
    }

    #[test]
    fn what_was_made_anew_is_kept() {
        for change in [spoil_authority, other_pair, swap_members, swap_keys] {
            let mut world = at_rest(&json!({}));
            change(&mut world);
            pass(&mut world);
            assert_eq!(replaced(&world), [""; 0]);
        }
    }

    #[test]
    fn tokens_are_long_and_not_repeated() {
        let tokens: BTreeSet<String> = (0..10).map(|_| random_token().expose().to_owned()).collect();
        assert_eq!(tokens.len(), 10);
        assert!(tokens.iter().all(|token| token.len() == 48));
    }

    #[test]
    fn a_uid_stays_with_its_name_for_ever() {
        let mut world = at_rest(&streams(&["door", "yard"]));
        let before = known(&world);
        assert_ne!(before["door"], before["yard"]);
        for (what, names) in [
            ("nothing changed", ["door", "yard"].as_slice()),
            ("another order", &["yard", "door"]),
            ("one is removed", &["yard"]),
            ("one is renamed", &["gate", "yard"]),
            ("one comes back", &["door", "yard"]),
        ] {
            ask(&mut world, &streams(names));
            pass(&mut world);
            let now = known(&world);
            assert!(before.iter().all(|(name, uid)| now[name] == *uid), "{what}");
        }
        let all = known(&world);
        assert_eq!(all.len(), 3, "the name that was used for a while is kept, too");
        assert!(!before.values().any(|uid| *uid == all["gate"]));
    }

    /// A pair that adopts the volumes of one of the same name before, whose members told these streams.
    fn adopting(told: &[(&str, &[(&str, u128)])]) -> World {
        let mut world = at_rest(&streams(&["door"]));
        world.rendered = None;
        world.pods.clear();
        let reports = told.iter().map(|(member, streams)| {
            let mut report = report(member, Role::None);
            let known = streams.iter().map(|(name, uid)| KnownStream {
                name: (*name).to_owned(),
                uid: Uuid::from_u128(*uid),
            });
            report.known_streams = known.collect();
            (
                (*member).to_owned(),
                SeenReport {
                    report,
                    fresh: true,
                    doubt: crate::world::Doubt::None,
                    without_api: None,
                },
            )
        });
        world.view = Arc::new(View {
            reports: reports.collect(),
            ..View::default()
        });
        world
    }

    #[test]
    fn a_lost_volume_is_not_waited_for() {
        let mut world = adopting(&[("front-0", &[("yard", 7)])]);
        assert_eq!(
            super::streams(&world),
            Streams::Recovering,
            "front-1 may know the door"
        );
        let lost = world.claims.get_mut("front-1").unwrap();
        lost.status.get_or_insert_default().phase = Some("Lost".to_owned());
        assert_eq!(known(&world)["yard"], Uuid::from_u128(7));
    }

    #[test]
    fn a_member_that_knows_all_streams_waits_for_no_other_one_and_that_one_may_add_to_it() {
        let mut world = adopting(&[("front-1", &[("door", 7)])]);
        assert_eq!(known(&world)["door"], Uuid::from_u128(7));
        pass(&mut world);
        let later = adopting(&[("front-0", &[("door", 8), ("yard", 9)])]);
        world.view = later.view;
        let expected = [("door", 7), ("yard", 9)].map(|(name, uid)| (name.to_owned(), Uuid::from_u128(uid)));
        assert_eq!(known(&world), BTreeMap::from(expected));
    }

    #[test]
    fn no_two_streams_get_the_same_uid_whatever_a_member_says() {
        let mut world = at_rest(&streams(&["door"]));
        let door = known(&world)["door"];
        let stream = |name: &str| KnownStream {
            name: name.to_owned(),
            uid: door,
        };
        said(&mut world, "front-1").known_streams = vec![stream("yard"), stream("gate")];
        ask(&mut world, &streams(&["door", "yard"]));
        let known = known(&world);
        assert_eq!((known["door"], known.len()), (door, 2));
        assert_ne!(known["yard"], door);
    }

    #[test]
    fn no_member_can_make_the_list_of_streams_endless() {
        let mut world = at_rest(&streams(&["door"]));
        let stream = |n: usize| KnownStream {
            name: format!("cam-{n}"),
            uid: Uuid::from_u128(n as u128),
        };
        said(&mut world, "front-1").known_streams = (1..MAX_KNOWN + 10).map(stream).collect();
        ask(&mut world, &streams(&["door", "yard"]));
        let known = known(&world);
        assert_eq!(known.len(), MAX_KNOWN + 1, "what is wanted is there all the same");
        assert!(known.contains_key("yard"));
    }

    #[test]
    fn what_no_stream_is_called_is_not_remembered() {
        let mut world = at_rest(&streams(&["door"]));
        let names = [
            "",
            "Gate",
            "-gate",
            "gate-",
            "a b",
            "../x",
            &"g".repeat(64),
            "gate",
        ];
        let stream = |(n, name): (usize, &str)| KnownStream {
            name: name.to_owned(),
            uid: Uuid::from_u128(n as u128 + 50),
        };
        said(&mut world, "front-1").known_streams = names.into_iter().enumerate().map(stream).collect();
        ask(&mut world, &streams(&["door"]));
        assert_eq!(known(&world).into_keys().collect::<Vec<_>>(), ["door", "gate"]);
    }

    #[test]
    fn a_new_pair_makes_its_uids_at_once() {
        let world = new_pair(&streams(&["door", "yard"]));
        assert_eq!(known(&world).into_keys().collect::<Vec<_>>(), ["door", "yard"]);
    }

    #[test]
    fn used_volumes_tell_their_uids() {
        let world = adopting(&[
            ("front-0", &[("door", 1), ("yard", 2)]),
            ("front-1", &[("door", 1), ("gate", 3)]),
        ]);
        let expected = [("door", 1), ("gate", 3), ("yard", 2)];
        let expected = expected.map(|(name, uid)| (name.to_owned(), Uuid::from_u128(uid)));
        assert_eq!(known(&world), BTreeMap::from(expected));
    }

    #[test]
    fn a_stream_that_is_configured_goes_before_one_that_is_stored() {
        let mut world = at_rest(&streams(&["door"]));
        let configured = said(&mut world, "front-0").streams[0].uid;
        said(&mut world, "front-0").known_streams = vec![KnownStream {
            name: "door".to_owned(),
            uid: Uuid::from_u128(9),
        }];
        world.rendered = None;
        assert_eq!(known(&world)["door"], configured);
    }

    #[test]
    fn no_uid_is_made_while_a_used_volume_may_know_another() {
        let both = || adopting(&[]);
        let one = || adopting(&[("front-0", &[("yard", 1)])]);
        let mut running = one();
        running.pods = at_rest(&json!({})).pods;
        let mut never_started = running.clone();
        for member in ["front-0", "front-1"] {
            let waiting = json!([{ "name": "recorder", "state": { "waiting": {} } }]);
            let patch = json!({ "status": { "containerStatuses": waiting } });
            change_pod(&mut never_started, member, &patch);
        }
        let mut one_started = never_started.clone();
        let runs = running.pods["front-1"].clone();
        one_started.pods.insert("front-1".to_owned(), runs);
        let mut rendered = one();
        pass(&mut rendered);
        let mut single = one();
        single.claims.remove("front-1");
        assert_eq!(super::streams(&both()), Streams::Recovering, "nobody told");
        assert_eq!(super::streams(&one()), Streams::Recovering, "one did not tell");
        assert_eq!(
            super::streams(&rendered),
            Streams::Recovering,
            "its pods run, without streams"
        );
        assert_eq!(
            super::streams(&running),
            Streams::Wait,
            "its pods run with streams"
        );
        assert_eq!(super::streams(&one_started), Streams::Wait, "one of them runs");
        assert_eq!(
            super::streams(&never_started),
            Streams::Recovering,
            "its pods wait for what is rendered"
        );
        assert_eq!(
            known(&single)["yard"],
            Uuid::from_u128(1),
            "the other has no volume"
        );
    }
}
