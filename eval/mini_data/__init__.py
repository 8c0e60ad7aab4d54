"""What the reranker in the box is trained on: texts whose licences allow to ship the weights.

sources (Debian, pydoc, SQuAD, Natural Questions) -> pairs -> dense negatives -> training files,
and the weight of each token, counted over the same texts.
"""
