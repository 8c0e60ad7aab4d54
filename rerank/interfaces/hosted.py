"""The JSON shape of hosted rerank services, as plain functions: a request in, a response out.

Enters: {"query": str, "documents": [str | {"text": str}]}, and what else
`configs.formats.rerank_json` reads. Leaves: {"model", "results": [{"index", "relevance_score",
"document"?}], "usage": {"total_tokens"}}, best first.

`python -m rerank respond` answers lines of it, and `python -m retrieval.serve` speaks it over HTTP,
with what a server needs besides (keys, limits, queues), which is nothing of ranking.

    respond(ranker, {"query": "who wrote Faust?", "documents": ["A pear.", "Goethe."]}, "minilm")
"""

from typing import Any

from configs.formats.rerank_json import RerankRequest, read_request, write_response
from rerank.interfaces.served import ServedReranker
from rerank.ranker import BlockRanker

__all__ = ["RerankRequest", "read_request", "respond"]


def respond(ranker: BlockRanker, body: Any, model: str) -> Any:
    """Answer one request with the reranker called `model`.

    `relevance_score` is a probability where the model's settings know how scores map to one, else
    the score itself; `total_tokens` counts what the model read. A document without a visible
    character comes last, as a probability with 0, and a warning counts it. Raises `ValueError` for
    a bad request, and for one that asks for another model than this.
    """
    request = read_request(body)
    if request.model not in (None, model):
        raise ValueError(f"'model' is {request.model!r}, and {model!r} is loaded")
    reranker = ServedReranker(ranker, model)
    documents = [reranker.cut(each, request.max_tokens_per_doc) for each in request.documents]
    (found,) = reranker.rerank_batch([request.query], [documents])
    tokens = reranker.count_tokens(request.query, documents)
    return write_response(
        request, scores=found.scores, relevance=found.relevance, tokens=tokens, model=model
    )
