//! The part of a view that status shows. Only when it changes is there anything to reconcile.

use tokio::time::{Duration, Instant};

use crate::world::View;
use crate::{coarse, lag};

/// What is measured wavers: it is shown so often at most.
const MEASURES: Duration = Duration::from_secs(10);

/// What was shown last, and when.
#[derive(Debug, Default)]
pub(super) struct Shown(Option<(View, Instant)>);

impl Shown {
    /// Whether there is something to reconcile now that this is seen: at once where a state is another, and after a while where only
    /// a figure is.
    pub(super) fn is_news(&mut self, view: &View, now: Instant) -> bool {
        let view = shown(view);
        let is_news = self.0.as_ref().is_none_or(|(last, at)| {
            let is_due = || now.duration_since(*at) >= MEASURES || states(last) != states(&view);
            *last != view && is_due()
        });
        if is_news {
            self.0 = Some((view, now));
        }
        is_news
    }
}

/// What is shown without figures.
fn states(shown: &View) -> View {
    let mut view = shown.clone();
    for seen in view.reports.values_mut() {
        let replication = &mut seen.report.replication;
        replication.lag_ms = 0;
        replication.backfill_bytes = replication.backfill_bytes.min(1);
        replication.backfill_of = replication.backfill_of.min(1);
        replication.backfill_seconds = replication.backfill_seconds.map(|_| 0);
        for stream in &mut seen.report.streams {
            stream.open_gap_ms = stream.open_gap_ms.min(1);
            stream.lost_gap_ms = stream.lost_gap_ms.min(1);
        }
    }
    view
}

/// A view without what changes all the time.
fn shown(view: &View) -> View {
    let mut view = view.clone();
    if let Some(lease) = &mut view.lease {
        lease.counter = 0;
        lease.leash_ms = 0;
    }
    let leaderless = view.leaderless;
    for seen in view.reports.values_mut() {
        let report = &mut seen.report;
        report.authority_until_ms = None;
        report.replication.lag_ms = lag::rounded(report.replication.lag_ms);
        report.replication.lag_bytes = 0;
        refill(&mut report.replication);
        report.replication.refused = 0;
        report.disk.free_bytes = 0;
        report.ledger_truncations = report.ledger_truncations.min(1);
        seen.without_api = seen.without_api.map(coarse::lasted);
        // Where nobody leads it is told why. For how long a member has said so is reckoned apart.
        report.lease.reachable |= !leaderless;
        report.moves = 0;
        report.moved.iter_mut().for_each(|moved| moved.since_ms = 0);
        report.peer = crds::member::PeerReport::default();
        for stream in &mut report.streams {
            stream.last_frame_ms = None;
            stream.fps = 0.0;
            stream.bitrate = 0;
            stream.writing = false;
            stream.gaps = 0;
            stream.open_gap_ms = coarse::seconds(stream.open_gap_ms) * 1000;
            stream.lost_gap_ms = coarse::seconds(stream.lost_gap_ms) * 1000;
        }
    }
    view
}

