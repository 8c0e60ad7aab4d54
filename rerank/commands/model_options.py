"""The options by which subcommands name a reranker: `--model`, `--device`, `--dtype`.

Enters: parsed arguments. Leaves: a loaded `BlockRanker`.
"""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rerank.ranker import BlockRanker


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add `--model`, `--device` and `--dtype`."""
    parser.add_argument(
        "--model", help="minilm (default), smollm2, a folder, or a hub model's name"
    )
    parser.add_argument("--device", help="cpu, cuda, ...; default: the best there is")
    parser.add_argument(
        "--dtype",
        help="float32, bfloat16, float16, fp8 for a decoder, or auto: bfloat16 where the CPU "
        "multiplies it and the model was measured to rank as well",
    )


def load_ranker(arguments: argparse.Namespace) -> "BlockRanker":
    """Load the reranker that the options name; raises `ValueError` when there is none."""
    from rerank.ranker import BlockRanker

    return BlockRanker.from_pretrained(arguments.model, arguments.device, arguments.dtype)


def model_name(arguments: argparse.Namespace) -> str:
    """What the chosen model is called in results."""
    from rerank.ranker import DEFAULT_RERANKER

    return str(arguments.model or DEFAULT_RERANKER)
