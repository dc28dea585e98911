"""The extent of an incident: which rows its entries come to, and which timers only its owner runs.

Pure. It names tables and kinds, and folds nothing. Invariant: a table stands here if and only if its rows about an incident can
be dropped and made again from the incident's entries alone.
"""

from typing import Any

from command.base.projection import Table
from command.base.timer import TIMER
from command.domain.asking import ASK
from command.domain.fence import FENCE
from command.domain.incident import ALARM, INCIDENT
from command.domain.notice import NOTICE
from command.domain.order import ORDER
from command.domain.owing import REPORT_DUE
from command.domain.plan import ACTIVATION
from command.domain.tenure import LATE, TERM, TRANSFER

ABOUT_INCIDENT: tuple[Table[Any], ...] = (
    INCIDENT,
    ALARM,
    ORDER,
    ACTIVATION,
    NOTICE,
    FENCE,
    TIMER,
    TRANSFER,
    TERM,
    LATE,
    ASK,
    REPORT_DUE,
)
"""The rows that are a function of an incident's entries. Rooms are not: who is in one is told by the node that holds it."""
OWNERS_TIMERS = ("order.", "ownership.", "report.")
"""Kinds of timers that run only where the incident is owned; any other runs where it was set."""
