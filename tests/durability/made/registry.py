"""Random requests about who there is: organisations, units, people, shifts and accounts."""

from collections.abc import Callable

from command.base.clock import MICROSECONDS
from command.base.rights import Role
from command.domain import account, imports, registry, registry_edits, roster
from sms.numbers import demo_number
from tests.durability.maker import DAY, Maker, Values


def _organisation(m: Maker) -> Values:
    parent = m.some("organisation")
    values = {"name": m.name(), "name_en": m.text()[:50], "tier": m.of(registry.Tier), "retired": not m.often(0.98)}
    values["parent"] = None if parent is None or m.often(0.1) else parent.id
    return values | m.edited("organisation", 0.8) | m.picked(place=m.place)


def _unit(m: Maker) -> Values:
    kind = m.of(registry.UnitKind)
    values = {"name": m.name(), "kind": kind, "organisation": m.id("organisation"), "members": m.ids("person")}
    return values | m.edited("unit") | {"retired": not m.often(0.95)} | m.picked(home=m.place, capability=m.text)


def _person(m: Maker) -> Values:
    values = {"name": m.name(), "organisation": m.id("organisation"), "phones": [demo_number(m.chance.randrange(99))]}
    return values | m.edited("person") | {"retired": not m.often(0.97), "title": m.text()[:50]}


def _group(m: Maker) -> Values:
    values = {"name": m.name(), "organisation": m.id("organisation"), "persons": m.ids("person", 5)}
    return values | m.edited("group") | {"retired": not m.often(0.95)}


def _template(m: Maker) -> Values:
    values = {"name": m.name(), "organisation": m.id("organisation")} | m.edited("template")
    return values | {"text_zh": "【{a}】内容", "text_en": "[{a}] text" if m.often(0.9) else "no placeholder"}


def _shift(m: Maker, since: int | None = None) -> Values:
    start = (m.clock.now() if since is None else since) + m.chance.randrange(-2 * DAY if since is None else 0, 2 * DAY)
    return {
        "post": m.name(),
        "person": m.id("person"),
        "starts_at": start,
        "ends_at": start + m.chance.randrange(1, DAY),
        "leader": m.often(),
    }


def _shifted(m: Maker) -> Values:
    return {"organisation": m.id("organisation"), "shifts": [_shift(m) for _ in range(m.chance.randrange(1, 3))]}


def _replace_shifts(m: Maker) -> Values:
    organisation, since = m.id("organisation"), m.clock.now()
    until = since + 2 * DAY
    seen = [
        {"id": row.id, "version": row.version}
        for row in m.rows["shift"].values()
        if row.organisation == organisation and since <= row.starts_at < until  # type: ignore[attr-defined]
    ]
    shifts = [_shift(m, since) for _ in range(m.chance.randrange(3))]
    return {"organisation": organisation, "since": since, "until": until, "seen": seen, "shifts": shifts}


def _import(m: Maker) -> Values:
    persons = [
        {
            "row": row,
            "name": f"名{m.chance.randrange(30)}",
            "organisation": m.id("organisation"),
            "phones": [demo_number(m.chance.randrange(30))],
            "groups": [f"组{m.chance.randrange(3)}"],
        }
        for row in range(m.chance.randrange(1, 4))
    ]
    return {"persons": persons}


def _create_account(m: Maker) -> Values:
    role = m.of(Role)
    values = {"name": f"account-{m.chance.randrange(10**6)}", "roles": [role], "organisation": m.id("organisation")}
    return values | {"password_hash": "x"} | m.picked(person=lambda: m.id("person"), unit=lambda: m.id("unit"))


def _edit_account(m: Maker) -> Values:
    return m.named("account") | m.picked(
        roles=lambda: [m.of(Role)],
        organisation=lambda: m.id("organisation"),
        person=lambda: m.id("person"),
        language=lambda: "en",
        locked=lambda: not m.often(0.8),
    )


def _token(m: Maker) -> Values:
    services = [row.id for row in m.rows["account"].values() if row.roles == [Role.SERVICE]]  # type: ignore[attr-defined]
    key = m.chance.choice(services) if services else "nobody"
    return {"account": key, "hashed": m.clock.token(32), "label": "x", "days": 30}


def _open_session(m: Maker) -> Values:
    return {"id": m.clock.token(32), "account": m.id("account"), "expires_at": m.clock.now() + DAY, "address": "::1"}


def _refuse(m: Maker) -> Values:
    key = m.id("account") if m.often(0.9) else None
    return {"account": key, "address": "::1", "limit": 5, "lock_us": 60 * MICROSECONDS}


def _totp(m: Maker) -> Values:
    sealed = "sealed" if m.often(0.7) else None
    return {"account": m.id("account"), "sealed": sealed, "pending": sealed is not None and m.often(), "step": 5}


MAKE: dict[type, Callable[[Maker], Values]] = {
    registry_edits.SaveOrganisation: _organisation,
    registry_edits.SaveUnit: _unit,
    registry_edits.SetUnitStatus: lambda m: m.named("unit") | {"status": m.of(registry.UnitStatus)},
    registry_edits.SavePerson: _person,
    registry_edits.SetOffDuty: lambda m: m.named("person") | {"off_duty": m.often(0.2)},
    registry_edits.SaveGroup: _group,
    registry_edits.SaveTemplate: _template,
    roster.AddShifts: _shifted,
    roster.RemoveShift: lambda m: m.named("shift"),
    roster.ReplaceShifts: _replace_shifts,
    imports.ImportPersons: _import,
    account.CreateAccount: _create_account,
    account.EditAccount: _edit_account,
    account.SetPassword: lambda m: {"account": m.id("account"), "password_hash": "y", "must_change": m.often()},
    account.SetTotp: _totp,
    account.ChangeLanguage: lambda m: {"account": m.id("account"), "language": m.chance.choice(["zh", "en"])},
    account.Unlock: lambda m: {"account": m.id("account")},
    account.CreateToken: _token,
    account.OpenSession: _open_session,
    account.RefuseSignIn: _refuse,
    account.CloseSession: lambda m: {"id": m.id("session")},
}
SELDOM: dict[type, float] = {
    registry_edits.SaveOrganisation: 0.3,
    account.CreateAccount: 0.3,
    account.EditAccount: 0.5,
}
