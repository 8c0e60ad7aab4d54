"""A reader in a process of its own: opens and searches an index again and again.

A line of stdout for each time: how many passages the index said it has, and the hits of one query.
"""

import json
import sys

from writer_process import VECTORS

from index.dense_index import DenseIndex

if __name__ == "__main__":
    while True:
        index = DenseIndex.open(sys.argv[1])
        (hits,) = index.search(VECTORS[:1], k=2000)
        texts = [passage.text for passage in index.passages([hit.id for hit in hits])]
        print(json.dumps([len(index), [hit.id for hit in hits], texts]), flush=True)
