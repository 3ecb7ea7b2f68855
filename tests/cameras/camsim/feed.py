"""The ticker: one thread that pushes a stamped access unit to every camera, 25 times a second.

The frame counter is the number of the tick: all cameras share it and it never wraps. It begins at the frames since
1970, so that a simulator that is started again repeats no number. A camera that is frozen or off is not pushed to, and
one with a variable rate not at every tick, so its pushed counters are a list of spans, which is what an oracle compares
a recording with. Counters are in the order of decoding, which is that of sending.
"""

import functools
import math
import struct
import threading
import time
from dataclasses import dataclass, field

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
from gi.repository import Gst, GstApp  # noqa: E402, F401  (GstApp gives appsrc its methods)

from . import clip, kinds, loss  # noqa: E402

INTERVAL_NS = 1_000_000_000 // kinds.FPS
# A queue this long is never reached while the server runs: a frame that leaks from it is a starved simulator.
QUEUE_FRAMES = 50
# A tick this late no longer looks like a camera.
LATE_NS = 500_000_000
# Each further encode of a camera has its key frames so many frames earlier.
SHIFT = 7


@functools.cache
def tone(rate: int) -> bytes:
    """A whole number of waves that lasts one frame, 16 bit samples."""
    count = rate // kinds.FPS
    samples = [round(8000 * math.sin(2 * math.pi * 16 * n / count)) for n in range(count)]
    return struct.pack(f"<{count}h", *samples)


@dataclass
class Medium:
    """One live pipeline of a camera: all sessions share one, or each has its own."""

    source: object  # its appsrc
    units: list[clip.AccessUnit]
    shift: int = 0
    session: int = 0  # of how many the camera had before
    waits: bool = False  # prepared, but its session does not play yet
    client: str = ""  # the address that its session plays to
    stays: bool = False  # wants its pictures not to change
    group: int | None = None  # the place of the group that it shows again and again
    repeats_ns: int | None = None  # when it showed the first picture of it again
    base: tuple[int, int] | None = None  # (counter, running time) of the first frame
    sound: object = None  # the appsrc of its sound

    def counter_at(self, pts: int) -> int:
        """The counter of the frame that is shown at a running time; without B-frames."""
        return self.base[0] + round((pts - self.base[1]) / INTERVAL_NS)

    def place_at(self, place: int, gop: int) -> int:
        """What it shows at a place of the clip. It begins and ceases to repeat itself with a key frame."""
        if place % gop == 0 and self.stays != (self.group is not None):
            self.group, self.repeats_ns = place if self.stays else None, None
        if self.group is None:
            return place
        if place - self.group >= gop and self.repeats_ns is None:
            self.repeats_ns = time.time_ns()
        return self.group + (place - self.group) % gop


def is_full(medium: Medium) -> bool:
    """Whether a frame leaks from its queue with the next one."""
    return medium.source.get_current_level_buffers() >= QUEUE_FRAMES


@dataclass
class Camera:
    """One camera: where its frames go, and which were pushed."""

    number: int
    kind: kinds.Kind
    clips: list[list[clip.AccessUnit]]
    frozen: bool = False
    media: list[Medium] = field(default_factory=list)
    spans: list[dict] = field(default_factory=list)
    leaked: int = 0
    sessions: int = 0
    restarts: int = 0
    sent: int = 0
    refused: int = 0  # sessions, because another client had the only one
    losses: loss.Losses = field(default_factory=loss.Losses)
    transports: list[str] = field(default_factory=list)  # of each SETUP, the newest last

    @property
    def delay(self) -> int:
        """How many frames a picture is sent after its time at most: the encoder waits for later ones."""
        return self.kind.bframes + 1 if self.kind.bframes else 0

    def attach(self, source) -> None:
        encode = (self.restarts if len(self.kind.sizes) > 1 else self.sessions) % len(self.clips)
        medium = Medium(source, self.clips[encode], SHIFT * encode, self.sessions, waits=self.kind.own)
        if self.kind.audio:
            medium.sound = source.get_parent().get_by_name("sound")
        if self.kind.broken:
            loss.unmark(source.get_parent().get_by_name("pay1").get_static_pad("src"))
        self.sessions += 1
        self.media = [*self.media, medium] if self.kind.own else [medium]
        self.losses.watch(source, medium)

    def detach(self, source) -> None:
        self.media = [medium for medium in self.media if medium.source is not source]

    def plays(self, source, client: str) -> None:
        """The session of this medium plays to an address."""
        for medium in self.media:
            if medium.source is source:
                medium.waits, medium.client = False, client

    def still(self, client: str, stays: bool) -> None:
        """What this client gets shows one group of pictures again and again, or moves again."""
        media = [medium for medium in self.media if medium.client == client]
        if not self.kind.own or not media:
            raise ValueError(f"nobody at {client} has a medium of its own, {[m.client for m in self.media]} have")
        for medium in media:
            medium.stays = stays

    def set_up(self, transport: str) -> None:
        """A client wants this transport (RFC 2326, 12.39)."""
        self.transports = [*self.transports[-99:], transport]

    def note(self, counter: int, now_ns: int) -> None:
        """Extends the last span of pushed counters, or begins one."""
        last = self.spans[-1] if self.spans else None
        if last is None or last["last"] + 1 != counter:
            last = {"first": counter, "firstNs": now_ns}
            self.spans.append(last)
        last["last"], last["lastNs"] = counter, now_ns


