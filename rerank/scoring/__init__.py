"""From attention to scores: what a backbone read enters, one score a passage leaves.

Read `scores.py` first; lists that no one prompt holds are scored in `groups.py`.
"""
