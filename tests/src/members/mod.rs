//! Two members as plain processes on loopback, without a cluster: recorder and replicator twice, with real certificates
//! and a rendered configuration, and nobody to arbitrate, so that both record (I7).

mod arbiter;
mod member;
mod pki;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crds::Secret;
use crds::member::{
    FailoverConfig, MemberAddress, PairIdentity, RenderedConfig, ReplicationConfig, RetentionConfig,
    RingConfig, SegmentConfig, StreamConfig, TakeOutcome,
};
use crds::pair::{Audio, Mode, Transport};
use tempfile::TempDir;
use uuid::Uuid;

use self::arbiter::Arbiter;
use crate::api::MemberApi;
use crate::cameras::Cameras;
use crate::judge::{Watched, watched};
use crate::report::Operator;
use crate::wait::until;

pub use member::{Member, Program};

/// The name of the pair.
const NAME: &str = "front";
/// The token of viewers.
pub const TOKEN: &str = "viewer-token-of-the-tests";
/// How long two members may take until they record.
const UP: Duration = Duration::from_secs(30);

/// Both members and what they share. They end with this value.
pub struct Pair {
    /// The members.
    pub members: [Member; 2],
    /// What both are told.
    pub config: RenderedConfig,
    operator: Operator,
    arbiter: Option<Arbiter>,
    folder: Option<TempDir>,
}

impl Pair {
    /// Makes folders, certificates and ports for two members that record these cameras; starts nothing.
    pub fn prepare(cameras: &Cameras) -> Result<Self> {
        let folder = TempDir::with_prefix("gapless-")?;
        let mut pair = Self::prepare_in(folder.path(), cameras)?;
        pair.folder = Some(folder);
        Ok(pair)
    }

    /// As [`Pair::prepare`], in a folder of the caller's. Volumes may be mounted there before: [`Pair::volumes_in`].
    pub fn prepare_in(folder: &Path, cameras: &Cameras) -> Result<Self> {
        let uid = Uuid::new_v4().to_string();
        let authority = pki::Authority::new()?;
        let names = crds::names::members(NAME);
        let members = [0, 1].map(|i| Member::prepare(folder, &names[i], &authority, &uid));
        let [first, second] = members;
        let members = [first?, second?];
        let config = rendered(&members, uid.clone(), cameras);
        let identity = authority.issue(&crds::names::operator_uri(&uid))?;
        let operator = Operator::new(identity.certificate.as_bytes(), identity.key.as_bytes())?;
        let pair = Self {
            members,
            config,
            operator,
            arbiter: None,
            folder: None,
        };
        pair.write_config()?;
        Ok(pair)
    }

    /// Where both members' volumes are, or will be.
    pub fn volumes_in(folder: &Path) -> [PathBuf; 2] {
        crds::names::members(NAME).map(|name| member::media_in(&folder.join(name)))
    }

    /// Lets one of the members be primary, as on a cluster: gives both somebody to ask for the Lease. To be called before they
    /// are started; without it nobody holds authority, and both record (I7).
    pub async fn arbitrate(&mut self, folder: &Path) -> Result<()> {
        let arbiter = Arbiter::start(folder, &self.config).await?;
        for member in &mut self.members {
            member.set_kubeconfig(arbiter.kubeconfig());
        }
        self.arbiter = Some(arbiter);
        Ok(())
    }

    /// [`Pair::prepare`], then starts all four programs and waits until both members receive every stream.
    pub async fn start(cameras: &Cameras) -> Result<Self> {
        Self::start_with(cameras, |_| {}).await
    }

    /// [`Pair::start`] with streams that are configured otherwise.
    pub async fn start_with(cameras: &Cameras, configure: impl Fn(&mut StreamConfig)) -> Result<Self> {
        let mut pair = Self::prepare(cameras)?;
        pair.config.streams.iter_mut().for_each(configure);
        pair.write_config()?;
        pair.start_all()?;
        pair.receiving().await?;
        Ok(pair)
    }

    /// Starts whatever does not run.
    pub fn start_all(&mut self) -> Result<()> {
        for member in &mut self.members {
            member.start(Program::Recorder)?;
            member.start(Program::Replicator)?;
        }
        Ok(())
    }

