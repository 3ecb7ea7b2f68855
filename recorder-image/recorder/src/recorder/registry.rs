//! The configured streams and their sessions. A changed configuration touches only the streams that changed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crds::pair::{Mode, Transport};

use super::config::{Settings, StreamSpec};
use super::decide::goes_over;
use super::metrics::Metrics;
use super::pair::Pair;
use super::session::Demand;
use super::session::classify::Fault;
use super::session::runtime::Gather;
use super::session::source::Source;
use super::session::supervise::{Supervised, supervise};
use super::state::Shared;
use super::stream::Stream;
use super::stream::live::End;
use crate::clock::boottime_ns;
use crate::local::StreamUid;

/// How often it is looked at whether a session may go over to another source.
const PERIOD: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Entry {
    /// What the session is of.
    spec: StreamSpec,
    stream: Arc<Stream>,
    session: Supervised,
    /// What it is to be of, and since when that is known.
    next: Option<(StreamSpec, Duration)>,
}

/// See the module.
#[derive(Debug)]
pub struct Registry {
    entries: Mutex<BTreeMap<StreamUid, Entry>>,
    metrics: Arc<Metrics>,
    /// For the thread that the sessions run on.
    pub gather: Arc<Gather>,
}

/// What a changed configuration did, for the log and for tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Names of new streams.
    pub added: Vec<String>,
    /// Names of streams that left.
    pub removed: Vec<String>,
    /// Names of streams that have another source.
    pub changed: Vec<String>,
}

impl Registry {
    /// Without streams.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            entries: Mutex::default(),
            metrics,
            gather: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<StreamUid, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The streams, in the order of their UIDs.
    pub fn streams(&self) -> Vec<Arc<Stream>> {
        self.lock().values().map(|e| Arc::clone(&e.stream)).collect()
    }

    /// The stream with this UID.
    pub fn get(&self, uid: StreamUid) -> Option<Arc<Stream>> {
        self.lock().get(&uid).map(|e| Arc::clone(&e.stream))
    }

    /// The stream of this name.
    pub fn named(&self, name: &str) -> Option<Arc<Stream>> {
        self.lock()
            .values()
            .find(|e| e.stream.name == name)
            .map(|e| Arc::clone(&e.stream))
    }

    /// Brings the sessions in line with the settings; another source is for [`follow_sources`]. Must be called within a tokio runtime.
    /// `prepare` sees each new stream before its session starts.
    pub fn apply(&self, settings: &Settings, prepare: &dyn Fn(&Stream), now: Duration) -> Changes {
        let mut changes = Changes::default();
        let datagrams = |spec: &StreamSpec| spec.transport == Transport::Udp;
        self.gather.set(settings.streams.iter().any(datagrams));
        let mut entries = self.lock();
        entries.retain(|uid, entry| {
            let stays = settings
                .streams
                .iter()
                .any(|s| s.uid == *uid && s.name == entry.spec.name);
            if !stays {
                entry.close();
                self.metrics.forget(&entry.stream.name);
                changes.removed.push(entry.stream.name.clone());
            }
            stays
        });
        for spec in &settings.streams {
            match entries.get_mut(&spec.uid) {
                None => {
                    entries.insert(spec.uid, self.begin(spec, settings, prepare));
                    changes.added.push(spec.name.clone());
                }
                Some(entry) => {
                    let mut inner = entry.stream.lock();
                    inner.ring.set_limits(settings.ring);
                    inner.detect_frozen(spec.detect_frozen);
                    drop(inner);
                    entry.stream.ask(demand(settings.mode, entry.stream.asked()));
                    entry.spec.detect_frozen = spec.detect_frozen;
                    if entry.wanted() != spec {
                        entry.next = (entry.spec != *spec).then(|| (spec.clone(), now));
                        changes.changed.push(spec.name.clone());
                    }
                }
            }
        }
        changes
    }

    /// Lets those sessions go over to another source whose turn it is.
    fn go_over(&self, pair: &Pair, first: bool, now: Duration) {
        for (uid, entry) in self.lock().iter_mut() {
            let Some((next, since)) = &entry.next else {
                continue;
            };
            let (login_only, waited) = (next.is_same_but_login(&entry.spec), now.saturating_sub(*since));
            let (owns, peer) = (pair.standing(*uid, now).owner, pair.peer(*uid, now));
            // One that does not play has nothing to lose.
            let is_well = entry.stream.lock().is_well(now);
            if !is_well || goes_over(owns, first, peer, login_only, waited) {
                tracing::info!(stream = %entry.spec.name, owns, is_well, ?peer, ?waited, "another source");
                entry.go_over();
            }
        }
    }

    fn begin(&self, spec: &StreamSpec, settings: &Settings, prepare: &dyn Fn(&Stream)) -> Entry {
        let stream = Arc::new(Stream::new(
            spec.name.clone(),
            spec.uid,
            settings.ring,
            &self.metrics,
        ));
        stream.lock().detect_frozen(spec.detect_frozen);
        stream.ask(demand(settings.mode, Demand::Unknown));
        prepare(&stream);
        let session = supervise(Arc::clone(&stream), source(spec));
        Entry {
            spec: spec.clone(),
            stream,
            session,
            next: None,
        }
    }

    /// Ends all sessions: the process is about to exit.
    pub fn stop(&self) {
        for entry in self.lock().values_mut() {
            entry.session.abort();
            entry.next = None;
            entry.close();
        }
    }
}

/// Lets sessions go over to other sources, for ever. They go on in the runtime of this.
pub async fn follow_sources(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(PERIOD).await;
        let now = Duration::from_nanos(boottime_ns());
        let first = shared.settings().first_member == shared.member;
        shared.registry.go_over(&shared.pair, first, now);
    }
}

impl Entry {
    /// No frame follows: viewers are better off at the other member.
    fn close(&self) {
        let mut inner = self.stream.lock();
        inner.ring.close_gop();
        inner.viewers.end(End::Gone);
    }

    fn wanted(&self) -> &StreamSpec {
        self.next.as_ref().map_or(&self.spec, |(spec, _)| spec)
    }

    fn go_over(&mut self) {
        if let Some((spec, _)) = self.next.take() {
            self.session.abort();
            self.stream.lock().reconfigured();
            self.session = supervise(Arc::clone(&self.stream), source(&spec));
            self.spec = spec;
        }
    }
}

/// What to ask for at once in this mode. The rest is asked for as it is needed.
fn demand(mode: Mode, before: Demand) -> Demand {
    match (mode, before) {
        (Mode::Hot, _) => Demand::Always,
        (_, Demand::Always) => Demand::Needed,
        (_, before) => before,
    }
}

fn source(spec: &StreamSpec) -> Result<Source, Fault> {
    let source = Source::new(&spec.url, spec.username.as_deref(), spec.password())?;
    Ok(Source {
        transport: spec.transport,
        audio: spec.audio,
        ..source
    })
}
