"""Tests that need a real browser, and the harness that drives them (`harness.py`, `harness_firefox.py`)."""
