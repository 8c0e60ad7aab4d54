"""Rerankers of other packages: found by their entry point, served as ours is."""

from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest

from retrieval.serving import reranker


class Longest:
    """Ranks by length: what a stranger's package may bring."""

    name = "longest"
    cached_passages = 0

    def rerank_batch(self, queries, document_lists):
        return [
            SimpleNamespace(scores=lengths, relevance=[1 / (1 + n) for n in lengths])
            for lengths in (
                [float(len(d["text"])) for d in documents] for documents in document_lists
            )
        ]

    def count_tokens(self, query, documents):
        return sum(len(document["text"].split()) for document in documents)

    def cut(self, document, max_tokens):
        return {"text": " ".join(document["text"].split()[:max_tokens])}


def open_longest(model, *, device=None):
    if model != "any":
        raise ValueError(f"no model is called {model!r}")
    return Longest()


@pytest.fixture
def installed(monkeypatch):
    """Two entry points of the group, as importlib.metadata gives them."""
    own = "rerank.interfaces.served:open_reranker"
    points = [
        EntryPoint("blockrank", own, reranker.GROUP),
        EntryPoint("longest", f"{__name__}:open_longest", reranker.GROUP),
    ]
    monkeypatch.setattr(reranker, "entry_points", lambda group: points)
    monkeypatch.setattr(EntryPoint, "load", lambda self: globals()[self.attr])


def test_a_strangers_reranker_is_served(installed, make_service, served_index, running):
    service = make_service(served_index, rerank=False)
    found = reranker.load_reranker("any", entry_point="longest")
    service.engine = reranker_of(service, found)
    with running(service) as (client, _):
        body = {"query": "a", "documents": ["aa", "a a a", "a"], "max_tokens_per_doc": 2}
        answer = client.post("/v1/rerank", json=body).json()
        assert [result["index"] for result in answer["results"]] == [1, 0, 2]
        assert answer["results"][0]["relevance_score"] == 1 / 4
        assert answer["usage"] == {"total_tokens": 4}
        assert answer["model"] == "longest"
        assert client.get("/health").json()["reranker"]["name"] == "longest"


def reranker_of(service, found):
    from retrieval.serving.engine import with_reranker

    return with_reranker(service.engine, found)


def test_an_unknown_name_tells_those_there_are(installed):
    with pytest.raises(ValueError, match=r"no reranker is called 'x' \(there are: blockrank, lon"):
        reranker.load_reranker("any", entry_point="x")
    with pytest.raises(ValueError, match="no model is called 'other'"):
        reranker.load_reranker("other", entry_point="longest")


def test_our_own_entry_point_is_installed():
    """Else `python -m retrieval.serve --rerank mini` finds nothing."""
    from importlib.metadata import entry_points

    (own,) = entry_points(group=reranker.GROUP, name=reranker.DEFAULT_RERANKER)
    assert own.value == "rerank.interfaces.served:open_reranker"
