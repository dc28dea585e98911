"""A message: one text to one number, and the table of what may happen to it.

Pure: never sends, never reads a clock. Invariant: only a restore moves a message back. One whose bytes may
have left is never queued again; a second copy is a message of its own (`twin()`), marked as a possible
duplicate.
"""

from collections.abc import Iterable
from enum import Enum, StrEnum

import msgspec

from command.base.clock import MICROSECONDS
from command.base.errors import Conflict, Rejected
from command.base.projection import Row
from command.base.schema import Urgency
from sms.numbers import mask
from sms.template import Language
from sms.template import mark as marked
from sms.text import Segmentation, parts

UNKNOWN_GRACE_S = 30
"""How long an unknown emergency waits for a receipt before it is sent once more."""

ID_CHARS_MAX = 64


class State(StrEnum):
    """`sent` means the gateway took it; `unknown` that it may or may not have."""

    HELD = "held"
    QUEUED = "queued"
    SUBMITTING = "submitting"
    SENT = "sent"
    DELIVERED = "delivered"
    FAILED = "failed"
    UNKNOWN = "unknown"
    CANCELLED = "cancelled"


class Kind(StrEnum):
    """What happens to a message."""

    HOLD = "hold"  # a person, or an outbox that is paused
    RELEASE = "release"
    CANCEL = "cancel"  # a person; of an unknown one: "leave it"
    SUBMIT = "submit"  # written and committed before the first byte leaves
    ACCEPTED = "accepted"  # the gateway answered with its id
    NOT_SUBMITTED = "not_submitted"  # certainly not sent: may be tried again
    GIVE_UP = "give_up"  # tried often enough
    REFUSED = "refused"  # certainly not sent, and never will be
    UNCERTAIN = "uncertain"  # no answer, or one that says nothing
    EXPIRED = "expired"  # too old to be of use before it was submitted
    CRASHED = "crashed"  # this node started again
    RESTORED = "restored"  # this node's database is an older one
    RECEIPT_SENT = "receipt_sent"
    RECEIPT_DELIVERED = "receipt_delivered"
    RECEIPT_FAILED = "receipt_failed"


class Doubt(StrEnum):
    """Why a message is unknown."""

    CRASH = "crash"
    NO_ANSWER = "no_answer"
    RESTORE = "restore"


FINAL = frozenset({State.DELIVERED, State.FAILED, State.CANCELLED})
"""What neither a crash nor a restore touches. A late receipt may still improve it: delivered is delivered."""

_UNSENT = {
    Kind.CANCEL: State.CANCELLED,
    Kind.EXPIRED: State.FAILED,
    # What the backup calls unsent may have been sent since it was taken.
    Kind.RESTORED: State.UNKNOWN,
    # A receipt is proof, even for what we believed never left.
    Kind.RECEIPT_SENT: State.SENT,
    Kind.RECEIPT_DELIVERED: State.DELIVERED,
    Kind.RECEIPT_FAILED: State.FAILED,
}


def _settled(state: State, *, delivered: State = State.DELIVERED) -> dict[Kind, State]:
    """The answer to our submit may come after the receipt that settled the message: it adds nothing."""
    late = (Kind.ACCEPTED, Kind.NOT_SUBMITTED, Kind.REFUSED, Kind.UNCERTAIN, Kind.CRASHED, Kind.RESTORED)
    receipts = {Kind.RECEIPT_SENT: state, Kind.RECEIPT_FAILED: state, Kind.RECEIPT_DELIVERED: delivered}
    return dict.fromkeys(late, state) | receipts


