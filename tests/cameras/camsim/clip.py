"""The clip that every camera plays: made once by ffmpeg, cut into access units, stamped with a counter."""

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

FPS = 25
GOP = 25
SECONDS = 60
START_CODE = b"\0\0\0\1"

# ITU-T H.264 table 7-1: types 1 to 5 are coded slices, 5 is an IDR slice, 9 an access unit delimiter.
SLICES = range(1, 6)
IDR, DELIMITER = 5, 9

# Marks our user_data_unregistered SEI message (ITU-T H.264, D.1.7). ASCII, so no emulation prevention is needed.
SEI_UUID = b"gapless-frame-id"


@dataclass(frozen=True)
class AccessUnit:
    """One frame as Annex B bytes: what precedes its first slice, and the slices."""

    head: bytes
    slices: bytes
    key: bool


def default_path() -> Path:
    """Where the clip is kept between runs."""
    cache = os.environ.get("GAPLESS_CACHE") or Path.home() / ".cache" / "gapless"
    return Path(cache) / "clips" / f"h264-640x360-{FPS}fps-gop{GOP}-{SECONDS}s.h264"


def ensure(path: Path) -> None:
    """Makes the clip unless it is there. Two makers at once do no harm: the file appears by a rename."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / "clip.h264"
        subprocess.run(_ffmpeg(made), check=True)
        made.replace(path)


def _ffmpeg(out: Path) -> list[str]:
    source = f"testsrc2=size=640x360:rate={FPS}:duration={SECONDS}"
    rate = "-b:v 1000k -maxrate 1200k -bufsize 1000k".split()
    gop = f"-g {GOP} -keyint_min {GOP} -sc_threshold 0 -bf 0".split()
    encoder = "-c:v libx264 -preset veryfast -profile:v main -pix_fmt yuv420p".split()
    params = ["-x264-params", "repeat-headers=1:aud=1"]
    head = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-y", "-f", "lavfi", "-i", source]
    return [*head, *encoder, *rate, *gop, *params, "-f", "h264", str(out)]


def load(path: Path) -> list[AccessUnit]:
    """Reads the access units of an Annex B file in which each begins with a delimiter."""
    units, current = [], []
    for nal in _nal_units(path.read_bytes()):
        if nal[0] & 31 == DELIMITER and current:
            units.append(_access_unit(current))
            current = []
        current.append(nal)
    units.append(_access_unit(current))
    if len(units) % GOP or any(unit.key != (i % GOP == 0) for i, unit in enumerate(units)):
        raise ValueError(f"{path}: not whole groups of {GOP} pictures; remove the file and start again")
    return units


def _nal_units(data: bytes):
    start = data.find(b"\0\0\1")
    while start >= 0:
        following = data.find(b"\0\0\1", start + 3)
        end = len(data) if following < 0 else following - (data[following - 1] == 0)
        yield data[start + 3 : end]
        start = following


def _access_unit(nals: list[bytes]) -> AccessUnit:
    first = next(i for i, nal in enumerate(nals) if nal[0] & 31 in SLICES)
    joined = [START_CODE + nal for nal in nals]
    return AccessUnit(b"".join(joined[:first]), b"".join(joined[first:]), nals[first][0] & 31 == IDR)


def stamp(camera: int, counter: int, sent_ns: int) -> bytes:
    """The SEI NAL unit with the camera, the frame counter and the time of sending (Unix, nanoseconds)."""
    payload = SEI_UUID + b"cam=%03d n=%012d t=%020d" % (camera, counter, sent_ns)
    # NAL header 6 (SEI), payload type 5 (user_data_unregistered), size, payload, trailing bits.
    return START_CODE + b"\x06\x05" + bytes([len(payload)]) + payload + b"\x80"
