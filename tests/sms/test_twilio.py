"""The Twilio gateway against a double over real HTTP: one POST ever, honest outcomes, signed callbacks only."""

import asyncio
import logging
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from aiohttp import ClientSession, web
from multidict import MultiDict

from command.base.errors import Conflict, Denied, FenghuoError, Rejected, Unavailable
from sms.gateway import NotSubmitted, Refused, Submitted, Uncertain
from sms.message import Kind, Message, State, Urgency, apply
from sms.numbers import demo_number
from sms.receipt import INBOUND_CHARS_MAX, Inbound, Receipt
from sms.twilio import INBOUND_PATH, STATUS_PATH, TwilioGateway, TwilioSettings, check_settings
from tests.sms.twilio_double import ACCOUNT, SENDER, TOKEN, Mode, TwilioDouble, sign

# 154 is no assigned Chinese prefix; the double is on loopback anyway.
NUMBER = "+8615400000001"


def message(**changes: object) -> Message:
    plain = Message(
        id="m1",
        notice="n1",
        person="p1",
        number=NUMBER,
        text="请于15分钟内到达指挥中心",
        language="zh",
        urgency=Urgency.EMERGENCY,
        created=0,
        expires=10**15,
        state=State.SUBMITTING,
    )
    return replace_struct(plain, **changes)


def replace_struct(plain: Message, **changes: object) -> Message:
    return msgspec.structs.replace(plain, **changes)


class Bench:
    """The double, the gateway, and an edge as thin as the product's."""

    def __init__(self) -> None:
        self.double = TwilioDouble()
        self.receipts: list[Receipt] = []
        self.inbounds: list[Inbound] = []
        self.row = message()
        self.reply = ""
        self.fail: FenghuoError | None = None
        self.public_url = ""
        self.gateway: TwilioGateway
        self.runner: web.AppRunner

    async def start(self) -> None:
        await self.double.start()
        app = web.Application()
        app.router.add_post(STATUS_PATH + "{message}", self.status)
        app.router.add_post(INBOUND_PATH, self.inbound)
        self.runner = web.AppRunner(app)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        self.public_url = f"http://127.0.0.1:{self.runner.addresses[0][1]}"
        self.settings = TwilioSettings(
            account_sid=ACCOUNT,
            auth_token=TOKEN,
            sender=SENDER,
            base_url=self.double.base_url,
            public_url=self.public_url,
            connect_timeout_s=0.2,
            timeout_s=0.4,
        )
        self.gateway = TwilioGateway(self.settings)
        await self.gateway.start(self.take_receipt, self.take_inbound)

    async def stop(self) -> None:
        await self.gateway.close()
        await self.runner.cleanup()
        await self.double.stop()

    async def take_receipt(self, receipt: Receipt) -> None:
        if self.fail:
            raise self.fail
        self.receipts.append(receipt)
        assert receipt.message == self.row.id
        self.row = apply(self.row, receipt.kind, 1, code=receipt.code, gateway="twilio", gateway_id=receipt.gateway_id)

    async def take_inbound(self, inbound: Inbound) -> str:
        self.inbounds.append(inbound)
        return self.reply

    async def status(self, request: web.Request) -> web.Response:
        try:
            await self.gateway.status(request.path_qs, await request.post(), request.headers)
        except FenghuoError as error:
            return web.Response(status=error.status, text=error.code)
        return web.Response(status=204)

    async def inbound(self, request: web.Request) -> web.Response:
        try:
            twiml = await self.gateway.inbound(request.path_qs, await request.post(), request.headers)
        except FenghuoError as error:
            return web.Response(status=error.status, text=error.code)
        return web.Response(text=twiml, content_type="text/xml")

    async def submit(self) -> Submitted:
        return await self.gateway.submit(self.row)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    await made.start()
    yield made
    await made.stop()


