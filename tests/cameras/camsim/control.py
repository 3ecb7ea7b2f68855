"""The remote control: a Unix socket, so that it works across network namespaces.

One request per connection: a line of JSON with "op" and its arguments; the answer is a line of JSON, with
"error" if it failed.

    {"op": "state"}                                   counters pushed per camera, lateness
    {"op": "freeze", "camera": 1}, "thaw"             the connection stays, no frame comes
    {"op": "off", "camera": 1}, "on"                  the camera is gone and its clients disconnected
    {"op": "disconnect", "camera": 1}                 its clients are disconnected once
    {"op": "lose", "camera": 1, "packets": 5}         so many of its slice packets, at random, are not sent (H.264 without
                                                      B-frames); the state lists the frames that lack one. With
                                                      "session": 0 only those to the first session, of a kind
                                                      whose sessions have media of their own
    {"op": "still", "camera": 1, "client": "::1"}     what this client gets shows one group of pictures again and again, with
                                                      numbers that go on; "move" ends it. Of a kind whose
                                                      sessions have media of their own
    {"op": "spoil", "camera": 1, "client": "::1"}     no slice packet that this client gets can be read; "heal" ends it. Of the
                                                      same kind
    {"op": "garble", "camera": 1, "client": "::1"}    the parameter sets that this client gets change to what nobody can
                                                      decode; "heal" ends it. Of the same kind
    {"op": "password", "user": "u", "password": "p"}  from now on only the new password is right
    {"op": "mark"}                                    lateness and leaks so far are forgotten
"""

import json
import os
import socketserver
import threading

from gi.repository import GLib


class Control:
    """Answers requests; what touches the RTSP server is done on the main loop's thread."""

    def __init__(self, path: str, feed, server, logins, keeper):
        self.feed, self.server, self.logins, self.keeper = feed, server, logins, keeper
        if os.path.exists(path):
            os.unlink(path)
        control = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                self.wfile.write(json.dumps(control.answer(self.rfile.readline())).encode() + b"\n")

        listener = socketserver.ThreadingUnixStreamServer(path, Handler)
        listener.daemon_threads = True
        threading.Thread(target=listener.serve_forever, name="control", daemon=True).start()

    def answer(self, line: bytes) -> dict:
        try:
            request = json.loads(line)
            return self._on_main_loop(lambda: self._do(request)) or {}
        except Exception as error:  # the caller is a test: it wants to see whatever it was
            return {"error": repr(error)}

    def _do(self, request: dict) -> dict | None:
        op, camera = request["op"], request.get("camera")
        if op == "state":
            return self.feed.state()
        if op in ("freeze", "thaw"):
            self.feed.cameras[camera].frozen = op == "freeze"
        elif op == "off":
            self.keeper.wanted.discard(camera)
            self.server.off(camera)
        elif op == "on":
            self.feed.cameras[camera].restarts += 1
            self.server.on(camera)
            if not self.feed.cameras[camera].kind.own:
                self.keeper.wanted.add(camera)
        elif op == "disconnect":
            return {"disconnected": self.server.disconnect(camera)}
        elif op == "lose":
            self.feed.cameras[camera].losses.want(request["packets"], request.get("session"))
        elif op in ("still", "move"):
            self.feed.cameras[camera].still(request["client"], op == "still")
        elif op == "spoil":
            self.feed.cameras[camera].losses.spoilt.add(request["client"])
        elif op == "garble":
            self.feed.cameras[camera].losses.garbled.add(request["client"])
        elif op == "heal":
            self.feed.cameras[camera].losses.spoilt.discard(request["client"])
            self.feed.cameras[camera].losses.garbled.discard(request["client"])
        elif op == "mark":
            self.feed.mark()
        elif op == "password":
            self.logins.change(request["user"], request["password"])
        else:
            raise ValueError(f"unknown op {op}")
        return None

    @staticmethod
    def _on_main_loop(work):
        done, result = threading.Event(), {}

        def run():
            try:
                result["value"] = work()
            except Exception as error:
                result["error"] = error
            done.set()
            return GLib.SOURCE_REMOVE

        GLib.idle_add(run)
        if not done.wait(10):
            raise TimeoutError("the main loop is busy")
        if "error" in result:
            raise result["error"]
        return result["value"]