_TABLE: dict[State, dict[Kind, State]] = {
    State.HELD: {**_UNSENT, Kind.RELEASE: State.QUEUED, Kind.CRASHED: State.HELD},
    State.QUEUED: {
        **_UNSENT,
        Kind.HOLD: State.HELD,
        Kind.SUBMIT: State.SUBMITTING,
        Kind.GIVE_UP: State.FAILED,
        Kind.CRASHED: State.QUEUED,
    },
    State.SUBMITTING: {
        Kind.ACCEPTED: State.SENT,
        Kind.NOT_SUBMITTED: State.QUEUED,
        Kind.GIVE_UP: State.FAILED,
        Kind.REFUSED: State.FAILED,
        Kind.UNCERTAIN: State.UNKNOWN,
        Kind.CRASHED: State.UNKNOWN,
        Kind.RESTORED: State.UNKNOWN,
        Kind.RECEIPT_SENT: State.SENT,
        Kind.RECEIPT_DELIVERED: State.DELIVERED,
        Kind.RECEIPT_FAILED: State.FAILED,
    },
    State.UNKNOWN: {
        Kind.ACCEPTED: State.SENT,
        Kind.UNCERTAIN: State.UNKNOWN,
        Kind.CANCEL: State.CANCELLED,
        Kind.CRASHED: State.UNKNOWN,
        Kind.RESTORED: State.UNKNOWN,
        Kind.RECEIPT_SENT: State.SENT,
        Kind.RECEIPT_DELIVERED: State.DELIVERED,
        Kind.RECEIPT_FAILED: State.FAILED,
    },
    State.SENT: {
        **_settled(State.SENT),
        Kind.RECEIPT_FAILED: State.FAILED,
        # Its receipts since the backup went to the database that was lost, and won't come again.
        Kind.RESTORED: State.UNKNOWN,
    },
    State.DELIVERED: _settled(State.DELIVERED),
    State.FAILED: _settled(State.FAILED),
    State.CANCELLED: {
        **_settled(State.CANCELLED),
        Kind.RECEIPT_SENT: State.SENT,
        Kind.RECEIPT_FAILED: State.FAILED,
    },
}
TABLE: dict[tuple[State, Kind], State] = {
    (state, kind): after for state, row in _TABLE.items() for kind, after in row.items()
}

_DOUBTS = {Kind.CRASHED: Doubt.CRASH, Kind.UNCERTAIN: Doubt.NO_ANSWER, Kind.RESTORED: Doubt.RESTORE}


def step(state: State, kind: Kind) -> State:
    """The state after `kind`. Raises Conflict `sms.state` where the table has no such step."""
    after = TABLE.get((state, kind))
    if after is None:
        raise Conflict("sms.state", f"a message that is {state.value} can't be {kind.value}", state=state.value)
    return after


class Message(Row, frozen=True, kw_only=True):
    """One row of the outbox. Instants are microseconds UTC.

    `text` is without marks; `outgoing()` adds them. `root` is the id of the first copy and `copy` counts
    from 1, so
    that the id of a second copy is known beforehand and can't be made twice. `order` is what a "1" answers,
    `tag` the
    letters that tell two open orders apart. `since` is when the state was entered, `not_before` when a retry
    is due,
    `tries` counts submits that began. `resent` says that a copy exists. `code` is the last error's. `real` is False for
    what must never leave this node: drills and numbers of nobody. `answered` says that this person wrote back.
    """

    notice: str
    person: str
    number: str
    text: str
    language: Language
    urgency: Urgency
    created: int
    expires: int
    root: str = ""
    copy: int = 1
    state: State = State.QUEUED
    since: int = 0
    not_before: int = 0
    tries: int = 0
    gateway: str = ""
    gateway_id: str = ""
    code: str = ""
    doubt: Doubt | None = None
    duplicate: bool = False
    exercise: bool = False
    resent: bool = False
    order: str = ""
    tag: str = ""
    organisation: str = ""
    real: bool = True
    answered: bool = False

    def __repr__(self) -> str:
        return f"Message({self.id} to {mask(self.number)}, {self.urgency.value}, {self.state.value})"


def outgoing(message: Message) -> str:
    """The text as it leaves, with the marks of a drill and of a possible duplicate."""
    return marked(message.text, message.language, exercise=message.exercise, duplicate=message.duplicate)


def cut(message: Message) -> Segmentation:
    """The parts of the outgoing text. Raises Rejected as `sms.text.parts()`; check it before queueing."""
    return parts(outgoing(message))


