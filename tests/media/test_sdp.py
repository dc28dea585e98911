"""The gate in front of aiortc's parsers: real offers pass, and whatever else comes is refused in our words."""

import random
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command.base.errors import Rejected
from media import feedback, rtc, sdp
from media.publisher import Publisher
from media.rtp import LEVEL_URI, MID_URI, SEND_TIME_URI
from media.viewer import transport_wide, view_lines

OFFERS = {path.stem: path.read_bytes().decode() for path in sorted((Path(__file__).parent / "offers").glob("*.sdp"))}
LOCAL = sdp.Local("ufrag123", "p" * 24, ":".join(["AB"] * 32), ("192.0.2.1", "127.0.0.1"), 4000, "passive")
SECTION = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:{}\r\na=sendonly\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\n"


@pytest.mark.parametrize("browser", OFFERS)
def test_a_browsers_offer_gives_opus_and_vp8_with_repair(browser: str) -> None:
    offer = rtc.read_sdp(OFFERS[browser], sdp.PUBLISH_MEDIA_MAX)
    audio, video = offer.media
    assert offer.setup == "actpass"
    assert [c.name for c in sdp.choose(audio)] == ["opus"]
    (codec,) = sdp.choose(video)
    assert codec.name == "vp8"
    assert codec.rtx
    assert audio.ids.level
    assert audio.ids.mid == video.ids.mid != 0
    assert video.ids.send_time
    assert {MID_URI, SEND_TIME_URI} <= dict(video.extensions).keys()
    assert LEVEL_URI in dict(audio.extensions)


def answer_to(text: str) -> str:
    offer = rtc.read_sdp(text, sdp.PUBLISH_MEDIA_MAX)
    publisher = Publisher.__new__(Publisher)
    publisher.sections = {}
    publisher._sources = {}
    publisher._alike = {}
    return sdp.write(LOCAL, publisher.answer(offer), session=1, version=1)


@pytest.mark.parametrize("browser", OFFERS)
def test_our_answer_takes_one_codec_and_says_who_we_are(browser: str) -> None:
    text = answer_to(OFFERS[browser])
    answer = rtc.read_sdp(text, sdp.PUBLISH_MEDIA_MAX)
    assert answer.setup == "passive"
    assert [m.direction for m in answer.media] == ["recvonly", "recvonly"]
    assert "a=ice-lite\r\n" in text
    assert "a=group:BUNDLE 0 1\r\n" in text
    assert text.count("a=candidate:") == 2
    assert "a=simulcast:recv h;l\r\n" in text
    assert "transport-cc" in text
    assert "goog-remb" in text
    assert "nack pli" in text


SINGLE = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\na=fingerprint:sha-256 "
    + ":".join(["AA"] * 32)
    + "\r\na=setup:actpass\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n"
    + SECTION.format(0)
)
RIDS = """a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r
a=rid:q send\r
a=rid:h send\r
a=rid:f send\r
a=simulcast:send q;~h,x;f\r
"""


def test_simulcast_is_taken_by_rid_in_the_order_of_the_offer() -> None:
    offer = rtc.read_sdp(SINGLE + RIDS, 8)
    assert offer.media[0].rids == ("q", "h", "f")
    assert offer.media[0].paused == {"h"}
    text = answer_to(SINGLE + RIDS)
    assert "a=rid:q recv\r\na=rid:h recv\r\na=rid:f recv\r\na=simulcast:recv q;h;f\r\n" in text


@pytest.mark.parametrize(
    ("change", "rids"),
    [
        (lambda t: t.replace("a=rid:h send", "a=rid:h recv"), ("q", "f")),
        (lambda t: t.replace("~h,x", "h;h;h;y;z"), ("q", "h", "f")),
        (lambda t: t.replace("q;~h,x;f", "q"), ()),
        (lambda t: t.replace("send q", "recv q"), ()),
        (lambda t: t.replace("rid:q", "rid:q\u00e9"), ("h", "f")),
        (lambda t: t.replace("rid:f", "rid:" + "f" * 17), ("q", "h")),
    ],
)
def test_layers_that_are_not_described_or_no_rids_are_left_out(change: Any, rids: tuple[str, ...]) -> None:
    assert rtc.read_sdp(SINGLE + change(RIDS), 8).media[0].rids == rids


def test_without_the_rid_extension_there_is_no_simulcast() -> None:
    text = answer_to(SINGLE + RIDS.replace("a=extmap:10", "a=noextmap:10"))
    assert "simulcast" not in text


