//! Who held authority when, recorded from outside and judged by a checker of its own: never two at a time (I6), and epochs only
//! rise (I5).
//!
//! Each member is asked from within the network of its node, as one who stands beside the machine: no link that is cut hides what
//! a member says that nobody else hears.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use crds::names;
use rustix::fd::AsFd;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::pair::{PAIR, PairUnderTest};
use crate::report::Operator;
use crate::wait::now_ms;

/// How often each member is asked.
const LOOK: Duration = Duration::from_millis(50);
/// How often the addresses of the members are looked up.
const LOOK_UP: Duration = Duration::from_secs(1);

/// A member said that it holds authority: at some moment between the question and the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Which member.
    pub member: String,
    /// In which epoch.
    pub epoch: u64,
    /// When it was asked, Unix milliseconds.
    pub asked: u64,
    /// When it had answered.
    pub answered: u64,
}

/// What is wrong with a history, in words; nothing if no moment is known at which two held authority.
///
/// A claim is true of a moment within its window. So a claim that was asked for after another one was answered is the later one
/// for certain, and must be of no lower epoch; and an epoch has one holder.
pub fn violations(claims: &[Claim]) -> Vec<String> {
    let mut found = Vec::new();
    let mut holders: BTreeMap<u64, &str> = BTreeMap::new();
    for claim in claims {
        let holder = holders.entry(claim.epoch).or_insert(&claim.member);
        if *holder != claim.member {
            found.push(format!(
                "epoch {} is held by {holder} and {}",
                claim.epoch, claim.member
            ));
        }
    }
    let mut by_answer: Vec<&Claim> = claims.iter().collect();
    by_answer.sort_by_key(|claim| claim.answered);
    let mut by_question: Vec<&Claim> = claims.iter().collect();
    by_question.sort_by_key(|claim| claim.asked);
    let (mut highest, mut answered) = (None::<&Claim>, by_answer.into_iter().peekable());
    for later in by_question {
        while let Some(claim) = answered.next_if(|claim| claim.answered < later.asked) {
            highest = highest.filter(|known| known.epoch >= claim.epoch).or(Some(claim));
        }
        if let Some(earlier) = highest.filter(|earlier| earlier.epoch > later.epoch) {
            found.push(format!("after {earlier:?} there was {later:?}"));
        }
    }
    found
}

/// Where a member is asked, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    address: String,
    node: String,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

type Claims = Arc<Mutex<Vec<Claim>>>;

/// Asks both members who holds authority, until it is dropped.
pub struct Holders {
    claims: Claims,
    look_ups: Vec<JoinHandle<()>>,
}

impl Holders {
    /// Begins to ask, as soon as there is somebody to ask.
    pub fn watch(pair: &PairUnderTest) -> Result<Self> {
        let (claims, mut look_ups) = (Claims::default(), Vec::new());
        for member in names::members(PAIR) {
            let (found, places) = watch::channel(None);
            look_ups.push(tokio::spawn(look_up(pair.clone(), member.clone(), found)));
            let (claims, name) = (Arc::clone(&claims), format!("asks {member}"));
            // A network namespace is a property of a thread, so each member has one. It ends with its `found`.
            let thread = std::thread::Builder::new().name(name);
            thread.spawn(move || {
                if let Err(error) = ask(&member, places, &claims) {
                    eprintln!("nobody asks {member} any more: {error:#}");
                }
            })?;
        }
        Ok(Self { claims, look_ups })
    }

    /// How often a member said that it holds authority. Fails if two ever did at a time, or if nobody was seen to.
    pub fn judge(&self) -> Result<usize> {
        let claims = self
            .claims
            .lock()
            .map(|claims| claims.clone())
            .unwrap_or_default();
        let violations = violations(&claims);
        match violations.first() {
            None if claims.is_empty() => bail!("nobody was ever seen to hold authority"),
            None => Ok(claims.len()),
            Some(first) => bail!("{} violations of I6: {first}", violations.len()),
        }
    }
}

impl Drop for Holders {
    fn drop(&mut self) {
        self.look_ups.iter().for_each(JoinHandle::abort);
    }
}

/// Says where a member is, again and again. With the API server away the last place stays.
async fn look_up(pair: PairUnderTest, member: String, found: watch::Sender<Option<Place>>) {
    loop {
        let place = tokio::try_join!(pair.control_place(&member), pair.operator_pem());
        if let Ok(((address, node), (certificate, key))) = place {
            let place = Some(Place {
                address,
                node,
                certificate,
                key,
            });
            found.send_if_modified(|known| {
                let changed = *known != place;
                *known = place;
                changed
            });
        }
        tokio::time::sleep(LOOK_UP).await;
    }
}

/// Asks a member until nobody looks its place up any more.
fn ask(member: &str, mut places: watch::Receiver<Option<Place>>, claims: &Mutex<Vec<Claim>>) -> Result<()> {
    let own = File::open("/proc/thread-self/ns/net")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut known: Option<(Place, Operator)> = None;
    loop {
        std::thread::sleep(LOOK);
        let Ok(changed) = places.has_changed() else {
            return Ok(());
        };
        if changed && let Some(place) = places.borrow_and_update().clone() {
            let operator = Operator::new(&place.certificate, &place.key)?;
            known = Some((place, operator));
        }
        let Some((place, operator)) = &known else { continue };
        // A node that is destroyed has none.
        let Ok(network) = File::open(format!("/run/netns/{}", place.node)) else {
            continue;
        };
        enter(&network)?;
        let asked = now_ms();
        let report = runtime.block_on(operator.report(&place.address));
        let answered = now_ms();
        enter(&own)?;
        let epoch = report.ok().and_then(|report| report.serving_epoch);
        if let (Some(epoch), Ok(mut claims)) = (epoch, claims.lock()) {
            claims.push(Claim {
                member: member.to_owned(),
                epoch,
                asked,
                answered,
            });
        }
    }
}

fn enter(network: &File) -> Result<()> {
    let network = network.as_fd();
    move_into_link_name_space(network, Some(LinkNameSpaceType::Network)).context("cannot enter a network")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(member: &str, epoch: u64, asked: u64, answered: u64) -> Claim {
        Claim {
            member: member.to_owned(),
            epoch,
            asked,
            answered,
        }
    }

    #[test]
    fn a_handover_is_no_violation() {
        let claims = [
            claim("a", 1, 0, 10),
            claim("b", 2, 30, 40),
            // The question was on its way when the epoch changed: it may have been true before.
            claim("a", 1, 35, 50),
            claim("b", 2, 60, 70),
            claim("a", 3, 90, 95),
        ];
        assert_eq!(violations(&claims), [""; 0]);
        assert_eq!(violations(&[]), [""; 0]);
    }

    #[test]
    fn an_old_primary_that_still_claims_is_found() {
        let claims = [claim("a", 1, 0, 10), claim("b", 2, 30, 40), claim("a", 1, 41, 50)];
        assert_eq!(violations(&claims).len(), 1);
        let mut shuffled = claims.to_vec();
        shuffled.reverse();
        assert_eq!(violations(&shuffled).len(), 1, "in whatever order they are told");
    }

    #[test]
    fn an_epoch_with_two_holders_is_found() {
        let claims = [claim("a", 1, 0, 10), claim("b", 1, 100, 110)];
        assert_eq!(violations(&claims).len(), 1);
    }

    #[test]
    fn an_epoch_that_falls_is_found() {
        let claims = [claim("a", 5, 0, 10), claim("a", 4, 20, 30)];
        assert_eq!(violations(&claims).len(), 1);
    }
}
