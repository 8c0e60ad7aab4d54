"""Files: written whole or not at all, mapped when read, one writer a folder; JSON to records.

Enters: bytes, names, JSON. Leaves: files and checked records. Read `files.py` first.
"""
