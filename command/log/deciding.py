"""Deciding: a batch of requests, one after the other, each on the rows that the one before left.

Shell, in the writer's thread and its transaction; the deciders and projectors are pure. Invariant: a request that is refused,
or in which a bug shows, leaves no trace and harms no other of its batch.
"""

from collections.abc import Callable

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection

from command.base.clock import Clock
from command.base.entry import Written
from command.base.errors import Conflict, Denied, FenghuoError
from command.base.projection import Context, Decision, Domain, Rows
from command.base.rights import Tree
from command.log.filling import Filling
from command.log.folding import Folding
from command.log.recording import Mark, Recording
from command.log.store import IDEMPOTENCY
from command.log.submission import Commit, Receipt, Submission, digest
from command.log.workspace import Workspace
from command.tree.claim import SEIZED, TRANSFERRED

ENDS_A_TERM = (TRANSFERRED, SEIZED)
IDEMPOTENCY_KEPT_US = 7 * 24 * 3600 * 1_000_000
IDEMPOTENCY_SWEEP = 1000
KEYS = Filling(IDEMPOTENCY, ("key", "digest", "receipt", "at"))
KNOWN = sa.select(IDEMPOTENCY).where(IDEMPOTENCY.c.key.in_(sa.bindparam("keys", expanding=True)))

journal = structlog.get_logger("log")


class Deciding:
    """`tree` gives the organisations as of the request."""

    def __init__(
        self,
        domain: Domain,
        rows: Workspace,
        clock: Clock,
        node: str,
        tree: Callable[[Rows], Tree],
        *,
        folding: Folding,
        recording: Recording,
    ) -> None:
        self._domain, self._rows, self._clock, self._node, self._tree = domain, rows, clock, node, tree
        self._folding, self._recording = folding, recording

    def batch(
        self, connection: Connection, batch: list[Submission], position: int
    ) -> tuple[list[Receipt | Exception], Commit]:
        """Decide, record, project and insert a batch as the commit `position`; a result for each, in order."""
        now = self._clock.now()
        known = self._known_keys(connection, batch)
        results: list[Receipt | Exception] = []
        written: list[Written] = []
        digests: list[tuple[str, bytes, bytes, int]] = []
        for submission in batch:
            mark, length = self._rows.mark(), len(written)
            heads: dict[str, Mark] = {}
            try:
                replay = self._replayed(submission, known)
                if replay is not None:
                    results.append(replay)
                    continue
                receipt = self._decide(connection, submission, now, position, written, heads)
            except sa.exc.SQLAlchemyError:
                raise
            except Exception as error:
                # An edge: one request's bug is that request's failure, never the batch's.
                if not isinstance(error, FenghuoError):
                    journal.exception("decide.failed", request=type(submission.request).__name__)
                self._rows.undo(mark)
                del written[length:]
                self._recording.undo(heads)
                results.append(error)
                continue
            results.append(receipt)
            if submission.key is not None:
                told, stored = digest(submission.request), msgspec.json.encode(receipt)
                digests.append((submission.key, told, stored, now))
                known[submission.key] = (told, stored)
        changes = self._rows.flush()
        if digests:
            KEYS(connection, digests)
        if position % IDEMPOTENCY_SWEEP == 0:
            connection.execute(sa.delete(IDEMPOTENCY).where(IDEMPOTENCY.c.at < now - IDEMPOTENCY_KEPT_US))
        if written:
            self._recording.insert(connection, written, position)
        return results, Commit(position=position, changes=changes, written=written)

    def _known_keys(self, connection: Connection, batch: list[Submission]) -> dict[str, tuple[bytes, bytes]]:
        keys = [submission.key for submission in batch if submission.key is not None]
        if not keys:
            return {}
        found = connection.execute(KNOWN, {"keys": keys})
        return {row.key: (row.digest, row.receipt) for row in found}

    @staticmethod
    def _replayed(submission: Submission, known: dict[str, tuple[bytes, bytes]]) -> Receipt | None:
        if submission.key is None or submission.key not in known:
            return None
        told, receipt = known[submission.key]
        if told != digest(submission.request):
            raise Conflict(
                "idempotency.reused", "This Idempotency-Key was used for a different request; make a new one."
            )
        return msgspec.structs.replace(msgspec.json.decode(receipt, type=Receipt), replayed=True)

    def _decide(
        self,
        connection: Connection,
        submission: Submission,
        now: int,
        position: int,
        written: list[Written],
        heads: dict[str, Mark],
    ) -> Receipt:
        decider = self._domain.deciders[type(submission.request)]
        tree = self._tree(self._rows)
        generation, link = self._recording.generation, self._domain.link
        context = Context(submission.by, now, self._clock.id, submission.actor, tree, self._node, generation, link)
        decision: Decision = decider(self._rows, submission.request, context)
        if not context.asked:
            raise Denied("rights.unasked", f"No right guards {type(submission.request).__name__}; refused.")
        hashes = []
        for wanted in decision.drafts:
            draft = self._folding.prepare(wanted)
            stream = self._recording.stream(connection, draft.subject)
            if draft.kind in ENDS_A_TERM:
                draft = self._recording.based(connection, stream, draft)
            heads.setdefault(draft.subject, (stream.length, stream.head, stream.told))
            record = self._recording.record(connection, stream, draft, submission, now)
            self._folding.own(record)
            written.append(record)
            hashes.append(record.hash.hex())
        for table, row in (*decision.kept, *decision.added):
            assert table.kept, f"{table.name} is a read table; only projectors write it"
            msgspec.json.encode(row)  # what can't be stored fails here, where it is this request's failure alone
        for table, row in decision.kept:
            self._rows.put(table, row)
        for table, row in decision.added:
            self._rows.add(table, row)
        for table, key in decision.dropped:
            assert table.kept, f"{table.name} is a read table; only projectors write it"
            self._rows.delete(table, key)
        return Receipt(position=position, id=decision.id, entries=hashes, result=decision.result)
