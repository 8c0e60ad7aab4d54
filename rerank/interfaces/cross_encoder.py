"""A stand-in for sentence-transformers' `CrossEncoder`: the same `rank` and `predict`.

Enters: a query and documents, or pairs. Leaves: what `CrossEncoder` returns for them.

    from rerank.interfaces.cross_encoder import BlockCrossEncoder

    BlockCrossEncoder().rank("who wrote Faust?", ["A pear.", "Goethe wrote Faust."])
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from configs.formats.checks import as_list, check_query, named_type
from rerank.interfaces.by_place import rank_by_place, scores_with_blanks
from rerank.prompt.candidates import Candidate, as_candidate, check_top_k
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
        documents: Iterable[str],
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

        Best first, equal scores in the documents' order, documents without a visible character
        last, which a warning counts. `activation_fn` maps the scores, here nothing by default;
        `batch_size` and `show_progress_bar` are taken and not needed. Raises `TypeError` or
        `ValueError` for an empty query, a document that is no text, a bad `top_k`, and for a
        prompt: the template is the model's.
        """
        _refuse_prompts(prompt_name, prompt)
        check_top_k(top_k)
        documents = as_list("passages", documents, "a list of passages")
        placed = rank_by_place(self.ranker, query, documents)
        scores = _activated([score for _, score in placed], activation_fn).tolist()
        results: list[dict[str, Any]] = [
            {"corpus_id": place, "score": score}
            for (place, _), score in zip(placed, scores, strict=True)
        ]
        if return_documents:
            for result in results:
                result["text"] = documents[result["corpus_id"]]
        return sorted(results, key=lambda result: result["score"], reverse=True)[:top_k]

    def predict(
        self,
        inputs: Iterable[Iterable[str]] | Iterable[str],
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

        Pairs of the same query are read together, wherever they stand; documents without a visible
        character score below them, and a warning counts them. The type is that of
        `CrossEncoder.predict`: a numpy array, a tensor, or a list of tensors. Raises `TypeError` or
        `ValueError` for something else than pairs of texts, and for a prompt.
        """
        _refuse_prompts(prompt_name, prompt)
        given = as_list("inputs", inputs, "pairs of a query and a document")
        single = len(given) == 2 and all(isinstance(text, str) for text in given)
        pairs = [_pair(number, pair) for number, pair in enumerate([given] if single else given)]
        by_query: dict[str, list[int]] = {}
        for number, (query, _) in enumerate(pairs):
            by_query.setdefault(query, []).append(number)
        lists = [[pairs[n][1] for n in numbers] for numbers in by_query.values()]
        scores = torch.empty(len(pairs))
        by_list = scores_with_blanks(self.ranker, list(by_query), lists)
        for numbers, values in zip(by_query.values(), by_list, strict=True):
            scores[numbers] = torch.tensor(values)
        scores = _activated(scores, activation_fn)
        found: Any = list(scores)
        if convert_to_tensor:
            found = scores
        elif convert_to_numpy:
            found = scores.numpy() if pairs else np.array([])
        return found[0] if single else found


def _pair(number: int, pair: Any) -> tuple[str, Candidate]:
    """The query and the document of a pair; the same document may come in several."""
    texts = list(pair) if isinstance(pair, Iterable) and not isinstance(pair, str) else []
    if len(texts) != 2:
        count = f" of {len(texts)}" if texts else ""
        raise ValueError(
            f"input {number} is {named_type(pair)}{count}, wanted a query and a document"
        )
    query, document = texts
    check_query(query, f"input {number}: the query")
    try:
        return query, as_candidate(document, number, allow_blank=True)._replace(id=str(number))
    except ValueError as error:
        raise ValueError(f"input {number}: {error}") from None


def _activated(
    scores: list[float] | torch.Tensor,
    activation_fn: Callable[[torch.Tensor], torch.Tensor] | None,
) -> torch.Tensor:
    scores = torch.as_tensor(scores, dtype=torch.float32)
    return scores if activation_fn is None else activation_fn(scores)


def _refuse_prompts(prompt_name: str | None, prompt: str | None) -> None:
    if prompt_name is not None or prompt is not None:
        raise ValueError("the prompt is the model's template: leave prompt_name and prompt out")
