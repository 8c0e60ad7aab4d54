"""Beside a real `CrossEncoder`: the same calls give the same shapes and types."""

import numpy as np
import pytest
import torch

from configs.models import find_model
from rerank.interfaces.cross_encoder import BlockCrossEncoder

QUERY = "who wrote Faust?"
DOCUMENTS = ["A pear.", "Goethe wrote Faust.", "A pear.", "Rain fell on Weimar."]


@pytest.fixture(scope="module")
def ours(minilm_ranker):
    return BlockCrossEncoder(minilm_ranker)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    from sentence_transformers import CrossEncoder
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    words = AutoTokenizer.from_pretrained(find_model("minilm"))
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=1,
    )
    folder = tmp_path_factory.mktemp("cross-encoder")
    BertForSequenceClassification(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return CrossEncoder(str(folder), device="cpu")


def shape(value):
    if isinstance(value, torch.Tensor | np.ndarray):
        return type(value), value.dtype, value.shape
    if isinstance(value, list):
        return [shape(each) for each in value]
    if isinstance(value, dict):
        return {key: type(each) for key, each in value.items()}
    return type(value)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"top_k": 2},
        {"top_k": 2, "return_documents": True, "batch_size": 2, "show_progress_bar": False},
        {"activation_fn": torch.sigmoid},
    ],
)
def test_rank_returns_what_a_cross_encoder_returns(ours, real, options):
    found = ours.rank(QUERY, DOCUMENTS, **options)
    assert shape(found) == shape(real.rank(QUERY, DOCUMENTS, **options))
    assert found[0]["corpus_id"] == 1
    assert found[0].get("text", DOCUMENTS[1]) == DOCUMENTS[1]


def test_rank_scores_are_the_rankers_and_ties_stay_in_order(ours, minilm_ranker):
    found = ours.rank(QUERY, DOCUMENTS)
    expected = {ranked.id: ranked.score for ranked in minilm_ranker.rerank(QUERY, DOCUMENTS)}
    assert {str(each["corpus_id"]): each["score"] for each in found} == expected
    same = [each["corpus_id"] for each in found if DOCUMENTS[each["corpus_id"]] == "A pear."]
    assert same == [0, 2]
    halved = ours.rank(QUERY, DOCUMENTS, activation_fn=lambda scores: -scores)
    assert halved[-1]["corpus_id"] == 1
    assert ours.rank(QUERY, []) == []


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"convert_to_tensor": True},
        {"convert_to_numpy": False},
        {"activation_fn": torch.sigmoid},
    ],
)
@pytest.mark.parametrize("inputs", [[(QUERY, text) for text in DOCUMENTS], (QUERY, "A pear."), []])
def test_predict_returns_what_a_cross_encoder_returns(ours, real, inputs, options):
    assert shape(ours.predict(inputs, **options)) == shape(real.predict(inputs, **options))


def test_predict_groups_pairs_by_query(ours):
    pairs = [(QUERY, "A pear."), ("what fell?", "Rain fell."), (QUERY, "Goethe wrote Faust.")]
    scores = ours.predict(pairs)
    together = {
        each["corpus_id"]: each["score"] for each in ours.rank(QUERY, [p[1] for p in pairs[::2]])
    }
    assert scores[[0, 2]].tolist() == [together[0], together[1]]
    assert scores[1] == ours.rank("what fell?", ["Rain fell."])[0]["score"]


def test_it_stands_in_for_one_in_an_evaluator(ours):
    from sentence_transformers.cross_encoder.evaluation import CrossEncoderRerankingEvaluator

    sample = {"query": QUERY, "positive": [DOCUMENTS[1]], "negative": [DOCUMENTS[0], DOCUMENTS[3]]}
    evaluate = CrossEncoderRerankingEvaluator([sample], show_progress_bar=False, write_csv=False)
    evaluate.store_metrics_in_model_card_data = lambda *_: None  # ours has no card to write to
    assert evaluate(ours)["mrr@10"] == 1.0


def test_bad_input_is_one_sentence(ours):
    with pytest.raises(ValueError, match="the query is empty"):
        ours.rank(" ", DOCUMENTS)
    with pytest.raises(ValueError, match=r"input 0 is .*wanted a query and a document"):
        ours.predict([("one", "two", "three")])
    with pytest.raises(ValueError, match="the prompt is the model's template"):
        ours.rank(QUERY, DOCUMENTS, prompt="Judge: ")
