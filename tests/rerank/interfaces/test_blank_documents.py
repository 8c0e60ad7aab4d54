"""A document without a visible character comes last, is counted, and sinks no list."""

import copy
import json
import math
import warnings
from dataclasses import replace

import pytest
from rerank_cases import QUERY, load_ranker, save_model

from rerank import BlankPassagesWarning, BlockRanker
from rerank.interfaces.by_place import rank_by_place
from rerank.interfaces.cross_encoder import BlockCrossEncoder
from rerank.interfaces.hosted import respond

GOOD = ["A pear.", "Goethe wrote Faust.", "Rain fell on Weimar."]
BLANKS = ["", " \n\t", "\u200b\u200b\u200b", "\x00\x07", "\ufeff"]
MASS = """
backbone: decoder
query_attends: true
query_position: 4096
instruction: "Rank.\\nQuery: {query}\\n\\n"
passage: "Passage: {title}\\n{text}\\n\\n"
query: "Query: {query}\\nAnswer:"
signal: query
score: mass
layer: 2
"""


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    return load_ranker(save_model(tmp_path_factory.mktemp("llama"), "Llama", "smollm2"), MASS)


@pytest.fixture(params=["log_sum_exp", "log_sum_exp, content-free", "mass", "mass, content-free"])
def ranker(request, minilm_ranker, decoder):
    kind, _, calibration = request.param.partition(", ")
    chosen = decoder if kind == "mass" else minilm_ranker
    if not calibration:
        return chosen
    backbone = copy.copy(chosen.backbone)
    backbone.settings = replace(backbone.settings, calibration="content_free")
    return BlockRanker(backbone)


def _counted(count, total):
    return pytest.warns(
        BlankPassagesWarning, match=f"{count} of {total} passages have no visible character"
    )


def test_it_comes_last_below_every_other_wherever_it_stands(ranker):
    wanted = rank_by_place(ranker, QUERY, GOOD)
    lowest = wanted[-1].score
    last = set()
    for place, blank in enumerate(BLANKS[:4]):
        passages = [*GOOD[:place], blank, *GOOD[place:]]
        with _counted(1, 4):
            found = rank_by_place(ranker, QUERY, passages)
        moved = [(p + (p >= place), score) for p, score in wanted]
        assert found[:3] == moved  # the others' scores keep their bits
        assert found[3].place == place
        assert found[3].score < lowest
        last.add(found[3].score)
    assert last == {0.0 if _is_mass(ranker) else lowest - 1}


def _is_mass(ranker):
    return ranker.settings.score == "mass" and ranker.settings.calibration == "none"


def test_all_blank_is_finite_and_in_order(ranker):
    with _counted(5, 5):
        found = rank_by_place(ranker, QUERY, BLANKS)
    assert found == [(place, 0.0 if _is_mass(ranker) else -1.0) for place in range(5)]


def test_a_mass_of_nothing_is_still_before_a_blank(decoder, monkeypatch):
    monkeypatch.setattr(
        decoder, "scores_batch", lambda queries, lists: [[0.0] * len(each) for each in lists]
    )
    with _counted(1, 3):
        assert [place for place, _ in rank_by_place(decoder, QUERY, ["", "a", "b"])] == [1, 2, 0]


def test_no_visible_character_in_the_title_either(minilm_ranker):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = rank_by_place(minilm_ranker, QUERY, ["A pear.", {"title": "Faust", "text": " "}])
    assert found[0].place == 1


def test_the_cross_encoder_and_where_the_warning_points(minilm_ranker):
    model = BlockCrossEncoder(minilm_ranker)
    with _counted(1, 4) as caught:
        found = model.rank(QUERY, ["", *GOOD], return_documents=True)
    assert caught[0].filename == __file__
    assert found[-1]["corpus_id"] == 0
    assert found[-1]["text"] == ""
    assert all(math.isfinite(each["score"]) for each in found)
    pairs = [(QUERY, "\u200b"), ("what fell?", " "), (QUERY, "A pear."), (QUERY, "\u200b")]
    with _counted(3, 4):
        scores = model.predict(pairs)
    assert scores[2] == model.predict([pairs[2]])[0]
    assert scores[0] == scores[3] == pytest.approx(scores[2] - 1)
    assert scores[1] == -1


def test_a_hosted_response(minilm_ranker):
    body = {"query": QUERY, "documents": ["", "Goethe.", {"text": "\u200b", "title": "\u00a0"}]}
    with _counted(2, 3):
        response = respond(minilm_ranker, body, "minilm")
    assert [result["index"] for result in response["results"]] == [1, 0, 2]
    json.dumps(response, allow_nan=False)
    alone = respond(minilm_ranker, body | {"documents": ["Goethe."]}, "minilm")
    assert response["usage"] == alone["usage"]
    with _counted(1, 1):
        empty = respond(minilm_ranker, body | {"documents": [""]}, "minilm")
    assert empty["usage"] == {"total_tokens": 0}


def test_a_blank_document_is_relevant_with_probability_0(minilm_ranker):
    backbone = copy.copy(minilm_ranker.backbone)
    backbone.settings = replace(backbone.settings, probability=(4.0, -1.0))
    with _counted(1, 2):
        response = respond(
            BlockRanker(backbone), {"query": QUERY, "documents": [" ", "A pear."]}, "minilm"
        )
    values = {each["index"]: each["relevance_score"] for each in response["results"]}
    assert values[0] == 0.0 < values[1]


def test_langchain_documents(minilm_ranker):
    documents = pytest.importorskip("langchain_core.documents", reason="needs the extra langchain")
    from rerank.interfaces.langchain import BlockRankCompressor

    given = [documents.Document(text) for text in ("", *GOOD)]
    with _counted(1, 4):
        found = BlockRankCompressor(ranker=minilm_ranker).compress_documents(iter(given), QUERY)
    assert found[-1].page_content == ""
    assert found[-1].metadata["relevance_score"] < found[-2].metadata["relevance_score"]


def test_llama_index_nodes(minilm_ranker):
    schema = pytest.importorskip("llama_index.core.schema", reason="needs the extra llama-index")
    from rerank.interfaces.llama_index import BlockRankPostprocessor

    given = [schema.NodeWithScore(node=schema.TextNode(text=text)) for text in ("", *GOOD)]
    with _counted(1, 4):
        found = BlockRankPostprocessor(ranker=minilm_ranker).postprocess_nodes(
            given, query_str=QUERY
        )
    assert found[-1].node.get_content() == ""
    assert found[-1].score < found[-2].score


def test_the_ranker_itself_refuses_them(minilm_ranker):
    for blank in BLANKS:
        with pytest.raises(ValueError, match="passage 1: no visible character"):
            minilm_ranker.rerank(QUERY, ["A pear.", blank])
