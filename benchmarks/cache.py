"""What a passage cache takes and what fewer bits cost: a table a model.

Enters: a BEIR folder whose judged passages are ranked. Leaves: on stdout, for every precision,

  bytes      what a passage takes
  max, mean  how far its score moves, in standard deviations of the scores of a query's passages
  tau        Kendall's tau-b of the two orders of a query's passages, mean over queries
  nDCG@10    mean over queries, and what it changed by
  ms         one query over its cached passages, the median

Scores are compared with those without a cache. A decoder whose instruction holds the query reads it
behind the passages alone, for otherwise there is nothing to keep. States are computed once,
in 32 bits, and then stored in each precision.

    python benchmarks/cache.py DATA/noveleval --model minilm --queries 20
"""

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

# This file is called as the package it measures, and its folder comes first otherwise.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from filter import read_collection
from provenance import provenance
from scipy.stats import kendalltau

from rerank import BlockRanker, PassageCache, PassagesTruncatedWarning
from rerank.backbones.passage_states import PassageStates, is_value
from rerank.cache.shard import make_shard
from rerank.examples.labelled import Example
from rerank.examples.ndcg import ndcg
from rerank.prompt.candidates import as_candidates
from rerank.ranker import DEFAULT_RERANKER

ROUNDS = 5


class Precision(NamedTuple):
    """How a cache stores what it keeps."""

    name: str
    bits: int
    salient_share: float = 0.0


PRECISIONS = (
    Precision("32", 32),
    Precision("16", 16),
    Precision("8", 8),
    Precision("6", 6),  # keys in 8 and values in 4: an encoder keeps no values
    Precision("4", 4),
    Precision("4, 5% salient", 4, 0.05),
    Precision("4, 20% salient", 4, 0.2),
)


def judged_lists(folder: Path, count: int) -> list[Example]:
    """`count` queries, evenly spread, each with its judged passages."""
    passages, texts, qrels = read_collection(folder)
    by_id = {passage.id: passage for passage in passages}
    answered = [id_ for id_ in texts if any(g > 0 for g in qrels.get(id_, {}).values())]
    spread = np.linspace(0, len(answered) - 1, min(count, len(answered))).round().astype(int)
    return [
        Example(
            id_,
            texts[id_],
            tuple(as_candidates([by_id[p] for p in qrels[id_] if p in by_id])),
            {p: grade for p, grade in qrels[id_].items() if grade > 0},
            {},
        )
        for id_ in (answered[number] for number in spread)
    ]


def load(model: str, max_passage_tokens: int | None) -> BlockRanker:
    """The reranker, with the query behind the passages alone."""
    ranker = BlockRanker.from_pretrained(model, "cpu")
    settings = ranker.settings
    if settings.passages_see_query:
        settings = replace(settings, query_in_instruction=False)
    if max_passage_tokens:
        settings = replace(settings, max_passage_tokens=max_passage_tokens)
    ranker.backbone.settings = settings
    return BlockRanker(ranker.backbone)


def stored(whole: PassageCache, precision: Precision) -> PassageCache:
    """The states of a cache of 32 bits, in another precision."""
    _, bits, share = precision
    shards = [
        make_shard(
            shard.ids,
            shard.digests,
            shard.lengths.tolist(),
            shard.key_mask,
            PassageStates(shard.tokens, shard.passages),
            bits,
            share,
        )
        for shard in whole.shards
    ]
    identity = replace(whole.identity, bits=bits, salient_share=share)
    return PassageCache(whole.ranker, shards, whole.instruction, identity)


