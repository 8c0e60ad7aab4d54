"""Labelled queries with their passages: JSON Lines enter, checked `Example`s leave.

Read `labelled.py` first; `mining.py` makes examples out of a run and its judgments.
"""
