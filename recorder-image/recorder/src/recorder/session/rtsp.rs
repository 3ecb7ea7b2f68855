//! One RTSP session with retina, from the name of the host to its last frame.

use std::future::Future;
use std::num::NonZeroU32;
use std::ops::Range;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use crds::pair::{Audio, Transport};
use futures::StreamExt;
use retina::client::{
    Credentials, Demuxed, Described, InitialSequenceNumberPolicy, InitialTimestampPolicy, PlayOptions,
    Session, SessionOptions, SetupOptions, TcpTransportOptions, UdpTransportOptions,
};
use retina::codec::{AudioFrame, CodecItem, FrameFormat, ParametersRef, VideoFrame};
use retina::rtcp::ReceivedCompoundPacket;
use segment::{AudioCodec, AudioTrack};

use super::Demand;
use super::classify::{Fault, unrecorded_tracks};
use super::clock::{Arrival, Report, ntp_to_unix_us};
use super::intake::{Intake, Parameters, Taken, Unit};
use super::sound::Heard;
use super::source::Source;
use crate::clock::boottime_ns;
use crate::recorder::stream::Stream;

/// How long each step of setting up may take.
const STEP: Duration = Duration::from_secs(5);
/// The least time without a frame after which a session is given up.
const WATCHDOG: Duration = Duration::from_secs(2);
/// The watchdog is at least this many frame intervals.
const WATCHDOG_FRAMES: u32 = 10;
/// The longest time without a frame that any rhythm can ask for.
const WATCHDOG_MOST: Duration = Duration::from_mins(1);
/// For so long no sound is asked for after a session with it that brought no frame, ...
const QUIET: Duration = Duration::from_mins(10);
/// ... or one that its sound ended.
const DEAF: Duration = Duration::from_hours(24);
/// So many errors of the sound in a row are no packets any more.
const MAX_ERRORS: u32 = 10_000;
/// A first key frame has to come within this time, or nothing can be recorded.
const FIRST_KEY_FRAME: Duration = Duration::from_mins(1);
/// A segment ends at a key frame only: if none comes for so long, which chance decides for each session since those of both members are
/// not to end together, ...
const NEXT_KEY_FRAME: Range<Duration> = Duration::from_mins(5)..Duration::from_mins(10);
/// ... and this much came since the last one, bytes, the camera is asked for one by a new session.
const LONG_GROUP: usize = 64 << 20;

/// A session that is set up and does not play.
pub struct Prepared {
    session: Session<Described>,
    tracks: Tracks,
    /// Whether sound is wanted, and whether it was asked for.
    sound: (bool, bool),
}

/// Receives the stream until the session ends; that is always a fault. Frames go to the ring of `stream`.
pub async fn receive(stream: &Stream, source: &Source, prepared: Option<Prepared>) -> Fault {
    let prepared = match prepared {
        Some(prepared) => Ok(prepared),
        None => prepare(stream, source).await,
    };
    let playing = match prepared {
        Ok(prepared) => play(stream, source, prepared).await,
        Err(fault) => Err(fault),
    };
    match playing {
        Ok((demuxed, tracks)) => Reception::new(stream, demuxed, tracks).run().await,
        Err(fault) => fault,
    }
}

/// Sets a session up.
///
/// # Errors
/// What kept it from that.
pub async fn prepare(stream: &Stream, source: &Source) -> Result<Prepared, Fault> {
    let wanted = source.audio == Audio::Record && stream.lock().may_hear(now());
    let mut asked = false;
    match set_up(source, wanted, &mut asked).await {
        Ok((session, tracks)) => Ok(Prepared {
            session,
            tracks,
            sound: (wanted, asked),
        }),
        Err(fault) => {
            suspect_sound(stream, source, asked, &fault);
            Err(fault)
        }
    }
}

/// It may be the sound that the camera is not up to; but not where it says that another member has its session yet.
fn suspect_sound(stream: &Stream, source: &Source, asked: bool, fault: &Fault) {
    let taken = matches!(fault, Fault::Status(453 | 503)) && stream.asked() != Demand::Always;
    if asked && !taken {
        let why = source.secrets.redact(&format!("{fault:?}"));
        stream.lock().deafen(now(), QUIET, &why);
    }
}

async fn play(stream: &Stream, source: &Source, prepared: Prepared) -> Result<(Demuxed, Tracks), Fault> {
    let Prepared {
        session,
        tracks,
        sound: (wanted, asked),
    } = prepared;
    say_unrecorded(stream, session.streams(), &tracks, wanted);
    let options = PlayOptions::default()
        .initial_seq(InitialSequenceNumberPolicy::Ignore)
        .initial_timestamp(InitialTimestampPolicy::Ignore);
    let playing = step("PLAY", session.play(options)).await;
    let demuxed = playing.and_then(|playing| playing.demuxed().map_err(|e| Fault::from(&e)));
    if let Err(fault) = &demuxed {
        suspect_sound(stream, source, asked, fault);
    }
    Ok((demuxed?, tracks))
}

