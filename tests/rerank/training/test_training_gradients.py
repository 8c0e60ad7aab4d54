"""Gradients through block attention and block scores, held to dense attention in transformers."""

import json
from dataclasses import replace

import pytest
import torch
from rerank_cases import DECODERS, PASSAGES, QUERY, save_model
from torch.nn import functional as F
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from kernels import BlockLayout, RequestBlocks, block_score
from rerank.backbones.loading import load_backbone
from rerank.prompt.candidates import as_candidates
from rerank.prompt.template import fill
from rerank.settings.reading import read_ranker_settings, settings_for
from rerank.training.language_model import LanguageModel
from rerank.training.objective import Objective
from rerank.training.order import Prompt
from rerank.training.passes import make_pass
from rerank.training.settings import LossSettings, Source, TrainingSettings

GRADES = (2, 0, 1, 0, 0)
TEACHER = (0.9, 0.1, float("nan"), 0.2, 0.4)
PROMPT = Prompt(QUERY, tuple(as_candidates(PASSAGES)), GRADES, TEACHER)
ATTENDING = replace(
    read_ranker_settings("rerank/encoder"),
    query_attends=True,
    max_windows=1,
    score="mass",
    instruction="{query}",
    temperature=0.5,
)


def _settings(**loss):
    return TrainingSettings(
        out="-", train=(Source("-"),), passages=5, loss=replace(LossSettings(), **loss)
    )


def _gradients(module):
    return {n: p.grad.double() for n, p in module.named_parameters() if p.grad is not None}


def _dense(folder, ranker, answer=()):
    """Model and output of one prompt read under a dense mask, with gradients; and its blocks."""
    causal = ranker.backbone == "decoder"
    loader = AutoModelForCausalLM if causal else AutoModel
    model = loader.from_pretrained(folder, attn_implementation="eager", dtype=torch.float64).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = fill(ranker, QUERY, PROMPT.passages)
    ids, positions, blocks, special = [], [], [], []
    for number, text in enumerate([texts.instruction, *texts.passages, texts.query]):
        block = tokenizer(text, add_special_tokens=not causal)["input_ids"] if text else []
        last = number == len(texts.passages) + 1
        special += [not causal and i in (0, len(block) - 1) for i in range(len(block))]
        if last:
            block = [*block, *answer]
            special += [False] * len(answer)
        longest = max((len(b) for b in blocks[1:]), default=0)
        start = 0 if not blocks else len(blocks[0])
        if last:
            far = ranker.query_position
            start = len(blocks[0]) + longest if far is None else far
            start = start if ranker.query_attends else 0
        blocks.append(list(range(len(ids), len(ids) + len(block))))
        positions += range(start, start + len(block))
        ids += block
    sees = torch.zeros(len(ids), len(ids), dtype=torch.bool)
    for number, block in enumerate(blocks):
        for row in block:
            sees[row, [key for key in block if key <= row or not causal]] = True
            last = number == len(blocks) - 1
            if last and ranker.query_attends:
                sees[row, : block[0]] = True
            elif number and not last:
                sees[row, blocks[0]] = True
    mask = torch.zeros(sees.shape).double().masked_fill(~sees, -1e300)[None, None]
    output = model(
        input_ids=torch.tensor([ids]),
        position_ids=torch.tensor([positions]),
        attention_mask=mask,
        output_attentions=True,
        output_hidden_states=True,
    )
    return model, output, blocks, torch.tensor(special), torch.tensor(ids)


def _dense_mass(weights, blocks, special, signals):
    rows = weights[:, signals].masked_fill(special, 0.0)
    received = torch.stack([rows[..., block].sum(-1) for block in blocks[1:-1]], dim=-1)
    return (received / received.sum(-1, keepdim=True)).mean(dim=(0, 1))


def _expected_loss(scores):
    """The three terms, written down again."""
    logs = F.log_softmax(scores / 0.05, dim=0)
    nce = -torch.log(logs[0].exp() + logs[2].exp())
    graded = -(3 / 4 * logs[0] + 1 / 4 * logs[2])
    known = [0, 1, 3, 4]
    teacher = F.log_softmax(torch.tensor(TEACHER).double()[known] / 0.05, dim=0)
    student = F.log_softmax(scores[known] / 0.05, dim=0)
    return nce + 0.5 * graded + 0.25 * (teacher.exp() * (teacher - student)).sum()


TERMS = {"info_nce": 1.0, "listwise": 0.5, "distillation": 0.25}


def _compare(found, wanted, atleast):
    """1e-4 of a parameter's own largest gradient; a key's bias has none but rounding."""
    assert len(found) >= atleast
    assert found.keys() == wanted.keys()
    largest = max(gradient.abs().max() for gradient in wanted.values())
    for name, gradient in wanted.items():
        error = (found[name] - gradient).abs().max()
        assert error <= 1e-4 * max(gradient.abs().max(), 1e-3 * largest), name


