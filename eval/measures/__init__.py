"""What a ranking is worth: rankings and judgments enter, numbers leave, and no engine is needed.

Read `ranking.py` first (nDCG and friends), then `udcg.py`.
"""
