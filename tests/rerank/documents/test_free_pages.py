"""A long document is read in pieces, and what each of them freed goes back to the system."""

import ctypes

import pytest
from rerank_cases import QUERY

from rerank.documents import free_pages, scores
from rerank.documents.free_pages import give_back_free_pages

TEXT = " ".join(f"Sentence number {n} speaks of rain in Weimar." for n in range(40))


def test_scores_do_not_know_how_much_is_read_at_once(minilm_ranker, monkeypatch):
    rankings, times = [], []
    for at_once in (10_000, 64):
        given = []
        monkeypatch.setattr(scores, "_READ_AT_ONCE", at_once)
        monkeypatch.setattr(scores, "give_back_free_pages", lambda given=given: given.append(1))
        rankings.append(
            minilm_ranker.rerank_documents(QUERY, [TEXT], block_tokens=40, overlap_tokens=10)
        )
        times.append(len(given))
    assert rankings[0] == rankings[1]
    assert times[0] == 1
    assert times[1] > 3


@pytest.mark.parametrize("error", [OSError("no such table"), TypeError("a name is wanted")])
def test_a_system_of_another_kind_gives_back_nothing(monkeypatch, error):
    def no_library(name):
        raise error

    free_pages._malloc_trim.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", no_library)
    give_back_free_pages()
    assert free_pages._malloc_trim() is None
    free_pages._malloc_trim.cache_clear()
