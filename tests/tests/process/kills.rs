//! kill -9 of either program of either member, at random moments, 100 times.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::api::{Hashes, MemberApi};
use e2e::judge::Start;
use e2e::members::{Pair, Program};
use e2e::wait::{now_ms, until};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::{recording, seconds, verdict};

const ROUNDS: usize = 100;
const STREAMS: usize = 4;
/// All sealed segments are read back each so many rounds.
const READ_BACK: usize = 20;

/// What a member said it holds: stream and identity to length.
type Held = BTreeMap<(String, String), u64>;

#[tokio::test]
async fn a_hundred_kills_lose_nothing() {
    let seed = std::env::var("GAPLESS_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(now_ms);
    println!("seed {seed}: replay with GAPLESS_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (cameras, mut pair) = recording(STREAMS).await.unwrap();
    let start = Start::now(&cameras).await.unwrap();
    let mut sealed = Hashes::new();
    let mut before = 0;
    for round in 0..ROUNDS {
        let target = usize::from(random.random_bool(0.5));
        if target != before {
            // Both members dead at once is a double fault: the one that was killed has to record again, and the other one to have on
            // its disk what came before that.
            holds_new_frames(&pair, before).await.unwrap();
            holds_new_frames(&pair, target).await.unwrap();
        }
        before = target;
        strike(&mut pair, target, &mut random)
            .await
            .with_context(|| format!("round {round}"))
            .unwrap();
        if round % READ_BACK == READ_BACK - 1 {
            holds_new_frames(&pair, target).await.unwrap();
            read_back(&pair, &mut sealed)
                .await
                .with_context(|| format!("round {round}"))
                .unwrap();
            println!(
                "round {}: {} sealed segments are what they were",
                round + 1,
                sealed.len()
            );
        }
    }
    seconds(2).await;
    verdict(&cameras, &pair, start)
        .await
        .unwrap()
        .ensure_perfect()
        .unwrap();
    pair.caught_up(Duration::from_mins(1)).await.unwrap();
    for member in &pair.members {
        let logs = member.logs().unwrap();
        assert!(!logs.contains("panicked"), "{} panicked", member.name());
    }
}

/// Kills one or both programs of a member and starts them again: what it said it held, it still holds.
async fn strike(pair: &mut Pair, target: usize, random: &mut StdRng) -> Result<()> {
    let programs: &[Program] = match random.random_range(0..4) {
        0 => &[Program::Replicator],
        1 => &[Program::Recorder, Program::Replicator],
        _ => &[Program::Recorder],
    };
    tokio::time::sleep(Duration::from_millis(random.random_range(0..900))).await;
    // the last strike may have been a moment ago: then it has nothing to say yet
    let before = held(pair, target).await.unwrap_or_default();
    for program in programs {
        pair.members[target].kill(*program).await?;
    }
    tokio::time::sleep(Duration::from_millis(random.random_range(0..300))).await;
    pair.start_all()?;
    until("what was held is held", Duration::from_secs(20), async || {
        let after = held(pair, target).await?;
        let less = before
            .iter()
            .find(|(id, length)| after.get(id).is_none_or(|now| now < length));
        ensure!(
            less.is_none(),
            "was {less:?}, is {:?}",
            less.and_then(|(id, _)| after.get(id))
        );
        Ok(Some(()))
    })
    .await
}

async fn held(pair: &Pair, member: usize) -> Result<Held> {
    let api = pair.members[member].api();
    let mut held = Held::new();
    for stream in pair.stream_names() {
        for segment in api.segments(&stream, 0).await? {
            held.insert((stream.clone(), segment.id), segment.length);
        }
    }
    Ok(held)
}

/// Waits until a member has recorded something itself of each stream that came after this call.
async fn holds_new_frames(pair: &Pair, member: usize) -> Result<()> {
    let (api, since) = (pair.members[member].api(), now_ms());
    for stream in pair.stream_names() {
        until("it records again", Duration::from_secs(20), async || {
            let fresh = api.segments(&stream, since).await?;
            Ok(fresh.iter().any(|segment| segment.origin == "live").then_some(()))
        })
        .await?;
    }
    Ok(())
}

/// Downloads every sealed segment of both members: it is what it was, on either, and the ledgers are readable.
async fn read_back(pair: &Pair, sealed: &mut Hashes) -> Result<()> {
    let names = pair.stream_names();
    for api in pair.apis() {
        for (id, hash) in api.sealed_hashes(&names, 0).await? {
            let first = sealed.entry(id.clone()).or_insert_with(|| hash.clone());
            ensure!(*first == hash, "{id:?} is not what it was on {}", api.base());
        }
        readable(&api, &names).await?;
    }
    Ok(())
}

async fn readable(api: &MemberApi, names: &[String]) -> Result<()> {
    for name in names {
        let timeline = api.timeline(name, 0).await?;
        ensure!(!timeline.spans.is_empty(), "{name}: an empty timeline");
    }
    Ok(())
}
