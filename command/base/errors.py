"""The errors of Fenghuo: each names the culprit, carries a stable code and a hint for the person who meets it.

Anything that is not one of these is a bug of ours. One place (`command/edge/api.py`) maps them to HTTP and WebSocket.
Invariant: `code` is stable (clients and tests compare it), `hint` is prose and may change.
"""


class FenghuoError(Exception):
    """Base of all errors that are not bugs.

    `code` is a dotted lower-case identifier, `hint` one sentence in English that says what to do, `details` whatever the
    client needs to do it (for a stale edit: both versions). `details` must be JSON-serialisable and free of secrets.
    """

    status = 500

    def __init__(self, code: str, hint: str = "", **details: object) -> None:
        super().__init__(f"{code}: {hint}" if hint else code)
        self.code = code
        self.hint = hint
        self.details = details


class Rejected(FenghuoError):
    """The caller sent something that can't be accepted; the same bytes will be refused again."""

    status = 422


class Unauthenticated(Rejected):
    """The caller has not said who they are, or the session has ended."""

    status = 401


class Missing(Rejected):
    """What the caller names does not exist, or must look to them as if it didn't."""

    status = 404


class TooLarge(Rejected):
    """More octets than the limit named in the hint."""

    status = 413


class Unsupported(Rejected):
    """The body is of another media type than this route takes."""

    status = 415


class TooSlow(Rejected):
    """The caller began a body and did not finish it in time."""

    status = 408


class Denied(FenghuoError):
    """The caller is known and may not do this."""

    status = 403


class Conflict(FenghuoError):
    """The caller's picture is stale, or the state machine has no such step from here."""

    status = 409


class Unavailable(FenghuoError):
    """Our surroundings (disk, database, gateway, worker, load) don't let us do it now; trying again may help."""

    status = 503


class TooMany(Unavailable):
    """This caller asks too often. `retry_after_s` in the details says when to come back."""

    status = 429


class Corrupt(FenghuoError):
    """Stored or received data is not what its hash, seal or schema says."""

    status = 500
