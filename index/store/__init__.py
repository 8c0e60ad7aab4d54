"""What an index keeps of its passages: shards of vectors and texts, ids, metadata.

Enters: passages and their vectors. Leaves: files of a segment, and what is asked
of them by row, by id, by condition. Read `shards.py` first.
"""
