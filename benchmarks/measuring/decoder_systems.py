"""A reranker of a decoder's shape and its peers, with random weights: they change no time.

In: a shape. Out: our ranker (the layers up to l*, 20 of 32; block attention, no decoding), what
loads its peers, and the work of one rerank.

    full     the same model reading the prompt as one causal sequence (scaled_dot_product_attention)
             and decoding four tokens
    decoded  AnswerDecoder: block attention through all layers, every passage's number scored

    save_config(MISTRAL_7B, folder, smollm2_folder(None))
    load_ranker(folder, "cuda").rerank(QUERY, make_passages(100, 100))
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from passages import QUERY

from measuring.model_folder import random_weights


class Decoder(NamedTuple):
    """A decoder's sizes."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int


MISTRAL_7B = Decoder(4096, 14336, 32, 32, 8, 128)
TINY = Decoder(64, 128, 8, 4, 2, 16)
ANSWER_TOKENS = 4
_DTYPE = torch.bfloat16
Rank = Callable[[list[str]], object]


def save_config(shape: Decoder, folder: Path, tokenizer: Path) -> None:
    """A folder with the config of `shape` and a real model's tokenizer, without weights."""
    from transformers import AutoTokenizer, MistralConfig

    words = AutoTokenizer.from_pretrained(tokenizer)
    config = MistralConfig(
        vocab_size=len(words),
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_size,
        max_position_embeddings=131_072,
        sliding_window=None,
        architectures=["MistralForCausalLM"],
    )
    config.save_pretrained(folder)
    words.save_pretrained(folder)


def load_ranker(folder: Path, device: str, dtype: str | torch.dtype = _DTYPE) -> Any:
    """Our ranker, which may read the whole prompt at once."""
    from rerank import BlockRanker

    with random_weights(device):
        return BlockRanker.from_pretrained(str(folder), device, dtype, max_tokens=1 << 20)


def full(folder: Path, device: str) -> Rank:
    """All blocks in one causal sequence, then a greedy answer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    with random_weights(device):
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, attn_implementation="sdpa", dtype=_DTYPE
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


def decoded(folder: Path, device: str) -> Rank:
    """Every layer and the head, for the passages' numbers as answers."""
    from rerank.answers.decoding import AnswerDecoder

    with random_weights(device):
        decoder = AnswerDecoder.from_pretrained(str(folder), device, _DTYPE)
    return lambda passages: decoder.rerank(QUERY, passages)


PEERS: dict[str, Callable[[Path, str], Rank]] = {"full": full, "decoded": decoded}


def flops(ranker: Any, shape: Decoder, passages: list[str]) -> float:
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
