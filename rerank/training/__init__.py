"""Train a ranker: examples enter, a model folder that `BlockRanker.from_pretrained` reads leaves.

Read `trainer.py` first: order -> passes -> objective -> step -> checkpoint -> export. The loss is
BlockRank's (arXiv 2510.05396, section 5) and relatives of it, each with a weight.
"""
