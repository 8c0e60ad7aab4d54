"""Which attention heads score: labelled examples enter, settings that name the best heads leave.

Read `evidence.py` first: every head of a decoder as a ranker of its own.
"""
