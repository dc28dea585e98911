"""The one error of geo. Never a bug of ours: it says what is wrong with what came in, and where.

Invariant: every `code` raised anywhere in geo is a key of `CODES` (the documentation is made from it).
"""

CODES = {
    "geo.antimeridian": "An edge spans over 180 degrees of longitude; cut the shape there (RFC 7946 §3.1.9).",
    "geo.coordinate": "A coordinate is not a finite longitude (-180..180) or latitude (-90..90).",
    "geo.degenerate": "Nothing is left of the shape: too few distinct positions or no area.",
    "geo.fence": "A setting of the fence is out of range, or the rules contradict each other.",
    "geo.fix": "A value of the location is out of range.",
    "geo.full": "A named limit of the index, the engine or the register is reached.",
    "geo.json": "The text is not JSON, or too large.",
    "geo.pole": "The circle contains a pole, or comes too near to it.",
    "geo.radius": "The radius is not a number of metres within the allowed range.",
    "geo.region": "A region's code, level or parent is wrong (GB/T 2260: six digits, prefix of the parent).",
    "geo.state": "A stored state is not what this version wrote.",
    "geo.structure": "The object is not a geometry as in RFC 7946 (or the Circle extension).",
    "geo.tangled": "The shape crosses itself too often to be repaired.",
    "geo.type": "This type of geometry is not accepted here.",
    "geo.vertices": "The shape has too many positions.",
}


class GeoError(Exception):
    """What came in can't be used.

    `code` is stable and a key of `CODES`; `hint` says what to do; `details` is JSON-serialisable and names
    the place where there is one: `path` ("coordinates[0][3]"), `lon`, `lat`.
    """

    def __init__(self, code: str, hint: str = "", **details: object) -> None:
        known = CODES[code]
        super().__init__(f"{code}: {hint or known}")
        self.code = code
        self.hint = hint or known
        self.details = details
