"""The asker: private parts that came to be readable here only after their entries had come.

Shell. A node that is invited anew, gets a new place in the tree, or heard of entries first from somebody who may not read them
holds entries without their part. It asks a neighbour for them, stream by stream, on *later*; what comes is checked like
any entry. Invariant: nothing is asked for that was erased, and no neighbour is asked for one stream again within `AGAIN_S`
unless it has given something.
"""

import math
from collections.abc import Iterable

from command.base.clock import Clock
from command.base.entry import Stream
from command.log.audience import NodeTree
from command.tree.wire import LATER, Tip
from command.uplink.peer import Peer

LOOK_S = 3.0
AGAIN_S = 30.0
ASKED_MAX = 10_000


class Asker:
    """Call `look` with what is lacking once `due` (monotonic seconds) has come, and `wake` when something has changed here."""

    def __init__(self, me: str, clock: Clock, tree: NodeTree) -> None:
        self._me, self._clock, self._tree = me, clock, tree
        self._asked: dict[tuple[str, Stream], tuple[float, Tip]] = {}
        """By neighbour and stream: until when it isn't asked again, and the first entry that was asked for."""
        self._looked = 0.0
        self.due = 0.0

    def wake(self) -> None:
        """Something was committed, or a link came: an idle node looks at nothing."""
        self.due = min(self.due, self._looked + LOOK_S)

    async def look(self, lacking: dict[Stream, list[Tip]], peers: Iterable[Peer]) -> None:
        """Ask for what this node may read by now, of each stream the neighbour that is nearest to its origin and may have it."""
        now = self._looked = self._clock.monotonic()
        self.due = now + LOOK_S if lacking else math.inf
        self._asked = {key: one for key, one in self._asked.items() if one[0] > now}
        near = [peer for peer in peers if LATER in peer.proven]
        for stream, tips in lacking.items():
            for peer in sorted(near, key=lambda one: self._distance(one, stream)):
                asked = self._asked.get((peer.node, stream))
                if asked is not None and asked[1] == tips[0]:
                    continue
                if len(self._asked) < ASKED_MAX:
                    self._asked[peer.node, stream] = (now + AGAIN_S, tips[0])
                    await peer.tell(lambda link, stream=stream, tips=tips: link.want(stream, tips))  # type: ignore[misc]
                break

    def _distance(self, peer: Peer, stream: Stream) -> tuple[bool, bool, str]:
        """The neighbour on the way to the origin first, then the superior, then the others."""
        line, above = self._tree.line(stream.origin), self._tree.line(self._me)[:-1]
        towards = peer.node in line if self._me in line else peer.node in above
        return not towards, peer.node not in above, peer.node