def apply(
    message: Message,
    kind: Kind,
    at: int,
    *,
    code: str = "",
    gateway: str = "",
    gateway_id: str = "",
    not_before: int = 0,
) -> Message:
    """`message` after `kind` happened at `at`.

    A receipt or answer that names another gateway id than the one stored is somebody else's: Conflict
    `sms.gateway_id`. Raises Conflict `sms.state` for an impossible step. The same fact twice changes nothing.
    """
    after = step(message.state, kind)
    if gateway_id and message.gateway_id and gateway_id != message.gateway_id:
        raise Conflict("sms.gateway_id", "the receipt names another message of the gateway")
    changes: dict[str, object] = {}
    if after is not message.state:
        changes = {"state": after, "since": at, "code": code}
        changes["doubt"] = _DOUBTS.get(kind) if after is State.UNKNOWN else None
    elif kind is Kind.RESTORED and after is State.UNKNOWN:
        changes["doubt"] = Doubt.RESTORE  # whatever the doubt was, now only a person may decide
    if kind is Kind.SUBMIT:
        changes |= {"tries": message.tries + 1, "gateway": gateway, "gateway_id": ""}
    if kind is Kind.NOT_SUBMITTED and after is State.QUEUED:
        changes["not_before"] = not_before
    if gateway_id and not message.gateway_id:
        changes |= {"gateway_id": gateway_id, "gateway": gateway or message.gateway}
    return msgspec.structs.replace(message, **changes) if changes else message


class Next(Enum):
    """What the outbox should do with a message now."""

    NOTHING = "nothing"
    SUBMIT = "submit"
    EXPIRE = "expire"
    RESEND = "resend"
    ASK = "ask"  # a person


def next_action(message: Message, now: int) -> Next:
    """The crash rule. `ASK` is the list of messages that wait for a person's word."""
    if message.state is State.QUEUED:
        if now >= message.expires:
            return Next.EXPIRE
        return Next.SUBMIT if now >= message.not_before else Next.NOTHING
    if message.state is State.HELD and now >= message.expires:
        return Next.EXPIRE
    if message.state is not State.UNKNOWN or message.resent:
        return Next.NOTHING
    if message.urgency is Urgency.NORMAL or message.doubt is Doubt.RESTORE or message.copy > 1:
        return Next.ASK
    if now >= message.expires:
        return Next.ASK
    return Next.RESEND if now >= message.since + UNKNOWN_GRACE_S * MICROSECONDS else Next.NOTHING


def twin(message: Message, at: int, *, by_person: bool = False, expires: int | None = None) -> tuple[Message, Message]:
    """A second copy: returns the original, marked as resent, and the new message; the caller commits both at
    once.

    By itself only an unknown emergency is copied, once, and never after a restore; a person may copy any
    that is
    unknown or failed. A copy of what may have arrived says "may be a duplicate". Raises Conflict
    `sms.resend`.
    """
    automatic = next_action(message, at) is Next.RESEND
    asked = by_person and message.state in (State.UNKNOWN, State.FAILED) and not message.resent
    if not (automatic or asked):
        raise Conflict("sms.resend", f"a message that is {message.state.value} isn't sent again")
    root = message.root or message.id
    copy = msgspec.structs.replace(
        message,
        id=twin_id(root, message.copy + 1),
        root=root,
        copy=message.copy + 1,
        state=State.QUEUED,
        since=at,
        created=at,
        expires=message.expires if expires is None else expires,
        not_before=0,
        tries=0,
        gateway="",
        gateway_id="",
        code="",
        doubt=None,
        duplicate=message.duplicate or message.state is State.UNKNOWN,
    )
    return msgspec.structs.replace(message, resent=True), copy


def twin_id(root: str, copy: int) -> str:
    """The id of the `copy`-th copy, safe in a URL path. Raises Rejected `sms.id` when it would be too
    long.
    """
    name = f"{root}.{copy}"
    if len(name) > ID_CHARS_MAX:
        raise Rejected("sms.id", f"a message id has at most {ID_CHARS_MAX} characters")
    return name


_RANK = (
    State.CANCELLED,
    State.FAILED,
    State.HELD,
    State.UNKNOWN,
    State.QUEUED,
    State.SUBMITTING,
    State.SENT,
    State.DELIVERED,
)


def best(states: Iterable[State]) -> State | None:
    """What the person's row shows when there are copies: the best that is known of any; None of none."""
    return max(states, key=_RANK.index, default=None)
