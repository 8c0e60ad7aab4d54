"""An index on disk: passages, their vectors and words, changed by commits. No model, no encoder.

On top: `dense_index.py` (open and search one), `segment.py`, `verify.py`; the rooms stand below.
"""
