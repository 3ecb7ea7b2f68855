"""The RTSP server: a shared mount for every camera, and mounts that no recorder can record."""

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GstRtsp, GstRtspServer  # noqa: E402

from . import feed, keeper, kinds, single  # noqa: E402

# Taken here, where there is one thread: GObject makes the class of an enumeration when it is first asked for, and a second thread
# that asks meanwhile finds it without members.
USER_AGENT, TRANSPORT = GstRtsp.RTSPHeaderField.USER_AGENT, GstRtsp.RTSPHeaderField.TRANSPORT
NEVER_SUSPENDED = GstRtspServer.RTSPSuspendMode.NONE

# What becomes of the tone beside the video.
SOUND = {
    kinds.AAC: "voaacenc bitrate=64000 ! aacparse ! rtpmp4gpay name=pay1 pt=97",
    kinds.PCMU: "mulawenc ! rtppcmupay name=pay1 pt=0",
    kinds.PCMA: "alawenc ! rtppcmapay name=pay1 pt=8",
}
LIVE = "is-live=true format=time do-timestamp=false max-bytes=0 leaky-type=downstream"


def _pipeline(kind: kinds.Kind) -> str:
    codec, sound = kind.codec, ""
    caps = f"video/x-{codec},stream-format=byte-stream,alignment=au,framerate={kinds.FPS}/1"
    if kind.audio:
        raw = f"audio/x-raw,format=S16LE,layout=interleaved,rate={kinds.RATES[kind.audio]},channels=1"
        sound = f"appsrc name=sound {LIVE} max-buffers={feed.QUEUE_FRAMES} caps={raw} ! {SOUND[kind.audio]}"
    return (
        f"( appsrc name=src {LIVE} max-buffers={feed.QUEUE_FRAMES} caps={caps}"
        f" ! rtp{codec}pay name=pay0 pt=96 config-interval=0 mtu=1400 {sound} )"
    )


# Streams that are well-formed RTSP but not what a recorder of H.264 wants.
UNUSABLE = {
    "/audio-only": "( audiotestsrc is-live=true ! audio/x-raw,rate=8000,channels=1 ! mulawenc"
                   " ! rtppcmupay name=pay0 pt=0 )",
    "/mjpeg": "( videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=240,framerate=5/1 ! jpegenc"
              " ! rtpjpegpay name=pay0 pt=26 )",
}


class CameraFactory(GstRtspServer.RTSPMediaFactory):
    """Makes the one shared medium of a camera, or one for each session, and hands its appsrc to the ticker."""

    def __init__(self, camera: feed.Camera, roles: list[str]):
        super().__init__()
        self.camera = camera
        self.set_shared(not camera.kind.own)
        self.set_eos_shutdown(False)
        self.set_launch(_pipeline(camera.kind))
        self.set_permissions(_permissions(roles))
        self.connect("media-configure", self._configure)

    def _configure(self, _factory, media) -> None:
        media.set_suspend_mode(NEVER_SUSPENDED)
        source = media.get_element().get_by_name_recurse_up("src")
        self.camera.attach(source)
        media.connect("unprepared", lambda _media: self.camera.detach(source))


class Server:
    """The server with all mounts; cameras can be taken off and put back."""

    def __init__(self, address: str, port: int, cameras: list[feed.Camera], logins, singles: single.Singles):
        self.singles = singles
        self.rtsp = GstRtspServer.RTSPServer()
        self.rtsp.set_address(address)
        self.rtsp.set_service(str(port))
        self.rtsp.set_backlog(512)
        self.rtsp.set_auth(logins.auth)
        threads = GstRtspServer.RTSPThreadPool()
        threads.set_max_threads(16)  # one thread takes a second per camera to come up
        self.rtsp.set_thread_pool(threads)
        self.watchers = {}  # client -> (path, whether it is the keeper)
        self.rtsp.connect("client-connected", self._connected)
        mounts = self.rtsp.get_mount_points()
        self.factories = [CameraFactory(c, logins.roles_of(c.number)) for c in cameras]
        for factory in self.factories:
            mounts.add_factory(feed.path(factory.camera.number), factory)
        for place, launch in UNUSABLE.items():
            factory = GstRtspServer.RTSPMediaFactory()
            factory.set_shared(True)
            factory.set_launch(launch)
            factory.set_permissions(_permissions(logins.all_roles()))
            mounts.add_factory(place, factory)

    def attach(self) -> None:
        if self.rtsp.attach(None) == 0:
            raise SystemExit(f"cannot listen on {self.rtsp.get_address()}:{self.rtsp.get_service()}")

    def off(self, number: int) -> None:
        """The camera is gone: unknown path, every client disconnected."""
        self.rtsp.get_mount_points().remove_factory(feed.path(number))
        self.disconnect(number, keeper=True)

    def on(self, number: int) -> None:
        self.rtsp.get_mount_points().add_factory(feed.path(number), self.factories[number])

    def disconnect(self, number: int, keeper: bool = False) -> int:
        """Closes the connections that play a camera, the keeper's only if asked to, and returns how many there were."""
        agents = (False, True) if keeper else (False,)
        wanted = [c for c, watches in self.watchers.items() if watches in [(feed.path(number), a) for a in agents]]
        for client in wanted:
            client.close()
        return len(wanted)

    def _connected(self, _server, client) -> None:
        client.connect("pre-setup-request", self._begins, single.SETUP)
        client.connect("setup-request", self._set_up)
        client.connect("pre-play-request", self._begins, single.PLAY)
        client.connect("play-request", self._played)
        client.connect("teardown-request", lambda c, context: self.singles.left(c, self._camera(context)))
        client.connect("closed", self._closed)

    def _closed(self, client) -> None:
        self.watchers.pop(client, None)
        self.singles.left(client)

    def _begins(self, client, context, what: str):
        _, agent = context.request.get_header(USER_AGENT, 0)
        camera = self._camera(context)
        if camera is None or agent == keeper.AGENT:
            return single.OK
        return self.singles.ask(camera, client, what)

    def _played(self, client, context) -> None:
        _, agent = context.request.get_header(USER_AGENT, 0)
        self.watchers[client] = (context.uri.abspath.rstrip("/"), agent == keeper.AGENT)
        camera = self._camera(context)
        if camera is not None and context.sessmedia is not None:
            source = context.sessmedia.get_media().get_element().get_by_name_recurse_up("src")
            camera.plays(source, client.get_connection().get_ip())

    def _set_up(self, _client, context) -> None:
        _, agent = context.request.get_header(USER_AGENT, 0)
        _, transport = context.request.get_header(TRANSPORT, 0)
        camera = self._camera(context)
        if camera is not None and agent != keeper.AGENT:
            camera.set_up(transport)

    def _camera(self, context) -> feed.Camera | None:
        place = context.uri.abspath
        cameras = (factory.camera for factory in self.factories)
        return next((c for c in cameras if (place + "/").startswith(feed.path(c.number) + "/")), None)


def _permissions(roles: list[str]):
    permissions = GstRtspServer.RTSPPermissions.new()
    for role in roles:
        permissions.add_permission_for_role(role, GstRtspServer.RTSP_PERM_MEDIA_FACTORY_ACCESS, True)
        permissions.add_permission_for_role(role, GstRtspServer.RTSP_PERM_MEDIA_FACTORY_CONSTRUCT, True)
    return permissions
