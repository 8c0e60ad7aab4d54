"""Train a ranker: examples -> order -> passes -> objective -> trainer -> a model folder.

The loss is BlockRank's (arXiv 2510.05396, section 5) and relatives of it, each with a weight.
"""