def measure(
    ranker: BlockRanker, examples: Sequence[Example], precisions: Sequence[Precision]
) -> dict[str, Any]:
    """A row a precision, and what there is without a cache."""
    exact = [np.array(ranker.scores(e.query, e.passages)) for e in examples]
    before = [_ndcg(e, scores) for e, scores in zip(examples, exact, strict=True)]
    passages = {p.id: p for example in examples for p in example.passages}
    whole = ranker.cache(list(passages.values()), 32)
    rows = []
    attended = any(is_value(name) for name in whole.identity.tokens)
    for precision in precisions:
        if precision.bits == 6 and not attended:
            continue
        cache = whole if precision.bits == 32 else stored(whole, precision)
        found, times = [], []
        for example in examples:
            ids = [passage.id for passage in example.passages]
            for _ in range(ROUNDS):
                start = time.perf_counter()
                scores = cache.scores(example.query, ids)
                times.append(1000 * (time.perf_counter() - start))
            found.append(np.array(scores))
        pairs = list(zip(found, exact, strict=True))
        moved = [np.abs(a - b) / b.std() for a, b in pairs]
        after = [_ndcg(e, scores) for e, scores in zip(examples, found, strict=True)]
        rows.append(
            {
                "precision": precision.name,
                "bytes": cache.num_bytes / len(cache),
                "max": float(max(row.max() for row in moved)),
                "mean": float(np.mean([row.mean() for row in moved])),
                "same_bits": all(np.array_equal(a, b) for a, b in pairs),
                "tau": float(np.mean([kendalltau(a, b).statistic for a, b in pairs])),
                "ndcg": float(np.mean(after)),
                "change": float(np.mean(after) - np.mean(before)),
                "ms": statistics.median(times),
            }
        )
    return {
        "queries": len(examples),
        "passages": len(passages),
        "tokens": int(sum(int(shard.lengths.sum()) for shard in whole.shards)),
        "ndcg": float(np.mean(before)),
        "rows": rows,
    }


def _ndcg(example: Example, scores: np.ndarray) -> float:
    """nDCG@10 in the order of `scores`, equal ones by id as the reranker has them."""
    pairs = sorted(zip(-scores, [p.id for p in example.passages], strict=True))
    grades = [example.relevant.get(id_, 0) for _, id_ in pairs]
    return ndcg(grades, list(example.relevant.values()))


def print_table(result: dict[str, Any]) -> None:
    """The result as text."""
    for name in (*provenance(), "model", "collection", "queries", "passages", "tokens"):
        print(f"{name:<14} {result[name]}")
    print(f"{'nDCG@10':<14} {result['ndcg']:.4f} without a cache")
    heads = ("bytes", "max", "mean", "tau", "nDCG@10", "change", "ms")
    print(f"{'bits':<14} " + " ".join(f"{head:>10}" for head in heads))
    for row in result["rows"]:
        cells = (
            f"{row['bytes']:.0f}",
            "0" if row["same_bits"] else f"{row['max']:.5f}",
            "0" if row["same_bits"] else f"{row['mean']:.5f}",
            f"{row['tau']:.4f}",
            f"{row['ndcg']:.4f}",
            f"{row['change']:+.4f}",
            f"{row['ms']:.1f}",
        )
        print(f"{row['precision']:<14} " + " ".join(f"{cell:>10}" for cell in cells))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What a passage cache takes and costs.")
    parser.add_argument("collection", type=Path, help="a BEIR folder")
    parser.add_argument("--model", default=DEFAULT_RERANKER, help="(%(default)s)")
    parser.add_argument("--queries", type=int, default=20, help="(%(default)s)")
    parser.add_argument("--max-passage-tokens", type=int, help="other than the model's settings")
    parser.add_argument("--quick", action="store_true", help="two queries")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", PassagesTruncatedWarning)
    examples = judged_lists(arguments.collection, 2 if arguments.quick else arguments.queries)
    ranker = load(arguments.model, arguments.max_passage_tokens)
    result = {
        **provenance(),
        "model": arguments.model,
        "collection": arguments.collection.name,
        **measure(ranker, examples, PRECISIONS),
    }
    if arguments.json:
        print(json.dumps(result))
    else:
        print_table(result)


if __name__ == "__main__":
    main()