    /// Gives both members the configuration, as a kubelet does: by a rename.
    pub fn write_config(&self) -> Result<()> {
        self.members
            .iter()
            .try_for_each(|member| member.write_config(&self.config))
    }

    /// The streams and their cameras.
    pub fn watched(&self) -> Vec<Watched> {
        watched(self.config.streams.len())
    }

    /// Names of the streams.
    pub fn stream_names(&self) -> Vec<String> {
        self.config
            .streams
            .iter()
            .map(|stream| stream.name.clone())
            .collect()
    }

    /// Both members' APIs.
    pub fn apis(&self) -> [MemberApi; 2] {
        [self.members[0].api(), self.members[1].api()]
    }

    /// Waits until both members receive every stream.
    pub async fn receiving(&self) -> Result<()> {
        let names = self.stream_names();
        for member in &self.members {
            until(
                &format!("{} receives every stream", member.name()),
                UP,
                async || {
                    let streams = member.api().streams().await?;
                    let receiving = streams.iter().filter(|info| info.state == "receiving").count();
                    Ok((receiving == names.len()).then_some(()))
                },
            )
            .await?;
        }
        Ok(())
    }

    /// What a replicator says of its member.
    pub async fn report(&self, member: usize) -> Result<crds::member::MemberReport> {
        self.operator
            .report(&self.members[member].control_address())
            .await
    }

    /// Tells a standby to take over, as the operator does in a switchover: again, where it cannot at the moment.
    pub async fn switch_over(&self, to: usize) -> Result<()> {
        let epoch = self.report(to).await?.epoch;
        let address = self.members[to].control_address();
        until("the order is accepted", UP, async || {
            let outcome = self.operator.switch_over(&address, epoch).await?;
            ensure!(outcome == TakeOutcome::Accepted, "{outcome:?}");
            Ok(Some(()))
        })
        .await
    }

    /// Waits until both members are connected and lack nothing older than the live media.
    pub async fn caught_up(&self, limit: Duration) -> Result<()> {
        for index in 0..2 {
            until(
                &format!("{} has caught up", self.members[index].name()),
                limit,
                async || {
                    let replication = self.report(index).await?.replication;
                    let done = replication.connected && replication.backfill_bytes == 0;
                    done.then_some(Some(()))
                        .with_context(|| format!("{replication:?}"))
                },
            )
            .await?;
        }
        Ok(())
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(folder) = self.folder.take()
        {
            let path: PathBuf = folder.keep();
            eprintln!("volumes and logs are kept in {}", path.display());
        }
    }
}

fn rendered(members: &[Member; 2], uid: String, cameras: &Cameras) -> RenderedConfig {
    let stream = |camera: usize| StreamConfig {
        name: format!("cam-{camera}"),
        uid: Uuid::new_v4(),
        url: cameras.url(camera),
        username: None,
        password: None,
        detect_frozen: false,
        transport: Transport::default(),
        audio: Audio::default(),
    };
    RenderedConfig {
        version: RenderedConfig::VERSION,
        pair: PairIdentity {
            namespace: "cams".to_owned(),
            name: NAME.to_owned(),
            uid,
        },
        lease: crds::names::lease(NAME),
        primary_slice: crds::names::primary_service(NAME),
        members: members
            .iter()
            .map(|member| MemberAddress {
                name: member.name().to_owned(),
                peer: member.peer_address(),
            })
            .collect(),
        streams: (0..cameras.streams()).map(stream).collect(),
        segment: SegmentConfig { target_ms: 3_000 },
        ring: RingConfig {
            preroll_ms: 10_000,
            max_bytes_per_stream: 32 << 20,
        },
        failover: FailoverConfig {
            leash_ms: 600,
            suspect_after_ms: 150,
            lease_duration_seconds: 4,
            stream_failback_ms: Some(60_000),
        },
        standby_mode: Mode::default(),
        retention: RetentionConfig {
            min_age_seconds: 3_600,
            max_age_seconds: None,
            max_bytes: None,
        },
        replication: ReplicationConfig::default(),
    }
}

/// Gives a configured stream a login.
pub fn with_login(stream: &mut StreamConfig, user: &str, password: &str) {
    stream.username = Some(user.to_owned());
    stream.password = Some(Secret::new(password));
}
