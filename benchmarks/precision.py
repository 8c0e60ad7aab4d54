"""What a reranker's ranking loses in numbers of fewer bits, on collections with judgments.

In: collections in the data folder, and dtypes from the widest on. Out: for each collection, as it
comes, a line for each dtype beside each wider one: nDCG@10 in both, what the narrower adds to it
(mean over queries, with a 95 % bootstrap interval), the largest loss of one query, and Kendall's
tau of the two orders (mean over queries); then the same over all queries.

    python benchmarks/precision.py noveleval trec_dl19 --queries 20
    python benchmarks/precision.py --model smollm2 --dtypes float32 bfloat16 fp8 --most 15

fp8 is emulated here: the numbers are those of a GPU, multiplied as floats. That tells what is lost.
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
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

# The packages lie beside this folder, which comes first otherwise.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from measuring.encoder_systems import quiet
from provenance import provenance

from eval.agreement.rankings import kendall_tau_b
from eval.pipeline.judged_queries import judged_queries
from eval.statistics.intervals import bootstrap_intervals
from index.records import Passage
from rerank import BlockRanker, PassagesTruncatedWarning
from rerank.examples.ndcg import ndcg
from retrieval.corpora import load_collection, open_corpus
from retrieval.corpora.records import Skipped


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


class Ranked(NamedTuple):
    """What a ranker makes of Q lists: nDCG@10 [Q], and the scores of each list in its order."""

    ndcg: np.ndarray
    scores: list[list[float]]


class Change(NamedTuple):
    """Two dtypes over the same Q lists, `narrow` beside `wide`."""

    wide: np.ndarray
    narrow: np.ndarray
    tau: np.ndarray

    @classmethod
    def of(cls, wide: Ranked, narrow: Ranked) -> Change:
        """nDCG@10 of both, and Kendall's tau-b of each pair of orders."""
        pairs = zip(wide.scores, narrow.scores, strict=True)
        taus = [kendall_tau_b(*pair) for pair in pairs]
        return cls(wide.ndcg, narrow.ndcg, np.array(taus))

    def cells(self) -> tuple[str, ...]:
        """As a line shows it; a list of one passage has no tau."""
        change = self.narrow - self.wide
        low, high = bootstrap_intervals(change[:, None])
        told = f"{change.mean():+.4f} [{low[0]:+.4f}, {high[0]:+.4f}]"
        means = (f"{self.wide.mean():.4f}", f"{self.narrow.mean():.4f}")
        return (*means, told, f"{change.min():+.4f}", f"{np.nanmean(self.tau):.3f}")


def ranked(ranker: BlockRanker, lists: list[Asked]) -> Ranked:
    """What `ranker` makes of `lists`; the ideal is that of the list, whose order alone is asked."""
    values, scores = [], []
    for query, passages, grades in lists:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PassagesTruncatedWarning)
            results = ranker.rerank(query, passages)
        found = [grades.get(passage.id, 0) for passage in results]
        values.append(ndcg(found, found))
        by_id = {result.id: result.score for result in results}
        scores.append([by_id[passage.id] for passage in passages])
    return Ranked(np.array(values), scores)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("collections", nargs="*", default=["noveleval"], help="their names")
    parser.add_argument("--data", type=Path, default=os.environ.get("BLOCKSEEK_DATA"))
    parser.add_argument("--model", default="mini", help="a reranker (%(default)s)")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"], help="widest first")
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
    rankers = {
        dtype: BlockRanker.from_pretrained(options.model, "cpu", dtype) for dtype in options.dtypes
    }
    line = "{:<12}{:>8}  {:<22}{:>8}{:>8}  {:<28}{:>8}{:>7}"
    titles = ("wide", "narrow", "difference", "least", "tau")
    print(line.format("collection", "queries", "dtypes", *titles), flush=True)
    whole: dict[tuple[str, str], list[Change]] = {}
    for name in options.collections:
        lists = list(asked(Path(options.data) / name, queries, options.most))
        found = {dtype: ranked(ranker, lists) for dtype, ranker in rankers.items()}
        for pair in combinations(found, 2):
            change = Change.of(*(found[dtype] for dtype in pair))
            whole.setdefault(pair, []).append(change)
            print(line.format(name, len(lists), " ".join(pair), *change.cells()), flush=True)
    for pair, changes in whole.items():
        every = Change(*map(np.concatenate, zip(*changes, strict=True)))
        print(line.format("all", len(every.tau), " ".join(pair), *every.cells()))


if __name__ == "__main__":
    main()
