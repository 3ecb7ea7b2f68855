//! One RTSP session with retina, from the name of the host to its last frame.

use std::future::Future;
use std::num::NonZeroU32;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures::StreamExt;
use retina::client::{
    Credentials, Demuxed, Described, InitialSequenceNumberPolicy, InitialTimestampPolicy, PlayOptions,
    Session, SessionOptions, SetupOptions,
};
use retina::codec::{CodecItem, FrameFormat, ParametersRef, VideoFrame};
use retina::rtcp::ReceivedCompoundPacket;

use super::classify::{Fault, unrecorded_tracks};
use super::clock::{Arrival, Report, ntp_to_unix_us};
use super::intake::{Intake, Parameters, Taken, Unit};
use super::source::Source;
use crate::local::boottime_ns;
use crate::recorder::stream::Stream;

/// How long each step of setting up may take.
const STEP: Duration = Duration::from_secs(5);
/// The least time without a frame after which a session is given up.
const WATCHDOG: Duration = Duration::from_secs(2);
/// The watchdog is at least this many frame intervals.
const WATCHDOG_FRAMES: u32 = 10;
/// The longest time without a frame that any rhythm can ask for.
const WATCHDOG_MOST: Duration = Duration::from_mins(1);
/// A key frame has to come within this time, or nothing can be recorded.
const KEY_FRAME: Duration = Duration::from_mins(1);

/// Receives the stream until the session ends; that is always a fault. Frames go to the ring of `stream`.
pub async fn receive(stream: &Stream, source: &Source) -> Fault {
    match set_up(stream, source).await {
        Ok((demuxed, track)) => Reception::new(stream, demuxed, track).run().await,
        Err(fault) => fault,
    }
}

/// The track that is recorded.
#[derive(Clone, Copy)]
struct Track {
    index: usize,
    hevc: bool,
    interval: Option<Duration>,
}

async fn set_up(stream: &Stream, source: &Source) -> Result<(Demuxed, Track), Fault> {
    resolve(source).await?;
    let options = SessionOptions::default().creds(
        source
            .credentials
            .clone()
            .map(|(username, password)| Credentials { username, password }),
    );
    let mut session = step("DESCRIBE", Session::describe(source.url.clone(), options)).await?;
    let track = choose(stream, &session)?;
    let setup = SetupOptions::default().frame_format(FrameFormat::MP4);
    step("SETUP", session.setup(track.index, setup)).await?;
    let play = PlayOptions::default()
        .initial_seq(InitialSequenceNumberPolicy::Ignore)
        .initial_timestamp(InitialTimestampPolicy::Ignore);
    let playing = step("PLAY", session.play(play)).await?;
    let demuxed = playing.demuxed().map_err(|e| Fault::from(&e))?;
    Ok((demuxed, track))
}

async fn step<T>(
    name: &'static str,
    what: impl Future<Output = Result<T, retina::Error>>,
) -> Result<T, Fault> {
    match tokio::time::timeout(STEP, what).await {
        Ok(result) => result.map_err(|e| Fault::from(&e)),
        Err(_) => Err(Fault::SetupTimeout(name)),
    }
}

/// Resolves the host by itself first, because the library does not tell a wrong name from a dead camera.
async fn resolve(source: &Source) -> Result<(), Fault> {
    let Some(url::Host::Domain(name)) = source.url.host() else {
        return Ok(());
    };
    let lookup = tokio::net::lookup_host((name, source.url.port().unwrap_or(554)));
    match tokio::time::timeout(STEP, lookup).await {
        Err(_) => Err(Fault::Dns("no answer in time".into())),
        Ok(Err(e)) => Err(Fault::Dns(e.to_string())),
        Ok(Ok(mut addresses)) => addresses
            .next()
            .map(|_| ())
            .ok_or_else(|| Fault::Dns("no address".into())),
    }
}

/// The first H.264 or H.265 track. The tracks that are not recorded are said aloud.
fn choose(stream: &Stream, session: &Session<Described>) -> Result<Track, Fault> {
    let tracks = session.streams();
    let name = |i: usize| format!("{}/{}", tracks[i].media(), tracks[i].encoding_name());
    let video: Vec<_> = (0..tracks.len())
        .filter(|i| tracks[*i].media() == "video")
        .collect();
    let supported = |i: &&usize| matches!(tracks[**i].encoding_name(), "h264" | "h265");
    let Some(&index) = video.iter().find(supported) else {
        return Err(video.first().map_or_else(
            || Fault::NoVideo((0..tracks.len()).map(name).collect()),
            |i| Fault::Codec(tracks[*i].encoding_name().to_owned()),
        ));
    };
    let others: Vec<_> = (0..tracks.len()).filter(|i| *i != index).map(name).collect();
    let warning = (!others.is_empty()).then(|| unrecorded_tracks(&stream.name, &others));
    if let Some(w) = &warning {
        tracing::warn!(stream = %stream.name, "{}", w.message);
    }
    stream.lock().set_warning(warning);
    let interval = tracks[index]
        .framerate()
        .filter(|f| *f >= 0.1)
        .map(|f| Duration::from_secs_f32(1.0 / f));
    Ok(Track {
        index,
        hevc: tracks[index].encoding_name() == "h265",
        interval,
    })
}

