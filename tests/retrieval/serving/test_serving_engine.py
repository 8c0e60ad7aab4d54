"""What one batch of searches computes, and how often."""

from dataclasses import replace

import numpy as np
import pytest

from retrieval.serving.engine import Asked, open_index

QUERIES = ["text 3", "Title 9", "word"]


class NearTheBest:
    """Keeps what is near the best, as seen from the 40th: it looks deeper than any `k` here."""

    needed_hits = 40
    needs_embeddings = False

    def keep(self, query_embeddings, scores):
        return [each >= 0.9 * each[0] + 0.1 * each[39] for each in scores]


@pytest.fixture(scope="module")
def engine(served_index):
    return replace(open_index(served_index, device="cpu"), relevance_filter=NearTheBest())


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
@pytest.mark.parametrize("cut", [{"filtered": True}, {"cosine": 0.9}, {}])
def test_a_filtered_search_searches_once(engine, mode, cut, monkeypatch):
    index, retriever = engine.retriever.index, engine.retriever
    chosen = engine.relevance_filter if "filtered" in cut else None
    if "cosine" in cut:
        chosen = retriever.open_filter(str(cut["cosine"]))
    every = retriever.search(QUERIES, 5, mode=mode)
    kept = retriever.search(QUERIES, 5, chosen, mode=mode)
    asked = {"search": 0, "search_words": 0}

    def counting(name):
        plain = getattr(index, name)

        def search(*arguments, **options):
            asked[name] += 1
            return plain(*arguments, **options)

        monkeypatch.setattr(index, name, search)

    for name in asked:
        counting(name)
    found = engine.search([Asked(query, 5, mode=mode, **cut) for query in QUERIES])
    assert [each.hits for each in found] == every
    assert [each.kept for each in found] == kept
    assert asked == {
        "search": int(mode != "lexical" or bool(cut)),
        "search_words": int(mode != "dense"),
    }
    for each in found:
        assert {hit.id for hit in each.hits} == set(each.passages)
    if chosen is not None:
        assert 0 < sum(map(len, kept)) < sum(map(len, every))


def test_the_vectors_of_a_batch_are_computed_once(engine, monkeypatch):
    given = []
    plain = engine.encoder.encode_apart
    monkeypatch.setattr(engine.encoder, "encode_apart", lambda *a: given.append(a[0]) or plain(*a))
    found = engine.search([Asked(f"other {n % 2}", 3, filtered=True) for n in range(6)])
    assert [sorted(texts) for texts in given] == [["other 0", "other 1"]]
    assert found[0].hits == found[2].hits
    assert isinstance(found[0].hits[0].score, float)
    assert np.isfinite(found[0].hits[0].score)