def test_transport_wide_feedback_needs_its_extension() -> None:
    text = OFFERS["chromium"].replace("rmcat-transport-wide-cc", "rmcat-something-else")
    assert "transport-cc" not in answer_to(text)


def test_a_codec_nobody_can_play_is_rejected_and_leaves_the_bundle() -> None:
    text = answer_to(OFFERS["chromium"].replace("opus/48000", "codec2/8000"))
    assert "m=audio 0 " in text
    assert "a=group:BUNDLE 1\r\n" in text


def test_h264_is_taken_where_vp8_is_missing() -> None:
    text = OFFERS["chromium"].replace("VP8/90000", "MPV/90000")
    (codec,) = sdp.choose(rtc.read_sdp(text, 8).media[1])
    assert codec.name in ("h264", "vp9", "av1")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda t: t.replace("a=rtcp-mux\r\n", ""), "media.sdp.no_rtcp_mux"),
        (lambda t: t.replace("a=fingerprint", "a=nofingerprint"), "media.sdp.no_fingerprint"),
        (lambda t: t.replace("sha-256", "md5"), "media.sdp.no_fingerprint"),
        (lambda t: t.replace("a=ice-ufrag", "a=no-ufrag"), "media.sdp.no_ice"),
        (lambda t: t.replace("a=setup:actpass", "a=x:y"), "media.sdp.setup"),
        (lambda t: t.replace("a=group:BUNDLE 0 1\r\n", ""), "media.sdp.no_bundle"),
        (lambda t: t.replace("a=group:BUNDLE 0 1\r\n", "a=group:BUNDLE\r\n"), "media.sdp.no_media"),
        (lambda t: t.replace("a=mid:1", "a=mid:0"), "media.sdp.unreadable"),
        (lambda t: t + "a=x:" + "y" * 5000 + "\r\n", "media.sdp.unreadable"),
        (lambda t: t + "".join(SECTION.format(n + 2) for n in range(9)), "media.sdp.too_many_media"),
        (lambda t: t + "a=x\r\n" * 20_000, "media.sdp.too_long"),
        (lambda t: t + "a=x\r\n" * 50_000, "media.sdp.too_long"),
        (lambda t: "", "media.sdp.no_media"),
        (lambda t: t.replace("m=video 9", "m=video x"), "media.sdp.unreadable"),
    ],
)
def test_what_is_missing_is_named(change, code: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(Rejected) as caught:
        rtc.read_sdp(change(OFFERS["chromium"]), sdp.PUBLISH_MEDIA_MAX)
    assert caught.value.code == code


@pytest.mark.parametrize("browser", OFFERS)
def test_mutated_offers_are_answered_or_refused_in_time(browser: str) -> None:
    rng = random.Random(7)
    lines = OFFERS[browser].split("\r\n")
    slowest = 0.0
    for _ in range(3000):
        text = mutated(lines, rng)
        begin = time.perf_counter()
        try:
            answer_to(text)
        except Rejected as error:
            assert error.code.startswith("media.sdp.")
        slowest = max(slowest, time.perf_counter() - begin)
    assert slowest < 1.0


def mutated(lines: list[str], rng: random.Random) -> str:
    """`lines` with a few of them cut, doubled, moved, or with changed characters."""
    out = list(lines)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(out))
        match rng.randrange(6):
            case 0:
                del out[at]
            case 1:
                out.insert(rng.randrange(len(out)), out[at])
            case 2:
                out[at] = out[at][: rng.randrange(len(out[at]) + 1)]
            case 3:
                spot = rng.randrange(len(out[at]) + 1)
                out[at] = (
                    out[at][:spot] + rng.choice([" ", "0", "-1", "99999999999", ":", "/", "é", "\0"]) + out[at][spot:]
                )
            case 4:
                words = out[at].split(" ")
                rng.shuffle(words)
                out[at] = " ".join(words)
            case _:
                out[at] = out[at].replace(rng.choice("0123456789:a="), rng.choice(["", "9", "x"]))
        if not out:
            out = [""]
    return "\r\n".join(out)


@given(st.binary(max_size=300))
def test_any_bytes_can_arrive_as_rtcp(data: bytes) -> None:
    rtc.read_rtcp(data)


