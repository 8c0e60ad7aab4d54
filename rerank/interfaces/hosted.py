"""The JSON shape of hosted rerank services, as plain functions: a request in, a response out.

Enters: {"query": str, "documents": [str | {"text": str}]} with, if wanted, "model", "top_n" and
"return_documents". Leaves: {"model", "results": [{"index", "relevance_score", "document"?}],
"usage": {"total_tokens"}}, best first.

Any web framework serves it in one line, and `python -m rerank respond` by lines of JSON; there is
no server here, because what a server needs besides (keys, limits, queues) is nothing of ranking.

    respond(ranker, {"query": "who wrote Faust?", "documents": ["A pear.", "Goethe."]}, "minilm")
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from configs.formats.checks import check_query, named_type
from rerank.interfaces.by_place import rank_by_place
from rerank.prompt.candidates import Candidate, as_candidate, as_candidates
from rerank.prompt.packing import tokenize
from rerank.prompt.template import fill
from rerank.ranker import BlockRanker
from rerank.scoring.probability import probabilities

FIELDS = ("model", "query", "documents", "top_n", "return_documents")
_DOCUMENT_FIELDS = ("title", "text")


class RerankRequest(NamedTuple):
    """A checked request; documents are dicts of `text` and perhaps `title`."""

    model: str | None
    query: str
    documents: list[dict[str, str]]
    top_n: int | None
    return_documents: bool


def read_request(body: Any) -> RerankRequest:
    """Check a request. Raises `ValueError` naming the field that is missing, unknown or wrong."""
    if not isinstance(body, Mapping):
        raise ValueError(f"the request is a {type(body).__name__}, wanted a JSON object")
    unknown = sorted(set(body) - set(FIELDS))
    if unknown:
        raise ValueError(f"unknown field {unknown[0]!r}; known: {', '.join(FIELDS)}")
    query, documents = body.get("query"), body.get("documents")
    if not isinstance(query, str):
        raise ValueError("'query' is missing or no string")
    check_query(query, "'query'")
    if not isinstance(documents, list) or not documents:
        raise ValueError("'documents' is missing or empty, wanted a list of strings or objects")
    top_n = body.get("top_n")
    if top_n is not None and (isinstance(top_n, bool) or not isinstance(top_n, int) or top_n < 1):
        raise ValueError(f"'top_n' is {top_n!r}, wanted a whole number from 1")
    wanted = body.get("return_documents", False)
    if not isinstance(wanted, bool):
        raise ValueError(f"'return_documents' is {wanted!r}, wanted true or false")
    model = body.get("model")
    if model is not None and not isinstance(model, str):
        raise ValueError(f"'model' is {model!r}, wanted a string")
    read = [_document(number, document) for number, document in enumerate(documents)]
    return RerankRequest(model, query, read, top_n, wanted)


def respond(ranker: BlockRanker, body: Any, model: str) -> dict[str, Any]:
    """Answer one request with the reranker called `model`.

    `relevance_score` is a probability where the model's settings know how scores map to one, else
    the score itself; `total_tokens` counts what the model read. A document without a visible
    character comes last, as a probability with 0, and a warning counts it. Raises `ValueError` for
    a bad request, and for one that asks for another model than this.
    """
    request = read_request(body)
    if request.model not in (None, model):
        raise ValueError(f"'model' is {request.model!r}, and {model!r} is loaded")
    candidates = as_candidates(request.documents, allow_blank=True)
    ranking = rank_by_place(ranker, request.query, candidates, request.top_n)
    relevance = [score for _, score in ranking]
    mapped = probabilities(relevance, ranker.settings.probability)
    if mapped is not None:
        blank = (candidates[place].is_blank for place, _ in ranking)
        relevance = [0.0 if b else value for b, value in zip(blank, mapped, strict=True)]
    results: list[dict[str, Any]] = []
    for (place, _), score in zip(ranking, relevance, strict=True):
        result: dict[str, Any] = {"index": place, "relevance_score": score}
        if request.return_documents:
            result["document"] = request.documents[place]
        results.append(result)
    usage = {"total_tokens": _tokens(ranker, request.query, candidates)}
    return {"model": model, "results": results, "usage": usage}


def _tokens(ranker: BlockRanker, query: str, candidates: Sequence[Candidate]) -> int:
    read = [candidate for candidate in candidates if not candidate.is_blank]
    if not read:
        return 0
    texts = fill(ranker.settings, query, read)
    (prompt,) = tokenize(ranker.backbone.tokenizer, ranker.settings, [texts])
    return prompt.num_tokens


def _document(number: int, document: Any) -> dict[str, str]:
    given = {"text": document} if isinstance(document, str) else document
    if not isinstance(given, Mapping):
        raise ValueError(
            f"'documents'[{number}]: {named_type(document)}, wanted a string or {{'text': ...}}"
        )
    fields = {name: given[name] for name in _DOCUMENT_FIELDS if given.get(name) is not None}
    try:
        as_candidate(fields, number, allow_blank=True)
    except ValueError as error:
        raise ValueError(f"'documents'[{number}]: {error}") from None
    return fields
