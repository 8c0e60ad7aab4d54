"""Our reranker of MiniLM's shape and its peers, from strings to a ranking.

In: our model's name, a device, a dtype. Out: per system a function that takes passages and gives
the call to be timed.

    ours           BlockRanker: passages and query read for this query
    cached         BlockRanker over passages read before (`cache`): the query alone is read
    cross-encoder  sentence-transformers' CrossEncoder of MiniLM's shape with a head, which sorts
                   its pairs by length and pads batches of 32, as it does by default; 256 tokens a
                   pair
    int8           the same cross-encoder in int8 by ONNX Runtime (`int8_cross_encoder.py`), where
                   onnx, onnxscript and onnxruntime are installed and it is asked for
    full           MiniLM reading all passages and the query as one sequence by torch's
                   scaled_dot_product_attention

    SYSTEMS["ours"]("mini", "cpu", "float32")(make_passages(100, 100))()
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from passages import QUERY

from configs.models import MINILM, find_model
from measuring.int8_cross_encoder import MAX_PAIR_TOKENS, int8_cross_encoder

Rank = Callable[[], object]
Prepare = Callable[[list[str]], Rank]


def ours(model: str, device: str, dtype: str) -> Prepare:
    """Our reranker as it is called without a cache."""
    from rerank import BlockRanker

    ranker = BlockRanker.from_pretrained(model, device, dtype)
    return lambda passages: lambda: ranker.rerank(QUERY, passages)


def cached(model: str, device: str, dtype: str) -> Prepare:
    """Our reranker over a cache in memory, made before the clock runs."""
    from rerank import BlockRanker

    ranker = BlockRanker.from_pretrained(model, device, dtype)

    def prepare(passages: list[str]) -> Rank:
        kept = ranker.cache(passages)
        ids = kept.ids
        return lambda: kept.rerank(QUERY, ids)

    return prepare


def cross_encoder(_: str, device: str, dtype: str) -> Prepare:
    """sentence-transformers' own, with an untrained head: its time is that of a trained one."""
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(
        find_model(MINILM),
        num_labels=1,
        device=device,
        max_length=MAX_PAIR_TOKENS,
        model_kwargs={"dtype": getattr(torch, dtype)},
    )
    return lambda passages: lambda: model.rank(QUERY, passages)


def full_attention(_: str, device: str, dtype: str) -> Prepare:
    """One sequence of everything; positions are taken modulo what MiniLM has, for time alone."""
    from transformers import AutoModel, AutoTokenizer

    folder = find_model(MINILM)
    model = AutoModel.from_pretrained(
        folder, attn_implementation="sdpa", dtype=getattr(torch, dtype)
    )
    model = model.to(device).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def run(passages: list[str]) -> object:
        ids = [i for row in tokenizer([*passages, QUERY])["input_ids"] for i in row]
        positions = torch.arange(len(ids), device=device) % model.config.max_position_embeddings
        with torch.inference_mode():
            inputs = torch.tensor([ids], device=device)
            return model(input_ids=inputs, position_ids=positions[None])

    return lambda passages: lambda: run(passages)


def quiet() -> None:
    """Keep transformers from telling at length what it loads."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


SYSTEMS: dict[str, Callable[[str, str, str], Prepare]] = {
    "ours": ours,
    "cached": cached,
    "cross-encoder": cross_encoder,
    "full": full_attention,
}
OPTIONAL_SYSTEMS: dict[str, Callable[[str, str, str], Prepare]] = {"int8": int8_cross_encoder}
