from dataclasses import replace

import pytest
import torch
from rerank_cases import QUERY, tokenizer_of

from kernels import RequestBlocks
from rerank.prompt.candidates import as_candidates
from rerank.prompt.packing import pack, tokenize
from rerank.prompt.template import fill
from rerank.settings.reading import read_ranker_settings

ENCODER = read_ranker_settings("rerank/minilm")
DECODER = read_ranker_settings("rerank/smollm2")


def _tokens(settings, query, passages):
    tokenizer = tokenizer_of("minilm" if settings.backbone == "encoder" else "smollm2")
    return tokenizer, tokenize(
        tokenizer, settings, [fill(settings, query, as_candidates(passages))]
    )


def _packed(settings, prompts, query_position=None):
    return pack(
        prompts, settings, pad_id=0, query_position=query_position, device=torch.device("cpu")
    )


@pytest.mark.parametrize("settings", [ENCODER, DECODER])
def test_signal_tokens_are_the_querys_own(settings):
    tokenizer, (prompt,) = _tokens(settings, QUERY, ["A pear."])
    ids = [prompt.query.ids[place] for place in prompt.signal]
    # MiniLM's tokenizer lowers the case.
    assert tokenizer.decode(ids).strip().lower() == QUERY.lower()
    assert not any(prompt.query.special[place] for place in prompt.signal)
    packed = _packed(settings, [prompt])
    assert packed.input_ids[packed.signal].tolist() == ids


def test_the_last_tokens_as_signals():
    settings = replace(DECODER, signal="last", signal_tokens=2)
    _, (prompt,) = _tokens(settings, QUERY, ["A pear."])
    assert prompt.signal == [len(prompt.query.ids) - 2, len(prompt.query.ids) - 1]


def test_special_tokens_score_for_nobody():
    tokenizer, (prompt,) = _tokens(ENCODER, QUERY, ["A pear.", "Faust"])
    packed = _packed(ENCODER, [prompt])
    special = {tokenizer.cls_token_id, tokenizer.sep_token_id, 0}
    assert [id_ not in special for id_ in packed.input_ids.tolist()] == packed.key_mask.tolist()


def test_a_cut_encoder_passage_keeps_its_closing_token():
    settings = replace(ENCODER, max_passage_tokens=6, max_windows=1)
    tokenizer, (prompt,) = _tokens(settings, QUERY, ["one two three four five six", "one two"])
    assert prompt.truncated == 1
    assert tokenizer.decode(prompt.passages[0].ids) == "[CLS] one two three four [SEP]"
    assert prompt.passages[0].special == [True, False, False, False, False, True]
    assert tokenizer.decode(prompt.passages[1].ids) == "[CLS] one two [SEP]"


def test_a_cut_decoder_passage_is_its_beginning():
    settings = replace(DECODER, max_passage_tokens=5)
    _, (whole,) = _tokens(DECODER, QUERY, ["one two three four five six"])
    _, (cut,) = _tokens(settings, QUERY, ["one two three four five six"])
    assert cut.passages[0].ids == whole.passages[0].ids[:5]
    assert cut.truncated == 1


def test_several_prompts_in_one_pack():
    prompts = [
        _tokens(DECODER, query, passages)[1][0]
        for query, passages in ((QUERY, ["A pear.", "Faust"]), ("rain?", ["Rain fell."]))
    ]
    packed = _packed(DECODER, prompts, query_position=500)
    assert packed.passage_counts == (2, 1)
    assert packed.layout.requests == tuple(
        RequestBlocks(
            len(prompt.instruction.ids),
            tuple(len(passage.ids) for passage in prompt.passages),
            len(prompt.query.ids),
        )
        for prompt in prompts
    )
    assert packed.signal_request.tolist() == [0] * len(prompts[0].signal) + [1] * len(
        prompts[1].signal
    )
    for request, prompt in enumerate(prompts):
        mine = packed.signal[packed.signal_request == request]
        assert packed.input_ids[mine].tolist() == [prompt.query.ids[p] for p in prompt.signal]
        query = packed.layout.spans[request].query
        assert packed.positions[query.start].item() == 500
        for start, _ in packed.layout.spans[request].passages:
            assert packed.positions[start].item() == len(prompt.instruction.ids)


def test_a_query_read_alone_is_a_request_of_its_own():
    prompts = [_tokens(ENCODER, query, ["A pear.", "Faust"])[1][0] for query in (QUERY, "rain?")]
    packed = _packed(ENCODER, prompts)
    assert packed.passage_counts == (2, 2)
    for request, prompt in enumerate(prompts):
        assert packed.layout.requests[request].query == 0
        (span,) = packed.layout.spans[2 + request].passages
        assert packed.input_ids[span.start : span.end].tolist() == prompt.query.ids
        assert packed.positions[span.start].item() == 0


def test_a_short_pack_is_filled_up_and_the_filling_scores_nothing():
    _, (prompt,) = _tokens(ENCODER, "a", ["b"])
    packed = _packed(ENCODER, [prompt])
    assert packed.layout.num_tokens == 16
    assert packed.layout.requests[-1] == RequestBlocks(0, (10,), 0)
    assert not packed.key_mask[-10:].any()
