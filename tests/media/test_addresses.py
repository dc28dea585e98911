"""Which addresses are told to clients: those of the configuration, else those of the interfaces."""

import ipaddress

import pytest

from command.base.config import MEDIA_ADDRESSES_MAX, load, media_addresses
from command.base.errors import Rejected
from media.datagrams import interface_addresses
from tests.media.stage import stage


def test_several_public_addresses_of_both_families_may_be_announced() -> None:
    config = load({"FENGHUO_MEDIA_ADDRESS": "192.0.2.7, 2001:db8:0::7"})
    assert media_addresses(config) == ["192.0.2.7", "2001:db8::7"]
    assert media_addresses(load({})) == []


@pytest.mark.parametrize("text", ["media.example", "192.0.2.300", "192.0.2.7;192.0.2.8", "192.0.2.7/24"])
def test_what_is_no_address_stops_the_start(text: str) -> None:
    with pytest.raises(Rejected) as caught:
        load({"FENGHUO_MEDIA_ADDRESS": text})
    assert caught.value.code == "config.media_address"


def test_the_list_of_addresses_has_an_end() -> None:
    with pytest.raises(Rejected):
        load({"FENGHUO_MEDIA_ADDRESS": ",".join(["192.0.2.7"] * (MEDIA_ADDRESSES_MAX + 1))})


def test_interfaces_give_addresses_that_others_can_use_and_loopback_last() -> None:
    found = [ipaddress.ip_address(text) for text in interface_addresses()]
    assert str(found[-1]) == "127.0.0.1"
    assert not any(address.is_link_local or address.is_loopback for address in found[:-1])
    assert len(set(found)) == len(found)


async def test_a_nat_address_is_announced_on_udp_and_tcp_in_place_of_our_own() -> None:
    async with stage(addresses=["192.0.2.7", "2001:db8::7"]) as scene:
        assert scene.worker.addresses[0] == "192.0.2.7"
        await scene.worker.join("room", "a")
        await scene.worker.subscribe("room", "a")
        offer = await scene.until(lambda e: type(e).__name__ == "Offer")
        lines = [line.split() for line in offer.sdp.splitlines() if line.startswith("a=candidate:")]  # type: ignore[union-attr]
        assert {(line[2], line[4]) for line in lines} == {
            (protocol, address) for protocol in ("udp", "tcp") for address in scene.worker.addresses
        }
        assert {int(line[5]) for line in lines} == {scene.worker.port}
