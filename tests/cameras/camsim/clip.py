"""The clips that cameras play: made once by ffmpeg, cut into access units, stamped with a counter."""

import itertools
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .kinds import FPS, H264, H265, Kind

START_CODE = b"\0\0\0\1"

# Marks our user_data_unregistered SEI message (ITU-T H.264, D.1.7; H.265, D.2.7). ASCII, so no emulation prevention
# is needed.
SEI_UUID = b"gapless-frame-id"


@dataclass(frozen=True)
class Codec:
    """What of the NAL units' types matters here: ITU-T H.264 table 7-1, H.265 table 7-1."""

    slices: range
    keys: range
    delimiter: int
    # The header of a NAL unit with SEI messages.
    sei: bytes
    hevc: bool

    def type_of(self, nal: bytes) -> int:
        return nal[0] >> 1 & 63 if self.hevc else nal[0] & 31


CODECS = {
    H264: Codec(range(1, 6), range(5, 6), 9, b"\x06", False),
    H265: Codec(range(0, 32), range(16, 22), 35, b"\x4e\x01", True),
}


@dataclass(frozen=True)
class AccessUnit:
    """One frame as Annex B bytes: what precedes its first slice, and the slices; and its place in the order of display."""

    head: bytes
    slices: bytes
    key: bool
    shown: int


def folder() -> Path:
    """Where clips are kept between runs."""
    return Path(os.environ.get("GAPLESS_CACHE") or Path.home() / ".cache" / "gapless") / "clips"


def path_of(kind: Kind, size: str, rate: int) -> Path:
    """Where a clip is kept. Beside it, with the ending `.order`, are the times of its frames, 1/90000 s."""
    what = f"{kind.codec}-{size}-{FPS}fps-gop{kind.gop}-{kind.seconds}s"
    also = "".join([f"-b{kind.bframes}" * bool(kind.bframes), "-open" * kind.open_gop, f"-{rate}k" * (rate != 1000)])
    return folder() / f"{what}{also}.{kind.codec}"


def ensure(path: Path, kind: Kind, size: str, rate: int) -> None:
    """Makes the clip unless it is there. Two makers at once do no harm: the files appear by renames, the clip last."""
    order = path.with_suffix(".order")
    if path.exists() and order.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        encoded, made, times = (Path(scratch) / name for name in ("clip.ts", "clip.raw", "times"))
        subprocess.run(_ffmpeg(encoded, kind, size, rate), check=True)
        raw = {H264: "h264", H265: "hevc"}[kind.codec]
        copy = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-y", "-i", encoded, "-c", "copy", "-f", raw, made]
        subprocess.run(copy, check=True)
        probe = ["ffprobe", "-loglevel", "error", "-show_entries", "packet=pts", "-of", "csv=p=0", encoded]
        times.write_bytes(subprocess.run(probe, check=True, stdout=subprocess.PIPE).stdout)
        times.replace(order)
        made.replace(path)


def _ffmpeg(out: Path, kind: Kind, size: str, rate: int) -> list[str]:
    source = f"testsrc2=size={size}:rate={FPS}:duration={kind.seconds}"
    head = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-y", "-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p"]
    rates = f"-b:v {rate}k -maxrate {rate * 6 // 5}k -bufsize {rate}k".split()
    if kind.codec == H265:
        gop = f"keyint={kind.gop}:min-keyint={kind.gop}:scenecut=0:bframes={kind.bframes}:b-adapt=0:b-pyramid=0"
        params = f"{gop}:open-gop={int(kind.open_gop)}:repeat-headers=1:aud=1:log-level=error"
        return [*head, *"-c:v libx265 -preset ultrafast".split(), *rates, "-x265-params", params, "-f", "mpegts", str(out)]
    gop = f"-g {kind.gop} -keyint_min {kind.gop} -sc_threshold 0 -bf {kind.bframes}".split()
    encoder = "-c:v libx264 -preset veryfast -profile:v main".split()
    params = ["-x264-params", "repeat-headers=1:aud=1:b-adapt=0:open-gop=0"]
    return [*head, *encoder, *rates, *gop, *params, "-f", "mpegts", str(out)]


def load(path: Path, kind: Kind) -> list[AccessUnit]:
    """Reads the access units of an Annex B file in which each begins with a delimiter, in the order of decoding."""
    codec, groups = CODECS[kind.codec], []
    for nal in _nal_units(path.read_bytes()):
        if codec.type_of(nal) == codec.delimiter or not groups:
            groups.append([])
        groups[-1].append(nal)
    times = [int(line.split(",")[0]) for line in path.with_suffix(".order").read_text().split()]
    first, tick = min(times), 90_000 // FPS
    units = [_access_unit(nals, codec, (time - first) // tick) for nals, time in zip(groups, times, strict=True)]
    keys = [unit.shown for unit in units if unit.key]
    whole = sorted(unit.shown for unit in units) == list(range(len(units)))
    if not whole or keys != list(range(0, len(units), kind.gop)):
        raise ValueError(f"{path}: not whole groups of {kind.gop} pictures; remove the file and start again")
    return units


def clips(kind: Kind) -> list[list[AccessUnit]]:
    """The encodes of a kind, made if they are missing."""
    out = []
    for size, rate in itertools.product(kind.sizes, kind.rates):
        path = path_of(kind, size, rate)
        ensure(path, kind, size, rate)
        out.append(load(path, kind))
    return out


def _nal_units(data: bytes):
    start = data.find(b"\0\0\1")
    while start >= 0:
        following = data.find(b"\0\0\1", start + 3)
        end = len(data) if following < 0 else following - (data[following - 1] == 0)
        yield data[start + 3 : end]
        start = following


def _access_unit(nals: list[bytes], codec: Codec, shown: int) -> AccessUnit:
    types = [codec.type_of(nal) for nal in nals]
    first = next(i for i, kind in enumerate(types) if kind in codec.slices)
    joined = [START_CODE + nal for nal in nals]
    return AccessUnit(b"".join(joined[:first]), b"".join(joined[first:]), types[first] in codec.keys, shown)


def stamp(codec: Codec, camera: int, counter: int, sent_ns: int) -> bytes:
    """The SEI NAL unit with the camera, the frame counter and the time of sending (Unix, nanoseconds)."""
    payload = SEI_UUID + b"cam=%03d n=%012d t=%020d" % (camera, counter, sent_ns)
    # NAL header (SEI), payload type 5 (user_data_unregistered), size, payload, trailing bits.
    return START_CODE + codec.sei + b"\x05" + bytes([len(payload)]) + payload + b"\x80"
