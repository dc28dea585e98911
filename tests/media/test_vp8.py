"""VP8 payloads: ids are found and moved, key frames are known and measured, any bytes do no harm."""

from hypothesis import given
from hypothesis import strategies as st

from media import vp8

KEY = bytes([0x10, 0x00, 0x00, 0x9D, 0x01, 0x2A, 0x80, 0x02, 0xE0, 0x41])  # 640 x 480 with a scaling bit


def descriptor(picture: int, tl0: int, wide: bool = True) -> bytes:
    ident = bytes([0x80 | picture >> 8, picture & 0xFF]) if wide else bytes([picture & 0x7F])
    return bytes([0x90, 0xE0]) + ident + bytes([tl0, 0x20])


@given(st.integers(0, 0x7FFF), st.integers(0, 255), st.integers(0, 0x7FFF), st.integers(0, 255), st.booleans())
def test_ids_are_moved_and_wrap(picture: int, tl0: int, by: int, by_tl0: int, wide: bool) -> None:
    payload = descriptor(picture if wide else picture & 0x7F, tl0, wide) + b"\0rest"
    found = vp8.picture(payload)
    assert found is not None
    moved = vp8.moved(found, by, by_tl0)
    after = vp8.picture(payload[: found.at] + moved + payload[found.at + len(moved) :])
    assert after is not None
    assert after.value == (found.value + by) & found.mask
    assert after.tl0 == (tl0 + by_tl0) & 0xFF


def test_a_key_frame_tells_its_size() -> None:
    assert vp8.size(descriptor(5, 5) + KEY) == (640, 480)
    assert vp8.size(b"\x10" + KEY) == (640, 480)
    assert vp8.size(descriptor(5, 5) + b"\x01" + KEY[1:]) is None


def test_a_payload_without_ids_has_none() -> None:
    assert vp8.picture(b"\x10\x00\x00\x00\x00") is None


@given(st.binary(max_size=40))
def test_any_bytes_can_be_a_payload(payload: bytes) -> None:
    vp8.size(payload)
    found = vp8.picture(payload)
    if found is not None:
        assert found.at + len(vp8.moved(found, 1, 1)) <= len(payload)
