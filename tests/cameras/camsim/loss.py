"""Packets that never arrive, or spoilt: slice packets are dropped behind the payloader, so that their sequence numbers lack."""

import random

from gi.repository import Gst

# Taken once, at import: see mounts.py.
PASS, DROP = Gst.PadProbeReturn.OK, Gst.PadProbeReturn.DROP
LISTS = Gst.PadProbeType.BUFFER_LIST
PACKETS = Gst.PadProbeType.BUFFER | LISTS
# Of RFC 6184: single NAL units with slices, a parameter set of a sequence, fragments, and a type that no packet may have.
SLICES, SPS, FU_A, UNDEFINED = range(1, 6), 7, 28, 31
# Frames between two losses at least, so that each is one of its own.
APART = 3


class Losses:
    """How many packets of a camera are still to be dropped, and of which frames packets were."""

    def __init__(self):
        self.wanted = 0
        self.session = None  # the only one that packets are lost for, where each has a medium of its own
        self.dropped = []  # counters of frames that lack a packet
        self.spoilt = set()  # addresses of clients that get no slice packet that can be read
        self.garbled = set()  # addresses of clients that get parameter sets that nobody can decode

    def want(self, packets: int, session: int | None) -> None:
        self.wanted, self.session = self.wanted + packets, session

    def watch(self, source, medium) -> None:
        """Looks at what the payloader behind this appsrc sends."""
        pad = source.get_parent().get_by_name("pay0").get_static_pad("src")
        pad.add_probe(PACKETS, self._seen, medium)

    def _seen(self, pad, info, medium):
        if medium.client in self.spoilt:
            return _changed(pad, info, _spoil)
        if medium.client in self.garbled:
            return _changed(pad, info, _garble)
        if not self.wanted or medium.base is None or self.session not in (None, medium.session):
            return PASS
        all_of_it = _packets(info)
        counter = medium.counter_at(all_of_it[0].pts)
        near = self.dropped and counter - self.dropped[-1] < APART
        if near or not _is_slice(all_of_it[0].extract_dup(0, 14)) or random.random() > 0.2:
            return PASS
        self.wanted -= 1
        self.dropped.append(counter)
        rest = list(all_of_it)
        rest.pop(random.randrange(len(rest)))
        for packet in rest:
            pad.get_peer().chain(packet)
        return DROP


def unmark(pad) -> None:
    """Takes the marker bit, which ends an access unit (RFC 3640, 3.1), from each packet."""
    pad.add_probe(PACKETS, lambda pad, info: _changed(pad, info, _unmark))


def _unmark(data: bytearray) -> None:
    data[1] &= 0x7f


def _spoil(data: bytearray) -> None:
    if _is_slice(data):
        data[12] = data[12] & 0xe0 | UNDEFINED


def _garble(data: bytearray) -> None:
    if data[12] & 31 == SPS:
        del data[14:]


def _packets(info) -> list:
    packets = info.get_buffer_list() if info.type & LISTS else None
    return [packets.get(i) for i in range(packets.length())] if packets else [info.get_buffer()]


def _changed(pad, info, change):
    """Sends copies of the packets, each changed, in their place."""
    for packet in _packets(info):
        data = bytearray(packet.extract_dup(0, packet.get_size()))
        change(data)
        changed = Gst.Buffer.new_wrapped(bytes(data))
        changed.pts, changed.dts, changed.duration = packet.pts, packet.dts, packet.duration
        pad.get_peer().chain(changed)
    return DROP


def _is_slice(data: bytes) -> bool:
    """Whether an RTP packet (RFC 3550, 5.1) without extensions has data of a slice."""
    kind = data[12] & 31
    return (data[13] & 31 if kind == FU_A else kind) in SLICES
