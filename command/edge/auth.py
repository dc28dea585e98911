"""Authentication: passwords, second factors, sessions.

Shell around `account`. Argon2id runs in a thread, two at a time (125 ms each). Invariant: a session is believed only while
its row exists; when the row goes, the cached session goes in the same publish, and its sockets are cut.
"""

import asyncio
import base64
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import msgspec
import pyotp
from aiohttp import web
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy.engine import Connection

from command.base.clock import MICROSECONDS, Clock
from command.base.config import Config
from command.base.entry import By
from command.base.errors import Rejected, TooMany, Unauthenticated, Unavailable
from command.base.rights import Actor, Role
from command.domain.account import CREDENTIAL, SESSION, Credential, OpenSession, RefuseSignIn, SessionRow
from command.domain.registry import ACCOUNT, SHIFT, Account
from command.log.store import Store
from command.log.writer import Commit, Log

COOKIE = "fenghuo"
HASHES_AT_ONCE = 2
HASHES_WAITING_MAX = 64
PASSWORD_MIN, PASSWORD_MAX = 10, 200
SESSIONS_CACHED_MAX = 20_000
TRIES_PER_MINUTE = 30
TRIES_TRACKED_MAX = 10_000
STRANGERS_MAX = 10_000
"""Names without an account whose failures are counted, so that they lock like real ones and tell nothing."""
TOTP_WINDOW = 1
TOTP_PERIOD_S = 30
ONE_TIME_GROUPS = 4
ONE_TIME_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
"""Of one-time passwords: no letters that look like digits. 4 groups of 4 are 79 bits."""
NEVER = 2**62


def bearer_of(request: web.Request) -> str | None:
    """The token of an Authorization header (RFC 6750 §2.1; the scheme in any case, RFC 9110 §11.1), None without one.

    Whoever sends the header proves themselves by it or not at all: a cookie beside it doesn't count.
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A signed-in session. `demanded` names what must be set first ("password", "totp"); until then it is `limited`.

    `valid_until` is when the posts change by the roster: the session is then read again.
    """

    id: str
    actor: Actor
    expires_at: int
    valid_until: int = NEVER
    demanded: tuple[str, ...] = ()
    limited: bool = False
    bearer: bool = False


def token_hash(token: str) -> str:
    """Of a header's text: octets that are no UTF-8 stand in it as half surrogates, and belong to no token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _readable(text: str) -> str:
    """A header's text as it can be stored: octets that are no UTF-8 become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def hash_of_nobody(hasher: PasswordHasher) -> str:
    """An argon2id hash (PHC string) that no password has: checking against it takes as long as against a real one.

    Salt and digest are drawn, not computed, so a node starts without the 125 ms of a hash.
    """
    costs = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    drawn = (secrets.token_bytes(size) for size in (hasher.salt_len, hasher.hash_len))
    salt, digest = (base64.b64encode(octets).decode().rstrip("=") for octets in drawn)
    return f"$argon2id$v=19${costs}${salt}${digest}"


