"""A list of 10,000 candidates under a budget: what is read, how long it takes, what it is worth.

Enters: options; a collection in the data folder. Leaves: one table on stdout, a line for each
length of the list and budget: tokens and passages read, milliseconds a query, and nDCG@10 of the
first stage (BM25 over the list's words, `rerank.scoring.words`) and of the cascade by `mini`.

A list holds the query's judged passages and others of the corpus, in the corpus's order. All
budgets of a query take turns.

    python benchmarks/cascade.py --quick --json
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

# This file is called as the package it measures, and its folder comes first otherwise.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from provenance import provenance

from eval.measures.ranking import evaluate
from rerank import BlockRanker
from rerank.prompt.candidates import as_candidates
from rerank.scoring.words import word_scores
from retrieval.corpora import load_collection, open_corpus

_MEASURE = "nDCG@10"
Run = dict[str, dict[str, float]]


def candidate_list(passages: list[dict[str, str]], judged: set[str], count: int) -> list[Any]:
    """`count` of `passages` in their order, those that are `judged` among them."""
    others = max(0, count - len(judged))
    kept = []
    for passage in passages:
        if passage["id"] in judged:
            kept.append(passage)
        elif others:
            others -= 1
            kept.append(passage)
    return kept


def measure(
    folder: Path, counts: list[int], budgets: list[int], queries: int
) -> list[dict[str, Any]]:
    """A row for each of `counts` and `budgets`, over the first `queries` judged queries."""
    collection = load_collection(str(folder))
    passages = [{"id": p.id, "text": p.full_text} for p in open_corpus(collection.corpus)]
    asked = sorted(collection.qrels)[:queries]
    qrels = {query_id: collection.qrels[query_id] for query_id in asked}
    ranker = BlockRanker.from_pretrained("mini", device="cpu")
    ranker.rerank("warm", [passage["text"] for passage in passages[:20]])
    rows = []
    for count in counts:
        first: Run = {}
        runs: dict[int, Run] = {budget: {} for budget in budgets}
        times: dict[int, list[float]] = {budget: [] for budget in budgets}
        read: dict[int, list[int]] = {budget: [] for budget in budgets}
        first_times = []
        for query_id in asked:
            query = collection.queries[query_id]
            some = candidate_list(passages, set(qrels[query_id]), count)
            begun = time.perf_counter()
            scores = word_scores(query, as_candidates(some))
            first_times.append(1000 * (time.perf_counter() - begun))
            first[query_id] = {p["id"]: s for p, s in zip(some, scores, strict=True)}
            for budget in budgets:
                begun = time.perf_counter()
                found = ranker.rerank(query, some, first_scores=scores, budget_tokens=budget)
                times[budget].append(1000 * (time.perf_counter() - begun))
                read[budget].append(sum(each.stage == "read" for each in found))
                runs[budget][query_id] = {each.id: -float(each.rank) for each in found}
        before = evaluate(qrels, first, [_MEASURE]).means[_MEASURE]
        for budget in budgets:
            row = {
                "candidates": count,
                "budget_tokens": budget,
                "passages_read": statistics.mean(read[budget]),
                "first_ms": statistics.median(first_times),
                "cascade_ms": statistics.median(times[budget]),
                "first": before,
                "cascade": evaluate(qrels, runs[budget], [_MEASURE]).means[_MEASURE],
            }
            rows.append(row)
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("BLOCKSEEK_DATA"))
    parser.add_argument("--collection", default="trec_dl19")
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--budgets", type=int, nargs="+", default=[1000, 4000, 16_000])
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="two queries, two lengths")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.data is None:
        print("nothing measured: name the folder of collections with --data or $BLOCKSEEK_DATA")
        return
    if arguments.quick:
        arguments.counts, arguments.budgets, arguments.queries = [300, 3000], [1000], 2
    folder = Path(arguments.data) / arguments.collection
    rows = measure(folder, arguments.counts, arguments.budgets, arguments.queries)
    if arguments.json:
        print(json.dumps({"provenance": provenance(), "rows": rows}))
        return
    print(" | ".join(f"{name} {value}" for name, value in provenance().items()))
    print("candidates   budget   read   first, ms   cascade, ms   nDCG@10 first   cascade")
    for row in rows:
        print(
            f"{row['candidates']:>10} {row['budget_tokens']:>8} {row['passages_read']:>6.1f} "
            f"{row['first_ms']:>11.0f} {row['cascade_ms']:>13.0f} {row['first']:>15.4f} "
            f"{row['cascade']:>9.4f}"
        )


if __name__ == "__main__":
    main()
