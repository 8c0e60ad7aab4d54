"""What `retrieval.train` brings: held-out pairs made of a corpus, and the queries people asked it.

Enters: a collection. Leaves: measures of its encoder before and after, paired 95 % intervals. The
collection's own queries chose and trained nothing: where they and the held-out pairs disagree, the
made pairs are not what people ask.

    python benchmarks/encoder.py my-collection --steps 40 --max-length 128
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
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
from retrieval.training.made import TASKS
from retrieval.training.run import Made, train_encoder
from retrieval.training.settings import TrainSettings

GARDEN = [
    Passage(
        f"{plant}-{place}",
        f"How to grow {plant} in {place}",
        f"The {plant} likes {place}. Sow {plant} in your {place} and keep the soil moist. "
        f"Bees that visit {place} feed on flowers of {plant}.",
    )
    for plant in ("pears", "beans", "roses", "leeks", "plums", "chard")
    for place in ("pots", "beds", "fields", "gardens")
]


def asked(encoder: Encoder, collection: str) -> np.ndarray:
    """nDCG@10 [Q] of exact search for the collection's own judged queries."""
    _, queries, qrels = load_collection(collection)
    judged = {name: text for name, text in queries.items() if name in qrels}
    passages = list(open_corpus(collection, Skipped()))
    scores = encoder.encode_queries(judged.values()) @ encoder.encode_passages(passages)[0].T
    best = np.argsort(-scores, axis=1, kind="stable")[:, :100]
    run = {
        name: {passages[row].id: float(each[row]) for row in rows}
        for name, each, rows in zip(judged, scores, best, strict=True)
    }
    return np.array(evaluate(qrels, run, ["nDCG@10"]).values["nDCG@10"])


def gain(before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    """Means, their difference, its interval and p-value."""
    differences = (after - before)[:, None]
    low, high = bootstrap_intervals(differences)
    return {
        "queries": len(before),
        "before": float(before.mean()),
        "after": float(after.mean()),
        "gain": float(differences.mean()),
        "low": float(low[0]),
        "high": float(high[0]),
        "p": float(permutation_test(differences)[0]),
    }


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description="What training an encoder brings.")
    parser.add_argument("collection", nargs="?", help="a BEIR folder or an ir_datasets id")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--negatives", type=int, default=1)
    parser.add_argument("--rate", type=float, default=2e-5)
    parser.add_argument("--lora", type=int)
    parser.add_argument("--held-out", type=float, default=0.15)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--quick", action="store_true", help="two steps over a made-up corpus")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    if not arguments.quick and arguments.collection is None:
        parser.error("name a collection, or --quick")
    steps, batch = (2, 8) if arguments.quick else (arguments.steps, arguments.batch_size)
    settings = TrainSettings(
        steps=steps,
        batch_size=batch,
        held_out=arguments.held_out,
        max_length=arguments.max_length,
        negatives=arguments.negatives,
        rate=arguments.rate,
        lora=arguments.lora,
    )
    with tempfile.TemporaryDirectory() as scratch:
        corpus = arguments.collection
        if arguments.quick:
            corpus = str(Path(scratch) / "garden.jsonl")
            lines = [{"_id": p.id, "title": p.title, "text": p.text} for p in GARDEN]
            Path(corpus).write_text("".join(json.dumps(line) + "\n" for line in lines))
        out = Path(scratch) / "trained"
        begun = time.perf_counter()
        source = Made(tuple(arguments.tasks.split(",")))
        result = train_encoder(corpus, out, settings, source, skipped=Skipped(), keep_worse=True)
        rows: dict[str, Mapping[str, float]] = {
            f"held out, {name}": {"queries": result.held_out_queries, **each._asdict()}
            for name, each in result.gains.items()
        }
        seconds = time.perf_counter() - begun
        if not arguments.quick:
            load = {"max_length": arguments.max_length}
            names = (settings.encoder, str(out))
            values = (asked(Encoder.load(name, **load), corpus) for name in names)
            rows["asked, nDCG@10"] = gain(*values)
    told = {
        **provenance(),
        "collection": Path(corpus).name,
        "pairs": result.training_pairs,
        "tasks": arguments.tasks,
        "steps": result.steps,
        "batch": batch,
        "negatives": settings.negatives,
        "rate": settings.rate,
        "lora": settings.lora or "no",
        "seconds, measuring too": round(seconds),
    }
    if arguments.json:
        print(json.dumps({**told, "rows": rows}))
        return
    for name, value in told.items():
        print(f"{name:<24} {value}")
    print(f"{'':<24} queries  before   after    gain     95 % interval")
    for name, row in rows.items():
        print(
            f"{name:<24} {row['queries']:<7}  {row['before']:.4f}   {row['after']:.4f}  "
            f"{row['gain']:+.4f}  [{row['low']:+.4f}, {row['high']:+.4f}]"
            + (f"  p {row['p']:.4f}" if "p" in row else "")
        )


if __name__ == "__main__":
    main()
