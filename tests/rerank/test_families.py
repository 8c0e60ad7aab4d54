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

from configs.settings import read_mapping
from rerank.candidates import as_candidates
from rerank.template import fill

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
