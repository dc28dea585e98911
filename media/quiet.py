"""Log lines about strangers, at most one per second and source, from a bounded table.

Pure: time comes in. Never writes. Invariant: the table never holds more than `SOURCES_MAX` sources.
"""

from __future__ import annotations

INTERVAL_S = 1.0
SOURCES_MAX = 1024


class Quiet:
    """Says whether a line about `source` may be written now, and how many were swallowed since the last."""

    def __init__(self, sources_max: int = SOURCES_MAX, interval_s: float = INTERVAL_S) -> None:
        self._sources_max = sources_max
        self._interval_s = interval_s
        self._sources: dict[str, list[float]] = {}  # source -> [time of the last line, swallowed since]
        self._overflow = [-1e9, 0.0]
        self._swept_at_s = -1e9

    def __len__(self) -> int:
        return len(self._sources)

    def swallowed(self, source: str, now_s: float) -> int | None:
        """None: stay silent. A number: write, and mention how many lines about this source were left out.

        Sources beyond the table share one entry, so a flood from many addresses is one line per second too.
        """
        entry = self._sources.get(source)
        if entry is None:
            if len(self._sources) >= self._sources_max:
                self._forget(now_s)
            if len(self._sources) >= self._sources_max:
                entry = self._overflow
            else:
                entry = self._sources[source] = [-1e9, 0.0]
        if now_s - entry[0] < self._interval_s:
            entry[1] += 1
            return None
        left_out = int(entry[1])
        entry[0], entry[1] = now_s, 0.0
        return left_out

    def _forget(self, now_s: float) -> None:
        if now_s - self._swept_at_s < self._interval_s:  # a flood from ever new addresses must not buy a sweep each
            return
        self._swept_at_s = now_s
        stale = [source for source, entry in self._sources.items() if now_s - entry[0] >= self._interval_s]
        for source in stale:
            del self._sources[source]
