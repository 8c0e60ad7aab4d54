"""A trained late interaction over an updated encoder: its formula, its bits, its gradients."""

import math
import random
from dataclasses import replace

import pytest
import torch
import yaml
from rerank_cases import PASSAGES, QUERY, dense_run, load_ranker, packed, save_model, scores
from safetensors.torch import load_file, save_file
from training_cases import SUBJECTS, tiny_run, weights_of, write_examples

from rerank import BlockRanker
from rerank.backbones.late_interaction import FILE as LATE_FILE
from rerank.backbones.late_interaction import LateInteraction
from rerank.backbones.loading import load_backbone
from rerank.backbones.low_rank import FILE as UPDATE_FILE
from rerank.examples.labelled import read_examples
from rerank.prompt.candidates import as_candidates
from rerank.prompt.template import fill
from rerank.scoring.scores import passage_scores
from rerank.training.objective import Objective
from rerank.training.order import Order
from rerank.training.passes import make_pass
from rerank.training.settings import LoraSettings
from rerank.training.trainer import train

WIDTH = 48
WORDS = 30_522  # of MiniLM's tokenizer
START = {"temperature": 0.2, "tokens": 2.0, "dense": 0.5}
UPDATED = ("encoder.layer.0.attention.self.query", "encoder.layer.2.output.dense")
OTHER_QUERIES = ["what fell on Weimar all night?", "pear"]


def _random_files(base, folder):
    """An update and a late interaction none of whose tensors is zero."""
    made = torch.Generator().manual_seed(5)
    late = LateInteraction(torch.rand(WORDS, generator=made) + 0.1, WIDTH, **START)
    state = late.state_dict()
    state["direction"] = torch.randn(WIDTH, generator=made) / 100
    state["shifts"] = torch.tensor([0.02, -0.03, 0.05])
    save_file(state, folder / LATE_FILE)
    update = {}
    for name in UPDATED:
        rows, columns = load_file(base / "model.safetensors")[f"{name}.weight"].shape
        update[f"{name}.down"] = (torch.randn(4, columns, generator=made) / 4).half()
        update[f"{name}.up"] = (torch.randn(rows, 4, generator=made) / 4).half()
    save_file(update, folder / UPDATE_FILE)


def _describe(base, folder):
    settings = {
        "backbone": "encoder",
        "query_attends": False,
        "instruction": "",
        "passage": "{title}\n{text}",
        "query": "{query}",
        "signal": "query",
        "score": "log_sum_exp",
        "base": str(base),
        "late_interaction": True,
    }
    (folder / "blockrank.yaml").write_text(yaml.safe_dump(settings))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("base"), "Bert", "minilm", num_hidden_layers=3)


@pytest.fixture
def folder(base, tmp_path):
    made = tmp_path / "changed"
    made.mkdir()
    _random_files(base, made)
    _describe(base, made)
    return made


@pytest.fixture
def ranker(folder):
    return load_ranker(folder)


def _updated(base, folder, tmp_path):
    """The base with up @ down added to its weights, as a model of its own."""
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(base)
    update = load_file(folder / UPDATE_FILE)
    with torch.no_grad():
        for name in UPDATED:
            delta = update[f"{name}.up"].double() @ update[f"{name}.down"].double()
            weight = model.get_parameter(f"{name}.weight")
            weight.copy_(weight.double() + delta)
    whole = tmp_path / "whole"
    model.save_pretrained(whole)
    AutoTokenizer.from_pretrained(base).save_pretrained(whole)
    return whole


def _by_the_formula(run, ids, tensors):
    """float64 scores of one dense run, written down from the docstring's formula."""
    temperature, tokens, dense = (
        float(s) * math.exp(10 * float(shift))
        for s, shift in zip(tensors["start"], tensors["shifts"], strict=True)
    )

    def words(block):
        return [token for token in block if not run.special[token]]

    unit = run.hidden / run.hidden.norm(dim=-1, keepdim=True)
    query = run.blocks[-1]
    raw = []
    for token in words(query):
        context = 100 * float(unit[token] @ tensors["direction"].double())
        raw.append(float(tensors["table"][ids[token]]) * math.exp(context))
    found = []
    for block in run.blocks[1:-1]:
        total = 0.0
        for token, weight in zip(words(query), raw, strict=True):
            cosines = torch.stack([unit[token] @ unit[other] for other in words(block)])
            soft = temperature * float(torch.logsumexp(cosines / temperature, 0))
            total += tokens * weight / sum(raw) * soft
        means = [run.hidden[part].mean(0) for part in (query, block)]
        total += dense * float(torch.cosine_similarity(means[0], means[1], dim=0))
        found.append(total)
    return found


