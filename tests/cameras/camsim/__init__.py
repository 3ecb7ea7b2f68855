"""A simulator of IP cameras on top of gst-rtsp-server."""
