"""What every room speaks of: entries, rows, rights, errors, settings, and the one door to time and randomness.

Imports nothing of the other rooms.
"""