class Feed:
    """All cameras and the thread that feeds them."""

    def __init__(self, wanted: list[kinds.Kind], clips: dict[str, list[list[clip.AccessUnit]]]):
        self.cameras = [Camera(i, kind, clips[kind.name]) for i, kind in enumerate(wanted)]
        self.lock = threading.Lock()
        self.first = self.counter = int(time.time() * kinds.FPS)
        self.late_max_ns = 0
        self.late_ticks = 0

    def start(self) -> None:
        threading.Thread(target=self._run, name="ticker", daemon=True).start()

    def _run(self) -> None:
        start = time.monotonic_ns()
        while True:
            late = self._late(start)
            if late < 0:
                time.sleep(-late / 1e9)
                late = self._late(start)
            with self.lock:
                self.late_max_ns = max(self.late_max_ns, late)
                self.late_ticks += late > LATE_NS
                for camera in self.cameras:
                    if not camera.frozen and camera.kind.sends(self.counter):
                        self._feed(camera)
                self.counter += 1

    def _late(self, start: int) -> int:
        return time.monotonic_ns() - start - (self.counter - self.first) * INTERVAL_NS

    def _feed(self, camera: Camera) -> None:
        now_ns = time.time_ns()
        # Each camera starts elsewhere in the clip, so that no two show the same or have their key frames together.
        place = (camera.sent if camera.kind.varies else self.counter) + 178 * camera.number
        # A client that does not read fills the queue of its own medium: the simulator is starved only if all are full.
        camera.leaked += bool(camera.media) and all(map(is_full, camera.media))
        if [self._push(camera, medium, place, now_ns) for medium in camera.media].count(True):
            camera.note(self.counter, now_ns)
            camera.sent += 1

    def _push(self, camera: Camera, medium: Medium, place: int, now_ns: int) -> bool:
        clock, counter = medium.source.get_clock(), self.counter
        # Not yet prepared. It has its clock a moment before its base time: a frame that counts from zero would be sent in a day.
        if clock is None or medium.source.get_base_time() == 0:
            return False
        codec, units = clip.CODECS[camera.kind.codec], medium.units
        place = medium.place_at(place + medium.shift, camera.kind.gop)
        unit = units[place % len(units)]
        head = unit.head
        first = medium.base is None
        if first:
            medium.base = (counter, clock.get_time() - medium.source.get_base_time())
            head = units[0].head  # parameter sets before the first unit, or preparing waits for a key frame
        early = unit.shown - place % len(units) - camera.delay
        time_ns = medium.base[1] + (counter - medium.base[0] + early) * INTERVAL_NS
        # A medium of one session's own is prepared with parameter sets alone: a frame would be old when it plays. So is
        # one whose first pictures belong before its time: a buffer has no time below zero, so they would share one.
        waits = medium.waits or time_ns < 0
        if waits and not first:
            return False
        frame = b"" if waits else clip.stamp(codec, camera.number, counter, now_ns) + unit.slices
        buffer = Gst.Buffer.new_wrapped(head + frame)
        buffer.pts, buffer.dts = max(time_ns, 0), Gst.CLOCK_TIME_NONE
        medium.source.push_buffer(buffer)
        if medium.sound is not None:
            sound = Gst.Buffer.new_wrapped(tone(kinds.RATES[camera.kind.audio]))
            sound.pts, sound.duration = buffer.pts, INTERVAL_NS
            medium.sound.push_buffer(sound)
        return not waits

    def mark(self) -> None:
        """Forgets lateness and leaks so far: from here on they count. Called when every medium is warm."""
        with self.lock:
            self.late_max_ns = self.late_ticks = 0
            for camera in self.cameras:
                camera.leaked = 0

    def state(self) -> dict:
        """What was pushed to whom, and how late."""
        with self.lock:
            cameras = [
                {"camera": c.number, "kind": c.kind.name, "path": path(c.number), "frozen": c.frozen,
                 "on": bool(c.media), "leaked": c.leaked, "spans": [dict(span) for span in c.spans],
                 "dropped": sorted(c.losses.dropped), "transports": c.transports, "refused": c.refused,
                 "repeatsNs": next((m.repeats_ns for m in c.media if m.repeats_ns is not None), None)}
                for c in self.cameras
            ]
            return {
                "counter": self.counter,
                "lateMaxMs": self.late_max_ns // 1_000_000,
                "lateTicks": self.late_ticks,
                "starved": self.late_ticks > 0 or any(c.leaked for c in self.cameras),
                "cameras": cameras,
            }


def path(number: int) -> str:
    """The mount point of a camera."""
    return f"/cam{number:03d}"