@pytest.mark.parametrize("query", [QUERY, *OTHER_QUERIES])
def test_scores_are_the_formulas(base, folder, ranker, tmp_path, query):
    texts = fill(ranker.settings, query, as_candidates(PASSAGES))
    blocks = [texts.instruction, *texts.passages, texts.query]
    run = dense_run(_updated(base, folder, tmp_path), blocks, attends=False, query_position=None)
    ids = [i for text in blocks if text for i in ranker.backbone.tokenizer(text)["input_ids"]]
    wanted = _by_the_formula(run, ids, load_file(folder / LATE_FILE))
    assert max(wanted) - min(wanted) > 0.05
    found = scores(ranker, query, PASSAGES)
    torch.testing.assert_close(torch.tensor(found), torch.tensor(wanted), rtol=0, atol=2e-5)


def test_no_bit_depends_on_order_or_company(ranker):
    def by_id(query, passages):
        return {result.id: result.score for result in ranker.rerank(query, passages)}

    passages = [
        {"id": str(i), "text": p if isinstance(p, str) else p["text"]}
        for i, p in enumerate(PASSAGES)
    ]
    wanted = by_id(QUERY, passages)
    chance = random.Random(1)
    for count in (1, 2, 4, len(passages)):
        drawn = chance.sample(passages, count)
        assert by_id(QUERY, drawn) == {p["id"]: wanted[p["id"]] for p in drawn}
    queries = [OTHER_QUERIES[0], QUERY, OTHER_QUERIES[1]]
    together = ranker.rerank_batch(queries, [passages[:2], passages, passages[1:]])
    assert {result.id: result.score for result in together[1]} == wanted


def test_every_part_of_the_change_counts(base, folder, tmp_path):
    """Taking any tensor of the two files away changes the scores."""
    whole = torch.tensor(scores(load_ranker(folder), QUERY, PASSAGES))
    for file in (LATE_FILE, UPDATE_FILE):
        tensors = load_file(folder / file)
        for name in tensors:
            plain = {"table": torch.ones_like, "start": torch.ones_like}
            changed = plain.get(name, torch.zeros_like)(tensors[name])
            save_file({**tensors, name: changed}, folder / file)
            found = torch.tensor(scores(load_ranker(folder), QUERY, PASSAGES))
            assert (found - whole).abs().max() > 1e-4, name
        save_file(tensors, folder / file)


def test_gradients_reach_all_that_is_trained(ranker):
    """Each gradient is the difference that a small step makes."""
    backbone = ranker.backbone
    late = backbone.late_interaction
    prompts = packed(ranker, QUERY, PASSAGES)
    mixed = torch.linspace(-1, 1, len(PASSAGES))

    def value():
        (found,) = passage_scores(backbone.read(prompts), prompts, backbone.settings)
        return (found * mixed).sum()

    value().backward()
    inner = backbone.model.get_parameter(f"{UPDATED[0]}.weight")
    assert inner.grad.abs().max() > 0
    for parameter in (late.direction, late.shifts):
        wanted = torch.zeros_like(parameter)
        for place in range(min(4, len(parameter))):
            sides = []
            for step in (2e-3, -2e-3):
                with torch.no_grad():
                    parameter[place] += step
                    sides.append(float(value()))
                    parameter[place] -= step
            wanted[place] = (sides[0] - sides[1]) / 4e-3
        found = parameter.grad[: min(4, len(parameter))]
        assert found.abs().min() > 0
        torch.testing.assert_close(found, wanted[: len(found)], rtol=2e-2, atol=2e-3)


def _run(tmp_path, base, **changes):
    """Training from a late interaction that has learned nothing yet over a base of its own."""
    start = tmp_path / "start"
    if not start.exists():
        start.mkdir()
        _describe(base, start)
        table = torch.rand(WORDS, generator=torch.Generator().manual_seed(1)) + 0.1
        save_file(LateInteraction(table, WIDTH, **START).state_dict(), start / LATE_FILE)
    options = {"model": str(start), "in_batch": True, "prompts_per_pass": 4} | changes
    return tiny_run(tmp_path, **options)


def test_an_update_reads_back_as_what_was_trained(tmp_path, base):
    """The same scores as the trained backbone, but for the rounding of the update to float16."""
    lora = LoraSettings(rank=4, alpha=8)
    settings = _run(tmp_path, base, lora=lora, learning_rate=1e-2, steps=6)
    update = train(replace(settings, out=str(tmp_path / "small"), export="update")).model
    whole = train(settings).model
    assert {path.name for path in update.iterdir()} == {
        "blockrank.yaml",
        "training.json",
        UPDATE_FILE,
        LATE_FILE,
    }
    assert {t.dtype for t in load_file(update / UPDATE_FILE).values()} == {torch.float16}
    assert "model.safetensors" in {path.name for path in whole.iterdir()}
    exact, small, start = (
        torch.tensor(scores(BlockRanker.from_pretrained(str(f), device="cpu"), QUERY, PASSAGES))
        for f in (whole, update, settings.model)
    )
    assert (exact - start).abs().max() > 0.05
    torch.testing.assert_close(small, exact, rtol=0, atol=2e-3)
    learned = load_file(update / LATE_FILE)
    assert learned["direction"].abs().max() > 0
    assert learned["shifts"].abs().min() > 0
    begun = load_file(tmp_path / "start" / LATE_FILE)
    assert all(torch.equal(learned[name], begun[name]) for name in ("table", "start"))


