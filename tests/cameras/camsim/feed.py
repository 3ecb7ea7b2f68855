"""The ticker: one thread that pushes a stamped access unit to every camera, 25 times a second.

The frame counter is the number of the tick: all cameras share it and it never wraps. It begins at the frames since
1970, so that a simulator that is started again repeats no number. A camera that is frozen or off is not pushed to, so
its pushed counters are a list of spans, which is what an oracle compares a recording with.
"""

import threading
import time
from dataclasses import dataclass, field

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
from gi.repository import Gst, GstApp  # noqa: E402, F401  (GstApp gives appsrc its methods)

from . import clip  # noqa: E402

INTERVAL_NS = 1_000_000_000 // clip.FPS
# A queue this long is never reached while the server runs: a frame that leaks from it is a starved simulator.
QUEUE_FRAMES = 50
# A tick this late no longer looks like a camera.
LATE_NS = 500_000_000


@dataclass
class Camera:
    """One camera: where its frames go, and which were pushed."""

    number: int
    frozen: bool = False
    source: object = None  # the appsrc of the live medium, None while there is none
    base: tuple[int, int] | None = None  # (counter, running time) of the first frame of this medium
    spans: list[dict] = field(default_factory=list)
    leaked: int = 0

    def attach(self, source) -> None:
        self.source, self.base = source, None

    def detach(self, source) -> None:
        if self.source is source:
            self.source = None

    def note(self, counter: int, now_ns: int) -> None:
        """Extends the last span of pushed counters, or begins one."""
        last = self.spans[-1] if self.spans else None
        if last is None or last["last"] + 1 != counter:
            last = {"first": counter, "firstNs": now_ns}
            self.spans.append(last)
        last["last"], last["lastNs"] = counter, now_ns


class Feed:
    """All cameras and the thread that feeds them."""

    def __init__(self, units: list[clip.AccessUnit], count: int):
        self.units = units
        self.cameras = [Camera(i) for i in range(count)]
        self.lock = threading.Lock()
        self.first = self.counter = int(time.time() * clip.FPS)
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
                    if camera.source is not None and not camera.frozen:
                        self._push(camera)
                self.counter += 1

    def _late(self, start: int) -> int:
        return time.monotonic_ns() - start - (self.counter - self.first) * INTERVAL_NS

    def _push(self, camera: Camera) -> None:
        clock = camera.source.get_clock()
        if clock is None:  # not yet prepared
            return
        counter, now_ns = self.counter, time.time_ns()
        # Each camera starts elsewhere in the clip, so that no two show the same or have their key frames together.
        unit = self.units[(counter + 178 * camera.number) % len(self.units)]
        head = unit.head
        if camera.base is None:
            camera.base = (counter, clock.get_time() - camera.source.get_base_time())
            head = self.units[0].head  # parameter sets before the first unit, or preparing waits for a key frame
        if camera.source.get_current_level_buffers() >= QUEUE_FRAMES:
            camera.leaked += 1
        buffer = Gst.Buffer.new_wrapped(head + clip.stamp(camera.number, counter, now_ns) + unit.slices)
        buffer.pts = buffer.dts = camera.base[1] + (counter - camera.base[0]) * INTERVAL_NS
        buffer.duration = INTERVAL_NS
        camera.source.push_buffer(buffer)
        camera.note(counter, now_ns)

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
                {"camera": c.number, "path": path(c.number), "frozen": c.frozen, "on": c.source is not None,
                 "leaked": c.leaked, "spans": [dict(span) for span in c.spans]}
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
