"""The FAISS index over a segment's vectors: its kind, how it is made, kept, searched and measured.

Enters: unit vectors, shard by shard. Leaves: row numbers and inner products (= cosines). Read
`search.py` first.
"""
