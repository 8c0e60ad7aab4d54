"""The text formats that people bring, one reader each: what all of them share, and which they are.

Enters: a path, or None for stdin. Leaves: lines, JSON values, queries, qrels, runs; what can't be
read raises one `ValueError` that names the file and the line. `docs/input.md` lists the rules.
Read `lines.py` first.
"""
