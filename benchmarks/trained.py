"""What training brought: two rerankers on labelled examples, compared query by query.

Enters: the reranker that training began with, the trained one, a file of examples (as `python -m
rerank mine` or `python -m eval mini-data` write them). Leaves: nDCG@10 of both, and the paired
difference with its 95 % bootstrap interval and permutation p-value.

`--not-validated N` leaves out the N examples, evenly spread, that chose the checkpoint of a run
with `max_validation_queries: N`: what is left neither trained nor chose anything.

    python benchmarks/trained.py mini/data/start mini/run/model mini/data/validation.jsonl
"""

import argparse
import sys
import warnings
from pathlib import Path

# This file is called as the package it measures, and its folder comes first otherwise.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from measuring.gains import paired_gain, tell
from provenance import provenance
from tqdm import tqdm

from rerank import BlockRanker, PassagesTruncatedWarning
from rerank.examples.labelled import Example, read_examples
from rerank.examples.ndcg import ndcg


def values(model: str, examples: list[Example]) -> np.ndarray:
    """nDCG@10 [Q] of the reranker `model`."""
    ranker = BlockRanker.from_pretrained(model)
    found = []
    for example in tqdm(examples, desc=model, disable=None):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PassagesTruncatedWarning)
            results = ranker.rerank(example.query, example.passages)
        ordered = [example.relevant.get(result.id, 0) for result in results]
        found.append(ndcg(ordered, list(example.relevant.values())))
    return np.array(found)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What training brought.")
    parser.add_argument("start", nargs="?", default="minilm", help="a reranker (%(default)s)")
    parser.add_argument("trained", nargs="?", default="mini", help="another (%(default)s)")
    parser.add_argument("examples", nargs="?", default="mini/data/validation.jsonl")
    parser.add_argument("--not-validated", type=int, default=0, metavar="N")
    parser.add_argument("--quick", action="store_true", help="twenty examples")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    if arguments.quick and not Path(arguments.examples).is_file():
        print(f"{arguments.examples} is not made yet: `make train-mini`; nothing to measure")
        return
    examples = [e for e in read_examples(arguments.examples) if e.positives]
    count = arguments.not_validated
    chose = {i * len(examples) // count for i in range(count)}
    examples = [e for number, e in enumerate(examples) if number not in chose]
    if arguments.quick:
        examples = examples[:20]
    before, after = (values(name, examples) for name in (arguments.start, arguments.trained))
    result = {
        **provenance(),
        "examples": arguments.examples,
        "queries": len(examples),
        f"nDCG@10 {arguments.start}": float(before.mean()),
        f"nDCG@10 {arguments.trained}": float(after.mean()),
        **paired_gain(before, after),
    }
    tell(result, as_json=arguments.json)


if __name__ == "__main__":
    main()
