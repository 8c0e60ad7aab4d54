"""Both legs of a search: what each mode finds, in Python and on the command line."""

import json
import shutil

import numpy as np
import pytest

from index.manifest.manifest import Manifest
from index.verify import verify
from retrieval import Encoder, Passage, Retriever, add_passages, compact_index, delete_passages
from retrieval.adapter.filters import threshold_filter
from retrieval.changes import update_passages
from retrieval.fusion import reciprocal_rank_fusion, weighted_sum
from retrieval.legs import BY_COSINE, Search
from retrieval.pipeline import run_pipeline

QUERIES = ["text 7 title", "word 58", "number 31 of them"]


@pytest.fixture(scope="module")
def encoder(tiny_encoder):
    return Encoder.load(str(tiny_encoder), device="cpu")


@pytest.fixture(scope="module")
def retriever(made_index, encoder):
    return Retriever.open(made_index, encoder=encoder)


@pytest.fixture
def index(made_index, tmp_path):
    return shutil.copytree(made_index, tmp_path / "index")


def _scores(hits):
    return [{hit.id: hit.score for hit in found} for found in hits]


def test_hybrid_is_the_fusion_of_both_legs(retriever):
    dense = _scores(retriever.search(QUERIES, 100))
    lexical = _scores(retriever.search(QUERIES, 100, mode="lexical"))
    assert [next(iter(found)) for found in lexical] == ["p07", "p58", "p31"]
    for k in (1, 5, 100):
        found = _scores(retriever.search(QUERIES, k, mode="hybrid"))
        assert found == [
            reciprocal_rank_fusion(legs, k) for legs in zip(dense, lexical, strict=True)
        ]
        weighted = _scores(retriever.search(QUERIES, k, mode="hybrid", dense_weight=0.7))
        assert weighted == [
            weighted_sum(legs, (0.7, 1 - 0.7), k) for legs in zip(dense, lexical, strict=True)
        ]


def test_lexical_search_encodes_nothing(retriever, monkeypatch):
    monkeypatch.setattr(Encoder, "encode_queries", lambda *_: pytest.fail("encoded"))
    ((first, *_),) = retriever.search("text 7", 3, mode="lexical")
    assert (first.id, first.rank) == ("p07", 1)
    assert retriever.search("zebra", mode="lexical") == [[]]


@pytest.mark.parametrize("mode", ["lexical", "hybrid"])
def test_a_filter_judges_by_cosines_whatever_found_a_hit(retriever, mode):
    """Only the first few are near by cosine: the others' cosines are asked for, to the last bit."""
    cosines = _scores(retriever.search(QUERIES, 100))
    cut = sorted(cosines[0].values())[30]
    found = retriever.search(QUERIES, 40, mode=mode)
    kept = retriever.search(QUERIES, 40, threshold_filter(cut), mode=mode)
    for hits, left, cosine in zip(found, kept, cosines, strict=True):
        assert left == [hit for hit in hits if np.float32(cosine[hit.id]) >= np.float32(cut)]
    assert 0 < len(kept[0]) < len(found[0])


def test_a_filter_of_dense_hits_is_what_it_was(retriever):
    found = retriever.search(QUERIES, 40)
    cut = found[0][20].score
    kept = retriever.search(QUERIES, 40, threshold_filter(cut))
    assert kept == [[hit for hit in hits if hit.score >= cut] for hits in found]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "both"}, "the mode is 'both', wanted dense, lexical, hybrid"),
        ({"dense_weight": 0.5}, "dense_weight is of hybrid search, the mode is dense"),
        ({"mode": "hybrid", "dense_weight": 1.5}, "dense_weight is 1.5, wanted 0 to 1"),
        ({"mode": "hybrid", "dense_weight": float("nan")}, "dense_weight is nan, wanted 0 to 1"),
    ],
)
def test_what_is_no_mode(retriever, options, message):
    with pytest.raises(ValueError, match=message):
        retriever.search("text", **options)