async def test_a_submit_is_one_post_with_our_id_in_the_callback_address(bench: Bench) -> None:
    assert await bench.submit() == Submitted(gateway_id=next(iter(bench.double.accepted)), parts=2)
    assert bench.double.posts == [
        {
            "To": NUMBER,
            "From": SENDER,
            "Body": bench.row.text,
            "StatusCallback": f"{bench.public_url}{STATUS_PATH}m1",
        }
    ]


async def test_a_messaging_service_stands_in_for_the_sender(bench: Bench) -> None:
    gateway = TwilioGateway(replace(bench.settings, sender="", service="MG1"))
    await gateway.start(bench.take_receipt, bench.take_inbound)
    await gateway.submit(bench.row)
    await gateway.close()
    assert bench.double.posts[0]["MessagingServiceSid"] == "MG1"
    assert "From" not in bench.double.posts[0]


AFTER = [mode for mode in Mode if mode.value >= Mode.ERROR_AFTER.value]


@pytest.mark.parametrize("mode", [*AFTER, Mode.REQUEST_TIMEOUT])
async def test_an_outcome_that_says_nothing_is_uncertain_and_never_posted_again(bench: Bench, mode: Mode) -> None:
    bench.double.modes.append(mode)
    with pytest.raises(Uncertain) as caught:
        await bench.submit()
    assert len(bench.double.posts) == 1
    assert NUMBER not in str(caught.value) and TOKEN not in str(caught.value)


@pytest.mark.parametrize("mode", AFTER)
async def test_a_connection_kept_alive_is_no_reason_for_a_second_post(bench: Bench, mode: Mode) -> None:
    await bench.submit()  # leaves an idle connection in the pool
    bench.double.modes.append(mode)
    with pytest.raises(Uncertain):
        await bench.submit()
    assert len(bench.double.posts) == 2


@pytest.mark.parametrize(
    ("mode", "code"),
    [
        (Mode.BUSY, "sms.twilio_busy"),
        (Mode.BAD_SENDER, "sms.twilio_21606"),
        (Mode.NOT_FOUND, "sms.twilio_404"),
        (Mode.REDIRECT, "sms.twilio_307"),
    ],
)
async def test_what_is_not_about_this_message_was_certainly_not_sent(bench: Bench, mode: Mode, code: str) -> None:
    bench.double.modes.append(mode)
    with pytest.raises(NotSubmitted) as caught:
        await bench.submit()
    assert caught.value.code == code
    assert len(bench.double.posts) == 1 and not bench.double.accepted
    assert caught.value.after_s == (7.0 if mode is Mode.BUSY else None)
    assert caught.value.blocked == (mode is not Mode.BUSY)


@pytest.mark.parametrize("mode", [Mode.BAD_NUMBER, Mode.ODD_CODE, Mode.PROBLEM])
async def test_a_refusal_of_this_message_is_permanent(bench: Bench, mode: Mode) -> None:
    bench.double.modes.append(mode)
    with pytest.raises(Refused) as caught:
        await bench.submit()
    assert len(bench.double.posts) == 1
    assert NUMBER not in str(caught.value) and caught.value.__suppress_context__


async def test_a_wrong_token_was_certainly_not_sent_and_blocks_the_gateway(bench: Bench) -> None:
    gateway = TwilioGateway(replace(bench.settings, auth_token="another"))
    await gateway.start(bench.take_receipt, bench.take_inbound)
    with pytest.raises(NotSubmitted) as caught:
        await gateway.submit(bench.row)
    await gateway.close()
    assert caught.value.blocked and caught.value.code == "sms.twilio_401"


async def test_a_refused_connection_was_certainly_not_sent(bench: Bench) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connecting is refused
        gateway = TwilioGateway(replace(bench.settings, base_url=f"http://127.0.0.1:{taken.getsockname()[1]}"))
        await gateway.start(bench.take_receipt, bench.take_inbound)
        with pytest.raises(NotSubmitted) as caught:
            await gateway.submit(bench.row)
        await gateway.close()
    assert caught.value.code == "sms.twilio_unreachable"


