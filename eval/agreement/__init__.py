"""How far a judge's labels stand in for people's: labels and runs enter, a `Study` leaves.

Read `study.py` first: label by label (`labels.py`), system by system (`rankings.py`), and which
differences between systems are kept (`preservation.py`).
"""
