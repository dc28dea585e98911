"""Every setting of a node: typed, with its default and its meaning, from `FENGHUO_*` variables over one TOML file.

Pure: it gets the environment and the file's octets as arguments. Invariant: what is documented here is what there is;
an unknown setting is refused, so that a misspelt one is not silently without effect.
"""

import re
import tomllib
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

import msgspec
from msgspec import Meta

from command.base.errors import Rejected

PREFIX = "FENGHUO_"
SECRETS = frozenset({"parent_proxy", "twilio_auth_token", "twilio_api_secret", "twilio_proxy_url", "metrics_token"})
MASK = "********"
_PASSWORD = re.compile(r"(?<=://)([^:/@]*):.*@|\bpassword=[^&]*")
"""In the address of a database: before the host, or among its parameters."""
OUTSIDE = frozenset({"FENGHUO_CONFIG", "FENGHUO_CRASH_AT", "FENGHUO_TEST_DATABASE"})
"""Variables with our prefix that are not settings: where the file is, and what tests use."""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    data: Annotated[str, Meta(description="Directory of everything this node keeps; made with mode 0700.")] = "var"
    database: Annotated[
        str, Meta(description="SQLite file under `data` when empty, else postgresql://user:password@host/name.")
    ] = ""
    redis: Annotated[
        str, Meta(description="redis://host/0 to share hints between processes; in-process when empty.")
    ] = ""
    host: Annotated[str, Meta(description="Address to listen on. Anything but loopback needs TLS.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="TCP port to listen on; 0 takes a free one.")] = 8080
    tls_certificate: Annotated[str, Meta(description="PEM file of the certificate chain.")] = ""
    tls_key: Annotated[str, Meta(description="PEM file of its private key.")] = ""
    public_url: Annotated[
        str, Meta(description="How browsers and gateways reach this node, if a proxy stands before it.")
    ] = ""
    node_name: Annotated[str, Meta(max_length=100, description="Name shown on screens and in messages.")] = "烽火"
    witness: Annotated[
        str, Meta(description="File outside `data` for signed heads every 10 s; `verify` uses it. Off when empty.")
    ] = ""
    language: Annotated[str, Meta(pattern="^(zh|en)$", description="Language where a person chose none.")] = "zh"
    log_level: Annotated[
        str, Meta(pattern="^(debug|info|warning|error)$", description="Least level in the journal.")
    ] = "info"
    session_hours: Annotated[int, Meta(ge=1, le=720, description="A session ends after so many hours.")] = 12
    session_idle_minutes: Annotated[
        int, Meta(ge=1, le=10080, description="... or so many minutes without a request.")
    ] = 480
    lockout_failures: Annotated[
        int, Meta(ge=3, le=100, description="Wrong passwords in a row that lock an account.")
    ] = 8
    lockout_minutes: Annotated[int, Meta(ge=1, le=1440, description="How long it stays locked.")] = 15
    password_hash_mib: Annotated[
        int,
        Meta(
            ge=19, le=1024, description="MiB of memory that hashing one password takes (argon2id, 3 passes, 4 lanes)."
        ),
    ] = 64
    totp_required: Annotated[bool, Meta(description="Every account needs a second factor.")] = True
    attachment_bytes_max: Annotated[int, Meta(ge=1024, le=2**31, description="Largest upload.")] = 50_000_000
    media_address: Annotated[
        str,
        Meta(
            description="Addresses announced for media (1:1 NAT), IPv4 and IPv6, with commas; every interface when empty."
        ),
    ] = ""
    media_port: Annotated[
        int,
        Meta(
            ge=0,
            le=65535,
            description="UDP and TCP port of the first media worker, the next ones follow; 0: free ones.",
        ),
    ] = 0
    media_workers: Annotated[
        int,
        Meta(
            ge=0,
            le=32,
            description="Most media workers, started as they are needed; 0: one on a fixed port, else one per processor but "
            "one. Several on a fixed port: open the ports after it too.",
        ),
    ] = 0
    sms_gateway: Annotated[str, Meta(pattern="^(local|twilio)$", description="Where messages leave.")] = "local"
    sms_parts_per_s: Annotated[float, Meta(gt=0, le=10000, description="Parts a second the gateway takes.")] = 10.0
    messages_kept_days: Annotated[
        int,
        Meta(
            ge=0,
            le=36500,
            description="Messages of a notice that is over are forgotten so many days after they last moved; 0 keeps them. "
            "The notice, its counts and the log stay.",
        ),
    ] = 730
    forbidden_words: Annotated[str, Meta(description="File of words, one a line, that no notice may contain.")] = ""
    twilio_account_sid: Annotated[str, Meta(description="Account SID.")] = ""
    twilio_auth_token: Annotated[str, Meta(description="Auth token; signs callbacks too.")] = ""
    twilio_api_key: Annotated[str, Meta(description="API key SID that submits in place of the auth token.")] = ""
    twilio_api_secret: Annotated[str, Meta(description="Its secret.")] = ""
    twilio_from: Annotated[str, Meta(description="Sending number or messaging service SID (MG...).")] = ""
    twilio_base_url: Annotated[str, Meta(description="Other base URL of a compatible gateway.")] = ""
    twilio_edge: Annotated[str, Meta(description="Twilio's edge, for example singapore.")] = ""
    twilio_region: Annotated[str, Meta(description="Twilio's region, for example au1.")] = ""
    twilio_proxy_url: Annotated[str, Meta(description="HTTP proxy on the way to the gateway.")] = ""
    twilio_window: Annotated[int, Meta(ge=1, le=100, description="Requests to the gateway in flight at once.")] = 10
    parent: Annotated[
        str,
        Meta(
            description="Address of the superior node, https://host:port; several with commas are tried in order. The "
            "root has none."
        ),
    ] = ""
    parent_ca: Annotated[
        str,
        Meta(description="PEM file of the authority that signed the superior's certificate; the system's when empty."),
    ] = ""
    parent_proxy: Annotated[
        str, Meta(description="HTTP proxy on the way to the superior, http://[user:password@]host:port.")
    ] = ""
    metrics_token: Annotated[str, Meta(description="Bearer token for /metrics from other hosts than loopback.")] = ""

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.data}/fenghuo.db"

    @property
    def link(self) -> str:
        """Where people reach this node, for links in messages; "" when it can't know."""
        if self.public_url:
            return self.public_url.rstrip("/")
        known = self.port and self.host != "0.0.0.0" and ":" not in self.host  # noqa: S104
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}" if known else ""

    @property
    def origin(self) -> str:
        """What browsers call the pages at `public_url` (RFC 6454 §6.2): scheme, host, and the port unless it is the scheme's
        own; "" without one."""
        found = urlsplit(self.public_url)
        host = f"[{found.hostname}]" if ":" in (found.hostname or "") else found.hostname
        own = found.port in (None, {"https": 443, "http": 80}.get(found.scheme))
        return f"{found.scheme}://{host}{'' if own else f':{found.port}'}" if self.public_url else ""

    @property
    def tls(self) -> bool:
        return bool(self.tls_certificate)

    @property
    def loopback(self) -> bool:
        return self.host in ("127.0.0.1", "::1", "localhost")


