"""The reranker beside its peers, in one run on one machine, on the same passages.

Enters: shapes. Leaves: one table on stdout: milliseconds a query for N passages, of

  ours           BlockRanker over MiniLM, passages and query read for this query
  cross-encoder  sentence-transformers' CrossEncoder of the same shape (MiniLM with a head), whose
                 batches are padded and sorted by length as it does by default
  full           the same MiniLM reading all passages and the query as one sequence (at the largest
                 N only where its L x L attention is affordable)

`--json` prints one object: what `provenance.py` records, `model`, `dtype`, `passage_tokens` (by N),
`ms` (by system, by N), `cross_encoder_ratio` (cross-encoder / ours at the largest N),
`full_ratio` (full / ours at the largest N that full ran), `growth` (ours, the largest N over half
of it; its tokens grow a little differently), `peak_mb`.

    python benchmarks/rerank.py --quick --json
"""

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

# This file is called as the package it measures, and its folder comes first otherwise.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from provenance import provenance

from configs.models import find_model
from rerank import BlockRanker

WORDS = ["search", "query", "passage", "rank", "token", "index", "vector", "block", "attention"]


def make_passages(count: int, mean_tokens: int, seed: int = 0) -> list[str]:
    """Ragged passages: log-normal lengths with that mean, cut at twice the mean."""
    generator = np.random.default_rng(seed)
    spread = 0.5
    lengths = generator.lognormal(np.log(mean_tokens) - spread**2 / 2, spread, count)
    lengths = np.clip(lengths.round().astype(int), 4, 2 * mean_tokens)
    return [" ".join(generator.choice(WORDS, length)) for length in lengths]


def median_ms(call: Callable[[], object], repeats: int) -> float:
    """The median of `repeats` timed calls after one that is not."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def cross_encoder(folder: str) -> Callable[[str, list[str]], object]:
    """sentence-transformers' own, with an untrained head: its time is that of a trained one."""
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(folder, num_labels=1, device="cpu", max_length=256)
    return lambda query, passages: model.predict([(query, text) for text in passages])


def full_attention(folder: str) -> Callable[[str, list[str]], object]:
    """One sequence of everything; positions are taken modulo what MiniLM has, for time alone."""
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(folder, attn_implementation="sdpa").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def run(query: str, passages: list[str]) -> object:
        ids = [i for row in tokenizer([*passages, query])["input_ids"] for i in row]
        positions = torch.arange(len(ids)) % model.config.max_position_embeddings
        with torch.inference_mode():
            return model(input_ids=torch.tensor([ids]), position_ids=positions[None])

    return run


def measure(
    counts: list[int], mean_tokens: int, repeats: int, full_up_to: int
) -> dict[str, object]:
    """Milliseconds a query of every system at every N."""
    folder = find_model("minilm")
    ranker = BlockRanker.from_pretrained()
    systems = {
        "ours": ranker.rerank,
        "cross-encoder": cross_encoder(folder),
        "full": full_attention(folder),
    }
    query = "which library function opens a file for a search engine"
    ms: dict[str, dict[int, float]] = {name: {} for name in systems}
    tokens = {}
    for count in counts:
        passages = make_passages(count, mean_tokens)
        tokens[count] = sum(ranker.token_counts(passages))
        for name, run in systems.items():
            if name != "full" or count <= full_up_to:
                ms[name][count] = median_ms(lambda run=run, p=passages: run(query, p), repeats)
    largest, full_largest = counts[-1], max(ms["full"], default=None)
    return {
        "model": "minilm",
        "dtype": "float32",
        "passage_tokens": tokens,
        "ms": ms,
        "cross_encoder_ratio": ms["cross-encoder"][largest] / ms["ours"][largest],
        "full_ratio": full_largest and ms["full"][full_largest] / ms["ours"][full_largest],
        "growth": ms["ours"][largest] / ms["ours"][largest // 2],
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="The reranker beside its peers.")
    parser.add_argument(
        "--quick", action="store_true", help="fewer passages, under 50 s on 2 cores"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    if arguments.quick:
        result = measure([10, 25, 50], mean_tokens=60, repeats=3, full_up_to=25)
    else:
        result = measure([10, 50, 100, 200], mean_tokens=100, repeats=5, full_up_to=50)
    result = {**provenance(), **result}
    if arguments.json:
        print(json.dumps(result))
        return
    for name in (*provenance(), "model", "dtype"):
        print(f"{name:<14} {result[name]}")
    counts = list(result["passage_tokens"])
    print(f"{'passages':<14} " + " ".join(f"{count:>9}" for count in counts))
    print(f"{'tokens':<14} " + " ".join(f"{t:>9}" for t in result["passage_tokens"].values()))
    for name, row in result["ms"].items():
        cells = (f"{row[count]:>9.1f}" if count in row else f"{'-':>9}" for count in counts)
        print(f"{name:<14} " + " ".join(cells) + "  ms")
    for name in ("cross_encoder_ratio", "full_ratio", "growth", "peak_mb"):
        print(f"{name:<20} {result[name]:.2f}")


if __name__ == "__main__":
    main()
