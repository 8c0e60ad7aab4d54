"""A reranker of Mistral-7B's shape on a GPU, beside full attention that decodes an answer.

Enters: options. Leaves: one table on stdout; weights are random, which changes no time. Per number
of passages, milliseconds a query, from strings to the ranking, of

  ours     BlockRanker: the layers up to l* (20 of 32), block attention, no decoding
  decoded  AnswerDecoder: block attention through all layers, every passage's number scored
  full     the same model reading the prompt as one causal sequence (scaled_dot_product_attention)
           and decoding four tokens

and `ours` as a share of the bf16 matrix rate measured in the same run: all its multiplications and
additions over its time over that rate. Without a CUDA device nothing is measured, and it says so;
`--shape tiny --device cpu` runs the same code to see that it runs.

    python benchmarks/rerank_gpu.py --json
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

# This file is called as the package it measures, and its folder comes first otherwise.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from passages import QUERY, make_passages
from provenance import provenance

from configs.models import find_model


class Shape(NamedTuple):
    """A decoder's sizes."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int


SHAPES = {
    "mistral-7b": Shape(4096, 14336, 32, 32, 8, 128),
    "tiny": Shape(64, 128, 8, 4, 2, 16),
}
# Passages and the mean of their tokens.
CASES = ((100, 100), (500, 200))
QUICK = ((20, 50),)
ANSWER_TOKENS = 4


def save_model(shape: Shape, folder: Path, device: str) -> None:
    """A random model of `shape` in bf16, with a tokenizer of a real model."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, MistralConfig

    tokenizer = AutoTokenizer.from_pretrained(find_model("smollm2"))
    config = MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_size,
        max_position_embeddings=131_072,
        sliding_window=None,
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def full_attention(folder: str, device: str) -> Callable[[list[str]], object]:
    """All blocks in one causal sequence, then a greedy answer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="sdpa", dtype=torch.bfloat16
    )
    model = model.to(device).eval()

    def run(passages: list[str]) -> object:
        ids = [i for row in tokenizer([*passages, QUERY])["input_ids"] for i in row]
        inputs = torch.tensor([ids], device=device)
        with torch.inference_mode():
            return model.generate(
                inputs,
                attention_mask=torch.ones_like(inputs),
                min_new_tokens=ANSWER_TOKENS,
                max_new_tokens=ANSWER_TOKENS,
                do_sample=False,
            )

    return run


def makers(folder: str, device: str) -> dict[str, Callable[[], Callable[[list[str]], object]]]:
    """What loads each system; one is on the device at a time."""
    from rerank import BlockRanker
    from rerank.answers.decoding import AnswerDecoder

    budget = 1 << 20  # tokens: the whole prompt at once

    def ours() -> Callable[[list[str]], object]:
        ranker = BlockRanker.from_pretrained(folder, device, "bfloat16", max_tokens=budget)
        return lambda passages: ranker.rerank(QUERY, passages)

    def decoded() -> Callable[[list[str]], object]:
        decoder = AnswerDecoder.from_pretrained(folder, device, "bfloat16")
        return lambda passages: decoder.rerank(QUERY, passages)

    return {"ours": ours, "decoded": decoded, "full": lambda: full_attention(folder, device)}


def timed_ms(call: Callable[[], object], device: str, rounds: int) -> float:
    """The median time of `rounds` calls after one that warms up."""
    times = []
    for _ in range(rounds + 1):
        _wait(device)
        start = time.perf_counter()
        call()
        _wait(device)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[1:])


def matrix_rate(device: str, size: int, rounds: int = 10) -> float:
    """The best flops a second of a bf16 matrix product of `size` cubed."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = min(timed_ms(lambda: a @ b, device, 1) for _ in range(rounds))
    return 2 * size**3 / (best / 1000)


def flops(ranker: Any, shape: Shape, passages: list[str]) -> float:
    """Additions and multiplications of one rerank: below l* whole layers, at l* the keys."""
    from rerank.prompt.candidates import as_candidates
    from rerank.prompt.packing import tokenize
    from rerank.prompt.template import fill

    texts = fill(ranker.settings, QUERY, as_candidates(passages))
    (prompt,) = tokenize(ranker.backbone.tokenizer, ranker.settings, [texts])
    tokens, layer = prompt.num_tokens, ranker.backbone.last_layer
    attention = shape.heads * shape.head_size
    keys = shape.hidden * shape.kv_heads * shape.head_size
    weights = 2 * shape.hidden * attention + 2 * keys + 3 * shape.hidden * shape.intermediate
    first, query = len(prompt.instruction.ids), len(prompt.query.ids)
    pairs = first * (first + 1) / 2 + query * (tokens - query) + query * (query + 1) / 2
    for passage in prompt.passages:
        length = len(passage.ids)
        pairs += length * first + length * (length + 1) / 2
    return layer * (2 * tokens * weights + 4 * attention * pairs) + 2 * tokens * keys


def measure(name: str, device: str, quick: bool) -> dict[str, Any]:
    """Times of every system at every case, and the share of the matrix rate."""
    from rerank import BlockRanker

    shape, cases = SHAPES[name], QUICK if quick else CASES
    result: dict[str, Any] = {"shape": name, "dtype": "bfloat16", "ms": {}, "tflops": {}}
    result["matrix_tflops"] = matrix_rate(device, 512 if name == "tiny" else 8192) / 1e12
    with tempfile.TemporaryDirectory() as folder:
        save_model(shape, Path(folder), device)
        counter = BlockRanker.from_pretrained(folder, device, "bfloat16")
        for count, mean in cases:
            work = flops(counter, shape, make_passages(count, mean))
            result["tflops"][f"{count}x{mean}"] = work / 1e12
        del counter
        for system, load in makers(folder, device).items():
            run = load()
            row = result["ms"].setdefault(system, {})
            for count, mean in cases:
                passages = make_passages(count, mean)
                row[f"{count}x{mean}"] = timed_ms(
                    lambda run=run, p=passages: run(p), device, 1 if quick else 5
                )
            del run
            if device.startswith("cuda"):
                torch.cuda.empty_cache()
    ours = result["ms"]["ours"]
    result["share_of_matrix_rate"] = {
        case: work / (ours[case] / 1000) / result["matrix_tflops"]
        for case, work in result["tflops"].items()
    }
    result["full_ratio"] = {case: result["ms"]["full"][case] / ours[case] for case in ours}
    return result


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="The reranker of a 7B shape on a GPU.")
    parser.add_argument("--quick", action="store_true", help="one small case")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--shape", choices=tuple(SHAPES), default="mistral-7b")
    parser.add_argument("--device", default="cuda")
    arguments = parser.parse_args()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        missing = "not measured: no CUDA device"
        print(json.dumps({"not_measured": missing}) if arguments.json else missing)
        return
    result = {**provenance(), **measure(arguments.shape, arguments.device, arguments.quick)}
    if arguments.json:
        print(json.dumps(result))
        return
    for key, value in result.items():
        if isinstance(value, dict):
            for name, row in value.items():
                print(f"{key} {name}: {row}")
        else:
            print(f"{key:<16} {value}")


if __name__ == "__main__":
    main()
