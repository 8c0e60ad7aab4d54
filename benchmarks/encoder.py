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
from measuring.asked import Asked, asked, garden
from measuring.gains import paired_gain, tell
from provenance import provenance

from eval.measures.ranking import evaluate
from retrieval.encoder import Encoder
from retrieval.training.run import RECORD

MEASURE, DEPTH = "nDCG@10", 100
# Of what the folder says of its training.
TOLD = ("source", "training_pairs", "held_out_queries", "steps")


def values(encoder: Encoder, found: Asked) -> np.ndarray:
    """nDCG@10 [Q] of exact search."""
    vectors, _ = encoder.encode_passages(found.passages)
    scores = encoder.encode_queries(found.queries.values()) @ vectors.T
    best = np.argsort(-scores, axis=1, kind="stable")[:, :DEPTH]
    run = {
        name: {found.passages[row].id: float(each[row]) for row in rows}
        for name, each, rows in zip(found.queries, scores, best, strict=True)
    }
    return evaluate(found.qrels, run, [MEASURE]).values[MEASURE]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What training an encoder brought.")
    parser.add_argument("collection", nargs="?", help="a BEIR folder or an ir_datasets id")
    parser.add_argument("trained", nargs="?", default="minilm", help="a trained encoder's folder")
    parser.add_argument("--start", default="minilm", help="another encoder (%(default)s)")
    parser.add_argument("--max-length", type=int, help="tokens that both read of a text")
    parser.add_argument("--quick", action="store_true", help="four passages, four queries")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    if arguments.collection is None and not arguments.quick:
        parser.error("name a collection, or --quick")
    found = garden() if arguments.quick else asked(arguments.collection)
    before, after = (
        values(Encoder.load(name, max_length=arguments.max_length), found)
        for name in (arguments.start, arguments.trained)
    )
    file = Path(arguments.trained) / RECORD
    record = json.loads(file.read_text()) if file.is_file() else {}
    result = {
        **provenance(),
        "collection": Path(arguments.collection or "garden").name,
        "queries": len(found.queries),
        "passages": len(found.passages),
        **{name: record[name] for name in TOLD if name in record},
        **{f"held out, {name}": x["gain"] for name, x in record.get("gains", {}).items()},
        f"{MEASURE} before": float(before.mean()),
        f"{MEASURE} after": float(after.mean()),
        **paired_gain(before, after),
    }
    tell(result, as_json=arguments.json)


if __name__ == "__main__":
    main()
