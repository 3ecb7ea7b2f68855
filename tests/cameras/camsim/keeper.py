"""The keeper plays every camera for as long as the simulator runs, and throws away what it gets.

A shared medium is torn down with its last client, and a client that comes at that moment is refused; and the first
client of a medium gets the frame that it was prepared with, old by then, and a hole after it. With the keeper there
first and always, no recorder sees either.
"""

import base64
import selectors
import socket
import threading
import time

from . import feed

AGENT = "keeper"
# The server forgets a session after 60 s without a request.
ALIVE_SECONDS = 20


class Keeper:
    """One RTSP session per camera, made again when it ends."""

    def __init__(self, address: str, port: int, logins):
        self.address, self.port, self.logins = address, port, logins
        self.sessions = {}
        self.wanted = set()  # cameras that are on
        self.selector = selectors.DefaultSelector()

    def start(self, cameras: list[int]) -> None:
        """Returns when each of these cameras plays; keeps them playing from then on."""
        self.wanted = set(cameras)
        jobs = [threading.Thread(target=self._open, args=(number,)) for number in self.wanted]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()
        if len(self.sessions) < len(cameras):
            raise RuntimeError(f"cameras {sorted(self.wanted - self.sessions.keys())} do not play")
        threading.Thread(target=self._run, name="keeper", daemon=True).start()

    def _open(self, number: int) -> None:
        try:
            session = Session(self.address, self.port, feed.path(number), self.logins.login_for(number))
        except (OSError, RtspError) as error:
            print(f"keeper: {error}", flush=True)
            return
        self.sessions[number] = session
        self.selector.register(session.socket, selectors.EVENT_READ, number)

    def _run(self) -> None:
        asked = time.monotonic()
        while True:
            for key, _ in self.selector.select(timeout=0.2):
                if not self.sessions[key.data].drain():
                    self.selector.unregister(key.fileobj)
                    self.sessions.pop(key.data).socket.close()
            if time.monotonic() - asked > ALIVE_SECONDS:
                asked = time.monotonic()
                for session in self.sessions.values():
                    session.keep_alive()
            for number in self.wanted - self.sessions.keys():
                self._open(number)


class RtspError(Exception):
    """The server's answer was not 200."""


def _status_line(reader) -> str:
    """The first line of an answer. A medium that plays already may send its interleaved packets before (RFC 2326, 10.12)."""
    while (first := reader.read(1)) == b"$":
        header = reader.read(3)
        reader.read(int.from_bytes(header[1:], "big"))
    return (first + reader.readline()).decode()


class Session:
    """A session (RFC 2326) with its media interleaved in the connection, playing."""

    def __init__(self, address: str, port: int, path: str, login):
        self.url = f"rtsp://{address}:{port}{path}"
        self.sequence = 0
        self.headers = {"User-Agent": AGENT}
        if login is not None:
            token = base64.b64encode(f"{login.user}:{login.password}".encode()).decode()
            self.headers["Authorization"] = f"Basic {token}"
        self.socket = socket.create_connection((address, port), timeout=10)
        try:
            self._play()
        except BaseException:
            self.socket.close()
            raise

    def _play(self) -> None:
        reader = self.socket.makefile("rb")
        _, sdp = self._ask(reader, "DESCRIBE", self.url)
        media = sdp.split("\nm=")[1:]  # the first control is of the session
        controls = [line[len("a=control:"):] for text in media for line in text.splitlines() if line.startswith("a=control:")]
        for number, control in enumerate(controls):
            track = control if control.startswith("rtsp://") else f"{self.url}/{control}"
            transport = f"RTP/AVP/TCP;unicast;interleaved={2 * number}-{2 * number + 1}"
            answer, _ = self._ask(reader, "SETUP", track, Transport=transport)
            self.headers["Session"] = answer["session"].split(";")[0]
        self._ask(reader, "PLAY", self.url)
        if reader.read(1) != b"$":  # the first byte of an interleaved packet
            raise RtspError(f"{self.url}: no media after PLAY")

    def drain(self) -> bool:
        """Reads what is there; false at the end of the connection."""
        try:
            return bool(self.socket.recv(1 << 20))
        except OSError:
            return False

    def keep_alive(self) -> None:
        try:
            self.socket.sendall(self._request("GET_PARAMETER", self.url, {}))
        except OSError:
            pass  # the next read finds the connection ended

    def _request(self, method: str, url: str, extra: dict[str, str]) -> bytes:
        self.sequence += 1
        headers = {"CSeq": str(self.sequence)} | self.headers | extra
        lines = [f"{method} {url} RTSP/1.0", *(f"{name}: {value}" for name, value in headers.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def _ask(self, reader, method: str, url: str, **extra: str) -> tuple[dict[str, str], str]:
        """Sends a request and returns the headers (names in lower case) and the body of its answer."""
        self.socket.sendall(self._request(method, url, extra))
        status = _status_line(reader)
        if " 200 " not in status:
            raise RtspError(f"{method} {url}: {status.strip()}")
        answer = {}
        while line := reader.readline().decode().strip():
            name, _, value = line.partition(":")
            answer[name.strip().lower()] = value.strip()
        return answer, reader.read(int(answer.get("content-length", 0))).decode()
