#!/usr/bin/python3
"""Simulates IP cameras: N RTSP mounts /cam000... of several kinds, every frame numbered. See README.md."""

import argparse
import json
import signal
import sys
import threading
from pathlib import Path

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst  # noqa: E402

from camsim import clip, kinds, single  # noqa: E402


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=1, metavar="N", help="number of cameras")
    parser.add_argument("--address", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8554)
    parser.add_argument("--kind", action="append", default=[], metavar="N:KIND",
                        help=f"what camera N is, h264 if nothing is said: {', '.join(kinds.KINDS)}; may be repeated")
    parser.add_argument("--login", action="append", default=[], metavar="USER:PASSWORD[@FIRST[-LAST]]",
                        help="these cameras (all, if none is named) want this login; may be repeated")
    parser.add_argument("--single", action="append", default=[], metavar="N[:WHAT]",
                        help="camera N allows one session and refuses another one's setup (or play); may be repeated")
    parser.add_argument("--user", help="with --password: one login for all cameras")
    parser.add_argument("--password")
    parser.add_argument("--control", metavar="SOCKET", help="Unix socket of the remote control")
    parser.add_argument("--state", type=Path, metavar="FILE", help="write the state here each second and at the end")
    parser.add_argument("--until-eof", action="store_true", help="end when standard input ends: with the parent")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    wanted_kinds = kinds.parse(args.kind, args.streams)
    clips = {kind.name: clip.clips(kind) for kind in set(wanted_kinds)}
    Gst.init(None)
    from camsim import control, feed, keeper, logins, mounts  # need Gst.init first

    wanted = [logins.Login.parse(text, args.streams) for text in args.login]
    if args.user:
        wanted.append(logins.Login(args.user, args.password or "", range(args.streams)))
    access = logins.Logins(wanted)
    ticker = feed.Feed(wanted_kinds, clips)
    singles = single.Singles(single.parse(args.single))
    server = mounts.Server(args.address, args.port, ticker.cameras, access, singles)
    server.attach()
    keep = keeper.Keeper(args.address, args.port, access)
    if args.control:
        control.Control(args.control, ticker, server, access, keep)
    loop = GLib.MainLoop()

    def warm() -> None:
        try:
            keep.start([c.number for c in ticker.cameras if not c.kind.own])
        except Exception as error:
            print(f"cameras: {error!r}", file=sys.stderr, flush=True)
            loop.quit()
            return
        ticker.mark()
        print(json.dumps({"ready": True, "cameras": args.streams, "port": args.port}), flush=True)

    def write_state() -> bool:
        scratch = args.state.with_suffix(".tmp")
        scratch.write_text(json.dumps(ticker.state()))
        scratch.replace(args.state)
        return GLib.SOURCE_CONTINUE

    ticker.start()
    threading.Thread(target=warm, name="warm", daemon=True).start()
    if args.state:
        GLib.timeout_add_seconds(1, write_state)
    for number in (signal.SIGINT, signal.SIGTERM):
        GLib.unix_signal_add(GLib.PRIORITY_HIGH, number, loop.quit)
    if args.until_eof:
        threading.Thread(target=lambda: (sys.stdin.read(), loop.quit()), daemon=True).start()
    loop.run()
    if args.state:
        write_state()
    sys.exit(0 if keep.sessions or all(kind.own for kind in wanted_kinds) else 1)


if __name__ == "__main__":
    main()
