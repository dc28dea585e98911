"""Redundant audio: the newest frame is found, any bytes do no harm."""

from hypothesis import given
from hypothesis import strategies as st

from media.red import BLOCKS_MAX, primary


def packed(*earlier: bytes, newest: bytes) -> bytes:
    heads = b"".join(bytes([0x80 | 111, 3, 0xC0 | len(block) >> 8, len(block) & 0xFF]) for block in earlier)
    return heads + bytes([111]) + b"".join(earlier) + newest


def test_the_newest_frame_is_the_last_block() -> None:
    assert primary(packed(newest=b"only")) == b"only"
    assert primary(packed(b"before", newest=b"now")) == b"now"
    assert primary(packed(b"", b"x" * 300, newest=b"now")) == b"now"


def test_truncated_or_endless_headers_give_nothing() -> None:
    assert primary(b"") is None
    assert primary(packed(b"before", newest=b"")) is None
    assert primary(bytes([0x80, 0, 0, 0]) * (BLOCKS_MAX + 1) + b"\0x") is None


@given(st.binary(max_size=60))
def test_any_bytes_can_be_a_payload(payload: bytes) -> None:
    frame = primary(payload)
    assert frame is None or payload.endswith(frame)
