"""The encoder beside sentence-transformers' own `encode`, on the same ragged passages in one run.

Enters: options. Leaves: one table on stdout: passages a second by the clock and by CPU time (all
threads together), and how many times as long the peer takes, the median over rounds in which both
take turns. Ours counts the tokens of every passage, and makes batches of so many tokens; the peer
sorts by characters, and makes batches of 32 texts.

    python benchmarks/encode.py --quick
    python benchmarks/encode.py --corpus my-collection --count 2000 --json
"""

import argparse
import json
import statistics
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

# This file is called as the package it measures, and its folder comes first otherwise.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from passages import make_passages
from provenance import provenance

from index.records import Passage
from retrieval.corpora import open_corpus
from retrieval.encoder import DEFAULT_ENCODER, Encoder


def measure(encoder: Encoder, passages: list[Passage], rounds: int) -> dict[str, Any]:
    """Times of both, a round each in turns, and how far their vectors lie apart at most."""
    texts = [passage.full_text for passage in passages]

    def ours() -> np.ndarray:
        return encoder.encode_passages(passages)[0]

    def peer() -> np.ndarray:
        prompt = encoder.record.passage_prompt or None
        vectors = encoder._model.encode(texts, prompt=prompt, normalize_embeddings=True)
        return np.asarray(vectors)

    apart = float(np.abs(ours() - peer()).max())  # this also warms both
    seconds: dict[str, list[tuple[float, float]]] = {"ours": [], "peer": []}
    for _ in range(rounds):
        for name, run in (("ours", ours), ("peer", peer)):
            before = time.perf_counter(), time.process_time()
            run()
            after = time.perf_counter(), time.process_time()
            seconds[name].append((after[0] - before[0], after[1] - before[1]))
    result: dict[str, Any] = {"largest difference of a value": apart}
    for place, clock in enumerate(("clock", "cpu")):
        for name, taken in seconds.items():
            median = statistics.median(each[place] for each in taken)
            result[f"{name}, passages a second, {clock}"] = round(len(passages) / median, 1)
        turns = zip(seconds["peer"], seconds["ours"], strict=True)
        ratio = statistics.median(theirs[place] / mine[place] for theirs, mine in turns)
        result[f"peer / ours, {clock}"] = round(ratio, 3)
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="The encoder beside sentence-transformers' own.")
    parser.add_argument("--quick", action="store_true", help="fewer passages, under a minute")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--encoder", default=DEFAULT_ENCODER, help="a model (%(default)s)")
    parser.add_argument("--corpus", help="passages to read; without, made ones of 100 words")
    parser.add_argument("--count", type=int, help="how many passages")
    parser.add_argument("--rounds", type=int, help="timed calls each")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    count = arguments.count or (128 if arguments.quick else 1024)
    if arguments.corpus:
        passages = list(islice(open_corpus(arguments.corpus), count))
    else:
        texts = make_passages(count, 100)
        passages = [Passage(str(number), "", text) for number, text in enumerate(texts)]
    encoder = Encoder.load(arguments.encoder)
    lengths = encoder._token_counts([passage.full_text for passage in passages])
    result = {
        **provenance(),
        "encoder": arguments.encoder,
        "corpus": arguments.corpus or "made",
        "passages": len(passages),
        "tokens, 5 % / 50 % / 95 %": np.percentile(lengths, [5, 50, 95]).round().tolist(),
        **measure(encoder, passages, arguments.rounds or (2 if arguments.quick else 5)),
    }
    if arguments.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:<36} {value}")


if __name__ == "__main__":
    main()
