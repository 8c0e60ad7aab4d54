"""The comparison mode: a prompt enters, passages leave by the likelihood of their number as answer.

Read `decoding.py` first.
"""
