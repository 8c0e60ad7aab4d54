"""More candidates than may be read: who is read, who is not, and what the result says of each."""

import random

import pytest
from rerank_cases import QUERY, load_ranker, save_model

from rerank import BlockRanker
from rerank.cascade import Budget, CascadeWarning, cascaded
from rerank.prompt.candidates import as_candidates
from rerank.scoring.words import word_scores

WORDS = ["faust", "pear", "goethe", "rain", "tragedy", "weimar", "novel", "wrote", "water"]


def _candidates(count):
    chance = random.Random(5)
    return [
        {"id": f"p{n:03}", "text": " ".join(chance.choices(WORDS, k=chance.randint(3, 12)))}
        for n in range(count)
    ]


LIST = _candidates(40)
FIRST = [float(score) for score in random.Random(2).choices(range(12), k=40)]  # with ties
ORDER = sorted(range(40), key=lambda n: (-FIRST[n], LIST[n]["id"]))


@pytest.fixture(scope="module", params=["Bert", "Llama"])
def ranker(request, tmp_path_factory):
    tokenizer = {"Bert": "minilm", "Llama": "smollm2"}[request.param]
    return load_ranker(save_model(tmp_path_factory.mktemp("m"), request.param, tokenizer))


def _around(ranker):
    (prompt,) = ranker.prompts([QUERY], [[]])
    return prompt.num_tokens


def test_a_budget_for_all_is_a_full_read_bit_for_bit(ranker):
    found = ranker.rerank(QUERY, LIST, first_scores=FIRST, budget_tokens=10**6)
    assert found == ranker.rerank(QUERY, LIST)


def test_the_best_are_read_and_the_rest_stands_below_in_its_order(ranker):
    lengths = ranker.token_counts(LIST)
    budget = _around(ranker) + sum(lengths[n] for n in ORDER[:10]) + lengths[ORDER[10]] - 1
    found = ranker.rerank(QUERY, LIST, first_scores=FIRST, budget_tokens=budget)
    alone = ranker.rerank(QUERY, [LIST[n] for n in ORDER[:10]])
    assert [(r.id, r.score) for r in found[:10]] == [(r.id, r.score) for r in alone]
    assert [r.id for r in found[10:]] == [LIST[n]["id"] for n in ORDER[10:]]
    assert [r.stage for r in found] == ["read"] * 10 + ["first"] * 30
    assert [r.rank for r in found] == list(range(1, 41))
    assert all(LIST[r.original_rank - 1] is r.passage for r in found)
    scores = [r.score for r in found]
    assert scores == sorted(scores, reverse=True)
    gaps = [FIRST[ORDER[9]] - FIRST[n] for n in ORDER[10:]]
    assert [scores[9] - score for score in scores[10:]] == pytest.approx(gaps)
    assert ranker.rerank(QUERY, LIST, 12, first_scores=FIRST, budget_tokens=budget) == found[:12]


def test_the_given_order_changes_no_bit(ranker):
    budget = _around(ranker) + 120
    found = ranker.rerank(QUERY, LIST, first_scores=FIRST, budget_tokens=budget)
    back = ranker.rerank(QUERY, LIST[::-1], first_scores=FIRST[::-1], budget_tokens=budget)
    assert [(r.id, r.score, r.stage) for r in found] == [(r.id, r.score, r.stage) for r in back]
    assert 1 < sum(r.stage == "read" for r in found) < 40


def test_time_goes_by_the_budget_and_not_by_the_list(minilm_ranker, monkeypatch):
    counted = []
    count = BlockRanker.token_counts
    monkeypatch.setattr(
        BlockRanker,
        "token_counts",
        lambda self, some: counted.append(len(some)) or count(self, some),
    )
    passages = _candidates(2000)
    found = minilm_ranker.rerank(QUERY, passages, first_scores=range(2000), budget_tokens=200)
    assert len(found) == 2000
    assert 2 < sum(r.stage == "read" for r in found) < sum(counted) < 200


class Clock:
    """Each look finds `step` seconds gone."""

    def __init__(self, step):
        self.step, self.now = step, 0.0

    def __call__(self):
        self.now += self.step
        return self.now


def test_milliseconds_become_tokens_at_the_speed_of_a_short_read(ranker):
    candidates = as_candidates(_candidates(300))
    first = [-float(n) for n in range(300)]

    def read(milliseconds):
        found = cascaded(ranker, QUERY, candidates, first, Budget(None, milliseconds), Clock(0.1))
        return sum(r.stage == "read" for r in found)

    probe = read(50)  # already over: what was read counts
    assert 10 < probe < 100
    twice = read(300)  # 100 ms gone, 200 left: twice as much
    assert 1.7 * probe < twice < 2.3 * probe
    assert read(10**6) == 300


