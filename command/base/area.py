"""An area as the domain takes it: GeoJSON in, canonical GeoJSON out, or a refusal that names the place.

Pure. The geometry itself is `geo.shape`'s business; here its errors become ours.
"""

import msgspec

from command.base.errors import Rejected
from command.base.schema import Geometry
from geo import shape
from geo.errors import GeoError

VERTICES_MAX = 5_000
"""So that the entry that carries an area stays below its size limit."""


def checked(geometry: Geometry) -> tuple[Geometry, list[Geometry]]:
    """The canonical geometry and the notes of what was repaired. Raises `Rejected` with `path`, `lon`, `lat`."""
    try:
        found = shape.parse(geometry, allow=shape.AREAS, vertices_max=VERTICES_MAX)
    except GeoError as error:
        raise Rejected(error.code, error.hint, **error.details) from None
    return found.geojson, [msgspec.to_builtins(note) for note in found.notes]