/// A session that plays.
struct Reception<'a> {
    stream: &'a Stream,
    demuxed: Demuxed,
    track: Track,
    intake: Intake,
    began: Instant,
    last_frame: Instant,
    recorded: bool,
}

impl<'a> Reception<'a> {
    fn new(stream: &'a Stream, demuxed: Demuxed, track: Track) -> Self {
        let now = Instant::now();
        let intake = Intake::new(track.hevc);
        Self {
            stream,
            demuxed,
            track,
            intake,
            began: now,
            last_frame: now,
            recorded: false,
        }
    }

    async fn run(mut self) -> Fault {
        loop {
            let limit = self.watchdog();
            let deadline = tokio::time::Instant::from_std(self.last_frame + limit);
            let item = match tokio::time::timeout_at(deadline, self.demuxed.next()).await {
                Err(_) => return Fault::Watchdog(limit.as_millis() as u64),
                Ok(None) => return Fault::Ended,
                Ok(Some(Err(e))) => return Fault::from(&e),
                Ok(Some(Ok(item))) => item,
            };
            match item {
                CodecItem::VideoFrame(frame) if frame.stream_id() == self.track.index => self.video(frame),
                CodecItem::Rtcp(packet) if packet.stream_id() == self.track.index => self.rtcp(&packet),
                _ => {}
            }
            if !self.recorded && self.began.elapsed() > KEY_FRAME {
                return Fault::NoKeyFrame(self.intake.waiting());
            }
        }
    }

    fn watchdog(&self) -> Duration {
        let interval = self.intake.interval().or(self.track.interval).unwrap_or_default();
        (interval * WATCHDOG_FRAMES).clamp(WATCHDOG, WATCHDOG_MOST)
    }

    fn video(&mut self, frame: VideoFrame) {
        if frame.has_new_parameters() || !self.intake.has_parameters() {
            self.learn_parameters();
        }
        self.stream.count(frame.data().len());
        let at = arrival(frame.timestamp(), frame.end_ctx());
        let lost = frame.loss();
        let received = Duration::from_nanos(boottime_ns());
        let unit = Unit {
            data: Bytes::from(frame.into_data()),
            arrival: at,
            lost,
            received,
        };
        let mut inner = self.stream.lock();
        match self.intake.unit(unit, &mut inner) {
            Taken::Frame => {
                self.recorded = true;
                inner.receiving();
            }
            Taken::TooEarly => {}
            Taken::Refused => {
                // It proves nothing: a camera that sends nothing else is to be given up like a silent one.
                self.stream.counters.refused(&self.stream.name);
                inner.refused(received);
                return;
            }
        }
        self.last_frame = Instant::now();
    }

    fn learn_parameters(&mut self) {
        let Some(ParametersRef::Video(p)) = self.demuxed.streams()[self.track.index].parameters() else {
            return;
        };
        let (width, height) = p.pixel_dimensions();
        match p.mp4_sample_entry().build() {
            Ok(entry) => self.intake.parameters(Parameters {
                sample_entry: entry.into(),
                width: u16::try_from(width).unwrap_or(u16::MAX),
                height: u16::try_from(height).unwrap_or(u16::MAX),
            }),
            Err(e) => tracing::warn!(stream = %self.stream.name, error = %e, "parameter sets cannot be used"),
        }
    }

    fn rtcp(&mut self, packet: &ReceivedCompoundPacket) {
        let Some(rtp) = packet.rtp_timestamp() else { return };
        let Some(Ok(Some(report))) = packet
            .pkts()
            .next()
            .map(retina::rtcp::PacketRef::as_sender_report)
        else {
            return;
        };
        let wall_us = ntp_to_unix_us(report.ntp_timestamp().0);
        let now = arrival(rtp, packet.ctx());
        let report = Report {
            rtp: rtp.timestamp(),
            wall_us,
        };
        self.intake.report(report, now, &mut self.stream.lock());
    }
}

fn arrival(at: retina::Timestamp, ctx: &retina::PacketContext) -> Arrival {
    let rate: NonZeroU32 = at.clock_rate();
    Arrival {
        rtp: at.timestamp(),
        rate: rate.get(),
        own_us: crate::clock::wall_at(SystemTime::from(ctx.received_wall())),
        mono_us: monotonic_us(ctx.received()),
    }
}

/// Microseconds since the first call.
fn monotonic_us(at: Instant) -> i64 {
    static ORIGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    at.saturating_duration_since(*ORIGIN.get_or_init(|| at))
        .as_micros() as i64
}
