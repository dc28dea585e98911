"""Named steps at which a test may ask the process to die, as by kill -9.

Costs one dictionary look-up where nothing is asked. Never active unless `FENGHUO_CRASH_AT` is set ("step" or "step:n",
the n-th time it is reached), which `--check-config` reports as unfit for service.
"""

import os
import signal

STEPS = (
    "log.accepted",
    "log.in_batch",
    "log.before_commit",
    "log.after_commit",
    "log.before_ack",
    "log.before_publish",
    "sms.submitting",
    "sms.submitted",
)
"""Steps of a node by itself."""
LINK_STEPS = (
    "link.greeted",
    "link.received",
    "link.before_store",
    "link.after_store",
    "link.before_send",
    "link.after_send",
    "link.held",
    "courier.before_write",
    "courier.before_name",
)
"""Steps that a node reaches with a neighbour only."""


def _asked() -> dict[str, int]:
    step, _, count = os.environ.get("FENGHUO_CRASH_AT", "").partition(":")
    return {step: int(count or 1)} if step else {}


_left = _asked()


def reach(step: str) -> None:
    """Die here if this is the step and the count that was asked for."""
    if step in _left:
        _left[step] -= 1
        if _left[step] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
