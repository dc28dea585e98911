"""A WHIP publisher or a WHEP viewer on GStreamer's webrtcbin. Runs in Debian's own Python, which has the bindings.

Not part of the product. `gst_client.py publish|view URL TOKEN`: one JSON line per news (`state`, `etag`, `decoded`), until
standard input ends. Invariant: what it counts as decoded came out of a decoder.
"""

import json
import sys
import threading
import urllib.request
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

PUBLISH = (
    "webrtcbin name=web bundle-policy=max-bundle "
    "videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=15/1 ! "
    "vp8enc deadline=1 keyframe-max-dist=30 ! rtpvp8pay mtu=1200 ! "
    "application/x-rtp,media=video,encoding-name=VP8,clock-rate=90000,payload=96 ! web. "
    "audiotestsrc is-live=true ! audioconvert ! audioresample ! opusenc ! rtpopuspay ! "
    "application/x-rtp,media=audio,encoding-name=OPUS,clock-rate=48000,payload=111 ! web."
)
VIEWED = {
    "audio": "application/x-rtp,media=audio,encoding-name=OPUS,clock-rate=48000,payload=111,encoding-params=(string)2",
    "video": "application/x-rtp,media=video,encoding-name=VP8,clock-rate=90000,payload=96",
}
DECODERS = {
    "audio": "rtpopusdepay ! opusdec ! fakesink name=sink signal-handoffs=true sync=false",
    "video": "rtpvp8depay ! vp8dec ! fakesink name=sink signal-handoffs=true sync=false",
}


def say(**news: Any) -> None:
    print(json.dumps(news), flush=True)


class Client:
    """One connection."""

    def __init__(self, role: str, url: str, token: str) -> None:
        self.url, self.token = url, token
        self.decoded = {"audio": 0, "video": 0}
        if role == "publish":
            self.pipe = Gst.parse_launch(PUBLISH)
            self.web = self.pipe.get_by_name("web")
        else:
            self.pipe = Gst.Pipeline.new("view")
            self.web = Gst.ElementFactory.make("webrtcbin", "web")
            self.web.set_property("bundle-policy", GstWebRTC.WebRTCBundlePolicy.MAX_BUNDLE)
            self.pipe.add(self.web)
        if role == "publish":
            self.web.connect("on-negotiation-needed", self._needed)
        self.web.connect("notify::ice-gathering-state", self._gathering)
        self.web.connect("notify::connection-state", lambda web, _: say(state=web.props.connection_state.value_nick))
        self.web.connect("pad-added", self._pad)
        self.pipe.set_state(Gst.State.PLAYING)
        if role == "view":  # webrtcbin would ask for an offer before there is anything to offer
            for caps in VIEWED.values():
                direction = GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY
                self.web.emit("add-transceiver", direction, Gst.Caps.from_string(caps))
            self._needed(self.web)

    def _needed(self, web: Any) -> None:
        web.emit("create-offer", None, Gst.Promise.new_with_change_func(self._offered, None))

    def _offered(self, promise: Any, _: Any) -> None:
        reply = promise.get_reply()  # owns the offer
        self.web.emit("set-local-description", reply.get_value("offer"), None)

    def _gathering(self, web: Any, _: Any) -> None:
        if web.props.ice_gathering_state == GstWebRTC.WebRTCICEGatheringState.COMPLETE:
            threading.Thread(target=self._post, args=(web.props.local_description.sdp.as_text(),)).start()

    def _post(self, offer: str) -> None:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/sdp"}
        request = urllib.request.Request(self.url, data=offer.encode(), headers=headers, method="POST")
        with urllib.request.urlopen(request, timeout=20) as answer:
            say(etag=answer.headers["ETag"], location=answer.headers["Location"])
            text = answer.read().decode()
        _, message = GstSdp.SDPMessage.new_from_text(text)
        described = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, message)
        self.web.emit("set-remote-description", described, None)

    def _pad(self, _: Any, pad: Any) -> None:
        if pad.get_direction() != Gst.PadDirection.SRC:
            return
        kind = pad.get_current_caps().get_structure(0).get_string("media")
        branch = Gst.parse_bin_from_description(DECODERS[kind], True)
        self.pipe.add(branch)
        branch.sync_state_with_parent()
        branch.get_by_name("sink").connect("handoff", lambda *_: self._count(kind))
        pad.link(branch.get_static_pad("sink"))

    def _count(self, kind: str) -> None:
        self.decoded[kind] += 1
        if self.decoded[kind] % 10 == 0:
            say(decoded=self.decoded)


def main() -> None:
    Gst.init(None)
    loop = GLib.MainLoop()
    client = Client(*sys.argv[1:4])
    GLib.io_add_watch(sys.stdin, GLib.IO_IN | GLib.IO_HUP, lambda *_: loop.quit())
    loop.run()
    client.pipe.set_state(Gst.State.NULL)


if __name__ == "__main__":
    main()
