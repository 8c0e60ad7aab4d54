"""Scores of real model classes, held to dense attention written down from the definition."""

import pytest
import torch
import yaml
from rerank_cases import (
    DECODERS,
    PASSAGES,
    QUERY,
    dense_mass,
    dense_run,
    load_ranker,
    save_model,
    scores,
)
from transformers import Gemma3Config, LlamaConfig

from configs.settings import read_mapping
from rerank.backbones.decoder import scoring_layers
from rerank.prompt.candidates import as_candidates
from rerank.prompt.template import fill
from rerank.settings.reading import make_ranker_settings, read_ranker_settings

SELECTED = {"heads": [[0, 3], [2, 0], [0, 1], [2, 3]], "head_weights": [1, 2, 3, 2]}
LAST_TOKENS = -2


@pytest.fixture(scope="module", params=DECODERS)
def folder(request, tmp_path_factory):
    return save_model(tmp_path_factory.mktemp(request.param), request.param, "smollm2")


def _ranker(folder, **changes):
    return load_ranker(folder, yaml.safe_dump(read_mapping("rerank/decoder") | changes))


def _dense(folder, ranker):
    texts = fill(ranker.settings, QUERY, as_candidates(PASSAGES))
    blocks = [texts.instruction, *texts.passages, texts.query]
    return dense_run(folder, blocks, attends=True, query_position=8192)


@pytest.mark.parametrize("in_instruction", [True, False])
def test_all_heads_of_a_layer(folder, in_instruction):
    ranker = _ranker(folder, query_in_instruction=in_instruction)
    run = _dense(folder, ranker)
    wanted = dense_mass(run, 2, run.blocks[-1][LAST_TOKENS:])
    found = torch.tensor(scores(ranker, QUERY, PASSAGES)).double()
    assert wanted.max() - wanted.min() > 0.01  # else a uniform score would pass
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    assert found.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("in_instruction", [True, False])
def test_selected_heads_of_several_layers(folder, in_instruction):
    ranker = _ranker(folder, query_in_instruction=in_instruction, **SELECTED)
    run = _dense(folder, ranker)
    signals = run.blocks[-1][LAST_TOKENS:]
    wanted = sum(
        weight / 8 * dense_mass(run, layer, signals, heads=[head])
        for (layer, head), weight in zip(SELECTED["heads"], SELECTED["head_weights"], strict=True)
    )
    found = torch.tensor(scores(ranker, QUERY, PASSAGES)).double()
    assert wanted.max() - wanted.min() > 0.01
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_the_query_in_the_instruction_changes_what_passages_see(folder):
    seen, alone = (
        scores(_ranker(folder, query_in_instruction=mode), QUERY, PASSAGES)
        for mode in (True, False)
    )
    assert max(abs(a - b) for a, b in zip(seen, alone, strict=True)) > 1e-4


def test_weights_are_relative(folder):
    once, twice = (
        _ranker(folder, heads=[[1, 0], [1, 2]], head_weights=weights)
        for weights in ([1, 3], [2, 6])
    )
    assert scores(once, QUERY, PASSAGES) == scores(twice, QUERY, PASSAGES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": [[4, 0]]}, "score at layer 4, it has layers 0 to 3"),
        ({"heads": [[1, 4]]}, "head 4 of layer 1, it has heads 0 to 3"),
        ({"heads": []}, r"heads is empty: list \[layer, head\] pairs"),
        ({"heads": [[1, 1], [1, 1]]}, "heads names a head twice"),
        ({"heads": [[1, 1]], "head_weights": [1, 2]}, "head_weights has 2 values for 1 heads"),
        ({"heads": [[1, 1]], "head_weights": [0]}, "head_weights must be 0 or more, and not all"),
        ({"head_weights": [1]}, "head_weights has 1 values for 0 heads"),
        (
            {"query_in_instruction": False, "instruction_alone": None},
            "query_in_instruction is false and the instruction holds {query}",
        ),
    ],
)
def test_heads_that_do_not_fit(changes, message):
    values = read_mapping("rerank/decoder") | changes
    with pytest.raises(ValueError, match=message):
        scoring_layers(
            make_ranker_settings(values, "blockrank.yaml"),
            LlamaConfig(num_hidden_layers=4, num_attention_heads=4),
        )


def test_a_model_of_more_than_text_is_refused():
    settings = read_ranker_settings("rerank/decoder")
    with pytest.raises(ValueError, match=r"Gemma3Config names no layers of its own.*load that"):
        scoring_layers(settings, Gemma3Config())
