"""A stand-in for sentence-transformers' `CrossEncoder`: the same `rank` and `predict`.

Enters: a query and documents, or pairs. Leaves: what `CrossEncoder` returns for them.

    from rerank.interfaces.cross_encoder import BlockCrossEncoder

    BlockCrossEncoder().rank("who wrote Faust?", ["A pear.", "Goethe wrote Faust."])
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from rerank.candidates import as_candidates
from rerank.interfaces.by_place import scores_by_place
from rerank.ranker import BlockRanker


class BlockCrossEncoder:
    """A `BlockRanker` with the methods of `CrossEncoder`.

    A cross-encoder scores each pair alone. Here all documents of a query are read in one prompt,
    and where the settings say `score: mass` a score is a share among the documents of one call:
    comparable within it, not between queries.
    """

    num_labels = 1

    def __init__(
        self, model_name_or_path: str | BlockRanker | None = None, *, device: str | None = None
    ) -> None:
        """Take a loaded reranker, or load one: a local model's name, a folder or a hub name.

        Raises `ValueError` when there is no such model or it can't rank.
        """
        if isinstance(model_name_or_path, BlockRanker):
            self.ranker = model_name_or_path
        else:
            self.ranker = BlockRanker.from_pretrained(model_name_or_path, device)

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        return_documents: bool = False,
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> list[dict[str, Any]]:
        """Rank `documents` for `query`: dicts of `corpus_id`, `score` and, if asked for, `text`.

        Best first, equal scores in the documents' order. `activation_fn` maps the scores, here
        nothing by default; `batch_size` and `show_progress_bar` are taken and not needed. Raises
        `ValueError` for an empty query or document, and for a prompt: the template is the model's.
        """
        _refuse_prompts(prompt_name, prompt)
        scores = _activated(scores_by_place(self.ranker, query, documents), activation_fn)
        results: list[dict[str, Any]] = [
            {"corpus_id": place, "score": score} for place, score in enumerate(scores.tolist())
        ]
        if return_documents:
            for result, document in zip(results, documents, strict=True):
                result["text"] = document
        return sorted(results, key=lambda result: result["score"], reverse=True)[:top_k]

    def predict(
        self,
        inputs: Sequence[Sequence[str]] | Sequence[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: Callable[[torch.Tensor], torch.Tensor] | None = None,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
    ) -> Any:
        """Score (query, document) pairs: float32 [pairs], or one score for one pair.

        Pairs of the same query are read together, wherever they stand. The type is that of
        `CrossEncoder.predict`: a numpy array, a tensor, or a list of tensors. Raises `ValueError`
        for something else than pairs of texts, and for a prompt.
        """
        _refuse_prompts(prompt_name, prompt)
        single = len(inputs) == 2 and all(isinstance(text, str) for text in inputs)
        pairs: list[Any] = [inputs] if single else list(inputs)
        by_query: dict[str, list[int]] = {}
        for number, pair in enumerate(pairs):
            if isinstance(pair, str) or len(pair) != 2:
                raise ValueError(f"input {number} is {pair!r:.80}, wanted a query and a document")
            by_query.setdefault(pair[0], []).append(number)
        lists = [as_candidates([pairs[n][1] for n in numbers]) for numbers in by_query.values()]
        scores = torch.empty(len(pairs))
        for numbers, values in zip(
            by_query.values(), self.ranker.scores_batch(list(by_query), lists), strict=True
        ):
            scores[numbers] = torch.tensor(values)
        scores = _activated(scores, activation_fn)
        found: Any = list(scores)
        if convert_to_tensor:
            found = scores
        elif convert_to_numpy:
            found = scores.numpy() if pairs else np.array([])
        return found[0] if single else found


def _activated(
    scores: list[float] | torch.Tensor,
    activation_fn: Callable[[torch.Tensor], torch.Tensor] | None,
) -> torch.Tensor:
    scores = torch.as_tensor(scores, dtype=torch.float32)
    return scores if activation_fn is None else activation_fn(scores)


def _refuse_prompts(prompt_name: str | None, prompt: str | None) -> None:
    if prompt_name is not None or prompt is not None:
        raise ValueError("the prompt is the model's template: leave prompt_name and prompt out")