def test_an_update_trains_on_as_a_whole_model(tmp_path, base, folder):
    """What comes out stands alone, and holds the update that it began with."""
    settings = _run(tmp_path, base, model=str(folder), steps=1, learning_rate=1e-9)
    whole = train(settings).model
    assert "base" not in {
        k for k, v in yaml.safe_load((whole / "blockrank.yaml").read_text()).items() if v
    }
    found, wanted = (
        torch.tensor(scores(BlockRanker.from_pretrained(str(f), device="cpu"), QUERY, PASSAGES))
        for f in (whole, folder)
    )
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)
    name = f"{UPDATED[0]}.weight"
    assert not torch.equal(weights_of(whole)[name], weights_of(base)[name])


def test_an_update_trains_on_as_an_update_of_both(tmp_path, base, folder):
    """Ranks add up over the model that the first update is of: what comes out needs only that."""
    lora = LoraSettings(rank=2, alpha=2)
    settings = _run(tmp_path, base, model=str(folder), lora=lora, learning_rate=1e-2)
    whole = train(settings).model
    update = train(replace(settings, out=str(tmp_path / "x"), export="update")).model
    assert yaml.safe_load((update / "blockrank.yaml").read_text())["base"] == str(base)
    ranks = {len(t) for n, t in load_file(update / UPDATE_FILE).items() if n.endswith(".down")}
    assert ranks == {2, 4 + 2}
    found, wanted, start = (
        torch.tensor(scores(BlockRanker.from_pretrained(str(f), device="cpu"), QUERY, PASSAGES))
        for f in (update, whole, folder)
    )
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-3)
    assert (wanted - start).abs().max() > 1e-2


def test_in_batch_scores_have_the_prior_of_their_own_query(tmp_path, folder):
    """What every query gives the passages of all is what it gives them in a prompt of its own."""
    settings = replace(tiny_run(tmp_path, in_batch=True), model=str(folder))
    backbone = load_backbone(settings.model, device="cpu")
    examples = read_examples(write_examples(tmp_path / "some.jsonl", SUBJECTS))
    prompts = Order([examples], [1.0], passages=3, seed=0).prompts(0, 3)
    batch = make_pass(prompts, backbone, settings)
    with torch.no_grad():
        readout = backbone.read(batch.packed)
        assert readout.prior is not None
        found = Objective(backbone, settings)._scores(readout, batch)
    union = {p.text: p for prompt in prompts for p in prompt.passages}.values()
    union = [passage._replace(id=str(number)) for number, passage in enumerate(union)]
    ranker = BlockRanker(backbone)
    for prompt, values in zip(prompts, found, strict=True):
        wanted = torch.tensor(ranker.scores(prompt.query, union))
        assert len({round(v, 4) for v in wanted.tolist()}) > 2
        torch.testing.assert_close(values, wanted, rtol=0, atol=2e-5)


def _without(file, *names):
    def change(folder):
        tensors = load_file(folder / file)
        save_file({n: t for n, t in tensors.items() if n not in names}, folder / file)

    return change


def _with(file, **tensors):
    def change(folder):
        save_file(load_file(folder / file) | tensors, folder / file)

    return change


def _cut(file):
    def change(folder):
        (folder / file).write_bytes((folder / file).read_bytes()[:100])

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda folder: (folder / LATE_FILE).unlink(),
            f"late_interaction: true and no {LATE_FILE}",
        ),
        (_without(LATE_FILE, "shifts"), r"holds \['direction', 'start', 'table'\], wanted"),
        (
            _with(LATE_FILE, direction=torch.zeros(7)),
            r"direction is \(7,\), wanted \(48,\)",
        ),
        (_with(LATE_FILE, table=torch.ones(7)), f"{LATE_FILE}: table is"),
        (_with(LATE_FILE, shifts=torch.zeros(2)), f"{LATE_FILE}: shifts is"),
        (
            _with(LATE_FILE, direction=torch.full((WIDTH,), float("nan"))),
            "direction holds a value that is not finite",
        ),
        (_cut(LATE_FILE), f"{LATE_FILE} is no whole safetensors file"),
        (_without(UPDATE_FILE, f"{UPDATED[0]}.up"), f"{UPDATED[0]} is no linear layer"),
        (_with(UPDATE_FILE, **{f"{UPDATED[0]}.up": torch.zeros(9, 4)}), r"is \(9, 4\) @ \(4, 48\)"),
        (
            _with(
                UPDATE_FILE, **{"nobody.up": torch.zeros(9, 4), "nobody.down": torch.zeros(4, 9)}
            ),
            "nobody is no linear layer of the base",
        ),
        (_cut(UPDATE_FILE), f"{UPDATE_FILE} is no whole safetensors file"),
    ],
)
def test_bad_files_are_one_sentence(folder, change, message):
    change(folder)
    with pytest.raises(ValueError, match=message) as found:
        load_ranker(folder)
    assert "\n" not in str(found.value)