/// Backfill as a share of all, where that is known.
fn refill(sending: &mut crds::member::ReplicationReport) {
    let lacks = coarse::percent(sending.backfill_bytes, sending.backfill_of);
    sending.backfill_of = lacks.map_or(0, |_| 100);
    sending.backfill_bytes = lacks.unwrap_or(sending.backfill_bytes.min(1));
    let remaining = sending.backfill_seconds.filter(|_| lacks.is_some());
    sending.backfill_seconds = remaining.map(coarse::remaining);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crds::member::{ReplicationReport, Role, StreamReport};
    use serde_json::json;

    use super::*;
    use crate::fixtures::{PRIMARY, STANDBY, at_rest, lacks_api, said, silence};
    use crate::world::{Held, World};

    type Change = fn(&mut World);

    fn view(change: Change) -> View {
        let mut world = at_rest(&json!({}));
        // Every pair of these has other UIDs.
        said(&mut world, PRIMARY).streams[0].uid = uuid::Uuid::nil();
        said(&mut world, STANDBY).streams[0].uid = uuid::Uuid::nil();
        change(&mut world);
        (*world.view).clone()
    }

    fn lease(world: &mut World) -> &mut failover::LeaseRecord {
        Arc::make_mut(&mut world.view).lease.as_mut().unwrap()
    }

    fn flow(world: &mut World) -> &mut ReplicationReport {
        &mut said(world, PRIMARY).replication
    }

    fn door(world: &mut World) -> &mut StreamReport {
        &mut said(world, STANDBY).streams[0]
    }

    fn lead_nowhere(world: &mut World) {
        said(world, PRIMARY).role = Role::Standby;
        Arc::make_mut(&mut world.view).leaderless = true;
    }

    const NOISE: [(&str, Change); 14] = [
        ("a renewal", |w| lease(w).counter += 1),
        ("a longer leash", |w| lease(w).leash_ms = 10_000),
        ("authority", |w| said(w, PRIMARY).authority_until_ms = Some(3)),
        ("a little lag", |w| flow(w).lag_ms = 990),
        ("bytes in flight", |w| flow(w).lag_bytes = 9),
        ("a refusal more", |w| flow(w).refused = 9),
        ("disk is used", |w| said(w, STANDBY).disk.free_bytes -= 1),
        ("a slow API server", |w| said(w, STANDBY).lease.reachable = false),
        ("a heartbeat", |w| said(w, STANDBY).peer.suspected = true),
        ("a frame", |w| door(w).last_frame_ms = Some(99)),
        ("a frame less a second", |w| door(w).fps = 24.0),
        ("less light", |w| door(w).bitrate = 9),
        ("it writes or not", |w| door(w).writing = false),
        ("a gap", |w| door(w).gaps = 9),
    ];

    #[test]
    fn what_changes_all_the_time_asks_for_no_reconcile() {
        let rest = shown(&view(|_| ()));
        for (what, change) in NOISE {
            assert_ne!(view(change), view(|_| ()), "{what} is no change");
            assert_eq!(shown(&view(change)), rest, "{what}");
        }
    }

    #[test]
    fn backfill_that_goes_on_and_ledgers_that_were_cut_again_ask_for_no_reconcile() {
        let backfill = |bytes| {
            let mut view = view(|_| ());
            let report = &mut view.reports.get_mut(PRIMARY).unwrap().report;
            report.replication.backfill_bytes = bytes;
            report.ledger_truncations = bytes;
            shown(&view)
        };
        assert_eq!(backfill(5_000), backfill(4_000));
        assert_ne!(backfill(1), backfill(0));
        let refill = |bytes, seconds| {
            let sent = view(|_| ());
            let mut world = at_rest(&json!({}));
            world.view = Arc::new(sent);
            let flow = flow(&mut world);
            (flow.backfill_bytes, flow.backfill_of) = (bytes, 1_000_000);
            flow.backfill_seconds = Some(seconds);
            shown(&world.view)
        };
        assert_eq!(
            refill(500_000, 599),
            refill(495_001, 550),
            "the same percent and minute"
        );
        assert_ne!(refill(500_000, 599), refill(490_000, 599));
        assert_ne!(refill(500_000, 599), refill(500_000, 500));
    }

    #[test]
    fn a_member_that_stays_without_the_api_server_asks_for_few_reconciles() {
        let rest = view(|w| lacks_api(w, STANDBY, 15));
        let lasted = |seconds| {
            let mut view = rest.clone();
            view.reports.get_mut(STANDBY).unwrap().without_api = Some(Duration::from_secs(seconds));
            shown(&view)
        };
        let mut a_day = (15..86_400).map(lasted).collect::<Vec<View>>();
        a_day.dedup();
        assert_eq!(a_day.len(), 4);
    }

    #[test]
    fn what_status_tells_asks_for_a_reconcile() {
        let rest = shown(&view(|_| ()));
        let changes: [(&str, Change); 14] = [
            ("no Lease for long", |w| {
                Arc::make_mut(&mut w.view).lease_missing = true;
            }),
            ("a new Lease that is refused", |w| {
                Arc::make_mut(&mut w.view).lease_refused = Some("a policy".to_owned());
            }),
            ("a Lease that makes no sense", |w| {
                Arc::make_mut(&mut w.view).lease_unreadable = Some("no epoch".to_owned());
            }),
            ("a pod that is held", |w| {
                let held = Held::NotYet("1 of 1".to_owned());
                Arc::make_mut(&mut w.view).held.insert(STANDBY.to_owned(), held);
            }),
            ("nobody leads for long", |w| {
                Arc::make_mut(&mut w.view).leaderless = true;
            }),
            ("another epoch", |w| lease(w).epoch = failover::Epoch(8)),
            ("another holder", |w| lease(w).holder = None),
            ("another role", |w| said(w, STANDBY).role = Role::None),
            ("much lag", |w| flow(w).lag_ms = 1_000),
            ("no connection", |w| flow(w).connected = false),
            ("a full disk", |w| said(w, STANDBY).disk.full = true),
            ("a failing disk", |w| said(w, STANDBY).disk.failing = true),
            ("a silent member", |w| silence(w, STANDBY)),
            ("a member without the API server for long", |w| {
                lacks_api(w, STANDBY, 15);
            }),
        ];
        for (what, change) in changes {
            assert_ne!(shown(&view(change)), rest, "{what}");
        }
        let none_reaches = view(|w| {
            lead_nowhere(w);
            said(w, STANDBY).lease.reachable = false;
        });
        assert_ne!(
            shown(&none_reaches),
            shown(&view(lead_nowhere)),
            "why nobody leads"
        );
    }

    #[test]
    fn states_are_shown_at_once_and_figures_each_ten_seconds() {
        let (mut last, began) = (Shown::default(), Instant::now());
        let mut is_news = |seconds: u64, change: Change| {
            let now = began + Duration::from_secs(seconds);
            last.is_news(&view(change), now)
        };
        assert!(is_news(0, |_| ()), "the first view");
        assert!(!is_news(1, |w| door(w).fps = 24.0));
        let lags: Change = |w| flow(w).lag_ms = 1_000;
        assert!(!is_news(2, lags) && !is_news(9, lags));
        assert!(is_news(10, lags));
        assert!(!is_news(11, |_| ()) && is_news(20, |_| ()), "and back");
        assert!(is_news(21, |w| door(w).open_gap_ms = 1), "a gap has begun");
        assert!(!is_news(22, |w| door(w).open_gap_ms = 5_000));
        assert!(is_news(23, |w| said(w, STANDBY).disk.full = true));
        assert!(is_news(24, |_| ()), "two seconds after a figure was held back");
    }

    #[test]
    fn status_tells_nothing_that_is_not_shown() {
        let told = |change: Change, hide: bool| {
            let mut world = at_rest(&json!({}));
            change(&mut world);
            if hide {
                world.view = Arc::new(shown(&world.view));
            }
            crate::fixtures::told(&world)
        };
        let lags: [(&str, Change); 9] = [
            ("nobody leads", lead_nowhere),
            ("nobody leads, or reaches the API server", |w| {
                lead_nowhere(w);
                for member in [PRIMARY, STANDBY] {
                    said(w, member).lease.reachable = false;
                }
            }),
            ("a refill", |w| {
                let flow = flow(w);
                (flow.backfill_bytes, flow.backfill_of) = (123_456, 1_000_000);
                flow.backfill_seconds = Some(4_321);
            }),
            ("gaps", |w| {
                let door = &mut said(w, PRIMARY).streams[0];
                (door.open_gap_ms, door.lost_gap_ms) = (123_456, 40);
            }),
            ("a lag of 1 s", |w| flow(w).lag_ms = 1_000),
            ("a lag of 5 s", |w| flow(w).lag_ms = 7_000),
            ("a lag of minutes", |w| flow(w).lag_ms = 299_999),
            ("backfill", |w| flow(w).backfill_bytes = 9_000),
            ("a member without the API server for 99 s", |w| {
                lacks_api(w, STANDBY, 99);
            }),
        ];
        for (what, change) in NOISE.into_iter().chain(lags) {
            assert_eq!(told(change, true), told(change, false), "{what}");
        }
    }
}
