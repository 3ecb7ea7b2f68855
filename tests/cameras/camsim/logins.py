"""Who may watch which camera: basic and digest authentication, with passwords that can be changed."""

import ctypes
from dataclasses import dataclass

import gi

gi.require_version("GstRtspServer", "1.0")
from gi.repository import GstRtspServer  # noqa: E402

# The role of a client that sent no credentials.
OPEN = "open"


@dataclass
class Login:
    """A user, the password and the cameras that only logged-in users see."""

    user: str
    password: str
    cameras: range

    @classmethod
    def parse(cls, text: str, streams: int) -> "Login":
        """Reads USER:PASSWORD[@FIRST[-LAST]]; without a range, all cameras."""
        login, _, cameras = text.rpartition("@") if "@" in text else (text, "", f"0-{streams - 1}")
        user, _, password = login.partition(":")
        first, _, last = cameras.partition("-")
        return cls(user, password, range(int(first), int(last or first) + 1))


class Logins:
    """The server's authentication: without any login it is open to everybody, else each request needs one."""

    def __init__(self, logins: list[Login]):
        self.logins = {login.user: login for login in logins}
        self.basic = {}
        self.auth = GstRtspServer.RTSPAuth()
        _offer_basic_and_digest(self.auth)
        if not logins:
            self.auth.set_default_token(_token(OPEN))
        for login in logins:
            self._add(login)

    def roles_of(self, camera: int) -> list[str]:
        """The roles that may watch a camera."""
        return [_role(login.user) for login in self.logins.values() if camera in login.cameras] or [OPEN]

    def all_roles(self) -> list[str]:
        return [_role(user) for user in self.logins] or [OPEN]

    def login_for(self, camera: int) -> Login | None:
        return next((login for login in self.logins.values() if camera in login.cameras), None)

    def change(self, user: str, password: str) -> None:
        """From now on only the new password is right. Sessions that run are not ended."""
        login = self.logins[user]
        self.auth.remove_basic(self.basic.pop(user))
        self.auth.remove_digest(user)
        login.password = password
        self._add(login)

    def _add(self, login: Login) -> None:
        token = _token(_role(login.user))
        self.basic[login.user] = GstRtspServer.RTSPAuth.make_basic(login.user, login.password)
        self.auth.add_basic(self.basic[login.user], token)
        self.auth.add_digest(login.user, login.password, token)


def _role(user: str) -> str:
    return f"user-{user}"


def _token(role: str):
    token = GstRtspServer.RTSPToken.new()
    token.set_string(GstRtspServer.RTSP_TOKEN_MEDIA_FACTORY_ROLE, role)
    return token


def _offer_basic_and_digest(auth) -> None:
    """The binding takes one method only, the C function takes flags: BASIC is 1, DIGEST is 2."""
    library = ctypes.CDLL("libgstrtspserver-1.0.so.0")
    library.gst_rtsp_auth_set_supported_methods(ctypes.c_void_p(hash(auth)), 3)  # the hash is the object's address
