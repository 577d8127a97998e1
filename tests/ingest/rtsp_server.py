"""An RTSP server: PORT LAUNCH [USER PASSWORD]; serves LAUNCH at /live. Sessions last SESSION_SECS, if set."""

import os
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer

Gst.init(None)
server = GstRtspServer.RTSPServer.new()
server.set_address("127.0.0.1")
server.set_service(sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory.new()
factory.set_launch(sys.argv[2])
factory.set_shared(True)
if len(sys.argv) > 4:
    role = "viewer, media.factory.access=(boolean)true, media.factory.construct=(boolean)true"
    factory.add_role_from_structure(Gst.Structure.from_string(role)[0])
    token = GstRtspServer.RTSPToken.new()
    token.set_string("media.factory.role", "viewer")
    auth = GstRtspServer.RTSPAuth.new()
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(sys.argv[3], sys.argv[4]), token)
    server.set_auth(auth)
server.get_mount_points().add_factory("/live", factory)
secs = int(os.environ.get("SESSION_SECS", "0"))
if secs:

    def connected(_server, client):
        client.connect("new-session", lambda _client, session: session.set_timeout(secs))

    def clean():
        server.get_session_pool().cleanup()
        return True

    server.connect("client-connected", connected)
    GLib.timeout_add(250, clean)
server.attach(None)
GLib.MainLoop().run()
