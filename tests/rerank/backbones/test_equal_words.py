"""Equal words as a scoring head: numbers of words, the formula, its bits, its place in a score."""

import math
import random
from collections import Counter

import pytest
import torch
from rerank_cases import PASSAGES, QUERY, load_ranker, save_model, scores, tokenizer_of
from safetensors.torch import load_file, save_file

from rerank import BlockRanker
from rerank.backbones.lexical import FILE, Lexical
from rerank.prompt.words import NO_WORD, text_keys, word_key, word_keys
from rerank.settings.reading import read_ranker_settings

SETTINGS = (
    "backbone: encoder\nquery_attends: false\ninstruction: ''\npassage: \"{title}\\n{text}\"\n"
    "query: '{query}'\nsignal: query\nscore: log_sum_exp\ntemperature: 0.2\n"
)
KNOWN = {"wrote": 2.0, "who": 0.5, "the": 0.25, "faust": 4.0, "goethe": 3.0}
COEFFICIENT, USUAL = 1.5, 8.0


def _lexical():
    pairs = sorted((word_key(word), weight) for word, weight in KNOWN.items())
    keys, weights = zip(*pairs, strict=True)
    return Lexical(
        torch.tensor(keys, dtype=torch.int32),
        torch.tensor(weights),
        coefficient=COEFFICIENT,
        usual=USUAL,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = save_model(tmp_path_factory.mktemp("bert"), "Bert", "minilm", num_hidden_layers=2)
    _lexical().save(made)
    return made


@pytest.fixture
def ranker(folder):
    return load_ranker(folder, f"{SETTINGS}lexical: true\nmax_passage_tokens: 12\nmax_windows: 3\n")


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("tree", "Tree", True),
        ("gardening", "gardens", True),
        ("tree", "trees", False),  # shorter than what is compared
        ("flow", "fluid", False),
        ("größer", "GRÖSSER", False),
        ("1984", "1984", True),
    ],
)
def test_words_that_begin_alike_are_equal(one, other, equal):
    assert (word_key(one) == word_key(other)) == equal
    assert 0 < word_key(one) < 2**31


def test_numbers_are_the_same_on_every_machine():
    assert text_keys("Faust, a tragedy")[::2] == [1384828989, 1043606203]


def test_a_word_belongs_to_the_token_it_begins_in():
    text = "Gardeners' snake_case, e.g. x2-y"
    tokenizer = tokenizer_of("minilm")
    encoded = tokenizer(text, return_offsets_mapping=True)
    keys = word_keys(text, encoded["offset_mapping"])
    assert [key for key in keys if key != NO_WORD] == text_keys(text)
    tokens = tokenizer.convert_ids_to_tokens(encoded["input_ids"])
    first = [token for token, key in zip(tokens, keys, strict=True) if key != NO_WORD]
    assert not any(token.startswith("##") or token.startswith("[") for token in first)
    assert text_keys("snake_case") == [word_key("snake"), word_key("case")]


def _by_the_formula(query, passage):
    """float: the docstring's formula over plain words."""
    asked = [w.strip("?.,;").lower() for w in query.split()]
    words = Counter(w.strip("?.,;").lower()[:6] for w in passage.split())
    weights = [KNOWN.get(word, max(KNOWN.values())) for word in asked]
    total = 0.0
    for word, weight in zip(asked, weights, strict=True):
        f, size = words[word[:6]], sum(words.values())
        k = 1.2 * (0.25 + 0.75 * size / USUAL)
        total += COEFFICIENT * weight / sum(weights) * f / (f + k)
    return total


def test_what_equal_words_add_is_the_formula(folder, ranker):
    """Words of all windows count, and a word that the model does not know is a rare one."""
    plain = load_ranker(folder, f"{SETTINGS}max_passage_tokens: 12\nmax_windows: 3\n")
    texts = [p if isinstance(p, str) else p["text"] for p in PASSAGES]
    texts.append("Rain fell all night on the town; nobody was there but Goethe who wrote the Faust")
    for query in (QUERY, "the the tragedy", "pear"):
        wanted = torch.tensor([_by_the_formula(query, text) for text in texts])
        assert wanted.max() > 0.1
        found = torch.tensor(scores(ranker, query, texts)) - torch.tensor(
            scores(plain, query, texts)
        )
        torch.testing.assert_close(found, wanted, rtol=0, atol=2e-6)


def test_a_query_without_words_gets_nothing(folder, ranker):
    plain = load_ranker(folder, f"{SETTINGS}max_passage_tokens: 12\nmax_windows: 3\n")
    assert scores(ranker, "?!", PASSAGES) == scores(plain, "?!", PASSAGES)