/// This moment, on `CLOCK_BOOTTIME`.
fn now() -> Duration {
    Duration::from_nanos(boottime_ns())
}

/// The track that is recorded.
#[derive(Clone, Copy)]
struct Track {
    index: usize,
    hevc: bool,
    interval: Option<Duration>,
}

/// `wanted` says whether sound is, and `asked` then whether it was asked for.
async fn set_up(
    source: &Source,
    wanted: bool,
    asked: &mut bool,
) -> Result<(Session<Described>, Tracks), Fault> {
    resolve(source).await?;
    let options = SessionOptions::default().creds(
        source
            .credentials
            .clone()
            .map(|(username, password)| Credentials { username, password }),
    );
    let mut session = step("DESCRIBE", Session::describe(source.url.clone(), options)).await?;
    let mut tracks = choose(&session, wanted)?;
    let setup = || {
        SetupOptions::default()
            .frame_format(FrameFormat::MP4)
            .transport(transport(source))
    };
    step("SETUP", session.setup(tracks.video.index, setup())).await?;
    if let Some(index) = tracks.sound.as_ref().map(|sound| sound.index) {
        *asked = true;
        match step("SETUP", session.setup(index, setup())).await {
            // The connection is as good as before.
            Err(Fault::Status(status)) => {
                tracing::warn!(camera = %source.address, status, "the camera does not give its sound");
                tracks.sound = None;
            }
            other => other?,
        }
    }
    Ok((session, tracks))
}

fn transport(source: &Source) -> retina::client::Transport {
    match source.transport {
        Transport::Tcp => retina::client::Transport::Tcp(TcpTransportOptions::default()),
        Transport::Udp => retina::client::Transport::Udp(UdpTransportOptions::default()),
    }
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

/// The first H.264 or H.265 track, and the first of sound that can be recorded beside it.
fn choose(session: &Session<Described>, with_sound: bool) -> Result<Tracks, Fault> {
    let tracks = session.streams();
    let video: Vec<_> = (0..tracks.len())
        .filter(|i| tracks[*i].media() == "video")
        .collect();
    let supported = |i: &&usize| matches!(tracks[**i].encoding_name(), "h264" | "h265");
    let Some(&index) = video.iter().find(supported) else {
        return Err(video.first().map_or_else(
            || Fault::NoVideo((0..tracks.len()).map(|i| name(&tracks[i])).collect()),
            |i| Fault::Codec(tracks[*i].encoding_name().to_owned()),
        ));
    };
    let interval = tracks[index]
        .framerate()
        .filter(|f| *f >= 0.1)
        .map(|f| Duration::from_secs_f32(1.0 / f));
    let sound = tracks
        .iter()
        .enumerate()
        .filter(|_| with_sound)
        .find_map(|(index, track)| {
            Some(SoundTrack {
                index,
                track: sound(track)?,
            })
        });
    Ok(Tracks {
        video: Track {
            index,
            hevc: tracks[index].encoding_name() == "h265",
            interval,
        },
        sound,
    })
}

fn name(track: &retina::client::Stream) -> String {
    format!("{}/{}", track.media(), track.encoding_name())
}

/// The tracks that are not recorded, though they are wanted, are said aloud.
fn say_unrecorded(stream: &Stream, all: &[retina::client::Stream], tracks: &Tracks, with_sound: bool) {
    let recorded = |i: usize| i == tracks.video.index || tracks.sound.as_ref().is_some_and(|s| s.index == i);
    let others: Vec<_> = all
        .iter()
        .enumerate()
        .filter(|(i, track)| !recorded(*i) && (track.media() != "audio" || with_sound))
        .map(|(_, track)| name(track))
        .collect();
    let warning = (!others.is_empty()).then(|| unrecorded_tracks(&stream.name, &others));
    if let Some(w) = &warning {
        tracing::warn!(stream = %stream.name, "{}", w.message);
    }
    stream.lock().set_warning(warning);
}

/// AAC, or G.711, as it is written; `None` if it is something else, or its parameters are not known beforehand.
fn sound(track: &retina::client::Stream) -> Option<AudioTrack> {
    let Some(ParametersRef::Audio(parameters)) = track.parameters() else {
        return None;
    };
    let codec = match track.encoding_name() {
        "mpeg4-generic" => AudioCodec::Aac,
        "pcmu" => AudioCodec::Pcmu,
        "pcma" => AudioCodec::Pcma,
        _ => return None,
    };
    let audio = segment::Audio {
        codec,
        rate: parameters.clock_rate(),
        channels: parameters.channels().get(),
    };
    let made = match codec {
        AudioCodec::Aac if track.clock_rate_hz() == audio.rate => {
            AudioTrack::new(audio, parameters.mp4_sample_entry().build().ok()?.into())
        }
        AudioCodec::Aac => return None,
        AudioCodec::Pcmu | AudioCodec::Pcma => AudioTrack::g711(audio),
    };
    made.ok()
}

/// The tracks of a session that are recorded.
struct Tracks {
    video: Track,
    sound: Option<SoundTrack>,
}

struct SoundTrack {
    index: usize,
    track: AudioTrack,
}

/// A session that plays.
struct Reception<'a> {
    stream: &'a Stream,
    demuxed: Demuxed,
    track: Track,
    /// The index of the track of sound, and how an error names it.
    sound: Option<(usize, String)>,
    /// The newest error of it, if nothing came since, and how many there were since then.
    unheard: Option<(String, u32)>,
    errors: u64,
    intake: Intake,
    last_frame: Instant,
    group: Group,
}

