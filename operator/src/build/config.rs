//! The rendered configuration.

use std::collections::BTreeMap;

use crds::member::{
    BackfillWindow, FailoverConfig, MemberAddress, RenderedConfig, ReplicationConfig, RetentionConfig,
    RingConfig, SegmentConfig, StreamConfig,
};
use crds::names;
use crds::pair::{Failback, Replication, Size, Stream};
use uuid::Uuid;

use crate::world::{Credentials, World};

/// What the members need to know, once both have an address. Without UIDs no stream is in it.
pub(super) fn render(world: &World, uids: &BTreeMap<String, Uuid>) -> Option<RenderedConfig> {
    let spec = &world.pair.spec;
    let member = |name: String| {
        let address = world.addresses.get(&name)?;
        let peer = if address.contains(':') {
            format!("[{address}]:{}", names::PORT_PEER)
        } else {
            format!("{address}:{}", names::PORT_PEER)
        };
        Some(MemberAddress { name, peer })
    };
    let members = world
        .members()
        .into_iter()
        .map(member)
        .collect::<Option<Vec<_>>>()?;
    let streams = spec
        .streams
        .iter()
        .filter_map(|stream| render_stream(world, stream, uids));
    Some(RenderedConfig {
        version: RenderedConfig::VERSION,
        pair: world.id.clone(),
        lease: names::lease(&world.id.name),
        primary_slice: names::primary_service(&world.id.name),
        members,
        streams: streams.collect(),
        segment: SegmentConfig {
            target_ms: spec.segment.target.millis(),
        },
        ring: RingConfig {
            preroll_ms: spec.standby.preroll.millis(),
            max_bytes_per_stream: spec.standby.max_bytes_per_stream.bytes(),
        },
        failover: FailoverConfig {
            leash_ms: spec.failover.leash.millis(),
            suspect_after_ms: spec.failover.suspect_after.millis(),
            lease_duration_seconds: u32::try_from(spec.failover.lease_duration.get().as_secs())
                .unwrap_or(u32::MAX),
            stream_failback_ms: match spec.failover.streams.failback {
                Failback::Automatic => Some(spec.failover.streams.failback_after.millis()),
                Failback::Hold => None,
            },
        },
        standby_mode: spec.standby.mode,
        retention: retention(world),
        replication: replication(&spec.replication),
    })
}

fn render_stream(world: &World, stream: &Stream, uids: &BTreeMap<String, Uuid>) -> Option<StreamConfig> {
    let uid = *uids.get(&stream.name)?;
    let credentials = match world.credentials.get(&stream.name) {
        None => None,
        Some(Ok(credentials)) => Some(credentials.clone()),
        // Left out where there are none: without them it would be refused, and locked out perhaps.
        Some(Err(_)) => Some(credentials_before(world, stream)?),
    };
    Some(StreamConfig {
        name: stream.name.clone(),
        uid,
        url: stream.url.clone(),
        username: credentials
            .as_ref()
            .map(|credentials| credentials.username.clone()),
        password: credentials.map(|credentials| credentials.password),
        detect_frozen: stream.detect_frozen,
        transport: stream.transport,
        audio: stream.audio,
    })
}

/// The credentials that were rendered before, where the Secret is gone: recording goes on.
fn credentials_before(world: &World, stream: &Stream) -> Option<Credentials> {
    let rendered = &world.rendered.as_ref()?.config.streams;
    // Only for the camera that they were for: a password goes to no other host.
    let same = |before: &&StreamConfig| before.name == stream.name && before.url == stream.url;
    let before = rendered.iter().find(same)?;
    Some(Credentials {
        username: before.username.clone()?,
        password: before.password.clone()?,
    })
}

fn retention(world: &World) -> RetentionConfig {
    let storage = &world.pair.spec.storage;
    let max_size = storage.retention.max_size.as_ref();
    RetentionConfig {
        min_age_seconds: storage.retention.min_age.get().as_secs(),
        max_age_seconds: storage.retention.max_age.map(|age| age.get().as_secs()),
        max_bytes: Some(max_size.map_or(storage.size.bytes() / 10 * 9, crds::pair::Size::bytes)),
    }
}

fn replication(spec: &Replication) -> ReplicationConfig {
    let windows = spec.schedule.iter().map(|window| BackfillWindow {
        from_minute: window.from.utc_minute(window.utc_offset),
        to_minute: window.to.utc_minute(window.utc_offset),
        backfill_bytes_per_second: window.max_backfill_bandwidth.as_ref().map(Size::bytes),
    });
    ReplicationConfig {
        backfill_bytes_per_second: spec.max_backfill_bandwidth.as_ref().map(Size::bytes),
        schedule: windows.collect(),
    }
}
