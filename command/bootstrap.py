"""The first organisation of an empty node: what an administrator needs before anything else can be made."""

from command.base.entry import By
from command.domain.registry import Tier
from command.domain.registry_edits import SaveOrganisation
from command.edge.api import Node


async def first_organisation(node: Node) -> str:
    """A root organisation named after the node; its id."""
    request = SaveOrganisation(name=node.config.node_name, tier=Tier.PROVINCE)
    receipt = await node.log.append(request, By(account="node"))
    assert receipt.id is not None
    return receipt.id
