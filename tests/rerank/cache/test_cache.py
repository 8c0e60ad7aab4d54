"""Passage caches in memory: equal to no cache, in any order, and how far fewer bits deviate."""

import numpy as np
import pytest
import torch
from rerank_cases import PASSAGES, QUERY, load_ranker, save_model, scores

from rerank import BlockRanker, PassageCache
from rerank.backbones.passage_states import PassageStates
from rerank.cache.precision import Rows, decode, encode
from rerank.prompt.candidates import as_candidates

IDS = ["0", "pear", "2", "rain", "marlowe"]
DECODER = """
backbone: decoder
query_in_instruction: false
instruction: "Rank the passages.\\n"
passage: "{title}\\n{text}\\n"
query: "Query: {query}\\nAnswer:"
query_attends: true
signal: query
score: mass
"""
ENCODER = """
backbone: encoder
instruction: ""
passage: "{title}\\n{text}"
query: "{query}"
query_attends: false
signal: query
score: log_sum_exp
"""
SETTINGS = {
    "all heads of one layer": DECODER + "layer: 2\nquery_position: 4096\n",
    "near": DECODER + "layer: 2\n",
    "heads of several layers": DECODER + "heads: [[3, 1], [1, 0], [1, 3]]\nhead_weights: [1, 2, 3]",
    "calibrated": DECODER + "layer: 2\ncalibration: content_free\n",
    "query alone": DECODER.replace("attends: true", "attends: false") + "layer: 2\n",
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Random models, one a family."""
    made = {}
    for family, tokenizer in (("Llama", "smollm2"), ("Gemma3", "smollm2"), ("Bert", "minilm")):
        made[family] = save_model(tmp_path_factory.mktemp(family), family, tokenizer)
    return made


@pytest.fixture(scope="module")
def decoder(folders):
    return load_ranker(folders["Llama"], SETTINGS["all heads of one layer"])


@pytest.mark.parametrize("family", ["Llama", "Gemma3"])
@pytest.mark.parametrize("settings", SETTINGS)
def test_a_decoders_whole_cache_gives_the_scores_of_no_cache(folders, family, settings):
    ranker = load_ranker(folders[family], SETTINGS[settings])
    wanted = scores(ranker, QUERY, PASSAGES)
    assert len(set(wanted)) == len(wanted)
    assert ranker.cache(PASSAGES, bits=32).scores(QUERY, IDS) == wanted


@pytest.mark.parametrize("which", ["random", "minilm"])
def test_an_encoders_whole_cache_gives_the_scores_of_no_cache(folders, minilm_ranker, which):
    ranker = minilm_ranker if which == "minilm" else load_ranker(folders["Bert"], ENCODER)
    assert ranker.cache(PASSAGES, bits=32).scores(QUERY, IDS) == scores(ranker, QUERY, PASSAGES)


@pytest.mark.parametrize("which", ["minilm", "decoder"])
@pytest.mark.parametrize("bits", [32, 16, 8, 6, 4])
def test_any_order_and_company_in_the_cache_give_the_same_bits(which, bits, minilm_ranker, decoder):
    ranker = minilm_ranker if which == "minilm" else decoder
    wanted = dict(zip(IDS, ranker.cache(PASSAGES, bits).scores(QUERY, IDS), strict=True))
    company = [{"id": f"other-{n}", "text": "Snow fell. " * n} for n in (1, 30, 2)]
    passages = [c._asdict() for c in as_candidates(PASSAGES)]
    mixed = ranker.cache([company[0], *passages[3:], *company[1:], *passages[2::-1]], bits)
    for ids in (IDS, IDS[::-1], [IDS[i] for i in (3, 0, 4, 2, 1)]):
        assert mixed.scores(QUERY, ids) == [wanted[id_] for id_ in ids]


@pytest.mark.parametrize("bits", [16, 8, 4])
def test_a_cached_late_interaction_score_depends_on_no_other_passage(minilm_ranker, bits):
    cache = minilm_ranker.cache(PASSAGES, bits)
    assert [cache.scores(QUERY, [id_])[0] for id_ in IDS] == cache.scores(QUERY, IDS)


@pytest.mark.parametrize("which", ["minilm", "decoder"])
def test_fewer_bits_take_less_room_and_deviate_more(which, minilm_ranker, decoder):
    ranker = minilm_ranker if which == "minilm" else decoder
    exact = np.array(scores(ranker, QUERY, PASSAGES))
    sizes, deviations = [], []
    for bits in (32, 16, 8, 6, 4) if which == "decoder" else (32, 16, 8, 4):
        cache = ranker.cache(PASSAGES, bits)
        sizes.append(cache.num_bytes)
        deviations.append(np.abs(cache.scores(QUERY, IDS) - exact).max() / exact.std())
    assert sizes == sorted(sizes, reverse=True)
    assert deviations[0] == 0
    assert deviations == sorted(deviations)
    assert deviations[1] < 0.003
    assert deviations[2] < 0.05


def test_salient_tokens_bring_four_bits_closer(minilm_ranker):
    exact = np.array(scores(minilm_ranker, QUERY, PASSAGES))
    errors = []
    for share in (0.0, 0.1, 0.5, 0.99):
        cache = minilm_ranker.cache(PASSAGES, 4, salient_share=share)
        errors.append(np.abs(cache.scores(QUERY, IDS) - exact).mean())
    assert errors[3] < errors[2] < errors[0]
    assert errors[3] < 0.2 * errors[0]


def test_a_ranking_over_the_cache_is_the_ranking_without(minilm_ranker):
    cache = minilm_ranker.cache(PASSAGES, 32)
    wanted = minilm_ranker.rerank(QUERY, PASSAGES)
    assert minilm_ranker.rerank(QUERY, PASSAGES, cache=cache) == wanted
    some = PASSAGES[3:0:-1]
    renamed = [p if isinstance(p, dict) else {"id": "werther", "text": p} for p in some]
    assert minilm_ranker.rerank(QUERY, renamed, 2, cache=cache) == minilm_ranker.rerank(
        QUERY, renamed, 2
    )
    by_id = cache.rerank(QUERY)
    assert [(r.id, r.score, r.rank) for r in by_id] == [(r.id, r.score, r.rank) for r in wanted]
    assert by_id[0].passage == by_id[0].id
    assert [r.id for r in cache.rerank(QUERY, ["rain", "0"], top_k=1)] == ["0"]


def test_probabilities_come_with_a_cache_too(folders):
    ranker = load_ranker(folders["Bert"], ENCODER + "probability: [2.0, -1.0]\n")
    cache = ranker.cache(PASSAGES, 32)
    assert ranker.rerank(QUERY, PASSAGES, cache=cache) == ranker.rerank(QUERY, PASSAGES)
    assert cache.rerank(QUERY)[0].probability is not None


def test_more_passages_than_are_scored_at_once(minilm_ranker, monkeypatch):
    cache = minilm_ranker.cache(PASSAGES, 16)
    wanted = cache.scores(QUERY, IDS)
    monkeypatch.setattr("rerank.cache.reading._MAX_TOKENS", 20)
    assert cache.scores(QUERY, IDS) == wanted


def test_equal_words_may_be_asked_for_twice(decoder):
    twins = [{"id": "a", "text": "A pear."}, {"id": "b", "text": "A pear."}, "Faust"]
    found = decoder.rerank(QUERY, twins, cache=decoder.cache(twins, 32))
    assert found == decoder.rerank(QUERY, twins)


@pytest.mark.parametrize("bits", [32, 16, 8, 4])
@pytest.mark.parametrize("size", [12, 64, 80, 384])
def test_numbers_come_back_as_exactly_as_their_bits_allow(bits, size):
    x = torch.randn(40, 3, size, generator=torch.Generator().manual_seed(1))
    x[7] *= 30
    x[11] = 0
    stored = encode("k", x, bits)
    rows = torch.tensor([7, 3, 11, 39])
    found = decode("k", stored, Rows(rows), size).float()
    # Half a step of the largest number; fp16 also rounds the scale, and the middle.
    bound = x[rows].abs().amax(-1, keepdim=True) * {32: 0, 16: 5e-4, 8: 0.0045, 4: 0.075}[bits]
    assert ((found - x[rows]).abs() <= bound).all()
    assert torch.equal(decode("k", stored, Rows(slice(3, 8)), size).float()[0], found[1])


def test_four_bits_follow_numbers_that_lie_far_from_zero():
    """As keys do: around their middle the step is that of their spread."""
    x = 50 + torch.randn(20, 2, 64, generator=torch.Generator().manual_seed(1))
    found = decode("k", encode("k", x, 4), Rows(slice(0, 20)), 64)
    spread = x.amax(-1, keepdim=True) - x.amin(-1, keepdim=True)
    assert ((found - x).abs() <= spread / 14 / 2 + 0.02).all()  # fp16 keeps 50 to 0.016


def test_six_bits_part_keys_and_values(decoder):
    cache, fine, coarse = (decoder.cache(PASSAGES, bits) for bits in (6, 8, 4))
    found = cache.shards[0].tokens
    assert torch.equal(found["k.1"], fine.shards[0].tokens["k.1"])
    assert torch.equal(found["v.1"], coarse.shards[0].tokens["v.1"])


def test_salient_tokens_keep_eight_bits():
    x = torch.randn(40, 3, 64, generator=torch.Generator().manual_seed(1))
    marks = torch.zeros(40, dtype=torch.bool)
    marks[[5, 30]] = True
    stored = encode("k", x, 4, marks)
    # Tokens 30, 2, 5 are read: the first and the last are copies 1 and 0.
    rows = Rows(torch.tensor([30, 2, 5]), torch.tensor([0, 2]), torch.tensor([1, 0]))
    found = decode("k", stored, rows, 64)
    fine = decode("k", encode("k", x, 8), Rows(torch.tensor([30, 2, 5])), 64)
    coarse = decode("k", encode("k", x, 4), Rows(torch.tensor([30, 2, 5])), 64)
    assert torch.equal(found[[0, 2]], fine[[0, 2]])
    assert torch.equal(found[1], coarse[1])


@pytest.mark.parametrize(
    ("passages", "message"),
    [
        ([], "no passages to cache"),
        (["A pear.", " "], "passage 1: no visible character"),
        ([{"id": "a", "text": "x"}] * 2, "passages 0 and 1 have the same id 'a'"),
        (
            [{"id": str(n % 300), "text": "x"} for n in range(301)],
            "passage 300 repeats the id '0'",
        ),
    ],
)
def test_passages_that_cannot_be_cached_are_refused(minilm_ranker, passages, message):
    with pytest.raises(ValueError, match=message):
        minilm_ranker.cache(passages)


def test_what_is_not_in_the_cache_is_refused(minilm_ranker):
    cache = minilm_ranker.cache(PASSAGES)
    with pytest.raises(ValueError, match="passage 'apple' is not in the cache, which holds 5 pass"):
        cache.rerank(QUERY, ["pear", "apple"])
    with pytest.raises(ValueError, match="passage '1' is not in the cache; build it again"):
        minilm_ranker.rerank(QUERY, [PASSAGES[0], "An apple."], cache=cache)
    changed = {"id": "pear", "title": "Pear", "text": "Two pears."}
    with pytest.raises(ValueError, match="passage 'pear' has other words than in the cache"):
        minilm_ranker.rerank(QUERY, [changed], cache=cache)
    with pytest.raises(ValueError, match="have the same id 'pear'"):
        cache.rerank(QUERY, ["pear", "pear"])
    with pytest.raises(ValueError, match="the query is empty"):
        cache.rerank("  ")
    with pytest.raises(ValueError, match="the list is empty"):
        cache.rerank(QUERY, [])
    with pytest.raises(ValueError, match="top_k is 0, wanted at least 1"):
        cache.rerank(QUERY, top_k=0)


def test_unknown_precisions_are_refused(minilm_ranker):
    with pytest.raises(ValueError, match="bits is 5, wanted 32, 16, 8, 6, 4"):
        minilm_ranker.cache(PASSAGES, bits=5)
    with pytest.raises(ValueError, match=r"the salient share is 1\.5"):
        minilm_ranker.cache(PASSAGES, bits=4, salient_share=1.5)


def test_passages_that_see_the_query_are_refused(folders):
    seeing = DECODER.replace("in_instruction: false", "in_instruction: true").replace(
        "Rank the", "For {query} rank the"
    )
    ranker = load_ranker(folders["Llama"], seeing)
    with pytest.raises(ValueError, match="cannot be cached because they see the query"):
        ranker.cache(PASSAGES)
    attending = ENCODER.replace("attends: false", "attends: true").replace("log_sum_exp", "mass")
    with pytest.raises(ValueError, match="can be cached only with query_attends: false"):
        load_ranker(folders["Bert"], attending).cache(PASSAGES)


def test_a_backbones_vectors_of_whole_passages_come_back(minilm_ranker):
    """Kept in 16 bits or more, and read back in the order of the request."""
    backbone = _WithPrior(minilm_ranker.backbone)
    ranker = BlockRanker(backbone)
    cache = PassageCache.of(ranker, PASSAGES, 4)
    cache.scores(QUERY, IDS[::-1])
    assert torch.equal(backbone.seen, torch.tensor([[1.0], [2.0], [3.0], [4.0], [5.0]]))


class _WithPrior:
    """A backbone whose passages have one number each besides their keys."""

    def __init__(self, backbone):
        self._backbone = backbone
        self.seen = None

    def __getattr__(self, name):
        return getattr(self._backbone, name)

    def read_passages(self, prompts):
        states = self._backbone.read_passages(prompts)
        numbers = torch.arange(1.0, 1 + prompts.passage_counts[0])[:, None]
        return PassageStates(states.tokens, {"number": numbers})

    def read_query(self, query, states, places):
        self.seen = states.passages["number"]
        return self._backbone.read_query(query, states, places)


@pytest.mark.parametrize("which", ["minilm", "mini", *SETTINGS])
def test_lists_read_together_have_the_scores_of_lists_read_alone(
    which, folders, minilm_ranker, monkeypatch
):
    if which in SETTINGS:
        ranker = load_ranker(folders["Llama"], SETTINGS[which])
    else:
        ranker = minilm_ranker if which == "minilm" else BlockRanker.from_pretrained(device="cpu")
    cache = ranker.cache(PASSAGES, 16)
    candidates = as_candidates(PASSAGES)
    queries = [QUERY, "pear", QUERY, "where did it rain all night long in 1774?", "pear"]
    lists = [[0, 1, 2, 3, 4], [4, 1], [3, 0, 2], [2], [0, 4, 3]]
    wanted = [
        cache.scores(query, [IDS[n] for n in listed])
        for query, listed in zip(queries, lists, strict=True)
    ]
    read = []
    backbone = type(ranker.backbone)
    plain = backbone.read_query

    def counted(self, query, states, places):
        read.append({name: len(x) for name, x in states.tokens.items()})
        return plain(self, query, states, places)

    monkeypatch.setattr(backbone, "read_query", counted)
    asked = [[candidates[n] for n in listed] for listed in lists]
    assert cache.scores_batch(queries, asked) == wanted
    whole = sum(len(shard.key_mask) for shard in cache.shards)
    before = sum(len(x) for x in list(cache.instruction.values())[:1])
    passes = 2 if "calibrated" in which else 1
    assert len(read) == passes  # the queries in one pass, and no passage twice
    assert all(tokens == before + whole for each in read for tokens in each.values())
    monkeypatch.setattr("rerank.cache.reading._MAX_TOKENS", 30)
    assert cache.scores_batch(queries, asked) == wanted
    assert len(read) > 2 * passes
    assert cache.scores_batch([], []) == []