def test_both_legs_change_together(index, encoder):
    def found(query, mode="lexical"):
        (hits,) = Retriever.open(index, encoder=encoder).search(query, 3, mode=mode)
        return [hit.id for hit in hits]

    assert found("zebras") == []
    add_passages(index, [Passage("n1", "Zebra", "a new text")], encoder=encoder)
    assert found("zebras") == ["n1"] == found("zebras", "hybrid")[:1]
    update_passages(index, [Passage("n1", "", "of horses alone")], encoder=encoder)
    assert (found("zebras"), found("horse")) == ([], ["n1"])
    delete_passages(index, ["n1"])
    assert found("horse") == []
    assert Manifest.read(index).lexical == compact_index(index).manifest.lexical == "english"
    assert verify(index) == ([], 1.0)


def test_compact_gives_an_old_index_its_words_and_takes_them(index, encoder, run_module):
    def search():
        return run_module("retrieval.index", "search", index, "text 7", "--mode", "lexical")

    def compact(words):
        found = run_module("retrieval.index", "compact", index, "--lexical", words)
        assert found.returncode == 0, found.stderr
        return found.stdout

    assert "nothing to do" in compact("english")
    assert compact("off").startswith(f"{index}: 1 segments merged")
    assert not list(index.rglob("lexical*"))
    refused = search()
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"error: the index in {index} has no lexical leg; `python -m")
    assert "--lexical english` adds it" in refused.stderr
    compact("plain")
    assert "p07" in search().stdout.splitlines()[1]
    assert "BM25, plain words" in run_module("retrieval.index", "info", index).stdout
    with pytest.raises(ValueError, match="lexical is 'german', wanted english, plain or off"):
        compact_index(index, lexical="german")


def test_the_command_searches_by_words_and_by_both(retriever, made_index, run_module):
    def run(*options):
        arguments = ("search", made_index, QUERIES[0], "-k", 5, "--json", *options)
        found = run_module("retrieval.index", *arguments)
        assert found.returncode == 0, found.stderr
        return [(hit["id"], hit["score"]) for hit in json.loads(found.stdout)["hits"]]

    def wanted(**options):
        return [(hit.id, hit.score) for hit in retriever.search(QUERIES[0], 5, **options)[0]]

    assert run("--mode", "lexical") == wanted(mode="lexical")
    assert run("--hybrid") == wanted(mode="hybrid")
    assert run("--hybrid", "--dense-weight", "0.7") == wanted(mode="hybrid", dense_weight=0.7)
    refused = run_module("retrieval.index", "search", made_index, "text", "--dense-weight", "0.7")
    assert refused.returncode == 2
    assert refused.stderr == "error: dense_weight is of hybrid search, the mode is dense\n"


def test_the_pipeline_finds_what_a_search_finds(retriever):
    queries = dict(zip("abc", QUERIES, strict=True))
    relevance_filter = threshold_filter(retriever.search(QUERIES[0], 20)[0][-1].score)
    for search in (BY_COSINE, Search("lexical"), Search("hybrid"), Search("hybrid", 0.5)):
        options = {"mode": search.mode, "dense_weight": search.dense_weight}
        first, kept = run_pipeline(
            retriever, queries, k=20, search=search, relevance_filter=relevance_filter
        )
        assert (first.name, kept.name) == (search.mode, "filter")
        assert list(first.hits.values()) == retriever.search(QUERIES, 20, **options)
        assert list(kept.hits.values()) == retriever.search(
            QUERIES, 20, relevance_filter, **options
        )


def test_a_querys_own_passage_takes_no_part_in_a_fusion(retriever):
    """Else its scores, the highest, would press all others together."""
    search = Search("hybrid", 0.5)
    (first,) = run_pipeline(
        retriever, {"p07": "Title 7 text 7"}, k=60, search=search, own=frozenset({"p07"})
    )
    dense, lexical = _scores(
        retriever.search("Title 7 text 7", 61, mode=mode)[0] for mode in ("dense", "lexical")
    )
    del dense["p07"], lexical["p07"]
    assert first.own_hits == 1
    assert _scores(first.hits.values()) == [weighted_sum([dense, lexical], [0.5, 0.5], 60)]
