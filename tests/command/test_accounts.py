"""Accounts, one-time passwords, roles, locks and API tokens, over real HTTP."""

from pathlib import Path
from typing import Any

import pyotp
import pytest
import sqlalchemy as sa

from command.base.rights import Role
from command.domain.account import TOKENS_MAX
from command.log.store import ENTRY, IDEMPOTENCY
from tests.command.assembly import PASSWORD, Assembly, Client, assembled


async def _everything(node: Assembly) -> bytes:
    """All octets of entries, private parts and receipts."""
    store = node.node.store

    def read(connection: sa.Connection) -> bytes:
        entries = connection.execute(sa.select(ENTRY.c.data, ENTRY.c.private))
        receipts = connection.execute(sa.select(IDEMPOTENCY.c.receipt))
        return b"".join(bytes(part) for row in (*entries, *receipts) for part in row if part is not None)

    return await store.read(read)


def _body(node: Assembly, **more: Any) -> dict[str, Any]:
    return {"name": "newcomer", "roles": ["viewer"], "organisation": node.organisations["市"], **more}


async def test_a_new_account_gets_a_password_that_is_shown_once_and_stored_nowhere(
    database_url: str, tmp_path: Path
) -> None:
    async with assembled(database_url, tmp_path) as node:
        security, newcomer = await node.signed_in("security"), node.client()
        made = await security.ok("POST", "/accounts", _body(node), key="once")
        again = await security.ok("POST", "/accounts", _body(node), key="once")
        assert again["shown"] and again["secret"] is None and again["receipt"]["id"] == made["receipt"]["id"]
        assert made["secret"].encode() not in await _everything(node)
        me = await newcomer.sign_in("newcomer", made["secret"])
        assert me["demanded"] == ["password"]
        assert (await newcomer.refused("GET", "/incidents"))[0] == 403
        await newcomer.ok("POST", "/session/password", {"old": made["secret"], "new": PASSWORD})
        await newcomer.ok("GET", "/incidents")
        other = _body(node, name="another")
        assert (await security.refused("POST", "/accounts", other, key="once"))[1] == "idempotency.reused"
        assert (await security.refused("POST", "/accounts", _body(node)))[1] == "account.name_taken"


