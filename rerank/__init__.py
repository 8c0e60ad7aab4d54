"""Rerank passages with BlockRank: all candidates in one prompt, relevance read from attention."""