async def test_a_name_that_does_not_resolve_was_certainly_not_sent(bench: Bench) -> None:
    gateway = TwilioGateway(replace(bench.settings, base_url="https://gateway.invalid"))
    await gateway.start(bench.take_receipt, bench.take_inbound)
    with pytest.raises(NotSubmitted):
        await gateway.submit(bench.row)
    await gateway.close()


async def test_a_connection_that_is_never_made_was_certainly_not_sent(bench: Bench) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        held = [socket.socket() for _ in range(4)]  # fill the backlog: the next SYN gets no answer
        for each in held:
            each.setblocking(False)
            each.connect_ex(address)
        gateway = TwilioGateway(replace(bench.settings, base_url=f"http://127.0.0.1:{address[1]}"))
        await gateway.start(bench.take_receipt, bench.take_inbound)
        with pytest.raises(NotSubmitted):
            await gateway.submit(bench.row)
        await gateway.close()
        for each in held:
            each.close()


async def test_a_server_without_tls_was_certainly_not_sent_anything(bench: Bench) -> None:
    gateway = TwilioGateway(replace(bench.settings, base_url=bench.double.base_url.replace("http:", "https:")))
    await gateway.start(bench.take_receipt, bench.take_inbound)
    with pytest.raises(NotSubmitted):
        await gateway.submit(bench.row)
    await gateway.close()
    assert bench.double.posts == []


async def test_waiting_for_a_free_connection_is_not_uncertain(bench: Bench) -> None:
    gateway = TwilioGateway(replace(bench.settings, window=1))
    await gateway.start(bench.take_receipt, bench.take_inbound)
    bench.double.modes.extend([Mode.SILENT_AFTER] * 5)
    rows = [replace_struct(bench.row, id=f"m{n}") for n in range(5)]
    outcomes = await asyncio.gather(*map(gateway.submit, rows), return_exceptions=True)
    await gateway.close()
    uncertain = [outcome for outcome in outcomes if isinstance(outcome, Uncertain)]
    assert len(uncertain) == len(bench.double.posts) < 5
    assert all(isinstance(outcome, Uncertain | NotSubmitted) for outcome in outcomes)


