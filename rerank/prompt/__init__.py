"""One prompt out of a query and its candidates: what a caller gives enters, packed tokens leave.

Read `packing.py` first: candidates are checked, filled into a template, tokenized and packed, in
windows where they are long.
"""
