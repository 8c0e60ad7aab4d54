"""Passages read once for many queries: passages enter, their states in memory or a folder leave.

Read `passage_cache.py` first; `build.py` fills a folder of the layout that `files.py` describes.
"""
