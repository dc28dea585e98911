"""Signing in, oneself, and ending sessions, over real HTTP."""

import asyncio
from pathlib import Path

import aiohttp
import pyotp
import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import VerifyMismatchError

from command.base.clock import ManualClock
from command.base.config import Config, load
from command.base.errors import Rejected
from command.base.rights import Role
from command.domain.account import DAY_US
from command.domain.registry_edits import SavePerson
from command.domain.roster import AddShifts, PlannedShift
from command.edge.auth import hash_of_nobody
from tests.command.assembly import PASSWORD, assembled

NEW = "another horse 10"


async def test_signing_in_sets_a_strict_cookie_and_says_who_i_am(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        client = node.client()
        me = await client.sign_in("officer")
        cookie = client.answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Path=/" in cookie and "Secure" not in cookie
        assert me["name"] == "officer" and me["roles"] == ["duty_officer"] and not me["limited"]
        assert me["rights"]["incident.report"] == "LINE" and "account.edit" not in me["rights"]
        assert me["organisation"]["name"] == "市"
        assert await client.ok("GET", "/session") | {"now": 0, "position": 0} == me | {"now": 0, "position": 0}


async def test_the_cookie_is_secure_behind_https(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path, public_url="https://node.example") as node:
        client = node.client()
        client.headers = {"Origin": "https://node.example"}
        await client.sign_in("officer")
        assert "Secure" in client.answer.headers["Set-Cookie"]


async def test_an_unknown_name_and_a_wrong_password_look_alike_up_to_the_lock_out(
    database_url: str, tmp_path: Path
) -> None:
    async with assembled(database_url, tmp_path, lockout_failures=3) as node:
        client = node.client()
        answers = {}
        for name in ("officer", "stranger"):
            body = {"name": name, "password": "not the password"}
            answers[name] = [await client.call("POST", "/session", body) for _ in range(4)]
        assert answers["officer"] == answers["stranger"]
        assert [answer["code"] for _, answer in answers["officer"]] == ["auth.wrong"] * 3 + ["auth.locked"]
        assert await client.refused("POST", "/session", {"name": "officer", "password": PASSWORD}) == (
            401,
            "auth.locked",
        )
        refused = [entry for entry in await node.entries("audit") if entry.kind == "session.refused"]
        assert len(refused) == 9
        assert not any("stranger" in str(entry) for entry in refused)


def test_an_unknown_name_costs_the_same_check_as_a_known_one() -> None:
    hasher = PasswordHasher()
    nobody = hash_of_nobody(hasher)
    assert extract_parameters(nobody) == extract_parameters(hasher.hash(PASSWORD))
    with pytest.raises(
        VerifyMismatchError
    ):  # the whole check was done; a hash that can't be read raises something else
        hasher.verify(nobody, PASSWORD)


def test_a_hash_takes_the_64_mib_of_the_argon2_profile_unless_told_and_never_less_than_19() -> None:
    assert Config().password_hash_mib * 1024 == PasswordHasher().memory_cost == 64 * 1024
    with pytest.raises(Rejected):
        load({"FENGHUO_PASSWORD_HASH_MIB": "18"})


async def test_a_lock_out_ends_by_itself_or_by_the_security_administrator(database_url: str, tmp_path: Path) -> None:
    clock = ManualClock()
    async with assembled(database_url, tmp_path, clock=clock, lockout_failures=3, lockout_minutes=15) as node:
        client, security = node.client(), await node.signed_in("security")
        right, wrong = ({"name": "officer", "password": password} for password in (PASSWORD, "not the password"))

        async def lock() -> None:
            for _ in range(3):
                await client.refused("POST", "/session", wrong)
            assert (await client.refused("POST", "/session", right))[1] == "auth.locked"

        await lock()
        clock.advance(15 * 60 + 1)
        await client.ok("POST", "/session", right)
        await lock()
        key = node.accounts["officer"]
        assert (await security.ok("GET", f"/accounts/{key}"))["locked_until"] > clock.now()
        await security.ok("POST", f"/accounts/{key}/unlock", {})
        assert (await security.ok("GET", f"/accounts/{key}"))["locked_until"] == 0
        clock.advance(61)
        await client.ok("POST", "/session", right)


async def test_a_new_sign_in_ends_the_session_the_browser_came_with(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        client = node.client()
        first = await client.sign_in("officer")
        second = await client.sign_in("officer")
        assert first["session"] != second["session"]
        listed = (await client.ok("GET", "/sessions"))["items"]
        assert [row["id"] for row in listed] == [second["session"]] and listed[0]["current"]


async def test_after_signing_out_the_cookie_opens_nothing(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        client = await node.signed_in("officer")
        token = client.answer.cookies["fenghuo"].value
        await client.ok("DELETE", "/session")
        client.headers = {"Cookie": f"fenghuo={token}"}
        assert await client.refused("GET", "/session") == (401, "auth.ended")


async def test_a_demanded_password_and_second_factor_leave_only_oneself_open(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path, totp_required=True) as node:
        client = node.client()
        me = await client.sign_in("officer")
        assert me["limited"] and me["demanded"] == ["totp"]
        assert (await client.refused("GET", "/incidents"))[0] == 403
        secret = await client.ok("POST", "/session/totp", {})
        assert secret["svg"].startswith("<svg") and secret["secret"] in secret["uri"] and "style=" not in secret["svg"]
        code = pyotp.TOTP(secret["secret"]).now()
        assert await client.refused("POST", "/session/totp/confirm", {"code": "x"}) == (422, "totp.wrong")
        me = await client.ok("POST", "/session/totp/confirm", {"code": code})
        assert not me["limited"] and me["totp"]
        await client.ok("GET", "/incidents")


async def test_a_second_factor_is_asked_for_and_no_code_works_twice(database_url: str, tmp_path: Path) -> None:
    clock = ManualClock()
    async with assembled(database_url, tmp_path, clock=clock) as node:
        client = await node.signed_in("officer")
        totp = pyotp.TOTP((await client.ok("POST", "/session/totp", {}))["secret"])
        code = totp.at(clock.now() // 1_000_000)
        await client.ok("POST", "/session/totp/confirm", {"code": code})
        body = {"name": "officer", "password": PASSWORD}
        assert (await client.refused("POST", "/session", body))[1] == "auth.code_needed"
        assert (await client.refused("POST", "/session", body | {"code": code}))[1] == "auth.code_used"
        assert (await client.refused("POST", "/session", body | {"code": "000000"}))[1] == "auth.wrong"
        clock.advance(60)
        await client.sign_in("officer", code=totp.at(clock.now() // 1_000_000))
        assert (await client.refused("POST", "/session/totp", {}))[1] == "password.needed"
        assert (await client.refused("POST", "/session/totp", {"password": NEW}))[1] == "password.wrong"
        await client.ok("POST", "/session/totp", {"password": PASSWORD})


async def test_changing_the_password_ends_the_other_sessions_and_keeps_this_one(
    database_url: str, tmp_path: Path
) -> None:
    async with assembled(database_url, tmp_path) as node:
        here, there = await node.signed_in("officer"), await node.signed_in("officer")
        assert (await here.refused("POST", "/session/password", {"old": NEW, "new": NEW + "!"}))[1] == "password.wrong"
        assert (await here.refused("POST", "/session/password", {"old": PASSWORD, "new": "short"}))[
            1
        ] == "password.weak"
        await here.ok("POST", "/session/password", {"old": PASSWORD, "new": NEW})
        await here.ok("GET", "/session")
        assert (await there.refused("GET", "/session"))[0] == 401
        assert (await there.refused("POST", "/session", {"name": "officer", "password": PASSWORD}))[1] == "auth.wrong"
        await there.sign_in("officer", NEW)


async def test_the_language_is_ones_own(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        client = await node.signed_in("officer")
        assert (await client.ok("PATCH", "/session", {"language": "en"}))["language"] == "en"
        assert (await client.refused("PATCH", "/session", {"language": "fr"}))[0] == 422


async def test_revoking_a_session_cuts_its_socket_within_a_second(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        officer, security = await node.signed_in("officer"), await node.signed_in("security")
        url = f"{node.base}/api/v1/live"
        async with officer.http.ws_connect(url, headers={"Origin": node.base}) as socket:
            listed = await security.ok("GET", f"/sessions?account={node.accounts['officer']}")
            await security.ok("DELETE", f"/sessions/{listed['items'][0]['id']}")
            async with asyncio.timeout(1):
                message = await socket.receive()
            assert message.type is aiohttp.WSMsgType.CLOSE and message.data == 4401
        assert (await officer.refused("GET", "/session"))[0] == 401


async def test_nobody_but_the_security_administrator_sees_or_ends_sessions_of_others(
    database_url: str, tmp_path: Path
) -> None:
    async with assembled(database_url, tmp_path) as node:
        officer, security = await node.signed_in("officer"), await node.signed_in("security")
        assert (await officer.ok("GET", f"/sessions?account={node.accounts['security']}"))["items"] == []
        other = (await security.ok("GET", "/session"))["session"]
        assert await officer.refused("DELETE", f"/sessions/{other}") == (404, "session.missing")
        await security.ok("GET", "/session")


async def test_the_posts_of_a_session_follow_the_roster_as_time_passes(database_url: str, tmp_path: Path) -> None:
    clock = ManualClock()
    async with assembled(database_url, tmp_path, clock=clock) as node:
        city = node.organisations["市"]
        person = await node.decide(SavePerson(name="某人", organisation=city))
        await node.account("chief", [Role.LEADER], "市", person=person)
        client = await node.signed_in("chief")
        assert (await client.ok("GET", "/session"))["posts"] == []
        start = clock.now() + 3600 * 1_000_000
        shift = PlannedShift(post="值班领导", person=person, starts_at=start, ends_at=start + DAY_US // 24)
        await node.decide(AddShifts(organisation=city, shifts=[shift]))
        assert (await client.ok("GET", "/session"))["posts"] == []
        clock.advance(3600)
        assert (await client.ok("GET", "/session"))["posts"] == ["值班领导"]
        clock.advance(3600)
        assert (await client.ok("GET", "/session"))["posts"] == []


@pytest.mark.parametrize("name", ["", "x" * 65, "a\x00b", "a\nb"])
async def test_a_name_that_nobody_can_have_is_refused_without_a_look(
    name: str, database_url: str, tmp_path: Path
) -> None:
    async with assembled(database_url, tmp_path) as node:
        body = {"name": name, "password": PASSWORD}
        assert (await node.client().refused("POST", "/session", body))[0] == 422
