"""Documents of any length: read as a stream of overlapping blocks, ranked with where it stands.

Enters: a query and documents. Leaves: documents, best first, each with the spans that answer. Read
`ranking.py` first; `blocks.py` cuts, `scores.py` scores, `spans.py` finds the place.
"""