/// The group of pictures that lasts, or the wait for the first one.
struct Group {
    began: Instant,
    /// Whether it began with a key frame that is recorded.
    recorded: bool,
    frames: u64,
    bytes: usize,
    /// For how long it may last, if it is large.
    limit: Duration,
}

impl Group {
    /// The wait for the first one; each may last until `limit`.
    fn awaited(limit: Duration) -> Self {
        Self {
            began: Instant::now(),
            recorded: false,
            frames: 0,
            bytes: 0,
            limit,
        }
    }

    /// A frame of so many bytes came.
    fn frame(&mut self, taken: Taken, bytes: usize) {
        if let Taken::Frame { key } = taken {
            if key {
                *self = Self::awaited(self.limit);
            }
            self.recorded = true;
        }
        self.frames += 1;
        self.bytes += bytes;
    }

    /// Whether the next key frame is late: nothing can be recorded without a first one, and what has no second fits into no file.
    fn lasts_too_long(&self) -> bool {
        let lasted = self.began.elapsed();
        if self.recorded {
            self.bytes > LONG_GROUP && lasted > self.limit
        } else {
            lasted > FIRST_KEY_FRAME
        }
    }
}

impl<'a> Reception<'a> {
    fn new(stream: &'a Stream, demuxed: Demuxed, tracks: Tracks) -> Self {
        let intake = Intake::new(tracks.video.hevc);
        let context = |index: usize| demuxed.streams()[index].ctx().map(ToString::to_string);
        let sound = tracks
            .sound
            .as_ref()
            .map(|sound| (sound.index, context(sound.index)));
        Self {
            stream,
            track: tracks.video,
            sound: sound.and_then(|(index, context)| Some((index, context?))),
            unheard: None,
            errors: 0,
            intake: match tracks.sound {
                Some(sound) => intake.with_sound(sound.track),
                None => intake,
            },
            demuxed,
            last_frame: Instant::now(),
            group: Group::awaited(rand::random_range(NEXT_KEY_FRAME)),
        }
    }

    async fn run(mut self) -> Fault {
        let fault = self.receive().await;
        if let Some((why, _)) = self.unheard.take() {
            // The library ends a session over some packets of sound. That is worth one reconnect, and no second.
            self.stream.lock().deafen(now(), DEAF, &why);
            return Fault::Rtsp(format!("a packet of its sound: {why}"));
        }
        if self.sound.is_some() && !self.group.recorded {
            self.stream
                .lock()
                .deafen(now(), QUIET, "no frame came in a session with it");
        }
        fault
    }

    async fn receive(&mut self) -> Fault {
        loop {
            let limit = self.watchdog();
            let deadline = tokio::time::Instant::from_std(self.last_frame + limit);
            let item = match tokio::time::timeout_at(deadline, self.demuxed.next()).await {
                Err(_) => return Fault::Watchdog(limit.as_millis() as u64),
                Ok(None) => return Fault::Ended,
                Ok(Some(Err(e))) if self.is_of_sound(&e) => continue,
                Ok(Some(Err(e))) => return Fault::from(&e),
                Ok(Some(Ok(item))) => item,
            };
            self.unheard = None;
            match item {
                CodecItem::VideoFrame(frame) if frame.stream_id() == self.track.index => self.video(frame),
                CodecItem::Rtcp(packet) if packet.stream_id() == self.track.index => self.rtcp(&packet),
                CodecItem::AudioFrame(frame) => self.heard(&frame),
                _ => {}
            }
            if self.group.lasts_too_long() {
                return Fault::NoKeyFrame(self.group.frames);
            }
        }
    }

