//! Who held authority when, recorded from outside and judged by a checker of its own: never two at a time (I6), and epochs only
//! rise (I5).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, bail};
use crds::names;
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

/// Asks both members who holds authority, until it is dropped.
pub struct Holders {
    claims: Arc<Mutex<Vec<Claim>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Holders {
    /// Begins to ask.
    pub async fn watch(pair: &PairUnderTest) -> Result<Self> {
        let claims = Arc::default();
        let operator = pair.operator().await?;
        let members = names::members(PAIR).into_iter();
        let tasks = members
            .map(|member| tokio::spawn(ask(pair.clone(), operator.clone(), member, Arc::clone(&claims))))
            .collect();
        Ok(Self { claims, tasks })
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
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn ask(pair: PairUnderTest, operator: Operator, member: String, claims: Arc<Mutex<Vec<Claim>>>) {
    let (mut address, mut looked_up) = (None, 0);
    loop {
        tokio::time::sleep(LOOK).await;
        if address.is_none() || now_ms() > looked_up + LOOK_UP.as_millis() as u64 {
            // With the API server away the last address stays.
            address = pair.control_address(&member).await.ok().or(address);
            looked_up = now_ms();
        }
        let Some(address) = &address else { continue };
        let asked = now_ms();
        let Ok(report) = operator.report(address).await else {
            continue;
        };
        let (Some(epoch), Ok(mut claims)) = (report.serving_epoch, claims.lock()) else {
            continue;
        };
        claims.push(Claim {
            member: member.clone(),
            epoch,
            asked,
            answered: now_ms(),
        });
    }
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
