"""The engine on collections: queries, judgments and an index enter, runs with their measures leave.

Read `stages.py` first (search, filter, reranker on one collection); `collections.py` does many.
"""
