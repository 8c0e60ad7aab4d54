"""Block attention inside real model classes, held to their own attention under a dense mask."""

import shutil

import pytest
import torch
import yaml
from rerank_cases import (
    DECODERS,
    PASSAGES,
    QUERY,
    dense_late_interaction,
    dense_mass,
    dense_run,
    load_ranker,
    packed,
    save_model,
    scores,
    tokenizer_of,
)
from transformers import AutoModel, MambaConfig, MambaForCausalLM

from configs.settings import read_mapping
from rerank.backbones.block_interface import BlockContext, register
from rerank.prompt.candidates import as_candidates
from rerank.prompt.template import fill

ATTENDING_ENCODER = """
backbone: encoder
query_attends: true
instruction: "{query}"
passage: "{title}\\n{text}"
query: "{query}"
signal: query
score: mass
temperature: 0.5
"""


@pytest.fixture(scope="module", params=DECODERS)
def decoder(request, tmp_path_factory):
    folder = save_model(tmp_path_factory.mktemp(request.param), request.param, "smollm2")
    return folder, load_ranker(folder), _whole_model(folder)


def _texts(ranker):
    texts = fill(ranker.settings, QUERY, as_candidates(PASSAGES))
    return [texts.instruction, *texts.passages, texts.query]


def test_a_decoder_scores_as_dense_masked_attention_does(decoder):
    folder, ranker, _ = decoder
    assert ranker.backbone.last_layer == 2
    run = dense_run(folder, _texts(ranker), attends=True, query_position=8192)
    wanted = dense_mass(run, 2, run.blocks[-1][-2:])
    found = torch.tensor(scores(ranker, QUERY, PASSAGES)).double()
    assert wanted.max() - wanted.min() > 0.01  # else a uniform score would pass
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    assert found.sum() == pytest.approx(1, abs=1e-5)


def test_a_decoders_hidden_states_are_those_of_dense_masked_attention(decoder):
    folder, ranker, whole = decoder
    run = dense_run(folder, _texts(ranker), attends=True, query_position=8192)
    prompts = packed(ranker, QUERY, PASSAGES)
    found = _hidden(whole, prompts, causal=True)
    torch.testing.assert_close(found.double(), run.hidden, rtol=0, atol=1e-4)


@pytest.mark.parametrize("settings", ["", ATTENDING_ENCODER])
def test_an_encoder_scores_as_dense_masked_attention_does(tmp_path, settings):
    folder = save_model(tmp_path, "Bert", "minilm")
    ranker = load_ranker(folder, settings)
    attends = bool(settings)
    run = dense_run(folder, _texts(ranker), attends=attends, query_position=None)
    signals = [token for token in run.blocks[-1] if not run.special[token]]
    if attends:
        unit = run.hidden / run.hidden.norm(dim=-1, keepdim=True)
        run.attentions = ((unit @ unit.T / 0.5).softmax(-1)[None, None],)
        wanted = dense_mass(run, 0, signals)
    else:
        wanted = dense_late_interaction(run, signals, 0.05)
    found = torch.tensor(scores(ranker, QUERY, PASSAGES)).double()
    assert wanted.max() - wanted.min() > 1e-3
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


MODERN_BERT = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": None}
ENCODERS = {
    "Bert": {},
    # Positions begin after the padding id.
    "Roberta": {"max_position_embeddings": 514, "pad_token_id": 0},
    "Electra": {},
    # Rotary positions, one fused projection, and every third layer alone reads whole texts.
    "ModernBert": MODERN_BERT,
}


@pytest.mark.parametrize("family", ENCODERS)
def test_an_encoder_reads_every_block_as_a_text_of_its_own(tmp_path, family):
    folder = save_model(tmp_path, family, "minilm", **ENCODERS[family])
    ranker = load_ranker(folder)
    prompts = packed(ranker, QUERY, PASSAGES)
    found = _hidden(
        ranker.backbone.model, prompts, causal=False, positions=ranker.backbone.positions(prompts)
    )
    plain = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    for start, end in prompts.layout.spans[0].passages:
        with torch.inference_mode():
            wanted = plain(input_ids=prompts.input_ids[None, start:end]).last_hidden_state[0]
        torch.testing.assert_close(found[start:end], wanted, rtol=0, atol=1e-5)


def _whole_model(folder):
    return AutoModel.from_pretrained(folder, attn_implementation=register()).eval()


def _hidden(model, prompts, *, causal, positions=None):
    with torch.inference_mode():
        return model(
            input_ids=prompts.input_ids[None],
            position_ids=(prompts.positions if positions is None else positions)[None],
            block_context=BlockContext(prompts.layout, causal=causal),
        ).last_hidden_state[0]