async def test_the_process_environment_cannot_bend_the_address(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWILIO_EDGE", "sydney")
    monkeypatch.setenv("TWILIO_REGION", "au1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    gateway = TwilioGateway(bench.settings)
    await gateway.start(bench.take_receipt, bench.take_inbound)
    await gateway.submit(bench.row)
    await gateway.close()
    assert len(bench.double.posts) == 1


async def test_a_gateway_that_is_not_started_sends_nothing(bench: Bench) -> None:
    gateway = TwilioGateway(bench.settings)
    with pytest.raises(NotSubmitted):
        await gateway.submit(bench.row)
    assert bench.double.posts == []


async def test_a_drill_and_a_demonstration_number_never_reach_the_wire(bench: Bench) -> None:
    for unreal in (message(exercise=True), message(number=demo_number(7))):
        with pytest.raises(Refused):
            await bench.gateway.submit(unreal)
    assert bench.double.posts == []


async def test_callbacks_out_of_order_only_move_the_message_forward(bench: Bench) -> None:
    sid = (await bench.submit()).gateway_id
    bench.row = apply(bench.row, Kind.ACCEPTED, 0, gateway="twilio", gateway_id=sid)
    assert await bench.double.callbacks(sid, ["delivered", "queued", "sent", "sending", "undelivered"]) == [204] * 5
    assert bench.row.state is State.DELIVERED
    assert len(bench.receipts) == 5


async def test_a_callback_settles_a_message_whose_answer_was_lost(bench: Bench) -> None:
    bench.double.modes.append(Mode.ERROR_AFTER)
    with pytest.raises(Uncertain):
        await bench.submit()
    bench.row = apply(bench.row, Kind.UNCERTAIN, 0)
    assert bench.row.state.value == "unknown"
    sid = next(iter(bench.double.accepted))
    assert await bench.double.callback(sid, "queued") == 204
    assert bench.row.state.value == "sent" and bench.row.gateway_id == sid
    assert await bench.double.callback(sid, "undelivered", ErrorCode="30003") == 204
    assert bench.row.state is State.FAILED and bench.row.code == "twilio.30003"


async def test_a_callback_before_the_answer_is_not_undone_by_it(bench: Bench) -> None:
    sid = (await bench.submit()).gateway_id
    assert await bench.double.callback(sid, "delivered") == 204
    bench.row = apply(bench.row, Kind.ACCEPTED, 2, gateway="twilio", gateway_id=sid)
    assert bench.row.state is State.DELIVERED


async def test_a_callback_for_another_message_of_the_gateway_is_refused(bench: Bench) -> None:
    sid = (await bench.submit()).gateway_id
    bench.row = apply(bench.row, Kind.ACCEPTED, 0, gateway="twilio", gateway_id="SMother")
    assert await bench.double.callback(sid, "delivered") == Conflict.status
    assert bench.row.state is State.SENT


async def test_a_callback_is_acknowledged_only_when_its_receipt_is_durable(bench: Bench) -> None:
    sid = (await bench.submit()).gateway_id
    bench.fail = Unavailable("log.full", "the disk is full")
    assert await bench.double.callback(sid, "delivered") == 503
    bench.fail = None
    assert await bench.double.callback(sid, "delivered") == 204


async def test_a_status_we_do_not_know_changes_nothing(bench: Bench) -> None:
    sid = (await bench.submit()).gateway_id
    assert await bench.double.callback(sid, "levitating") == 204
    assert bench.receipts == []


async def test_a_callback_with_a_wrong_signature_is_denied(bench: Bench) -> None:
    sid = (await bench.submit()).gateway_id
    assert await bench.double.callback(sid, "delivered", token="guess") == 403
    async with ClientSession() as session:
        url = bench.double.accepted[sid]["StatusCallback"]
        form = {"AccountSid": ACCOUNT, "MessageSid": sid, "MessageStatus": "delivered"}
        for headers in ({}, {"X-Twilio-Signature": ""}, {"X-Twilio-Signature": "x" * 5000}):
            async with session.post(url, data=form, headers=headers) as answer:
                assert answer.status == 403
        good = {"X-Twilio-Signature": sign(url, form, TOKEN)}
        # The signature covers the address and every field: none can be exchanged.
        async with session.post(url.replace("m1", "m2"), data=form, headers=good) as answer:
            assert answer.status == 403
        async with session.post(url, data=form | {"MessageStatus": "failed"}, headers=good) as answer:
            assert answer.status == 403
        async with session.post(url + "?x=1", data=form, headers=good) as answer:
            assert answer.status == 403
    assert bench.receipts == []


async def test_a_callback_of_another_account_is_denied(bench: Bench) -> None:
    sid = (await bench.submit()).gateway_id
    assert await bench.double.callback(sid, "delivered", AccountSid="ACother") == 403


async def test_the_signature_is_checked_against_the_public_address_behind_a_proxy(bench: Bench) -> None:
    gateway = TwilioGateway(replace(bench.settings, public_url="https://command.example.cn/fenghuo/"))
    await gateway.start(bench.take_receipt, bench.take_inbound)
    form = MultiDict({"AccountSid": ACCOUNT, "MessageSid": "SM1", "MessageStatus": "delivered"})
    public = sign(f"https://command.example.cn/fenghuo{STATUS_PATH}m1", dict(form), TOKEN)
    await gateway.status(f"{STATUS_PATH}m1", form, {"X-Twilio-Signature": public})
    inner = sign(f"http://127.0.0.1:8080{STATUS_PATH}m1", dict(form), TOKEN)
    with pytest.raises(Denied):
        await gateway.status(f"{STATUS_PATH}m1", form, {"X-Twilio-Signature": inner})
    await gateway.close()


async def test_fields_that_are_no_text_or_too_many_are_denied_not_a_bug(bench: Bench) -> None:
    for form in ({"Body": 5}, {"a\ud800": "b"}, {f"f{i}": "x" for i in range(200)}):
        with pytest.raises(Denied):
            await bench.gateway.inbound(INBOUND_PATH, form, {"X-Twilio-Signature": "AAAA"})


async def test_a_signed_callback_without_what_we_need_is_rejected(bench: Bench) -> None:
    url = f"{bench.public_url}{STATUS_PATH}m1"
    form = {"AccountSid": ACCOUNT}
    with pytest.raises(Rejected):
        await bench.gateway.status(f"{STATUS_PATH}m1", form, {"X-Twilio-Signature": sign(url, form, TOKEN)})


async def test_an_inbound_text_is_taken_and_answered(bench: Bench) -> None:
    bench.reply = "请注明 <1A> & 1B"
    status, twiml = await bench.double.inbound(bench.public_url + INBOUND_PATH, NUMBER, "１ ")
    assert status == 200
    assert "<Message>请注明 &lt;1A&gt; &amp; 1B</Message>" in twiml
    assert bench.inbounds == [
        Inbound(gateway="twilio", gateway_id="SMin1", sender=NUMBER, recipient=SENDER, text="１ ")
    ]
    bench.reply = ""
    assert "<Message>" not in (await bench.double.inbound(bench.public_url + INBOUND_PATH, NUMBER, "1"))[1]


async def test_an_inbound_text_is_cut_at_its_limit_and_cleaned(bench: Bench) -> None:
    await bench.double.inbound(bench.public_url + INBOUND_PATH, NUMBER, "a\0" + "b" * INBOUND_CHARS_MAX)
    assert bench.inbounds[0].text == "a" + "b" * (INBOUND_CHARS_MAX - 2)


async def test_an_inbound_text_with_a_wrong_signature_is_denied(bench: Bench) -> None:
    assert (await bench.double.inbound(bench.public_url + INBOUND_PATH, NUMBER, "1", token="x"))[0] == 403
    assert bench.inbounds == []


async def test_secrets_and_numbers_are_in_no_repr_and_no_log(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    settings = replace(bench.settings, api_key="SK1", api_secret="key-secret")
    shown = repr(settings) + repr(bench.gateway) + repr(bench.row)
    await bench.submit()
    bench.double.modes.extend([Mode.BAD_NUMBER, Mode.ERROR_AFTER])
    for _ in range(2):
        with pytest.raises(FenghuoError):
            await bench.submit()
    for secret in (TOKEN, "key-secret", NUMBER, bench.row.text):
        assert secret not in shown
        assert not [record for record in caplog.records if secret in record.getMessage()]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("account_sid", {"account_sid": "AC/../x"}),
        ("auth_token", {"auth_token": ""}),
        ("sender", {"sender": ""}),
        ("sender", {"service": "MG1"}),
        ("api_secret", {"api_key": "SK1"}),
        ("public_url", {"public_url": "http://command.example.cn"}),
        ("base_url", {"base_url": "http://gateway.example.cn"}),
        ("base_url", {"base_url": "https://user:pass@gateway.example.cn"}),
        ("edge", {"edge": "sydney"}),
        ("rate_parts_per_s", {"rate_parts_per_s": 0.0}),
        ("timeout_s", {"connect_timeout_s": 99.0}),
    ],
)
async def test_a_wrong_setting_is_named(bench: Bench, name: str, changes: dict[str, object]) -> None:
    with pytest.raises(Rejected) as caught:
        check_settings(replace(bench.settings, **changes))  # type: ignore[arg-type]
    assert caught.value.details["name"] == name


@pytest.mark.slow
def test_a_program_without_a_twilio_gateway_does_not_load_its_library() -> None:
    code = "import sys, server; sys.exit('twilio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0