class Auth:
    """Owns the session cache. `cut` is called with the ids of sessions that ended."""

    def __init__(self, config: Config, clock: Clock, store: Store, log: Log, vault_key: bytes) -> None:
        self._config, self._clock, self._store, self._log = config, clock, store, log
        self._vault = AESGCM(vault_key)
        self._hasher = PasswordHasher(memory_cost=config.password_hash_mib * 1024)
        self._slots = asyncio.Semaphore(HASHES_AT_ONCE)
        self._waiting = 0
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._used: dict[str, int] = {}
        self._tries: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._strangers: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._epoch = 0
        self._nobody = hash_of_nobody(self._hasher)
        self.cut: Callable[[set[str]], None] = lambda ids: None
        self.refreshed: Callable[[set[str]], None] = lambda accounts: None

    # -- passwords

    async def hash(self, password: str) -> str:
        """The argon2id hash. Raises `Rejected` for a password that is too short, too long or too simple."""
        if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX or len(set(password)) < 5:
            raise Rejected(
                "password.weak", f"Choose {PASSWORD_MIN} to {PASSWORD_MAX} characters, at least 5 of them different."
            )
        return str(await self._in_slot(self._hasher.hash, password))

    async def _in_slot(self, work: Callable[..., Any], *arguments: Any) -> Any:
        if self._waiting >= HASHES_WAITING_MAX:
            raise Unavailable("auth.busy", "Too many people are signing in at this moment; try again in a few seconds.")
        self._waiting += 1
        try:
            async with self._slots:
                return await asyncio.to_thread(work, *arguments)
        finally:
            self._waiting -= 1

    def _verify(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False

    def one_time_password(self) -> str:
        """A random password to hand to somebody once; they must choose their own at the first sign-in."""
        groups = ["".join(secrets.choice(ONE_TIME_LETTERS) for _ in range(4)) for _ in range(ONE_TIME_GROUPS)]
        return "-".join(groups)

    async def prove(self, account: str, password: str, address: str) -> None:
        """Check the password of somebody who is signed in already; a wrong one counts towards the lock-out.

        Raises `Rejected` (not `Unauthenticated`: the session goes on).
        """
        self._throttle(address)
        credential = await self._store.read(lambda connection: self._store.shelf(CREDENTIAL).get(connection, account))
        stored = credential.password if credential is not None else self._nobody
        good = await self._in_slot(self._verify, stored, password[:PASSWORD_MAX])
        if credential is None or credential.locked_until > self._clock.now():
            raise Rejected("password.locked", "Too many wrong passwords; wait until the account opens again.")
        if not good:
            await self._refuse(account, address)
            raise Rejected("password.wrong", "The present password is wrong.")

    # -- signing in

    async def sign_in(
        self, name: str, password: str, code: str | None, address: str, agent: str
    ) -> tuple[str, Session]:
        """The new session and its token for the cookie.

        Raises `Unauthenticated` (the same for an unknown name and a wrong password), or with code `auth.code_needed` when
        the password was right and a second factor is due.
        """
        self._throttle(address)
        name = name.strip().lower()
        found = await self._store.read(lambda connection: self._find(connection, name))
        stored = found[1].password if found else self._nobody
        good = await self._in_slot(self._verify, stored, password[:PASSWORD_MAX])
        now = self._clock.now()
        account, credential = found or (None, None)
        locked_until = credential.locked_until if credential else self._strangers.get(name, (0, 0))[1]
        if locked_until > now or (good and account is not None and account.locked):
            await self._refuse(account.id if account else None, address)
            raise Unauthenticated(
                "auth.locked", "This account is locked for a while; ask a security administrator if it is urgent."
            )
        step = None
        if good and account is not None and credential is not None and account.totp:
            if not code:
                raise Unauthenticated("auth.code_needed", "Enter the six digits from your authenticator.")
            step = self.totp_step(self.unseal(credential.totp or "", account.id), code)
            good = step is not None
        if not good or account is None:
            if account is None:
                self._count_stranger(name, now)
            await self._refuse(account.id if account else None, address)
            raise Unauthenticated("auth.wrong", "Name or password is wrong.")
        return await self.open(account, address=address, agent=agent, totp_step=step)

    async def open(
        self,
        account: Account,
        *,
        address: str = "",
        agent: str = "",
        totp_step: int | None = None,
        token: bool = False,
        label: str = "",
        hours: int | None = None,
    ) -> tuple[str, Session]:
        """A session for an account that has proved itself; a long-lived one for a service account (`token`)."""
        secret = secrets.token_urlsafe(32)
        hours = self._config.session_hours if hours is None else hours
        request = OpenSession(
            id=token_hash(secret),
            account=account.id,
            expires_at=self._clock.now() + hours * 3600 * MICROSECONDS,
            address=address[:200],
            agent=_readable(agent[:200]),
            totp_step=totp_step,
            token=token,
            label=label,
        )
        await self._log.append(request, By(account=account.id, person=account.person))
        session = await self._load(request.id)
        assert session is not None, "a session that was just written"
        return secret, session

    async def _refuse(self, account: str | None, address: str) -> None:
        lock_us = self._config.lockout_minutes * 60 * MICROSECONDS
        request = RefuseSignIn(
            account=account, address=address[:200], limit=self._config.lockout_failures, lock_us=lock_us
        )
        await self._log.append(request, By(account=account or "node"))

    def _count_stranger(self, name: str, now: int) -> None:
        """Names that nobody has lock like those that somebody has (in memory: there is no row to keep it in)."""
        failures = self._strangers.get(name, (0, 0))[0] + 1
        lock_us = self._config.lockout_minutes * 60 * MICROSECONDS
        locked = failures >= self._config.lockout_failures
        self._strangers[name] = (0, now + lock_us) if locked else (failures, 0)
        self._strangers.move_to_end(name)
        if len(self._strangers) > STRANGERS_MAX:
            self._strangers.popitem(last=False)

    def _throttle(self, address: str) -> None:
        minute, over = divmod(self._clock.now(), 60 * MICROSECONDS)
        last, count = self._tries.get(address, (minute, 0))
        count = count + 1 if last == minute else 1
        self._tries[address] = (minute, count)
        self._tries.move_to_end(address)
        if len(self._tries) > TRIES_TRACKED_MAX:
            self._tries.popitem(last=False)
        if count > TRIES_PER_MINUTE:
            left_s = 60 - over // MICROSECONDS
            raise TooMany("auth.too_many", "Too many tries from this address; wait a minute.", retry_after_s=left_s)

    # -- the second factor

    def seal(self, secret: str, account: str) -> str:
        """A TOTP secret as it is stored: AES-256-GCM under the node's vault key, bound to the account."""
        nonce = self._clock.octets(12)
        return base64.b64encode(nonce + self._vault.encrypt(nonce, secret.encode(), account.encode())).decode()

    def unseal(self, sealed: str, account: str) -> str:
        octets = base64.b64decode(sealed)
        return self._vault.decrypt(octets[:12], octets[12:], account.encode()).decode()

    def totp_step(self, secret: str, code: str) -> int | None:
        """The time step whose code this is (RFC 6238, one step of tolerance each way), or None."""
        now = self._clock.now() // MICROSECONDS // TOTP_PERIOD_S
        totp, given = pyotp.TOTP(secret), code.strip().replace(" ", "").encode()
        for step in range(now - TOTP_WINDOW, now + TOTP_WINDOW + 1):
            if secrets.compare_digest(totp.generate_otp(step).encode(), given):
                return step
        return None

    # -- sessions

    @staticmethod
    def proof(request: web.Request) -> bool:
        """Whether the request brings anything to prove itself by; not whether it is any good."""
        return "Authorization" in request.headers or COOKIE in request.cookies

    async def session_of(self, request: web.Request) -> Session:
        """The session of a request, from its cookie or bearer token. Raises `Unauthenticated`."""
        bearer = bearer_of(request)
        token = request.cookies.get(COOKIE) if bearer is None else bearer
        if not token:
            raise Unauthenticated("auth.none", "Sign in first.")
        key = token_hash(token)
        now = self._clock.now()
        session = self._sessions.get(key)
        if session is None or session.valid_until <= now:
            session = await self._load(key)
        if session is None or session.expires_at <= now:
            raise Unauthenticated("auth.ended", "The session has ended; sign in again.")
        idle = self._config.session_idle_minutes * 60 * MICROSECONDS
        if not session.bearer and now - self._used.get(key, now) > idle:
            raise Unauthenticated("auth.idle", "The session has ended after a long silence; sign in again.")
        self._used[key] = now
        return session

    async def _load(self, key: str) -> Session | None:
        while True:
            epoch = self._epoch
            found = await self._store.read(lambda connection: self._build(connection, key))
            if epoch == self._epoch:
                break  # else a commit ended or changed sessions while this was read: what was read may be gone
        if found is not None:
            self._sessions[key] = found
            if len(self._sessions) > SESSIONS_CACHED_MAX:
                gone, _ = self._sessions.popitem(last=False)
                self._used.pop(gone, None)
        return found

    def _build(self, connection: Connection, key: str) -> Session | None:
        row: SessionRow | None = self._store.shelf(SESSION).get(connection, key)
        account: Account | None = self._store.shelf(ACCOUNT).get(connection, row.account) if row else None
        if row is None or account is None or account.locked:
            return None
        now = self._clock.now()
        posts: tuple[str, ...] = ()
        valid_until = NEVER
        if account.person is not None:
            shifts = self._store.shelf(SHIFT).select(connection, equal={"person": account.person})
            posts = tuple(shift.post for shift in shifts if shift.starts_at <= now < shift.ends_at)
            edges = (at for shift in shifts for at in (shift.starts_at, shift.ends_at) if at > now)
            valid_until = min(edges, default=NEVER)
        actor = Actor(
            account=account.id,
            name=account.name,
            roles=tuple(role for role in account.roles if role is Role.SERVICE or not row.token),
            organisation=account.organisation,
            person=account.person,
            unit=account.unit,
            posts=posts,
            session=row.id,
            language=account.language,
        )
        demanded = ["password"] if account.must_change_password else []
        if self._config.totp_required and not account.totp:
            demanded.append("totp")
        if row.token:
            demanded = []
        return Session(
            id=row.id,
            actor=actor,
            expires_at=row.expires_at,
            valid_until=valid_until,
            demanded=tuple(demanded),
            limited=bool(demanded),
            bearer=row.token,
        )

    def _find(self, connection: Connection, name: str) -> tuple[Account, Credential] | None:
        accounts = self._store.shelf(ACCOUNT).select(connection, equal={"name": name})
        if not accounts:
            return None
        credential = self._store.shelf(CREDENTIAL).get(connection, accounts[0].id)
        return None if credential is None else (accounts[0], credential)

    def on_commit(self, commit: Commit) -> None:
        """Forget what changed; cut the sockets of sessions that are gone. Called for every commit."""
        gone: set[str] = set()
        accounts: set[str] = set()
        turned: set[str] = set()
        persons: set[str] = set()
        for change in commit.changes:
            if change.table == "session" and change.after is None:
                gone.add(change.key)
            elif change.table == "account":
                accounts.add(change.key)
                if _standing(change.before) != _standing(change.after):
                    turned.add(change.key)
            elif change.table == "shift":
                persons |= {row.person for row in (change.before, change.after) if row is not None}  # type: ignore[attr-defined]
        if not (gone or accounts or persons):
            return
        self._epoch += 1
        for key, session in list(self._sessions.items()):
            if key in gone or session.actor.account in accounts or session.actor.person in persons:
                del self._sessions[key]
        if gone:
            for key in gone:
                self._used.pop(key, None)
            self.cut(gone)
        if turned:
            self.refreshed(turned)


def _standing(row: Any) -> object:
    """What of an account its open screens depend on; a change of language alone doesn't cut them."""
    if row is None:
        return None
    return (row.roles, row.organisation, row.person, row.unit, row.locked, row.must_change_password, row.totp)
