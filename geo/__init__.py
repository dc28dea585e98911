"""geo: shapes, coordinates, fences, tracks and regions.

Never does I/O, never reads a clock, never knows of incidents, and raises nothing but `GeoError` for bad
input. Invariant: every longitude and latitude in here is WGS-84 degrees (CGCS2000 counts as equal),
longitude first; every instant is int64 microseconds UTC and comes in as an argument.
"""

from geo.errors import CODES, GeoError

__all__ = ["CODES", "GeoError"]
