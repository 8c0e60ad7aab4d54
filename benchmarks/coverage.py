"""Coverage of a decoder: what is saved, and how far the ranking moves from the full read.

Enters: a decoder and collections of the data folder. Leaves: two tables on stdout.

1. Estimates: how well each agrees with the full read. Kendall's tau of all passages, the share of
   the full read's best ten among the half with the highest estimates, and nDCG@10 of the estimate
   itself. Of layer L: the masses at that layer, all heads (what `coverage_layer: L` chooses by),
   or those of one landmark a passage, the mean of its keys. Also MiniLM's cosines, the passages'
   lengths, and chance.
2. Coverage: for each share the passages that are read to the end, the token-layers that are left,
   milliseconds a query, the change of the ranking and nDCG@10. Shares of a query take turns.

A list holds the best of BM25 over the collection's passages, or over those judged for the query.
Token-layers: tokens times the layers that run whole, those below the last one that scores.

    python benchmarks/coverage.py --quick
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# This file is called as the package it measures, and its folder comes first otherwise.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from measuring.estimates import Estimates, estimating_at
from provenance import provenance
from scipy.stats import kendalltau

from rerank import BlockRanker
from rerank.backbones.decoder import DecoderBackbone
from rerank.examples.ndcg import ndcg
from rerank.prompt.candidates import Candidate, as_candidates
from rerank.scoring.words import word_scores
from retrieval.corpora import load_collection, open_corpus

_BEST = 10


class Query(NamedTuple):
    """A query with its list and its judges' grades."""

    text: str
    candidates: list[Candidate]
    grades: dict[str, int]


def queries_of(folder: Path, count: int, depth: int, judged: bool) -> Iterator[Query]:
    """`count` queries with a relevant passage, evenly spread, each with the best `depth` of BM25.

    They are the best of all passages, or of the query's `judged` ones.
    """
    collection = load_collection(str(folder))
    passages = [p for p in open_corpus(collection.corpus) if p.full_text.strip()]
    answered = [q for q in sorted(collection.qrels) if max(collection.qrels[q].values()) > 0]
    spread = np.linspace(0, len(answered) - 1, min(count, len(answered))).round().astype(int)
    for query_id in (answered[place] for place in spread):
        text, grades = collection.queries[query_id], collection.qrels[query_id]
        pool = as_candidates(p for p in passages if not judged or p.id in grades)
        scores = word_scores(text, pool)
        best = sorted(range(len(pool)), key=lambda place: (-scores[place], pool[place].id))
        yield Query(text, [pool[place] for place in best[:depth]], grades)


def ndcg_of(query: Query, ordered: Sequence[str]) -> float:
    """nDCG@10 of one ranking."""
    return ndcg([query.grades.get(id_, 0) for id_ in ordered], list(query.grades.values()))


def overlap(a: Sequence[str], b: Sequence[str]) -> float:
    """The share of the best ten that two rankings have in common."""
    return len(set(a[:_BEST]) & set(b[:_BEST])) / min(_BEST, len(a))


def order_of(query: Query, values: Sequence[float]) -> list[str]:
    """Ids by (value descending, id)."""
    pairs = zip(values, (each.id for each in query.candidates), strict=True)
    return [id_ for _, id_ in sorted(pairs, key=lambda pair: (-pair[0], pair[1]))]


