"""The lexical leg: the words of a segment's passages, written and searched by tantivy.

Enters: texts. Leaves: files of a segment; rows and their BM25 scores. Read `leg.py` first.
"""
