"""What a reranker's nDCG loses in bfloat16, on collections with judgments.

In: collections in the data folder. Out: a line a collection as it comes: nDCG@10 in float32, what
bfloat16 adds to it (mean over queries, with a 95 % bootstrap interval), and the largest loss of one
query; then the mean over collections.

    python benchmarks/precision.py noveleval trec_dl19 --queries 20

A query's list are its judged passages, `--most` of them evenly spread from the highest grade to the
lowest, filled up with those judged for the queries after it where they are fewer: most collections
judge only what is relevant.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# The packages lie beside this folder, which comes first otherwise.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from measuring.encoder_systems import quiet
from provenance import provenance

from eval.pipeline.judged_queries import judged_queries
from eval.statistics.intervals import bootstrap_intervals
from index.records import Passage
from rerank import BlockRanker, PassagesTruncatedWarning
from rerank.examples.ndcg import ndcg
from retrieval.corpora import load_collection, open_corpus
from retrieval.corpora.records import Skipped

DTYPES = ("float32", "bfloat16")


class Asked(NamedTuple):
    """A query, its list, and the grades of those it judges."""

    query: str
    passages: list[Passage]
    grades: dict[str, int]


def asked(folder: Path, queries: int, most: int) -> Iterator[Asked]:
    """The lists of up to `queries` queries of a collection, of `most` passages each."""
    collection = load_collection(str(folder))
    chosen = judged_queries(collection.queries, collection.qrels, queries)
    ids = list(collection.qrels)
    wanted: dict[str, list[str]] = {}
    for id_ in chosen.queries:
        own = sorted(collection.qrels[id_], key=lambda p: (-collection.qrels[id_][p], p))
        places = np.linspace(0, len(own) - 1, min(most, len(own))).astype(int)
        pool = dict.fromkeys(own[place] for place in places)
        start = ids.index(id_)
        for other in (ids[start:] + ids[:start])[1:]:
            if len(pool) >= most:
                break
            pool |= dict.fromkeys(collection.qrels[other])
        wanted[id_] = list(pool)[:most]
    needed = {passage for pool in wanted.values() for passage in pool}
    found = {p.id: p for p in open_corpus(str(folder), Skipped()) if p.id in needed}
    for id_, pool in wanted.items():
        passages = [found[passage] for passage in pool if passage in found]
        if passages:
            yield Asked(chosen.queries[id_], passages, dict(collection.qrels[id_]))


def values(ranker: BlockRanker, lists: list[Asked]) -> np.ndarray:
    """nDCG@10 [Q]; the ideal is that of the list, whose order alone is asked."""
    result = []
    for query, passages, grades in lists:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PassagesTruncatedWarning)
            ranked = ranker.rerank(query, passages)
        found = [grades.get(passage.id, 0) for passage in ranked]
        result.append(ndcg(found, found))
    return np.array(result)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("collections", nargs="*", default=["noveleval"], help="their names")
    parser.add_argument("--data", type=Path, default=os.environ.get("BLOCKSEEK_DATA"))
    parser.add_argument("--model", default="mini", help="a reranker (%(default)s)")
    parser.add_argument("--queries", type=int, default=50, help="a collection (%(default)s)")
    parser.add_argument("--most", type=int, default=50, help="passages a query (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="two queries")
    options = parser.parse_args()
    if options.data is None:
        print("nothing measured: name the folder of collections with --data or $BLOCKSEEK_DATA")
        return
    queries = 2 if options.quick else options.queries
    quiet()
    print(" | ".join(f"{name} {value}" for name, value in provenance().items()))
    rankers = [BlockRanker.from_pretrained(options.model, "cpu", dtype) for dtype in DTYPES]
    line = "{:<24}{:>8}{:>10}{:>10}  {:<20}{:>8}"
    print(line.format("collection", "queries", *DTYPES, "difference", "least"), flush=True)
    means = []
    for name in options.collections:
        lists = list(asked(Path(options.data) / name, queries, options.most))
        wide, narrow = (values(ranker, lists) for ranker in rankers)
        change = narrow - wide
        low, high = bootstrap_intervals(change[:, None])
        told = f"{change.mean():+.4f} [{low[0]:+.4f}, {high[0]:+.4f}]"
        cells = (f"{wide.mean():.4f}", f"{narrow.mean():.4f}", told, f"{change.min():+.4f}")
        print(line.format(name, len(lists), *cells), flush=True)
        means.append((wide.mean(), narrow.mean()))
    both = np.mean(means, axis=0)
    cells = (f"{both[0]:.4f}", f"{both[1]:.4f}", f"{both[1] - both[0]:+.4f}", "")
    print(line.format("mean", len(means), *cells))


if __name__ == "__main__":
    main()
