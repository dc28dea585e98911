"""Messages as a part of a node: what they register with the log, and what runs beside it.

Shell. Holds no rule. Invariant: what configuration says is the only thing that decides whether a text leaves this machine.
"""

from pathlib import Path

from command.base.config import Config
from command.base.errors import Rejected
from command.base.projection import Domain
from command.domain import convening
from command.edge.api import Node
from sms import broadcast, expansion, inbox, outbox, retention
from sms.gateway import Gateway
from sms.review import Forbidden
from sms.worker import Sms

NAME = "sms"
WORDS_BYTES_MAX = 2_000_000


def words_of(config: Config) -> Forbidden:
    """The site's forbidden words; none when no file is named. Raises `Rejected` naming what is wrong with the file."""
    if not config.forbidden_words:
        return Forbidden(())
    try:
        data = Path(config.forbidden_words).read_bytes()
        if len(data) > WORDS_BYTES_MAX:
            raise Rejected("config.forbidden_words", f"The list is larger than {WORDS_BYTES_MAX} octets.")
        return broadcast.read_words(data.decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise Rejected("config.forbidden_words", f"FENGHUO_FORBIDDEN_WORDS can't be read: {error}") from None


def register(domain: Domain, config: Config) -> Domain:
    """Tables and deciders of this part, and those of meetings, which issue notices too. Raises `Rejected` as `words_of`."""
    for module in (outbox, inbox, expansion, retention):
        domain.register(module.TABLES, None, module.DECIDERS)
    forbidden = words_of(config)
    domain.register((), None, convening.deciders(config.link, lambda zh, en: broadcast.refuse_words(forbidden, zh, en)))
    return domain.register((), None, broadcast.deciders(forbidden))


def gateway_of(config: Config) -> Gateway | None:
    """The gateway to the world; None where everything stays on this node. Raises `Rejected` `sms.twilio_settings`."""
    if config.sms_gateway != "twilio":
        return None
    from sms.twilio import TwilioGateway, TwilioSettings  # its library takes 5 MB, which a node without it saves

    service = config.twilio_from.startswith("MG")
    return TwilioGateway(
        TwilioSettings(
            account_sid=config.twilio_account_sid,
            auth_token=config.twilio_auth_token,
            public_url=config.public_url,
            sender="" if service else config.twilio_from,
            service=config.twilio_from if service else "",
            api_key=config.twilio_api_key,
            api_secret=config.twilio_api_secret,
            base_url=config.twilio_base_url,
            edge=config.twilio_edge,
            region=config.twilio_region,
            proxy_url=config.twilio_proxy_url,
            rate_parts_per_s=config.sms_parts_per_s,
            window=config.twilio_window,
        )
    )


async def start(node: Node) -> Sms:
    """Take up what a crash or a restore left, and send from now on. The caller must `stop()` it before the log."""
    sms = Sms(
        node.store,
        node.log,
        node.clock,
        gateway=gateway_of(node.config),
        forbidden=words_of(node.config),
        kept_days=node.config.messages_kept_days,
    )
    node.bus.listen(sms.on_commit)
    await sms.start(restored=bool(node.parts.get("restored")))
    return sms