def test_no_order_company_split_or_cache_changes_a_bit(ranker):
    passages = [*PASSAGES, {"id": "long", "text": "Goethe wrote the tragedy of Faust. " * 5}]
    whole = scores(ranker, QUERY, passages)
    assert len(set(whole)) == len(whole)
    assert scores(ranker, QUERY, passages[::-1]) == whole[::-1]
    assert [scores(ranker, QUERY, [passage])[0] for passage in passages] == whole
    assert scores(BlockRanker(ranker.backbone, max_tokens=40), QUERY, passages) == whole
    cache = ranker.cache(passages, bits=32)
    assert [r.score for r in cache.rerank(QUERY)] == sorted(whole, reverse=True)
    batch = ranker.rerank_batch(["pear", QUERY], [PASSAGES[:2], passages])
    assert [r.score for r in batch[1]] == sorted(whole, reverse=True)


@pytest.mark.parametrize("bits", [8, 4])
def test_a_cache_of_few_bits_keeps_words_whole(folder, ranker, bits):
    """What rounding changes is what it would change without the lexical head."""
    plain = load_ranker(folder, f"{SETTINGS}max_passage_tokens: 12\nmax_windows: 3\n")
    ids = [str(number) for number in range(len(PASSAGES))]
    passages = [
        {"id": i, "text": p if isinstance(p, str) else p["text"]}
        for i, p in zip(ids, PASSAGES, strict=True)
    ]
    with_words, without = (
        torch.tensor(r.cache(passages, bits=bits).scores(QUERY, ids)) for r in (ranker, plain)
    )
    exact = torch.tensor(scores(ranker, QUERY, passages)) - torch.tensor(
        scores(plain, QUERY, passages)
    )
    torch.testing.assert_close(with_words - without, exact, rtol=0, atol=2e-6)


def test_a_cache_on_disk_keeps_words(ranker, tmp_path):
    from rerank.cache.passage_cache import PassageCache

    whole = sorted(scores(ranker, QUERY, PASSAGES), reverse=True)
    built = PassageCache.build(ranker, PASSAGES, tmp_path / "cache", bits=32)
    assert [r.score for r in built.rerank(QUERY)] == whole


def test_training_sees_the_scores_that_rank(folder, ranker, tmp_path):
    from training_cases import SUBJECTS, tiny_run, write_examples

    from rerank.examples.labelled import read_examples
    from rerank.training.objective import Objective
    from rerank.training.order import Order
    from rerank.training.passes import make_pass

    settings = tiny_run(tmp_path, model=str(folder), in_batch=True)
    examples = read_examples(write_examples(tmp_path / "some.jsonl", SUBJECTS))
    prompts = Order([examples], [1.0], passages=3, seed=0).prompts(0, 3)
    with torch.no_grad():
        batch = make_pass(prompts, ranker.backbone, settings)
        readout = ranker.backbone.read(batch.packed)
        found = Objective(ranker.backbone, settings)._scores(readout, batch)
    union = {p.text: p for prompt in prompts for p in prompt.passages}.values()
    union = [passage._replace(id=str(number)) for number, passage in enumerate(union)]
    for prompt, values in zip(prompts, found, strict=True):
        wanted = torch.tensor(ranker.scores(prompt.query, union))
        torch.testing.assert_close(values, wanted, rtol=0, atol=2e-5)


def test_weights_of_one_query_do_not_know_another():
    lexical = _lexical()
    chance = random.Random(2)
    words = [[word_key(w) for w in chance.sample([*KNOWN, "pear", "rain"], n)] for n in (1, 4, 3)]
    flat = torch.tensor([key for query in words for key in query], dtype=torch.int32)
    owner = torch.tensor([n for n, query in enumerate(words) for _ in query])
    together = lexical.read(flat, owner, 3).weights
    for number, query in enumerate(words):
        alone = lexical.read(
            torch.tensor(query, dtype=torch.int32), torch.zeros(len(query)).long(), 1
        )
        assert torch.equal(together[owner == number], alone.weights)
        assert float(alone.weights.sum()) == pytest.approx(COEFFICIENT)


def test_bad_files_and_settings_are_one_sentence(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    whole = load_file(tmp_path / FILE)

    def told(match):
        with pytest.raises(ValueError, match=match) as found:
            load_ranker(tmp_path, f"{SETTINGS}lexical: true\n")
        assert "\n" not in str(found.value)

    save_file(whole | {"keys": whole["keys"].flip(0).contiguous()}, tmp_path / FILE)
    told(f"{FILE}: keys must ascend")
    save_file({"keys": whole["keys"]}, tmp_path / FILE)
    told(r"holds \['keys'\], wanted constants, keys and weights")
    save_file(whole | {"weights": whole["weights"] * math.nan}, tmp_path / FILE)
    told("weights holds a value that is not finite")
    (tmp_path / FILE).unlink()
    told(f"lexical: true and no {FILE}")
    with pytest.raises(ValueError, match="lexical needs backbone: encoder and score: log_sum_exp"):
        read_ranker_settings("rerank/smollm2", lexical=True)
