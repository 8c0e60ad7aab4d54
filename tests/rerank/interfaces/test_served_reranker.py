"""What a service's reranker keeps of texts that come again: it changes no bit of a score."""

import copy
from dataclasses import replace

import pytest
from rerank_cases import QUERY

from rerank import BlankPassagesWarning, BlockRanker, PassageCache
from rerank.interfaces.served import ServedReranker

# A special token that a text spells, a text without a token, titles, windows of a long one.
DOCUMENTS = [
    {"text": "Goethe wrote Faust, a tragedy in two parts."},
    {"title": "Pear", "text": "A pear. [SEP] [CLS]"},
    {"title": "Pear", "text": ""},
    {"text": "Rain fell on Weimar all night long; nobody wrote. " * 9},
    {"text": "\ufffd"},
    {"title": "Doctor Faustus", "text": "A play by Christopher Marlowe."},
]
QUERIES = [QUERY, "pear", "where did it rain all night long in 1774?", QUERY]
LISTS = [[0, 1, 2, 3], [1, 1, 4], [3, 5], [5]]


@pytest.fixture(scope="module")
def plain(minilm_ranker):
    return ServedReranker(minilm_ranker, "minilm")


@pytest.fixture
def tokens_read(plain, monkeypatch):
    """The token counts of all forward passes."""
    found = []
    backbone = type(plain._ranker.backbone)
    read = backbone.read
    monkeypatch.setattr(
        backbone, "read", lambda self, p: found.append(len(p.input_ids)) or read(self, p)
    )
    return found


def documents(numbers):
    return [DOCUMENTS[number] for number in numbers]


def scores(reranker, queries=QUERIES, lists=LISTS):
    return reranker.rerank_batch(queries, list(map(documents, lists)))


def test_no_bit_of_a_score_tells_whether_a_text_was_kept(plain):
    wanted = scores(plain)
    keeping = plain.keeping(1 << 20)
    for _ in range(3):
        assert scores(keeping) == wanted
    for query, listed, found in zip(QUERIES, LISTS, wanted, strict=True):
        assert scores(keeping, [query], [listed]) == [found]
        assert scores(keeping, [query], [listed[::-1]])[0].scores == found.scores[::-1]
    blank = [{"text": " "}, *DOCUMENTS]
    with pytest.warns(BlankPassagesWarning, match="1 of 7"):
        assert keeping.rerank_batch([QUERY], [blank]) == plain.rerank_batch([QUERY], [blank])
    assert scores(keeping, [], []) == []


def test_what_comes_again_is_read_once(plain, tokens_read):
    keeping, fresh = plain.keeping(1 << 20), plain.keeping(1 << 20)
    tokens_read.clear()
    scores(plain, [QUERY], [[0, 3]])
    new = tokens_read.copy()
    scores(keeping, [QUERY], [[0, 3]])
    assert tokens_read == 2 * new  # as ever, where nothing was met before
    scores(keeping, [QUERY], [[0, 3]])
    tokens_read.clear()
    scores(keeping, ["pear"], [[3, 0]])
    assert sum(tokens_read) < 20  # the query alone
    tokens_read.clear()
    scores(fresh, QUERIES, [[0, 3]] * 4)
    assert sum(tokens_read) < new[0] + 20 * len(QUERIES)


def test_a_bounded_number_of_bytes_is_kept(plain):
    most = 170_000  # the longest of them takes 155,678
    keeping = plain.keeping(most)
    wanted = scores(plain)
    for _ in range(2):
        assert scores(keeping) == wanted
        assert 0 < keeping._recent.num_bytes <= most
    assert keeping._recent.num_passages < len(DOCUMENTS)
    kept = keeping._recent._kept.values()
    assert keeping._recent.num_bytes == sum(shard.num_bytes for shard in kept)
    sizes = {x.untyped_storage().nbytes() for each in kept for x in each.tokens.values()}
    assert max(sizes) <= most  # no passage holds on to the batch that it was read in


def test_texts_that_are_met_once_leave_a_bounded_trace(plain, monkeypatch):
    monkeypatch.setattr("rerank.cache.recent._MET", 3)
    keeping = plain.keeping(1 << 20)
    for number in range(5):
        keeping.rerank_batch(["pear"], [[{"text": f"pear {number}"}]])
    assert len(keeping._recent._met) == 3
    assert keeping._recent.num_passages == 0


def test_tokens_are_counted_as_if_all_were_read(plain, tmp_path):
    keeping = plain.keeping(1 << 20)
    wanted = [plain.count_tokens(QUERY, documents(listed)) for listed in LISTS]
    for _ in range(2):
        assert [keeping.count_tokens(QUERY, documents(listed)) for listed in LISTS] == wanted
        scores(keeping)
    some = documents([0, 1, 3])
    PassageCache.build(plain._ranker, some, tmp_path / "cache", 8)
    cached = keeping.with_cache(tmp_path / "cache")
    assert cached._recent is keeping._recent
    assert cached.count_tokens(QUERY, some) == plain.count_tokens(QUERY, some)
    with pytest.raises(ValueError, match="the query has"):
        keeping.count_tokens("a " * 999, documents([0]))


@pytest.mark.parametrize("change", [{"instruction": "For {query}: "}, None])
def test_nothing_is_kept_where_it_would_change_a_score_or_is_not_wanted(plain, change):
    backbone = copy.copy(plain._ranker.backbone)
    if change is not None:
        backbone.settings = replace(backbone.settings, **change)
    reranker = ServedReranker(BlockRanker(backbone), "seeing")
    assert reranker.keeping(0 if change is None else 1 << 20) is reranker