def test_what_we_do_not_use_costs_us_nothing_of_a_compound() -> None:
    report = rtc.write_sender_report(ssrc=1, ntp=2**40, timestamp=7, packets=1, octets=2, cname="c")[:28]
    key = rtc.write_key_request(5)
    two_chunks = bytes([0x82, 202, 0, 5]) + b"aaaa\x01\x01x\0" + b"bbbb\x01\x05lmnop\0"
    extended = bytes([0x80, 207, 0, 3]) + b"aaaa" + bytes([4, 0, 0, 200]) + bytes(4)  # a block longer than its packet
    future = bytes([0x9F, 211, 0, 1]) + bytes(4)
    padded = bytes([0xA0, 203 + 1, 0, 2]) + b"appl" + bytes([0, 0, 0, 9])
    found = rtc.read_rtcp(report + two_chunks + extended + future + key + padded)
    assert [type(one) for one in found] == [feedback.SenderReport, feedback.KeyRequest]
    assert [type(one) for one in rtc.read_rtcp(key)] == [feedback.KeyRequest]  # reduced size (RFC 5506)
    assert rtc.read_rtcp(report + two_chunks[:-4]) == []  # its length is a lie


def test_mutated_compounds_give_records_or_nothing() -> None:
    rng = random.Random(3)
    report = rtc.Report(1, 2, 3, 4)
    good = (
        rtc.write_sender_report(ssrc=1, ntp=2**40, timestamp=7, packets=1, octets=2, cname="c" * 16)
        + rtc.write_receiver_report([(9, report, 1, 2)], (1_500_000, [9]))
        + rtc.write_nack(9, [65_535, 0, 3, 40])
        + rtc.write_key_request(9)
    )
    records = rtc.read_rtcp(good)
    assert feedback.Nack(9, [65_535, 0, 3, 40]) in records
    assert feedback.KeyRequest(9) in records
    assert any(isinstance(r, feedback.Remb) and 1_400_000 < r.bitrate_bps <= 1_500_000 for r in records)
    for _ in range(5000):
        data = bytearray(good)
        for _ in range(rng.randint(1, 5)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        rtc.read_rtcp(bytes(data[: rng.randint(0, len(data))]))


def test_a_view_takes_the_first_line_of_each_kind() -> None:
    text = OFFERS["chromium"].replace("a=sendonly", "a=recvonly")
    offer = rtc.read_sdp(text, sdp.PUBLISH_MEDIA_MAX)
    lines = view_lines(offer, {}, {"audio": sdp.Stream(11), "video": sdp.Stream(12, 13)})
    assert [line.direction for line, _ in lines] == ["sendonly", "sendonly"]
    answer = rtc.read_sdp(sdp.write(LOCAL, [line._replace(cname="c") for line, _ in lines], session=1, version=1), 8)
    assert answer.media[1].streams == (sdp.Stream(12, 13),)


def test_redundant_audio_is_taken_first_where_it_is_offered() -> None:
    assert "m=audio 4000 UDP/TLS/RTP/SAVPF 63 111\r\n" in answer_to(OFFERS["chromium"])
    assert "a=fmtp:63 111/111\r\n" in answer_to(OFFERS["chromium"])
    assert " 63 " not in answer_to(OFFERS["chromium"].replace("63 111/111", "63 9/9"))


def _video(offer: str) -> sdp.Codec:
    return sdp.choose(rtc.read_sdp(offer, 8).media[0])[0]


def test_h264_of_one_packet_a_piece_is_taken_where_there_is_no_other() -> None:
    plain = SINGLE.replace("VP8/90000", "H264/90000")
    assert _video(plain).name == "h264"
    both = plain.replace("SAVPF 96", "SAVPF 96 98") + "a=rtpmap:98 H264/90000\r\na=fmtp:98 packetization-mode=1\r\n"
    assert _video(both).payload_type == 98


def test_layers_can_be_announced_by_ssrc_instead_of_rid() -> None:
    text = SINGLE + "a=ssrc-group:SIM 13 11 12\r\na=ssrc-group:FID 11 21\r\n"
    text += "".join(f"a=ssrc:{ssrc} cname:c\r\n" for ssrc in (11, 12, 13, 21))
    (media,) = rtc.read_sdp(text, 8).media
    assert media.simulcast == (13, 11, 12)
    assert media.layers == ("s0", "s1", "s2")
    assert "simulcast" not in answer_to(text)
    assert rtc.read_sdp(text.replace("SIM 13 11 12", "SIM 13 99"), 8).media[0].layers == ()


@pytest.mark.parametrize("mid", ["v" * 64, "0a8f7e2c-1b1b-4b4b-9f9f-0123456789ab"])
def test_a_long_mid_is_taken(mid: str) -> None:
    assert (
        rtc.read_sdp(SINGLE.replace("BUNDLE 0", f"BUNDLE {mid}").replace("mid:0", f"mid:{mid}"), 8).media[0].mid == mid
    )


def test_a_line_that_is_only_for_the_bundle_is_taken_though_its_port_is_0() -> None:
    text = OFFERS["chromium"].replace("m=video 9 ", "m=video 0 ").replace("a=mid:1", "a=bundle-only\r\na=mid:1")
    assert "a=group:BUNDLE 0 1\r\n" in answer_to(text)


DATA = "m=application {} UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:d\r\na=sctp-port:5000\r\n"


@pytest.mark.parametrize("browser", OFFERS)
def test_a_data_channel_is_rejected_by_port_0_wherever_it_stands(browser: str) -> None:
    lines = OFFERS[browser].split("\r\n")
    transport = [line for line in lines if line.startswith(("a=ice-ufrag", "a=ice-pwd", "a=setup"))][:3]
    transport += [line for line in lines if line.startswith("a=fingerprint")][:1]
    head, audio, video = OFFERS[browser].partition("m=audio")[0], *OFFERS[browser].split("m=")[1:]
    first = DATA.format(9) + "".join(f"{line}\r\n" for line in transport if line not in head)
    bare = "m=" + "\r\nm=".join(
        "\r\n".join(line for line in section.strip().split("\r\n") if line not in transport)
        for section in (audio, video)
    )
    described_once = head.replace("BUNDLE 0 1", "BUNDLE d 0 1") + first + bare + "\r\n"
    for text in (OFFERS[browser].replace("BUNDLE 0 1", "BUNDLE 0 1 d") + DATA.format(0), described_once):
        answer = answer_to(text)
        assert "m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\n" in answer
        assert "a=group:BUNDLE 0 1\r\n" in answer and answer.count("a=ice-ufrag:") == 2
        assert rtc.read_sdp(text, 8).ufrag == rtc.read_sdp(OFFERS[browser], 8).ufrag


def test_what_stands_beside_an_extension_and_blanks_between_parameters_are_passed_over() -> None:
    text = OFFERS["chromium"].replace("ssrc-audio-level", "ssrc-audio-level vad=on")  # RFC 6464 §4
    text = text.replace("apt=96", "rtx-time=3000; apt=96;")
    audio, video = rtc.read_sdp(text, 8).media
    assert audio.ids.level and sdp.choose(video)[0].rtx == 97


def test_a_direction_of_the_session_holds_for_lines_that_say_none() -> None:
    text = SINGLE.replace("a=sendonly\r\n", "").replace("a=setup", "a=recvonly\r\na=setup")
    assert rtc.read_sdp(text, 8).media[0].direction == "recvonly"
    assert rtc.read_sdp(text + "a=sendonly\r\n", 8).media[0].direction == "sendonly"


def test_rtcp_shares_the_port_if_the_line_that_describes_the_bundle_says_so() -> None:
    first, second = OFFERS["chromium"].split("m=video")
    assert "m=video 4000" in answer_to(first + "m=video" + second.replace("a=rtcp-mux\r\n", ""))


def test_a_view_is_answered_with_every_codec_that_may_come_into_it() -> None:
    text = OFFERS["chromium"].replace("a=sendonly", "a=recvonly")
    offer = rtc.read_sdp(text, sdp.PUBLISH_MEDIA_MAX)
    lines = view_lines(offer, {"video": "h264"}, {"audio": sdp.Stream(11), "video": sdp.Stream(12, 13)})
    names = [codec.name for codec in lines[1][1]]
    assert names[0] == "h264" and set(names) == {"vp8", "h264", "vp9", "av1"}
    written = sdp.write(LOCAL, [line._replace(cname="c") for line, _ in lines], session=1, version=1)
    answered = rtc.read_sdp(written, 8).media[1]
    assert {codec.name for codec in answered.codecs} >= set(names)
    assert all(codec.rtx for codec in answered.codecs if codec.name in names)


def test_a_view_gives_transport_wide_feedback_where_the_client_numbers_extensions_as_we_do() -> None:
    text = OFFERS["chromium"].replace("a=sendonly", "a=recvonly")
    streams = {"audio": sdp.Stream(11), "video": sdp.Stream(12, 13)}
    lines = [line for line, _ in view_lines(rtc.read_sdp(text, 8), {}, streams)]
    assert [transport_wide(line) for line in lines] == [False, True]
    assert set(lines[1].extensions) == set(sdp.out_extensions("video"))
    other = text.replace("a=extmap:3 http", "a=extmap:6 http")
    lines = [line for line, _ in view_lines(rtc.read_sdp(other, 8), {}, streams)]
    assert not transport_wide(lines[1])
    assert all("transport-cc" not in codec.feedback for codec in lines[1].codecs)