@pytest.mark.parametrize("family", ["Llama", "Qwen3"])
def test_a_decoders_gradients_are_those_of_dense_attention(tmp_path, family):
    assert family in DECODERS
    folder = save_model(tmp_path, family, "smollm2")
    backbone = load_backbone(str(folder), device="cpu")
    backbone.model.double()
    objective = Objective(backbone, _settings(**TERMS))
    terms = objective(make_pass([PROMPT], backbone, objective.settings))
    terms["total"].backward()

    ranker = backbone.settings
    model, output, blocks, special, _ = _dense(folder, ranker)
    mass = _dense_mass(output.attentions[2][0], blocks, special, blocks[-1][-2:])
    loss = _expected_loss(mass)
    loss.backward()
    torch.testing.assert_close(terms["total"].double(), loss, rtol=1e-4, atol=0)
    _compare(_gradients(objective.model), _gradients(model.base_model), atleast=20)


@pytest.mark.parametrize("attends", [False, True])
def test_an_encoders_gradients_are_those_of_dense_attention(tmp_path, attends):
    folder = save_model(tmp_path, "Bert", "minilm")
    settings = ATTENDING if attends else read_ranker_settings("rerank/encoder")
    backbone = load_backbone(str(folder), device="cpu", settings=settings)
    backbone.model.double()
    objective = Objective(backbone, _settings(**TERMS))
    terms = objective(make_pass([PROMPT], backbone, objective.settings))
    terms["total"].backward()

    model, output, blocks, special, _ = _dense(folder, settings)
    unit = F.normalize(output.last_hidden_state[0], dim=-1)
    signals = [token for token in blocks[-1] if not special[token]]
    if attends:
        scores = _dense_mass((unit @ unit.T / 0.5).softmax(-1)[None], blocks, special, signals)
    else:
        rows = []
        for block in blocks[1:-1]:
            keys = [token for token in block if not special[token]]
            rows.append((0.05 * (unit[signals] @ unit[keys].T / 0.05).logsumexp(-1)).mean())
        scores = torch.stack(rows)
    loss = _expected_loss(scores)
    loss.backward()
    torch.testing.assert_close(terms["total"].double(), loss, rtol=1e-4, atol=0)
    found = _gradients(objective.model)
    _compare(found, {n: g for n, g in _gradients(model).items() if n in found}, atleast=60)


def test_the_whole_loss_of_a_language_model_is_that_of_dense_attention(tmp_path):
    """Cross-entropy of the answer at full depth, and scores read on the way at layer 2 of 4."""
    folder = save_model(tmp_path, "Llama", "smollm2", tie_word_embeddings=True)
    ranker = settings_for(str(folder), str(folder), "decoder")
    language_model = LanguageModel.load(str(folder), ranker, torch.device("cpu"))
    language_model.backbone.model.double()
    language_model.head.double()
    settings = _settings(info_nce=0.1, language_model=1.0, answer="{text}", answer_tokens=5)
    objective = Objective(language_model.backbone, settings, language_model)
    batch = make_pass([PROMPT], language_model.backbone, settings)
    terms = objective(batch)
    terms["total"].backward()

    answer = AutoTokenizer.from_pretrained(folder)(PASSAGES[0])["input_ids"][:5]
    model, output, blocks, special, ids = _dense(folder, ranker, answer)
    assert ids[blocks[-1][-5:]].tolist() == answer
    signals = [blocks[-1][-7], blocks[-1][-6]]  # the two tokens before the answer
    mass = _dense_mass(output.attentions[2][0], blocks, special, signals)
    logs = F.log_softmax(mass / 0.05, dim=0)
    places = torch.tensor(blocks[-1][-5:])
    language = F.cross_entropy(output.logits[0, places - 1], ids[places])
    loss = language - 0.1 * torch.log(logs[0].exp() + logs[2].exp())
    loss.backward()
    torch.testing.assert_close(terms["language_model"].double(), language, rtol=1e-4, atol=0)
    torch.testing.assert_close(terms["total"].double(), loss, rtol=1e-4, atol=0)
    _compare(_gradients(objective.model), _gradients(model.base_model), atleast=30)


def test_autocast_does_not_change_a_bit_of_block_scores():
    """In one thread the products inside ran in bfloat16, in several they did not."""
    layout = BlockLayout.build([RequestBlocks(2, [7, 30, 5], 3)])
    q, k = torch.randn(2, 4, 16), torch.randn(layout.num_tokens, 2, 16)
    wanted = block_score(q, k, layout, signal_request=[0, 0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = block_score(q, k, layout, signal_request=[0, 0])
    assert torch.equal(found.mass, wanted.mass)
    assert torch.equal(found.log_sum_exp, wanted.log_sum_exp)


@pytest.mark.parametrize("family", ["Bert", "Llama"])
def test_gradient_checkpointing_changes_no_gradient(tmp_path, family):
    folder = save_model(tmp_path, family, "minilm" if family == "Bert" else "smollm2")
    gradients = []
    for checkpointing in (False, True):
        backbone = load_backbone(str(folder), device="cpu")
        settings = _settings()
        objective = Objective(backbone, settings)
        for module in backbone.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        backbone.model.train()
        if checkpointing:
            backbone.model.gradient_checkpointing_enable({"use_reentrant": False})
        objective(make_pass([PROMPT], backbone, settings))["total"].backward()
        gradients.append(_gradients(objective))
    _compare(gradients[1], gradients[0], atleast=20)
    assert json.dumps(sorted(gradients[0])) == json.dumps(sorted(gradients[1]))