async def test_a_reset_ends_every_session_and_demands_a_new_password(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        security, officer = await node.signed_in("security"), await node.signed_in("officer")
        path = f"/accounts/{node.accounts['officer']}/password"
        issued = await security.ok("POST", path, {}, key="reset")
        assert (await security.ok("POST", path, {}, key="reset"))["shown"]
        assert (await officer.refused("GET", "/session"))[0] == 401
        assert (await officer.sign_in("officer", issued["secret"]))["limited"]
        assert issued["secret"].encode() not in await _everything(node)


async def test_a_second_factor_is_taken_away_by_the_security_administrator(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        security, officer = await node.signed_in("security"), await node.signed_in("officer")
        secret = (await officer.ok("POST", "/session/totp", {}))["secret"]
        await officer.ok("POST", "/session/totp/confirm", {"code": pyotp.TOTP(secret).now()})
        await security.ok("DELETE", f"/accounts/{node.accounts['officer']}/totp", {})
        assert not (await officer.sign_in("officer"))["totp"]
        assert secret.encode() not in await _everything(node)


async def test_roles_change_at_once_and_by_version(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        security, officer = await node.signed_in("security"), await node.signed_in("officer")
        path = f"/accounts/{node.accounts['officer']}"
        await security.ok("PATCH", path, {"version": 1, "roles": ["viewer"]})
        assert "incident.report" not in (await officer.ok("GET", "/session"))["rights"]
        status, answer = await security.call("PATCH", path, {"version": 1, "roles": ["leader"]})
        assert status == 409 and answer["details"]["current"]["roles"] == ["viewer"]


async def test_a_locked_account_loses_its_sessions(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        security, officer = await node.signed_in("security"), await node.signed_in("officer")
        path = f"/accounts/{node.accounts['officer']}"
        await security.ok("PATCH", path, {"version": 1, "locked": True})
        assert (await officer.refused("GET", "/session"))[0] == 401
        body = {"name": "officer", "password": PASSWORD}
        assert (await officer.refused("POST", "/session", body))[1] == "auth.locked"
        assert (await officer.refused("POST", "/session", body | {"password": "wrong one"}))[1] == "auth.wrong"
        await security.ok("PATCH", path, {"version": 2, "locked": False})
        await officer.sign_in("officer")


@pytest.mark.parametrize(
    ("roles", "status"),
    [(["security_admin", "leader"], 422), (["leader", "leader"], 422), ([], 422), (["duty_officer", "leader"], 200)],
)
async def test_administrators_are_separate(roles: list[str], status: int, database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        security = await node.signed_in("security")
        assert (await security.call("POST", "/accounts", _body(node, roles=roles)))[0] == status


async def test_nobody_changes_their_own_roles_or_locks_themselves(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        security = await node.signed_in("security")
        path = f"/accounts/{node.accounts['security']}"
        for change in ({"roles": ["viewer"]}, {"locked": True}):
            assert (await security.refused("PATCH", path, {"version": 1, **change}))[1] == "account.own_roles"


async def test_only_the_security_administrator_touches_accounts(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        path = f"/accounts/{node.accounts['officer']}"
        for name in ("officer", "system", "audit"):
            client = await node.signed_in(name)
            for method, where, body in (
                ("POST", "/accounts", _body(node)),
                ("PATCH", path, {"version": 1, "locked": True}),
                ("POST", f"{path}/password", {}),
                ("DELETE", f"{path}/totp", {}),
                ("POST", f"{path}/unlock", {}),
                ("POST", f"{path}/tokens", {"label": "x"}),
            ):
                assert (await client.refused(method, where, body))[0] == 403, (name, where)
        assert (await (await node.signed_in("audit")).call("GET", "/accounts"))[0] == 200


async def _bearer(node: Assembly, token: str) -> Client:
    client = node.client()
    client.headers = {"Authorization": f"Bearer {token}"}
    return client


async def test_a_token_opens_the_api_for_a_service_account_until_it_is_revoked(
    database_url: str, tmp_path: Path
) -> None:
    async with assembled(database_url, tmp_path) as node:
        security = await node.signed_in("security")
        key = await node.account("sensor", [Role.SERVICE], "市")
        body = {"label": "水位站", "days": 30}
        issued = await security.ok("POST", f"/accounts/{key}/tokens", body, key="token")
        again = await security.ok("POST", f"/accounts/{key}/tokens", body, key="token")
        assert again["shown"] and again["secret"] is None
        assert issued["secret"].encode() not in await _everything(node)
        sensor = await _bearer(node, issued["secret"])
        assert (await sensor.ok("GET", "/session"))["roles"] == ["service"]
        [row] = (await security.ok("GET", f"/sessions?account={key}"))["items"]
        assert row["token"] and row["label"] == "水位站"
        await security.ok("DELETE", f"/sessions/{row['id']}")
        assert (await sensor.refused("GET", "/session"))[0] == 401


async def test_tokens_are_for_service_accounts_and_keep_only_that_role(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        security = await node.signed_in("security")
        path = f"/accounts/{node.accounts['officer']}/tokens"
        assert (await security.refused("POST", path, {"label": "x"}))[1] == "token.not_service"
        key = await node.account("sensor", [Role.SERVICE], "市")
        issued = await security.ok("POST", f"/accounts/{key}/tokens", {"label": "x"})
        await security.ok("PATCH", f"/accounts/{key}", {"version": 1, "roles": ["service", "leader"]})
        sensor = await _bearer(node, issued["secret"])
        assert (await sensor.ok("GET", "/session"))["roles"] == ["service"]


async def test_an_account_that_nobody_has_is_missing_whatever_its_id(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        security = await node.signed_in("security")
        assert (await security.refused("GET", "/accounts/nobody"))[0] == 404
        assert (await security.refused("GET", "/accounts/%00"))[0] in (400, 422)


async def test_a_service_account_has_a_limited_number_of_tokens(database_url: str, tmp_path: Path) -> None:
    async with assembled(database_url, tmp_path) as node:
        security = await node.signed_in("security")
        key = await node.account("sensor", [Role.SERVICE], "市")
        for number in range(TOKENS_MAX):
            await security.ok("POST", f"/accounts/{key}/tokens", {"label": f"{number}"})
        assert (await security.refused("POST", f"/accounts/{key}/tokens", {"label": "x"}))[1] == "token.too_many"
