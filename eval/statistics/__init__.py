"""Whether systems differ: values by query enter, p-values, effects and intervals leave.

Read `comparison.py` first; each of the others is one test or interval.
"""
