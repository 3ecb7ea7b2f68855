"""Cameras that allow one session only, the keeper's aside: whoever comes second is refused with 453 (RFC 2326, 7.1.1)."""

import gi

gi.require_version("GstRtsp", "1.0")
from gi.repository import GstRtsp  # noqa: E402

# Taken once, at import: see mounts.py.
OK, NO_SESSION_LEFT = GstRtsp.RTSPStatusCode.OK, GstRtsp.RTSPStatusCode.NOT_ENOUGH_BANDWIDTH
# What a session begins with: cameras differ.
SETUP, PLAY = "setup", "play"


def parse(texts: list[str]) -> dict[int, str]:
    """From N or N:WHAT: which cameras, and whether they refuse SETUP or PLAY."""
    found = {}
    for text in texts:
        number, _, what = text.partition(":")
        found[int(number)] = what or SETUP
        if found[int(number)] not in (SETUP, PLAY):
            raise ValueError(f"{text}: {SETUP} or {PLAY}")
    return found


class Singles:
    """Who has the session of each of these cameras."""

    def __init__(self, refuses: dict[int, str]):
        self.refuses = refuses
        self.holders = {}  # camera number -> client

    def ask(self, camera, client, what: str):
        """The answer to a client that begins a session."""
        if self.refuses.get(camera.number) != what:
            return OK
        if self.holders.setdefault(camera.number, client) is client:
            return OK
        camera.refused += 1
        return NO_SESSION_LEFT

    def left(self, client, camera=None) -> None:
        """A client ended its session with a camera, or is gone."""
        for number in [n for n, holder in self.holders.items() if holder is client]:
            if camera is None or camera.number == number:
                del self.holders[number]
