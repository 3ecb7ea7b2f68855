"""The kinds of cameras: how their clips are encoded, and when they send a frame."""

from dataclasses import dataclass

FPS = 25
# A tick of a variable frame rate: (ticks that it lasts, one frame each so many ticks). 25 frames/s, a frame each 1.2 s, 12.5 and about
# 2 frames/s.
SPELLS = [(100, 1), (100, 30), (75, 2), (75, 12)]

H264, H265 = "h264", "h265"
AAC, PCMU, PCMA = "aac", "pcmu", "pcma"
# Samples of sound in a second.
RATES = {AAC: 48_000, PCMU: 8_000, PCMA: 8_000}


@dataclass(frozen=True)
class Kind:
    """One kind of camera."""

    name: str
    codec: str = H264
    gop: int = FPS
    bframes: int = 0
    # Key frames that pictures before them in time refer to (CRA with RASL pictures, ITU-T H.265 3.26 and 3.128).
    open_gop: bool = False
    varies: bool = False
    # The bit rates of its encodes, kbit/s. With more than one each session gets the next one, and a medium of its own.
    rates: tuple[int, ...] = (1000,)
    # The sizes of its encodes. With more than one it sends the next one after each restart.
    sizes: tuple[str, ...] = ("640x360",)
    # Each session has a medium of its own, but the same frames: packets can be lost on the way to one alone.
    apart: bool = False
    # Its sound.
    audio: str | None = None
    # Its packets of sound are none that RFC 3640 allows.
    broken: bool = False
    seconds: int = 20

    @property
    def own(self) -> bool:
        """Whether each session has its own medium."""
        return self.apart or len(self.rates) > 1

    def sends(self, tick: int) -> bool:
        """Whether there is a frame at a tick."""
        if not self.varies:
            return True
        at = tick % sum(length for length, _ in SPELLS)
        for length, every in SPELLS:
            if at < length:
                return at % every == 0
            at -= length
        return False


KINDS = {kind.name: kind for kind in [
    Kind("h264", seconds=60),
    Kind("h264-b", bframes=3),
    Kind("h264-long", gop=10 * FPS),
    Kind("h264-vfr", varies=True),
    Kind("h264-own", rates=(1000, 500)),
    Kind("h264-sizes", sizes=("640x360", "320x180")),
    Kind("h264-apart", apart=True, seconds=60),
    Kind("h265", codec=H265),
    Kind("h265-open", codec=H265, bframes=3, open_gop=True),
    Kind("h264-aac", audio=AAC, seconds=60),
    Kind("h264-aac-broken", audio=AAC, broken=True, seconds=60),
    Kind("h264-pcmu", audio=PCMU, seconds=60),
    Kind("h264-pcma", audio=PCMA, seconds=60),
]}


def parse(texts: list[str], streams: int) -> list[Kind]:
    """The kind of each camera from N:KIND, once per camera that is not `h264`."""
    kinds = [KINDS["h264"]] * streams
    for text in texts:
        number, _, name = text.partition(":")
        kinds[int(number)] = KINDS[name]
    return kinds