def test_without_first_scores_words_or_the_cache_decide(minilm_ranker):
    passages = ["Rain fell.", "Goethe wrote the tragedy Faust.", "A pear.", "Who wrote it?"]
    found = minilm_ranker.rerank(QUERY, passages, budget_tokens=_around(minilm_ranker) + 12)
    assert [(r.id, r.stage) for r in found][:2] == [("1", "read"), ("3", "first")]
    cache = minilm_ranker.cache(passages)
    by_cache = minilm_ranker.rerank(
        QUERY, passages, cache=cache, budget_tokens=_around(minilm_ranker) + 12
    )
    assert [r.id for r in by_cache] == [r.id for r in cache.rerank_passages(QUERY, passages)]
    assert [r.stage for r in by_cache].count("read") == 1


def test_word_scores_by_hand():
    found = word_scores("pears fall", as_candidates(["pears pears rain", "a plum", "fall now"]))
    # Both words stand in 1 of 3 passages: log(1 + 2.5 / 1.5); mean length 7 / 3.
    weight = 0.980829
    assert found == pytest.approx(
        [
            weight * 2 / (2 + 1.2 * (0.25 + 0.75 * 9 / 7)),
            0,
            weight / (1 + 1.2 * (0.25 + 0.75 * 6 / 7)),
        ],
        abs=1e-5,
    )


def test_a_reading_that_turns_the_first_order_round_is_told(minilm_ranker):
    scores = minilm_ranker.scores(QUERY, LIST)
    options = {"budget_tokens": 10**5}
    with pytest.warns(CascadeWarning, match="Kendall's tau -0.9|tau -1"):
        minilm_ranker.rerank(QUERY, LIST, first_scores=[-s for s in scores], **options)


@pytest.mark.filterwarnings("error")
def test_a_reading_that_agrees_or_has_nothing_in_common_is_not(minilm_ranker):
    for first in (minilm_ranker.scores(QUERY, LIST), FIRST):
        minilm_ranker.rerank(QUERY, LIST, first_scores=first, budget_tokens=10**5)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"first_scores": FIRST}, ValueError, "first_scores without a budget"),
        ({"budget_tokens": 9, "budget_ms": 9}, ValueError, "give one of them"),
        ({"budget_tokens": 0}, ValueError, "budget_tokens is 0"),
        ({"budget_tokens": 1.5}, TypeError, "budget_tokens is 1.5"),
        ({"budget_ms": -1}, ValueError, "budget_ms is -1, wanted a number above 0"),
        ({"budget_ms": float("nan")}, ValueError, "budget_ms is nan"),
        ({"budget_tokens": 9}, ValueError, r"budget_tokens is 9: .* take \d+; raise it"),
        (
            {"budget_tokens": 99, "first_scores": [1.0]},
            ValueError,
            "1 first_scores for 40 passages",
        ),
        ({"budget_tokens": 99, "first_scores": [None] * 40}, TypeError, "no number"),
        (
            {"budget_tokens": 99, "first_scores": [float("nan")] * 40},
            ValueError,
            "the first score of passage 0 is nan",
        ),
    ],
)
def test_bad_calls_are_refused_in_a_sentence(minilm_ranker, options, error, message):
    with pytest.raises(error, match=message):
        minilm_ranker.rerank(QUERY, LIST, **options)


@pytest.mark.slow
def test_reading_some_does_not_lose_to_the_first_stage(data_folder):
    """Mean nDCG@10 over a collection, mini over BM25 of the list's words, some 15 passages read."""
    from eval.measures.ranking import evaluate
    from retrieval.corpora import load_collection, open_corpus

    ranker = BlockRanker.from_pretrained(device="cpu")
    for name in ("adi", "noveleval"):
        collection = load_collection(str(data_folder / name))
        passages = [{"id": p.id, "text": p.full_text} for p in open_corpus(collection.corpus)]
        runs: dict[str, dict[str, dict[str, float]]] = {"first": {}, "cascade": {}}
        for query_id in sorted(collection.qrels)[:10]:
            query = collection.queries[query_id]
            first = word_scores(query, as_candidates(passages))
            found = ranker.rerank(query, passages, first_scores=first, budget_tokens=2000)
            runs["cascade"][query_id] = {r.id: -float(r.rank) for r in found}
            pairs = zip(passages, first, strict=True)
            runs["first"][query_id] = {p["id"]: score for p, score in pairs}
        qrels = {query_id: collection.qrels[query_id] for query_id in runs["first"]}
        means = {
            stage: evaluate(qrels, run, ["nDCG@10"]).means["nDCG@10"] for stage, run in runs.items()
        }
        assert means["cascade"] >= means["first"], (name, means)
