"""Lists longer than the budget, scored by shares: groups, union, final."""

import itertools
import random

import pytest
import torch
from allocation import peak_bytes
from rerank_cases import PASSAGES, QUERY, load_ranker, save_model, scores

from rerank import BlockRanker
from rerank.prompt.candidates import as_candidates
from rerank.prompt.packing import BlockTokens, PromptTokens
from rerank.scoring.groups import even_groups, grouped_scores
from rerank.scoring.scores import LogSums

WORDS = ["faust", "pear", "goethe", "rain", "tragedy", "weimar", "novel", "wrote", "water"]


ALONE = """
backbone: encoder
instruction: ""
passage: "{title}\\n{text}"
query: "{query}"
query_attends: false
signal: query
score: mass
"""


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return load_ranker(save_model(tmp_path_factory.mktemp("groups"), "Llama", "smollm2"))


def _long_list(count):
    chance = random.Random(7)
    return [
        {"id": f"p{i}", "text": " ".join(chance.choices(WORDS, k=chance.randint(2, 20)))}
        for i in range(count)
    ]


def test_groups_fit_and_are_about_equal():
    for lengths, budget in itertools.product(([5] * 40, [1, 9, 2, 8, 3, 7] * 5, [30]), (30, 64)):
        groups = even_groups(lengths, budget)
        assert [place for group in groups for place in group] == list(range(len(lengths)))
        sums = [sum(lengths[place] for place in group) for group in groups]
        assert all(0 < size <= budget for size in sums)
        assert max(sums) - min(sums) <= 2 * max(lengths)
    assert even_groups([9, 1, 2], 9) == [range(0, 1), range(1, 2), range(2, 3)]


def _block(*ids):
    return BlockTokens(list(ids), [(0, 0)] * len(ids), [False] * len(ids))


def test_the_rule_by_hand():
    """Masses 8, 4, 2, 1 of 15 in the union; the two best meet in a final that turns them round."""
    logits = {1: 8.0, 2: 4.0, 3: 2.0, 4: 1.0}
    final = {1: 1.0, 2: 3.0}
    asked = []

    def read(prompt):
        here = [block.ids[0] for block in prompt.passages]
        source = final if sum(map(len, asked)) == 4 else logits
        asked.append(here)
        values = torch.tensor([[source[key]] for key in here]).log()
        return LogSums(values, torch.ones(1))

    blocks = [_block(key, key, key) for key in (3, 1, 4, 2)]
    prompt = PromptTokens(_block(), blocks, _block(0), [0], 0)
    found = grouped_scores(prompt, 8, read)
    assert sorted(key for group in asked[:-1] for key in group) == [1, 2, 3, 4]
    assert sorted(asked[-1]) == [1, 2]
    total, cut = 12 / 15, 2 / 15
    wanted = [2 / 15, cut + (total - 2 * cut) / 4, 1 / 15, cut + (total - 2 * cut) * 3 / 4]
    assert found == pytest.approx(wanted, abs=1e-6)
    assert sum(found) == pytest.approx(1, abs=1e-6)


def test_a_list_that_fits_is_read_in_one_prompt(llama):
    """The groups' way, given a budget that holds everything, is the one prompt's score."""
    passages = PASSAGES[:3]
    (prompt,) = llama.prompts([QUERY], [as_candidates(passages)])
    found = grouped_scores(prompt, 10**6, llama.log_sums)
    assert found == pytest.approx(scores(llama, QUERY, passages), abs=1e-6)


def test_any_order_gives_the_same_bits_and_no_sum_is_lost(llama):
    passages = _long_list(40)
    short = BlockRanker(llama.backbone, max_tokens=200)
    wanted = {r.id: r.score for r in short.rerank(QUERY, passages)}
    assert sum(wanted.values()) == pytest.approx(1, abs=1e-5)
    assert wanted != {r.id: r.score for r in llama.rerank(QUERY, passages)}  # it was grouped
    for seed in (1, 2):
        shuffled = random.Random(seed).sample(passages, len(passages))
        assert {r.id: r.score for r in short.rerank(QUERY, shuffled)} == wanted


def test_the_final_orders_the_best_as_one_prompt_does(llama, monkeypatch):
    short = BlockRanker(llama.backbone, max_tokens=300)
    read, sizes = short.log_sums, []
    monkeypatch.setattr(short, "log_sums", lambda p: sizes.append(len(p.passages)) or read(p))
    found = short.rerank(QUERY, _long_list(40))
    assert len(sizes) > 3
    best = found[: sizes[-1]]
    alone = llama.rerank(QUERY, [result.passage for result in best])
    assert [result.id for result in alone] == [result.id for result in best]
    assert best[-1].score >= found[sizes[-1]].score


def test_passages_with_the_same_words_share_a_score_and_are_ordered_by_id(llama):
    passages = [*_long_list(30), *({"id": id_, "text": "A pear."} for id_ in "cab")]
    short = BlockRanker(llama.backbone, max_tokens=200)
    found = [r for r in short.rerank(QUERY, passages) if r.id in "abc"]
    assert [r.id for r in found] == ["a", "b", "c"]
    assert len({r.score for r in found}) == 1


def test_shares_of_a_query_that_is_read_alone_do_not_hang_on_the_groups(tmp_path):
    """Each part of a list had a softmax of its own, and its shares added up to 1."""
    whole = load_ranker(save_model(tmp_path, "Bert", "minilm"), ALONE)
    passages = [*_long_list(40), {"id": "twin", "text": _long_list(1)[0]["text"]}]
    wanted = scores(whole, QUERY, passages)
    assert sum(wanted) == pytest.approx(1, abs=1e-5)
    assert max(wanted) > 2 * min(wanted)
    for max_tokens in (60, 200):
        parted = BlockRanker(whole.backbone, max_tokens=max_tokens)
        assert scores(parted, QUERY, passages) == pytest.approx(wanted, rel=1e-5)


def test_a_query_that_leaves_no_room_is_one_sentence(llama):
    short = BlockRanker(llama.backbone, max_tokens=30)
    with pytest.raises(ValueError, match=r"the query has \d+ tokens with its instruction and max"):
        short.rerank(QUERY, PASSAGES)


def test_a_thousand_passages_in_bounded_memory(tmp_path):
    """A wide feed-forward layer makes what one prompt takes plain: ten times the groups'."""
    folder = save_model(tmp_path, "Llama", "smollm2", intermediate_size=8192, num_hidden_layers=2)
    backbone = load_ranker(folder).backbone
    passages = [f"Pear number {i} fell." for i in range(1000)]

    def peak(max_tokens):
        ranker = BlockRanker(backbone, max_tokens=max_tokens)
        return peak_bytes(lambda: ranker.rerank("who?", passages))

    grouped = peak(1024)
    assert grouped < 128 * 2**20
    assert peak(10**6) > 10 * grouped
