"""The hot path: packets of one layer to many subscribers, in bursts.

What differs between subscribers (numbers after a switch of layers, the transport-wide number) is patched into the burst
while it lies in the buffer in which it is protected. Never parses foreign bytes and never awaits. Invariant: what leaves
under one number of one subscriber is always the same bytes, or a retransmission in a stream of its own.

Sources: RFC 3550, draft-holmer-rmcat-transport-wide-cc-extensions-01, `facts.md` (bursts, GSO).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from media.srtp import Burst

if TYPE_CHECKING:
    from media.output import Output
    from media.port import Port
    from media.track import Item


TIMED_TOGETHER = 8  # subscribers; a tenth of a millisecond


def send(
    groups: list[list[bytes]],
    items: list[Item],
    outputs: list[Output],
    port: Port,
    video: bool,
    payload_type: int = 0,
) -> None:
    """Protect `groups` for each of `outputs` and send them, each group in one system call.

    `items` describe the packets of all groups, in their order. Audio is never held back; an output on a line that was
    too slow gets video again from a key frame on. `payload_type`: what these packets have, where it isn't the output's.
    """
    by_tag: dict[int, list[Burst]] = {}
    packets = octets = 0
    now_s, until_next = 0.0, 0
    key = video and any(item.key for item in items)
    for output in outputs:
        peer = output.peer
        protector, destination = peer.protector, peer.destination
        if protector is None or destination is None:
            continue
        if destination.choked and video and not destination.resumes(key):
            continue
        laid_out = by_tag.get(protector.tag_bytes)
        if laid_out is None:
            laid_out = by_tag[protector.tag_bytes] = _lay_out(groups, items, protector.tag_bytes)
        if (
            not until_next
        ):  # a large fan-out takes milliseconds: what feedback is held against must be the time of sending
            now_s, until_next = port.now(), TIMED_TOGETHER
        until_next -= 1
        numbering, downlink = output.numbering, output.downlink
        if payload_type:
            numbering = numbering._replace(payload_type=payload_type)
        send_burst = destination.line.send_burst
        for burst in laid_out:
            if downlink is not None:
                data = protector.patched(burst, numbering, downlink.sent(burst.count, burst.size, now_s))
            elif output.shared:
                data = protector.burst(burst)
            else:
                data = protector.patched(burst, numbering)
            if data is None:
                port.dropped["rtp refused"] += burst.count
                continue
            packets += burst.count
            octets += burst.size
            send_burst(data, burst.segment_bytes, burst.count, destination)
    port.counters["tx_packets"] += packets
    port.counters["tx_bytes"] += octets


def _lay_out(groups: list[list[bytes]], items: list[Item], tag_bytes: int) -> list[Burst]:
    laid_out: list[Burst] = []
    at = 0
    for group in groups:
        laid_out.append(Burst(group, tag_bytes, items[at : at + len(group)]))
        at += len(group)
    return laid_out