def compare_estimates(
    estimates: Estimates, ranker: BlockRanker, queries: Sequence[Query]
) -> list[dict[str, Any]]:
    """A row an estimate, means over `queries`."""
    rows: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for query in queries:
        full = ranker.scores(query.text, query.candidates)
        best = order_of(query, full)[:_BEST]
        for name, values in estimates.of(query.text, query.candidates):
            order = order_of(query, values)
            half = set(order[: -(-len(order) // 2)])
            tau = float(kendalltau(values, full).statistic)
            rows[name].append(
                (tau, len(half & set(best)) / len(best), ndcg_of(query, order)),
            )
    names = ("tau", "best_in_half", "ndcg")
    return [
        {"estimate": name, **dict(zip(names, np.mean(values, axis=0).tolist(), strict=True))}
        for name, values in rows.items()
    ]


def compare_coverages(
    ranker: BlockRanker, queries: Sequence[Query], shares: Sequence[float], seconds: float
) -> list[dict[str, Any]]:
    """A row a share, means over `queries` but for the median of the milliseconds.

    No query is begun after so many `seconds`; a row says how many there were.
    """
    end = time.monotonic() + seconds
    backbone = ranker.backbone
    assert isinstance(backbone, DecoderBackbone)
    below, last = backbone.coverage_layer, backbone.last_layer
    found: dict[float, dict[str, list[float]]] = {s: defaultdict(list) for s in shares}
    ranker.rerank(queries[0].text, queries[0].candidates, coverage=shares[0])
    for query in queries:
        if time.monotonic() > end and found[shares[0]]:
            break
        (prompt,) = ranker.prompts([query.text], [query.candidates])
        tokens = prompt.num_tokens
        full = ranker.rerank(query.text, query.candidates)
        scores = {each.id: each.score for each in full}
        for share in shares:
            begun = time.perf_counter()
            results = ranker.rerank(query.text, query.candidates, coverage=share)
            told = found[share]
            told["ms"].append(1000 * (time.perf_counter() - begun))
            estimated = [r.original_rank - 1 for r in results if r.stage == "estimate"]
            left = tokens - sum(len(prompt.passages[place].ids) for place in estimated)
            told["passages"].append(1 - len(estimated) / len(results))
            told["token_layers"].append((tokens * below + left * (last - below)) / (tokens * last))
            told["overlap"].append(overlap([r.id for r in full], [r.id for r in results]))
            values = [[each.score, scores[each.id]] for each in results]
            told["tau"].append(float(kendalltau(*zip(*values, strict=True)).statistic))
            told["ndcg"].append(ndcg_of(query, [r.id for r in results]))
    return [
        {"coverage": share, "queries": len(told["ms"])}
        | {
            name: (statistics.median if name == "ms" else statistics.mean)(values)
            for name, values in told.items()
        }
        for share, told in found.items()
    ]


def show(rows: Sequence[dict[str, Any]]) -> None:
    """A table, numbers in three digits behind the point, milliseconds in none."""
    names = list(rows[0])
    print("  ".join(f"{name:>12}" for name in names))
    for row in rows:
        cells = [
            f"{v:.0f}" if k == "ms" else f"{v:.3f}" if isinstance(v, float) else str(v)
            for k, v in row.items()
        ]
        print("  ".join(f"{cell:>12}" for cell in cells))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("BLOCKSEEK_DATA"))
    parser.add_argument("--collections", nargs="+", default=["noveleval", "wikiqa_dev"])
    parser.add_argument("--judged", nargs="*", default=["noveleval"], metavar="COLLECTION")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--layers", type=int, nargs="*", default=[], help="estimates to tell")
    parser.add_argument("--coverage-layer", type=int)
    parser.add_argument(
        "--coverages", type=float, nargs="*", default=[0.5, 0.8, 0.9, 0.95, 0.99, 1.0]
    )
    parser.add_argument("--queries", type=int, default=10)
    parser.add_argument("--depth", type=int, default=30)
    parser.add_argument("--minutes", type=float, default=60.0, help="of a collection's coverages")
    parser.add_argument("--quick", action="store_true", help="two queries, two shares")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.data is None:
        print("nothing measured: name the folder of collections with --data or $BLOCKSEEK_DATA")
        return
    if arguments.quick:
        arguments.queries, arguments.depth, arguments.coverages = 2, 8, [0.5, 1.0]
        arguments.collections = arguments.collections[:1]
    ranker = BlockRanker.from_pretrained(arguments.model, device="cpu")
    if arguments.coverage_layer is not None:
        ranker = BlockRanker(estimating_at(ranker.backbone, arguments.coverage_layer))
    told: dict[str, Any] = {"provenance": provenance(), "model": arguments.model}
    if not arguments.json:
        print(" | ".join(f"{name} {value}" for name, value in provenance().items()))
    for name in arguments.collections:
        folder = Path(arguments.data) / name
        judged = name in arguments.judged
        queries = list(queries_of(folder, arguments.queries, arguments.depth, judged))
        told[name] = {}
        if arguments.layers:
            estimates = Estimates(ranker.backbone, arguments.layers)
            told[name]["estimates"] = compare_estimates(estimates, ranker, queries)
        if arguments.coverages:
            told[name]["coverages"] = compare_coverages(
                ranker, queries, arguments.coverages, 60 * arguments.minutes
            )
        if not arguments.json:
            print(f"\n{name}, {arguments.model}, {len(queries)} queries", flush=True)
            for rows in told[name].values():
                show(rows)
    if arguments.json:
        print(json.dumps(told))


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
