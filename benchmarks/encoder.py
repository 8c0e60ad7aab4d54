"""What training an encoder brought: two encoders on the queries that people asked a collection.

Enters: a collection, the folder that `python -m retrieval.train` wrote. Leaves: nDCG@10 of exact
search with the encoder it began with and with that one, and the paired difference with its 95 %
bootstrap interval and permutation p-value. The collection's own queries trained and chose nothing:
where they gain less than the held-out pairs in the folder's `training.json`, the pairs that were
made of the corpus are not what people ask it.

    python benchmarks/encoder.py my-collection my-encoder
"""

import argparse
import json
import sys
from pathlib import Path

# This file is called as the package it measures, and its folder comes first otherwise.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from provenance import provenance

from eval.measures.ranking import evaluate
from eval.statistics.intervals import bootstrap_intervals
from eval.statistics.significance import permutation_test
from index.records import Passage
from retrieval.corpora import load_collection, open_corpus
from retrieval.corpora.records import Skipped
from retrieval.encoder import Encoder
from retrieval.training.run import RECORD

MEASURE, DEPTH = "nDCG@10", 100
# Of what the folder says of its training.
TOLD = ("source", "training_pairs", "held_out_queries", "steps")
GARDEN = [Passage(plant, "", f"Sow {plant} in May.") for plant in ("beans", "leeks", "chard")]


def values(
    encoder: Encoder,
    passages: list[Passage],
    queries: dict[str, str],
    qrels: dict[str, dict[str, int]],
) -> np.ndarray:
    """nDCG@10 [Q] of exact search."""
    scores = encoder.encode_queries(queries.values()) @ encoder.encode_passages(passages)[0].T
    best = np.argsort(-scores, axis=1, kind="stable")[:, :DEPTH]
    run = {
        name: {passages[row].id: float(each[row]) for row in rows}
        for name, each, rows in zip(queries, scores, best, strict=True)
    }
    return evaluate(qrels, run, [MEASURE]).values[MEASURE]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What training an encoder brought.")
    parser.add_argument("collection", nargs="?", help="a BEIR folder or an ir_datasets id")
    parser.add_argument("trained", nargs="?", default="minilm", help="a trained encoder's folder")
    parser.add_argument("--start", default="minilm", help="another encoder (%(default)s)")
    parser.add_argument("--max-length", type=int, help="tokens that both read of a text")
    parser.add_argument("--quick", action="store_true", help="three passages, three queries")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    if arguments.quick:
        passages, queries = GARDEN, {p.id: f"when are {p.id} sown?" for p in GARDEN}
        qrels = {p.id: {p.id: 1} for p in GARDEN}
    elif arguments.collection is None:
        parser.error("name a collection, or --quick")
    else:
        _, texts, qrels = load_collection(arguments.collection)
        passages = list(open_corpus(arguments.collection, Skipped()))
        queries = {name: text for name, text in texts.items() if name in qrels}
        qrels = {name: qrels[name] for name in queries}
    before, after = (
        values(Encoder.load(name, max_length=arguments.max_length), passages, queries, qrels)
        for name in (arguments.start, arguments.trained)
    )
    gains = (after - before)[:, None]
    low, high = bootstrap_intervals(gains)
    file = Path(arguments.trained) / RECORD
    record = json.loads(file.read_text()) if file.is_file() else {}
    result = {
        **provenance(),
        "collection": Path(arguments.collection or "garden").name,
        "queries": len(queries),
        "passages": len(passages),
        **{name: record[name] for name in TOLD if name in record},
        **{f"held out, {name}": x["gain"] for name, x in record.get("gains", {}).items()},
        f"{MEASURE} before": float(before.mean()),
        f"{MEASURE} after": float(after.mean()),
        "gain": float(gains.mean()),
        "gain_low": float(low[0]),
        "gain_high": float(high[0]),
        "p_permutation": float(permutation_test(gains)[0]),
    }
    if arguments.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:<18} {value:.4f}" if isinstance(value, float) else f"{name:<18} {value}")


if __name__ == "__main__":
    main()
