"""The fence engine: many fixes through many fences, with the states of all units in memory.

Never stores anything: `run` and `sweep` only say what would change, `apply` makes it so once the caller has
committed it. Invariant: its crossings are those that `fence.step` gives for each (unit, fence) alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely

from geo import fence as rules
from geo import track
from geo.errors import GeoError
from geo.fence import LIMITS, STATE, Crossing, Fence, Kind, Phase, State, Zone
from geo.index import Index
from geo.track import MICROSECONDS, Fix, Limits, Trail, Verdict

BATCH_MAX = 50_000
UNITS_MAX = 100_000
PAIRS_MAX = 1_000_000

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a batch would change. The caller stores it in one transaction, then calls `Engine.apply`.

    `crossings` by event time. `verdicts`: one for each fix, as they came (of the fences: a fix may still be
    good for the map). `trails`: unit -> new `Trail`. `pairs`: (unit, fence) -> new `State`, None where
    nothing need be remembered any more; `stored`: those of `pairs` that must be written, the others only
    repeat what the trails say.
    """

    crossings: list[Crossing] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    trails: dict[str, Trail] = field(default_factory=dict)
    pairs: dict[Pair, State | None] = field(default_factory=dict)
    stored: dict[Pair, State | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Accepted:
    """A fix that takes part: where the unit was before, and whether the straight way from there is
    credible.
    """

    fix: Fix
    before: Trail
    credible: bool


_Hit = tuple[Fence, Zone, bool]


class Engine:
    """Fences, trails of units, and states of those pairs of them that are not simply "outside"."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.limits = limits
        self._fences: dict[str, Fence] = {}
        self._index = Index()
        self._trails: dict[str, Trail] = {}
        self._pairs: dict[str, dict[str, State]] = {}
        self._gap_us = 0
        self._awaited: dict[str, dict[str, Fence]] = {}

    def __len__(self) -> int:
        return len(self._fences)

    def put(self, fence: Fence) -> None:
        """Add a fence, or change it: live at the next fix, states are kept. Raises `geo.full`."""
        self._index.add(fence.id, fence.outer)
        self._unawait(fence.id)
        self._fences[fence.id] = fence
        if Kind.ABSENT in fence.rules:
            for unit in fence.units or ():
                self._awaited.setdefault(unit, {})[fence.id] = fence
        self._gap_us = max(self._gap_us, round(fence.gap_s * MICROSECONDS))

    def remove(self, fence_id: str) -> list[Pair]:
        """Take a fence out; the pairs whose stored states the caller may now delete."""
        self._unawait(fence_id)
        self._fences.pop(fence_id, None)
        self._index.remove(fence_id)
        gone = [(unit, fence_id) for unit, states in self._pairs.items() if fence_id in states]
        for unit, _ in gone:
            self._forget_pair(unit, fence_id)
        return gone

    def _unawait(self, fence_id: str) -> None:
        """Take back the claim of a fence with rule ABSENT on its units."""
        before = self._fences.get(fence_id)
        for unit in (before.units or ()) if before is not None else ():
            self._awaited.get(unit, {}).pop(fence_id, None)

    def forget(self, unit: str) -> None:
        """Take a unit out, with all its states."""
        self._trails.pop(unit, None)
        self._pairs.pop(unit, None)

    def restore(self, trails: Iterable[tuple[str, object]], pairs: Iterable[tuple[str, str, object]]) -> None:
        """Put back what was stored: (unit, list(Trail)) and (unit, fence, list(State)). Call it after all
        `put`.

        Pairs of fences that are gone are left out. Raises `geo.state`, `geo.full`.
        """
        for unit, stored in trails:
            self._trails[unit] = track.trail(stored)
        for unit, fence_id, stored in pairs:
            if fence_id not in self._fences:
                continue
            found = rules.state(stored)
            trail = self._trails.get(unit, Trail())
            if trail.at > found.at:
                found = found._replace(at=trail.at, lon=trail.lon, lat=trail.lat, lost=False)
            self._pairs.setdefault(unit, {})[fence_id] = found._replace(suspects=0)
        self._check_room(0, 0)

    def inside(self, fence_id: str) -> list[str]:
        """Names of the units confirmed inside a fence, sorted."""
        return sorted(
            unit
            for unit, states in self._pairs.items()
            if fence_id in states and states[fence_id].phase is Phase.INSIDE
        )

    def state(self, unit: str, fence_id: str) -> State | None:
        """The state of a pair; None: the unit is outside, or unknown."""
        return self._pairs.get(unit, {}).get(fence_id)

    def run(self, fixes: Sequence[Fix]) -> Outcome:
        """Send a batch of fixes (any units, any order) through all fences; changes nothing yet.

        Raises `geo.full` for more than `BATCH_MAX` fixes, or if a limit of units or pairs would be passed.
        """
        if len(fixes) > BATCH_MAX:
            raise GeoError("geo.full", f"At most {BATCH_MAX} fixes at once.")
        accepted, verdicts, trails = self._accept(fixes)
        outcome = Outcome(verdicts=verdicts, trails=trails)
        hits = self._hits(accepted)
        overlay: dict[str, dict[str, State]] = {}
        for i, item in enumerate(accepted):
            unit = item.fix.unit
            states = overlay.get(unit)
            if states is None:
                states = overlay[unit] = dict(self._pairs.get(unit, {}))
            near = hits.get(i)
            if near or states or unit in self._awaited:
                self._advance(item, near or [], states, outcome)
        outcome.crossings.sort(key=lambda c: (c.at, c.seen_at))
        self._settle(outcome)
        return outcome

    def sweep(self, now: int) -> Outcome:
        """What becomes true by the mere passing of time up to `now`: LOST, DWELL, ABSENT. Changes nothing
        yet.
        """
        outcome = Outcome()
        for unit, states in self._pairs.items():
            for fence_id, before in states.items():
                self._tick(unit, self._fences[fence_id], before, now, outcome)
        for unit, fences in self._awaited.items():
            for fence in fences.values():
                if fence.id not in self._pairs.get(unit, {}):
                    trail = self._trails.get(unit, Trail())
                    fresh = STATE._replace(at=trail.at, lon=trail.lon, lat=trail.lat)
                    self._tick(unit, fence, fresh, now, outcome)
        outcome.crossings.sort(key=lambda c: (c.at, c.seen_at))
        self._settle(outcome)
        return outcome

    def apply(self, outcome: Outcome) -> None:
        """Make it so. The caller must apply outcomes in the order they were made, each before the next
        `run` or `sweep`.
        """
        self._trails.update(outcome.trails)
        for (unit, fence_id), after in outcome.pairs.items():
            if after is None:
                self._forget_pair(unit, fence_id)
            elif fence_id in self._fences:
                self._pairs.setdefault(unit, {})[fence_id] = after

    def _forget_pair(self, unit: str, fence_id: str) -> None:
        states = self._pairs.get(unit)
        if states is not None and states.pop(fence_id, None) is not None and not states:
            del self._pairs[unit]

    def _check_room(self, units: int, pairs: int) -> None:
        if len(self._trails) + units > UNITS_MAX:
            raise GeoError("geo.full", f"The engine holds {UNITS_MAX} units.")
        if sum(map(len, self._pairs.values())) + pairs > PAIRS_MAX:
            raise GeoError("geo.full", f"The engine holds {PAIRS_MAX} pairs of unit and fence.")

    def _accept(self, fixes: Sequence[Fix]) -> tuple[list[_Accepted], list[Verdict], dict[str, Trail]]:
        """Order by event time, drop what is late, too fast or too inaccurate."""
        accepted: list[_Accepted] = []
        verdicts = [Verdict.INACCURATE] * len(fixes)
        trails: dict[str, Trail] = {}
        for i in sorted(range(len(fixes)), key=lambda i: fixes[i].at):
            fix = fixes[i]
            if fix.accuracy_m is not None and fix.accuracy_m > self.limits.accuracy_m:
                continue
            before = trails.get(fix.unit) or self._trails.get(fix.unit) or Trail()
            after, verdicts[i], credible = track.follow(before, fix, self.limits.speed_mps)
            if after is not before:
                trails[fix.unit] = after
            if verdicts[i] is Verdict.NEW:
                credible = credible and fix.at - before.at <= self._gap_us
                accepted.append(_Accepted(fix, before, credible))
        return accepted, verdicts, trails

    def _hits(self, accepted: list[_Accepted]) -> dict[int, list[_Hit]]:
        """For each accepted fix the fences it is inside, or at the edge of, or whose area its way meets."""
        if not accepted or not self._fences:
            return {}
        to = np.array([(a.fix.lon, a.fix.lat) for a in accepted])
        of = np.array([(a.before.lon, a.before.lat) if a.credible else (a.fix.lon, a.fix.lat) for a in accepted])
        which, keys = self._index.near_steps(of[:, 0], of[:, 1], to[:, 0], to[:, 1])
        if len(which) == 0:
            return {}
        fences = [self._fences[key] for key in keys]
        areas = np.array([fence.geometry for fence in fences], dtype=object)
        inside = shapely.intersects_xy(areas, to[which, 0], to[which, 1])
        edge, touches = np.zeros(len(which), dtype=bool), inside & np.array([a.credible for a in accepted])[which]
        rest = np.flatnonzero(~inside)
        if len(rest):
            outer: Any = np.array([fences[i].outer for i in rest.tolist()], dtype=object)
            edge[rest] = shapely.intersects_xy(outer, to[which[rest], 0], to[which[rest], 1])
            moved = rest[(of[which[rest]] != to[which[rest]]).any(axis=1)]
            ways = shapely.linestrings(np.stack((of[which[moved]], to[which[moved]]), axis=1))
            touches[moved] = shapely.intersects(areas[moved], ways)
        hits: dict[int, list[_Hit]] = {}
        for j in np.flatnonzero(inside | edge | touches).tolist():
            zone = Zone.INSIDE if inside[j] else Zone.EDGE if edge[j] else Zone.OUTSIDE
            hits.setdefault(int(which[j]), []).append((fences[j], zone, bool(touches[j])))
        return hits

    def _advance(self, item: _Accepted, near: list[_Hit], states: dict[str, State], outcome: Outcome) -> None:
        """One fix at all the fences it concerns: those it is near, and those its unit has a state at."""
        fix = item.fix
        concerned = [hit for hit in near if hit[0].watches(fix.unit)]
        named = {fence.id for fence, _, _ in concerned}
        others = states.keys() | self._awaited.get(fix.unit, {}).keys()
        far = [(self._fences[key], Zone.OUTSIDE, False) for key in sorted(others - named)]
        for fence, zone, touches in concerned + far:
            before = states.get(fence.id)
            if before is None:
                if zone is Zone.EDGE and not touches and Kind.ABSENT not in fence.rules:
                    continue
                before = self._derived(fence, item.before)
            after, told = rules.advance(before, fence, fix, zone, touches=touches)
            outcome.crossings.extend(told)
            key = (fix.unit, fence.id)
            if _forgettable(after, fence):
                if states.pop(fence.id, None) is not None or key in outcome.pairs:
                    outcome.pairs[key] = None
            else:
                states[fence.id] = outcome.pairs[key] = after

    @staticmethod
    def _derived(fence: Fence, before: Trail) -> State:
        """The state of a unit that nothing is remembered of: outside, unless its last place says
        otherwise.
        """
        fresh = STATE._replace(at=before.at, lon=before.lon, lat=before.lat)
        if before.at == 0 or not fence.active(before.at) or fence.zone(before.lon, before.lat) is Zone.INSIDE:
            return fresh
        return fresh._replace(phase=Phase.OUTSIDE)

    def _tick(self, unit: str, fence: Fence, before: State, now: int, outcome: Outcome) -> None:
        after, told = rules.tick(before, fence, unit, now)
        outcome.crossings.extend(told)
        if after is not before and after != before:
            outcome.pairs[unit, fence.id] = None if _forgettable(after, fence) else after

    def _settle(self, outcome: Outcome) -> None:
        """Find what must be stored, and refuse what would not fit."""
        added = 0
        for (unit, fence_id), after in outcome.pairs.items():
            before = self._pairs.get(unit, {}).get(fence_id)
            added += (before is None) - (after is None)
            if _lasting(before) != _lasting(after):
                outcome.stored[unit, fence_id] = after
        units = sum(unit not in self._trails for unit in outcome.trails)
        if units or added > 0:
            self._check_room(units, added)


def _lasting(state: State | None) -> tuple[object, ...] | None:
    """What of a state its unit's trail doesn't say."""
    return None if state is None else tuple(state[: State._fields.index("at")])


def _forgettable(state: State, fence: Fence) -> bool:
    """Whether "nothing known of this pair" says as much as this state."""
    if state.phase is Phase.INSIDE or state.streak or state.mark_at:
        return False
    return Kind.ABSENT not in fence.rules or (state.phase is Phase.UNKNOWN and not state.since)
