"""Long passages in windows: blocks of their own that score as one passage."""

from dataclasses import replace

import pytest
import torch
from rerank_cases import PASSAGES, QUERY, load_ranker, save_model, scores, tokenizer_of

from rerank import BlockRanker, PassagesTruncatedWarning
from rerank.prompt.candidates import as_candidates
from rerank.prompt.packing import tokenize
from rerank.prompt.template import fill
from rerank.prompt.windows import in_windows
from rerank.settings.reading import read_ranker_settings

ENCODER = replace(read_ranker_settings("rerank/minilm"), max_passage_tokens=8)
LONG = {"id": "long", "text": " ".join(f"word{n} Faust wrote" for n in range(12))}
LIMITS = "max_passage_tokens: 16\nmax_windows: 4\ntemperature: 0.2\n"
SETTINGS = (
    "backbone: encoder\nquery_attends: false\ninstruction: ''\npassage: \"{title}\\n{text}\"\n"
    "query: '{query}'\nsignal: query\nscore: log_sum_exp\n" + LIMITS
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("bert"), "Bert", "minilm", num_hidden_layers=2)


@pytest.fixture(scope="module")
def ranker(folder):
    return load_ranker(folder, SETTINGS)


def _passage(settings, text):
    tokenizer = tokenizer_of("minilm")
    texts = fill(settings, QUERY, as_candidates([text]))
    (prompt,) = tokenize(tokenizer, settings, [texts])
    return tokenizer, prompt


@pytest.mark.parametrize(
    ("words", "windows", "cut"),
    [
        (6, (), False),
        (7, (5, 6), False),
        (12, (8, 8), False),
        (13, (6, 6, 7), False),
        (18, (8, 8, 8), False),
        (19, (8, 8, 8), True),
    ],
)
def test_windows_are_few_and_equal(words, windows, cut):
    text = " ".join("abcdefghijklmnopqrstuvwxyz"[:words])
    tokenizer, prompt = _passage(replace(ENCODER, max_windows=3), text)
    (passage,) = prompt.passages
    assert passage.windows == windows
    assert prompt.truncated == cut
    parts = torch.tensor(passage.ids).split(windows or [len(passage.ids)])
    assert all(tokenizer.decode(part).startswith("[CLS] ") for part in parts)
    assert all(tokenizer.decode(part).endswith(" [SEP]") for part in parts)
    read = [i for i, special in zip(passage.ids, passage.special, strict=True) if not special]
    assert tokenizer.decode(read) == text[: 2 * 18 - 1]


def test_a_block_of_special_tokens_alone_has_no_room_for_text():
    tokenizer = tokenizer_of("minilm")
    texts = fill(ENCODER, QUERY, as_candidates(["a pear"]))
    (prompt,) = tokenize(tokenizer, ENCODER, [texts])
    with pytest.raises(ValueError, match="max_passage_tokens is 2 and the special tokens"):
        in_windows(prompt.passages[0], replace(ENCODER, max_passage_tokens=2))


def test_windows_need_a_query_that_is_read_alone():
    decoder = read_ranker_settings("rerank/smollm2")
    with pytest.raises(ValueError, match="max_windows above 1 needs query_attends: false"):
        replace(decoder, max_windows=2)


def test_scores_are_those_of_windows_read_alone(folder, ranker):
    """The soft maximum runs over the tokens of all windows, each read by the model alone."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
    settings = ranker.settings
    texts = fill(settings, QUERY, as_candidates([LONG]))
    (prompt,) = tokenize(ranker.backbone.tokenizer, settings, [texts])
    (passage,) = prompt.passages
    assert len(passage.windows) == 4

    def unit(ids):
        with torch.no_grad():
            hidden = model(torch.tensor([ids])).last_hidden_state[0].double()
        return hidden[1:-1] / hidden[1:-1].norm(dim=-1, keepdim=True)

    windows = [unit(part.tolist()) for part in torch.tensor(passage.ids).split(passage.windows)]
    logits = unit(prompt.query.ids) @ torch.cat(windows).T / settings.temperature
    wanted = float((settings.temperature * logits.logsumexp(-1)).mean())
    assert scores(ranker, QUERY, [LONG])[0] == pytest.approx(wanted, abs=1e-5)


def test_what_stands_behind_the_first_window_counts():
    """MiniLM finds the answer at the end of a long passage, which a cut one has lost."""
    filler = "The harbour of the town was rebuilt in stone after the great storm. " * 30
    answer = "Goethe wrote the tragedy Faust in two parts."
    whole = BlockRanker.from_pretrained(device="cpu")
    assert whole.settings.max_windows > 1
    cut = BlockRanker.from_pretrained(device="cpu")
    cut.backbone.settings = cut.settings = replace(cut.settings, max_windows=1)
    passages = [filler + "It has since been widened twice.", filler + answer]
    found = scores(whole, QUERY, passages)
    assert found[1] - found[0] > 0.3
    with pytest.warns(PassagesTruncatedWarning, match="2 of 2 passages were cut to 256 tokens"):
        blind = scores(cut, QUERY, passages)
    assert blind[1] == blind[0]


@pytest.mark.parametrize("name", [None, "tiny"])
def test_no_order_company_split_or_cache_changes_a_bit(name, ranker):
    ranker = ranker if name else BlockRanker.from_pretrained(device="cpu")
    long = LONG if name else {"id": "long", "text": LONG["text"] * 9}
    passages = [*PASSAGES[:2], long, *PASSAGES[2:]]
    whole = scores(ranker, QUERY, passages)
    assert scores(ranker, QUERY, passages[::-1]) == whole[::-1]
    assert scores(ranker, QUERY, [long]) == [whole[2]]
    assert scores(BlockRanker(ranker.backbone, max_tokens=64), QUERY, passages) == whole
    cache = ranker.cache(passages, bits=32)
    assert [r.score for r in cache.rerank(QUERY)] == sorted(whole, reverse=True)


def test_highlights_reach_into_every_window(ranker):
    (found,) = ranker.highlights(QUERY, [LONG])
    assert found.mass == pytest.approx(1.0, abs=1e-6)
    read = [LONG["text"][token.start : token.end] for token in found.tokens]
    _, prompt = _passage(ranker.settings, LONG)
    assert len(read) == prompt.passages[0].text_tokens
    assert "wrote" in read[-3:]


def test_training_reads_the_beginning_alone(ranker, tmp_path):
    from training_cases import tiny_run

    from rerank.training.order import Prompt
    from rerank.training.passes import make_pass

    prompt = Prompt(QUERY, tuple(as_candidates([LONG, "A pear."])), (1, 0), (0.0, 0.0))
    batch = make_pass([prompt], ranker.backbone, tiny_run(tmp_path))
    assert batch.packed.passages is batch.packed.layout
    assert batch.packed.layout.requests[0].passages[0] == 16
