"""What an index is, in words: `manifest.json` and the plan of a build, and nothing of their files.

Enters: JSON. Leaves: records, checked, whose names lead nowhere else. Read `manifest.py` first.
"""
