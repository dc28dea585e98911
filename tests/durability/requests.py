"""Random requests of every kind a node decides, made from the rows as they are now; seeded, so that a red run can be had
again.

Values go through the same conversion as at the HTTP edge. Most requests are valid, some are refused (a stale version,
somebody without the right, a thing that is gone): what a refused request leaves behind is part of the test. Which values a
kind gets stands in `made`, one module for each part of the domain.
"""

from collections.abc import Callable

import msgspec

from command.base.entry import By
from command.base.errors import FenghuoError
from command.base.rights import Role
from command.domain import account, asking, handover, membership, order, registry_edits
from command.log.writer import Receipt
from tests.durability.made import fences, incidents, locations, meetings, messages, registry, tree
from tests.durability.maker import Maker, Values

PARTS = (registry, incidents, meetings, fences, tree, locations, messages)
MAKE: dict[type, Callable[[Maker], Values]] = {kind: make for part in PARTS for kind, make in part.MAKE.items()}
SELDOM: dict[type, float] = {kind: share for part in PARTS for kind, share in getattr(part, "SELDOM", {}).items()}
ELSEWHERE: tuple[type, ...] = (
    membership.JoinTree,
    handover.RequestOwnership,
    handover.AnswerTransfer,
    handover.SeizeIncident,
    asking.AskOwner,
    asking.AnswerAsk,
    order.AdoptOrder,
    order.RecallOrder,
)
"""What a node that is alone can't do; `tests/tree` does it."""


class Asker(Maker):
    """Makes whole requests and asks the node; counts what was accepted and what was refused."""

    async def ask(self, kind: type) -> Receipt | FenghuoError:
        """One request of `kind`; a refusal comes back, anything else is raised."""
        self.clock.advance(self.chance.uniform(0, 3))
        actor = self.actor()
        by = (
            By(account=self.chance.choice(["node", "gateway"]))
            if actor is None
            else By(account=actor.account, person=actor.person)
        )
        try:
            request = msgspec.convert(msgspec.to_builtins(MAKE[kind](self)), kind)
            seen = self.node.log.position if self.often(0.2) else None
            receipt = await self.node.log.append(request, by, actor=actor, seen=seen)
        except (FenghuoError, msgspec.ValidationError) as error:
            code = error.code if isinstance(error, FenghuoError) else f"invalid: {error}"
            self.refused[f"{kind.__name__} {code}"] += 1
            return error if isinstance(error, FenghuoError) else FenghuoError("request.invalid", str(error))
        self.accepted[kind.__name__] += 1
        return receipt

    def kind(self) -> type:
        """The kind of the next request; what ends or holds everything comes seldom."""
        kinds = list(MAKE)
        return self.chance.choices(kinds, [SELDOM.get(kind, 1.0) for kind in kinds])[0]

    async def settle(self) -> None:
        """A small tree with people, units and an account of every role, so that nothing lacks a subject. What the node wrote
        before anybody listened is read from its tables."""
        for name, shelf in self.node.store.shelves.items():
            rows = await self.node.store.read(shelf.select)
            self.rows[name] = {row.id: row for row in rows} | self.rows[name]
        while not all(len(self.rows[table]) >= 4 for table in ("organisation", "person", "unit")):
            for kind in (registry_edits.SaveOrganisation, registry_edits.SavePerson, registry_edits.SaveUnit):
                await self.ask(kind)
        for role in Role:
            request = account.CreateAccount(
                name=f"role-{role}",
                roles=[role],
                organisation=self.some("organisation").id,
                password_hash="x",
                person=self.some("person").id if role is Role.FIELD_MEMBER else None,
                unit=self.some("unit").id if role is Role.FIELD_MEMBER else None,
            )
            await self.node.log.append(request, By(account="node"))