MEDIA_ADDRESSES_MAX = 16


def media_addresses(config: Config) -> list[str]:
    """What `media_address` lists; raises `Rejected` for anything that is not an address."""
    found = config.media_address.replace(",", " ").split()
    try:
        addresses = [str(ip_address(text)) for text in found]
    except ValueError as error:
        raise Rejected("config.media_address", f"FENGHUO_MEDIA_ADDRESS lists IP addresses: {error}.") from None
    if len(addresses) > MEDIA_ADDRESSES_MAX:
        raise Rejected("config.media_address", f"FENGHUO_MEDIA_ADDRESS lists at most {MEDIA_ADDRESSES_MAX} addresses.")
    return addresses


def load(environment: Mapping[str, str], toml: bytes | None = None, **overrides: Any) -> Config:
    """The configuration: defaults, then the file, then `FENGHUO_*`, then `overrides` of the command line.

    Raises `Rejected` naming the setting.
    """
    values: dict[str, Any] = {}
    if toml is not None:
        try:
            values |= tomllib.loads(toml.decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise Rejected("config.unreadable", f"The configuration file is not TOML: {error}") from None
    for name, value in environment.items():
        if name.startswith(PREFIX) and name not in OUTSIDE:
            values[name.removeprefix(PREFIX).lower()] = value
    values |= overrides
    try:
        config = msgspec.convert(values, Config, strict=False)
    except msgspec.ValidationError as error:
        raise Rejected("config.invalid", f"{error}; `server.py admin config` lists every setting.") from None
    check(config)
    return config


def _address(text: str) -> SplitResult | None:
    """The parts of an address with a host; None if it is none."""
    try:
        found = urlsplit(text)
        _ = found.port  # raises when it is no port
    except ValueError:
        return None
    return found if found.hostname and found.username is None else None


def check(config: Config) -> None:
    """What single settings can't say about each other. Raises `Rejected`."""
    media_addresses(config)
    if bool(config.tls_certificate) != bool(config.tls_key):
        raise Rejected("config.tls", "FENGHUO_TLS_CERTIFICATE and FENGHUO_TLS_KEY go together.")
    if not config.tls and not config.loopback:
        raise Rejected(
            "config.plain_http",
            "Plain HTTP is served on loopback only; set FENGHUO_TLS_CERTIFICATE (see `server.py admin ca`).",
        )
    for address in filter(None, (one.strip() for one in config.parent.split(","))):
        found = _address(address)
        plain = found is not None and found.scheme == "http" and found.hostname in ("127.0.0.1", "::1", "localhost")
        if found is None or not (found.scheme == "https" or plain):
            raise Rejected("config.parent", "FENGHUO_PARENT is https://host:port; plain http is for loopback only.")
    public = _address(config.public_url)
    if config.public_url and (
        public is None or public.scheme not in ("https", "http") or public.query or public.fragment
    ):
        raise Rejected("config.public_url", "FENGHUO_PUBLIC_URL is https://host or https://host:port.")
    if config.database and not config.database.startswith(("postgresql://", "postgres://", "sqlite:///")):
        raise Rejected("config.database", "FENGHUO_DATABASE is postgresql://... or empty.")
    if config.redis and not config.redis.startswith(("redis://", "rediss://", "unix://")):
        raise Rejected("config.redis", "FENGHUO_REDIS is redis://host/0 or empty.")
    if config.sms_gateway == "twilio" and not (
        config.twilio_account_sid and config.twilio_auth_token and config.twilio_from
    ):
        raise Rejected("config.twilio", "The Twilio gateway needs its account SID, auth token and sender.")
    if config.sms_gateway == "twilio" and not config.public_url:
        raise Rejected("config.twilio", "The Twilio gateway calls back: set FENGHUO_PUBLIC_URL to how it reaches us.")


def _masked(found: re.Match[str]) -> str:
    return f"password={MASK}" if found[1] is None else f"{found[1]}:{MASK}@"


def describe(config: Config) -> list[tuple[str, str, str, str]]:
    """Every setting: variable, value (secrets masked), default, meaning. For `admin config` and the docs."""
    rows = []
    for setting in msgspec.structs.fields(Config):
        value = getattr(config, setting.name)
        shown = MASK if setting.name in SECRETS and value else _PASSWORD.sub(_masked, str(value))
        meta = setting.type.__metadata__[0]
        rows.append((PREFIX + setting.name.upper(), shown, str(setting.default), meta.description))
    return rows
