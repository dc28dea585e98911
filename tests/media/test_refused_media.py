"""Clients that are not who they say, or whose keys are too weak: nothing of them is forwarded, and they are told so."""

import re
from typing import Any

import pytest
from aiortc import RTCPeerConnection, RTCSessionDescription, VideoStreamTrack
from aiortc.rtcdtlstransport import SRTP_AES128_CM_SHA1_80, SRTPProtectionProfile
from pylibsrtp import Policy

from media import control
from tests.media.stage import ROOM, Client, Stage, stage
from tests.media.test_worker import join

WEAK = SRTPProtectionProfile(
    libsrtp_profile=Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
    openssl_profile=b"SRTP_AES128_CM_SHA1_32",
    key_length=16,
    salt_length=14,
)


async def publish(scene: Stage, *, fingerprint: str = "", profile: Any = None) -> RTCPeerConnection:
    """An aiortc publisher that says another fingerprint than its own, or insists on an SRTP profile."""
    peer = RTCPeerConnection()
    peer.addTrack(VideoStreamTrack())
    await peer.setLocalDescription(await peer.createOffer())
    if profile is not None:
        peer.getTransceivers()[0].sender.transport._srtp_profiles = [profile]
    offer = peer.localDescription.sdp
    if fingerprint:
        offer = re.sub(r"a=fingerprint:(sha-\d+) \S+", lambda m: f"a=fingerprint:{m[1]} {wrong(m[0])}", offer)
    _, answer = await scene.worker.publish(ROOM, "a", offer)
    await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    return peer


def wrong(line: str) -> str:
    """Another fingerprint of the same length."""
    value = line.rpartition(" ")[2]
    return ("00" if value[:2] != "00" else "01") + value[2:]


@pytest.mark.parametrize("how", [{"fingerprint": "another"}, {"profile": WEAK}])
async def test_a_wrong_fingerprint_and_a_weak_profile_end_the_handshake_and_nothing_is_forwarded(how: Any) -> None:
    async with stage(addresses=["127.0.0.1"]) as scene:
        await join(scene, "a", "b")
        watcher = Client(scene, "b")
        await watcher.subscribe()
        impostor = await publish(scene, **how)
        closed = await scene.until(lambda e: isinstance(e, control.PeerClosed) and e.member == "a")
        assert isinstance(closed, control.PeerClosed)
        assert closed.reason in ("dtls failed", "dtls closed")
        assert not any(
            isinstance(e, control.TrackAdded | control.PeerConnected) and e.member == "a" for e in scene.events
        )
        assert watcher.frames == {}
        await impostor.close()
        await watcher.close()


async def test_the_weakest_profile_that_we_take_is_taken() -> None:
    async with stage(addresses=["127.0.0.1"]) as scene:
        await join(scene, "a", "b")
        watcher = Client(scene, "b")
        await watcher.subscribe()
        publisher = await publish(scene, profile=SRTP_AES128_CM_SHA1_80)
        await watcher.until(video=5)
        await publisher.close()
        await watcher.close()


async def test_of_what_a_client_offers_we_take_gcm_with_the_short_key_first() -> None:
    async with stage(addresses=["127.0.0.1"]) as scene:
        await join(scene, "a")
        publisher = await publish(scene)
        await scene.until(lambda e: isinstance(e, control.TrackAdded))
        chosen = publisher.getTransceivers()[0].sender.transport._ssl.get_selected_srtp_profile()
        assert chosen == b"SRTP_AEAD_AES_128_GCM"
        await publisher.close()
