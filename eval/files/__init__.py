"""What evaluation reads and writes: paths enter, qrels, runs, labels and result folders leave.

Read `trec.py` first; every format itself is read in `configs/formats`.
"""
