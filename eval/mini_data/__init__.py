"""What the reranker in the box is trained on: texts whose licences allow to ship the weights.

Read `build.py` first: sources (Debian, pydoc, SQuAD, Natural Questions) enter, pairs with dense
negatives and the weight of each token, counted over the same texts, leave.
"""
