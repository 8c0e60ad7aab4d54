"""Who writes an index: a build or a change, one at a time, killed at any moment.

Enters: shards, ids to delete. Leaves: the next state of an index, by one rename. Read
`writer.py` first.
"""