def _passage_states(model, ranker, passages, causal):
    prompts = packed(ranker, QUERY, passages)
    hidden = _hidden(model, prompts, causal=causal)
    return [hidden[start:end] for start, end in prompts.layout.spans[0].passages]


@pytest.mark.parametrize("changed", ["One word.", "Goethe wrote Faust and then " * 9])
def test_changing_one_passage_leaves_the_others_bits(decoder, minilm_ranker, changed):
    _, ranker, whole = decoder
    others = [0, 1, 3, 4]
    new = [*PASSAGES[:2], changed, *PASSAGES[3:]]
    for model, chosen, causal in (
        (whole, ranker, True),
        (minilm_ranker.backbone.model, minilm_ranker, False),
    ):
        before = _passage_states(model, chosen, PASSAGES, causal)
        after = _passage_states(model, chosen, new, causal)
        assert all(torch.equal(before[place], after[place]) for place in others)
        assert before[2].shape != after[2].shape


def test_layers_above_the_scoring_one_are_not_loaded(decoder):
    _, ranker, _ = decoder
    assert len(ranker.backbone.model.layers) == 3


def test_a_sliding_window_that_would_bite_is_refused(tmp_path):
    folder = save_model(tmp_path, "Mistral", "smollm2", sliding_window=24)
    ranker = load_ranker(folder)
    with pytest.raises(ValueError, match=r"sliding window 24: lower max_passage_tokens"):
        ranker.rerank(QUERY, ["Goethe wrote Faust, a tragedy in two parts. " * 3])


def test_an_encoders_local_attention_that_would_bite_is_refused(tmp_path):
    """ModernBERT's local layers see half their window to each side."""
    folder = save_model(tmp_path, "ModernBert", "minilm", local_attention=40, **MODERN_BERT)
    ranker = load_ranker(folder)
    long = "Goethe wrote Faust, a tragedy in two parts. "
    assert len(ranker.rerank(QUERY, [long])) == 1
    with pytest.raises(ValueError, match=r"sliding window 21: lower max_passage_tokens"):
        ranker.rerank(QUERY, [long * 3])


def test_a_sliding_window_that_does_not_bite_changes_nothing(tmp_path):
    wide = save_model(tmp_path / "wide", "Mistral", "smollm2", sliding_window=4096)
    without = save_model(tmp_path / "without", "Mistral", "smollm2")
    found, wanted = (scores(load_ranker(folder), QUERY, PASSAGES) for folder in (wide, without))
    assert found == wanted


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("layer: 4", "score at layer 4, it has layers 0 to 3"),
        ("layer: -1", "score at layer -1, it has layers 0 to 3"),
        ("laier: 1", "unknown setting 'laier'; did you mean 'layer'"),
        ("backbone: encoder", "its settings say encoder, and it is a decoder"),
    ],
)
def test_settings_that_do_not_fit_the_model(decoder, tmp_path, settings, message):
    folder, _, _ = decoder
    shutil.copytree(folder, tmp_path / "model")
    values = read_mapping("rerank/decoder") | yaml.safe_load(settings)
    with pytest.raises(ValueError, match=message):
        load_ranker(tmp_path / "model", yaml.safe_dump(values))


def test_a_decoder_without_the_attention_interface_is_refused(tmp_path):
    """Mamba is a causal language model that has no attention to read."""
    words = tokenizer_of("smollm2")
    config = MambaConfig(vocab_size=len(words), hidden_size=32, num_hidden_layers=2, state_size=4)
    MambaForCausalLM(config).save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="MambaModel does not use the attention interface"):
        load_ranker(tmp_path).rerank(QUERY, PASSAGES)


@pytest.mark.parametrize("family", ["MPNet", "DebertaV2", "FNet"])
def test_an_encoder_without_the_attention_interface_is_refused(tmp_path, family):
    """They ignore both the implementation asked for and the context, and would mix all blocks."""
    ranker = load_ranker(save_model(tmp_path, family, "minilm"))
    with pytest.raises(ValueError, match="Model does not use the attention interface"):
        ranker.rerank(QUERY, PASSAGES)


def test_a_prompt_beyond_an_encoders_positions_is_refused(tmp_path):
    folder = save_model(tmp_path, "Bert", "minilm", max_position_embeddings=256)
    ranker = load_ranker(folder, ATTENDING_ENCODER)
    with pytest.raises(ValueError, match=r"reaches position 2\d\d, the model has 256"):
        ranker.rerank(QUERY, ["Goethe wrote Faust. " * 100])