    /// Whether an error is of the sound alone: the session goes on, unless the library ends it.
    fn is_of_sound(&mut self, error: &retina::Error) -> bool {
        let Some((_, context)) = &self.sound else {
            return false;
        };
        let text = error.to_string();
        // The library tells of which track an error is in its words only.
        if !text
            .lines()
            .any(|line| line.strip_prefix("stream: ") == Some(context))
        {
            return false;
        }
        self.errors += 1;
        let why = text.lines().next().unwrap_or_default().to_owned();
        let in_a_row = self.unheard.as_ref().map_or(0, |(_, before)| *before) + 1;
        if self.errors.is_power_of_two() {
            tracing::warn!(stream = %self.stream.name, errors = self.errors, "a packet of sound cannot be read: {why}");
        }
        self.unheard = Some((why, in_a_row));
        in_a_row < MAX_ERRORS
    }

    fn heard(&mut self, frame: &AudioFrame) {
        let data = Bytes::copy_from_slice(frame.data());
        let duration = match self.demuxed.streams()[frame.stream_id()].parameters() {
            // The library counts samples of all channels.
            Some(ParametersRef::Audio(p)) if p.frame_length().is_none() => {
                frame.frame_length().get() / u32::from(p.channels().get())
            }
            _ => frame.frame_length().get(),
        };
        self.intake.heard(Heard {
            data,
            rtp: frame.timestamp().timestamp(),
            duration,
            mono_us: monotonic_us(frame.ctx().received()),
        });
    }

    fn watchdog(&self) -> Duration {
        let interval = self.intake.interval().or(self.track.interval).unwrap_or_default();
        (interval * WATCHDOG_FRAMES).clamp(WATCHDOG, WATCHDOG_MOST)
    }

    fn video(&mut self, frame: VideoFrame) {
        if frame.has_new_parameters() || !self.intake.has_parameters() {
            self.learn_parameters();
        }
        let bytes = frame.data().len();
        self.stream.count(bytes);
        let at = arrival(frame.timestamp(), frame.end_ctx());
        let lost = frame.loss();
        let received = Duration::from_nanos(boottime_ns());
        let unit = Unit {
            data: Bytes::from(frame.into_data()),
            arrival: at,
            lost,
            received,
        };
        super::poison::taste(&self.stream.name);
        let mut inner = self.stream.lock();
        let taken = self.intake.unit(unit, &mut inner);
        match taken {
            Taken::Frame { .. } => inner.receiving(),
            Taken::TooEarly => {}
            Taken::Refused => {
                // It proves nothing: a camera that sends nothing else is to be given up like a silent one.
                self.stream.counters.refused(&self.stream.name);
                inner.refused(received);
                return;
            }
        }
        self.group.frame(taken, bytes);
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
        late_us: 0,
    }
}

/// Microseconds since the first call.
fn monotonic_us(at: Instant) -> i64 {
    static ORIGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    at.saturating_duration_since(*ORIGIN.get_or_init(|| at))
        .as_micros() as i64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_group_without_an_end_ends_its_session_if_it_is_large_and_old() {
        let patient = Duration::from_hours(1);
        for (limit, mib, endless) in [
            (Duration::ZERO, 65, true),
            (Duration::ZERO, 63, false),
            (patient, 65, false),
        ] {
            let mut group = Group::awaited(limit);
            group.frame(Taken::Frame { key: true }, 1000);
            (0..mib).for_each(|_| group.frame(Taken::Frame { key: false }, 1 << 20));
            std::thread::sleep(Duration::from_millis(1));
            assert_eq!(
                (group.lasts_too_long(), group.frames),
                (endless, mib + 1),
                "{limit:?} {mib}"
            );
            group.frame(Taken::Frame { key: true }, 1000);
            assert_eq!((group.lasts_too_long(), group.frames), (false, 1));
        }
    }

    #[test]
    fn the_first_key_frame_is_awaited_for_a_minute_however_little_comes() {
        let mut group = Group::awaited(Duration::ZERO);
        group.frame(Taken::TooEarly, 65 << 20);
        assert!(!group.lasts_too_long());
        group.began = Instant::now().checked_sub(FIRST_KEY_FRAME).unwrap();
        assert!(group.lasts_too_long());
        group.frame(Taken::Frame { key: true }, 1000);
        assert!(!group.lasts_too_long());
    }
}
