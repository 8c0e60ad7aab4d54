import random

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.measures.ranking import evaluate, trec_eval_order

# ours -> trec_eval's name
SHARED = {
    "nDCG": "ndcg",
    "nDCG@10": "ndcg_cut_10",
    "AP": "map",
    "R@5": "recall_5",
    "P@5": "P_5",
    "RR": "recip_rank",
    "Rprec": "Rprec",
    "Success@1": "success_1",
    "Bpref": "bpref",
}


def collection(seed, queries=40, passages=50):
    """Graded qrels and a run with many ties (also float32 ties) that lacks some of the queries."""
    rng = random.Random(seed)
    ids = [f"d{number}" for number in range(passages)]
    qrels = {
        f"q{number}": {passage: rng.choice([-1, 0, 0, 1, 2, 3]) for passage in rng.sample(ids, 20)}
        for number in range(queries)
    }
    scores = [1.0, 2.0, 3.0, 3.0 + 1e-9, 4.0, -1.5]
    run = {
        f"q{number}": {passage: rng.choice(scores) for passage in rng.sample(ids, 30)}
        for number in range(5, queries + 5)
    }
    return qrels, run


@pytest.mark.parametrize("seed", range(5))
def test_equal_to_pytrec_eval_per_query_with_ties_and_missing_queries(seed):
    qrels, run = collection(seed)
    ours = evaluate(qrels, run, list(SHARED))
    theirs = pytrec_eval.RelevanceEvaluator(qrels, list(SHARED.values())).evaluate(run)
    assert len(theirs) == 35
    for query_id, values in ours.per_query().items():
        for name, value in values.items():
            expected = theirs[query_id][SHARED[name]] if query_id in theirs else 0.0
            assert value == pytest.approx(expected, abs=1e-12)
    for name in SHARED:
        assert ours.means[name] == pytest.approx(ours.values[name].mean(), abs=1e-12)


def test_missing_ignored_and_hopeless_queries_are_listed():
    qrels = {"q1": {"a": 1}, "q2": {"a": 1}, "q3": {"a": 0}, "q4": {"a": 1}}
    run = {"q1": {"a": 1.0}, "q3": {"a": 1.0}, "q4": {}, "other": {"a": 1.0}}
    evaluation = evaluate(qrels, run, ["RR@10"])
    assert evaluation.missing == ("q2", "q4")
    assert evaluation.ignored == ("other",)
    assert evaluation.without_relevant == ("q3",)
    assert evaluation.values["RR@10"].tolist() == [1.0, 0.0, 0.0, 0.0]
    assert evaluation.means == {"RR@10": 0.25}


@pytest.mark.parametrize("name", ["RR@1", "RR", "P@1", "nDCG@1", "Judged@1", "Success@1"])
def test_ties_break_by_descending_id_in_every_provider(name):
    """ir-measures' RR@k and Judged@k break ties by ascending id when left to themselves."""
    run = {"q": {"a": 1.0, "b": 1.0 + 1e-12}}
    last = evaluate({"q": {"b": 1}}, run, [name]).means[name]
    first = evaluate({"q": {"a": 1}}, run, [name]).means[name]
    assert (last, first) == (1.0, 0.5 if name == "RR" else 0.0)


def test_values_worked_by_hand():
    # Ranking r, n, r2 with grades 1, 0, 2: DCG = 1 + 2/log2(4) = 2; ideal = 2 + 1/log2(3).
    qrels = {"q": {"r": 1, "r2": 2, "n": 0}}
    run = {"q": {"r": 3.0, "n": 2.0, "r2": 1.0}}
    values = evaluate(qrels, run, ["nDCG@10", "AP", "RR@10", "P(rel=2)@3"]).means
    assert values["nDCG@10"] == pytest.approx(2 / (2 + 1 / np.log2(3)), abs=1e-12)
    assert values["AP"] == pytest.approx((1 + 2 / 3) / 2, abs=1e-12)
    assert values["RR@10"] == 1.0
    assert values["P(rel=2)@3"] == pytest.approx(1 / 3)


def test_rr_and_judged_cut_at_different_depths():
    qrels = {"q": {f"d{rank}": int(rank == 7) for rank in range(0, 20, 7)}}
    run = {"q": {f"d{rank}": -float(rank) for rank in range(20)}}
    means = evaluate(qrels, run, ["RR@3", "RR@10", "RR", "Judged@3", "Judged@10", "Judged"]).means
    assert means["RR@3"] == 0.0
    assert means["RR@10"] == means["RR"] == pytest.approx(1 / 8)
    assert means["Judged@3"] == pytest.approx(1 / 3)
    assert means["Judged@10"] == pytest.approx(2 / 10)
    assert means["Judged"] == pytest.approx(3 / 20)


def test_counting_measures_are_summed_and_named():
    evaluation = evaluate(
        {"p": {"a": 1}, "q": {"a": 1}},
        {"p": {"a": 1.0, "b": 0.5}, "q": {"a": 1.0}},
        ["NumRet", "AP"],
    )
    assert evaluation.means["NumRet"] == 3.0
    assert evaluation.summed == {"NumRet"}


def test_aliases_keep_the_callers_name():
    evaluation = evaluate({"q": {"a": 1}}, {"q": {"b": 2.0, "a": 1.0}}, ["MRR@10", "RR@10"])
    assert evaluation.means == {"MRR@10": 0.5, "RR@10": 0.5}


@pytest.mark.parametrize(
    "name", ["Foo@3", "nDCG@ten", "nDCG@", "P(depth=3)", "__import__('os')", "P"]
)
def test_unknown_measure_is_one_sentence(name):
    with pytest.raises(ValueError, match=r"measure|computes") as error:
        evaluate({"q": {"a": 1}}, {"q": {"a": 1.0}}, [name])
    assert name in str(error.value)


def test_ids_that_match_nothing_name_both_sides():
    with pytest.raises(ValueError, match="no query of the run") as error:
        evaluate({"q1": {"a": 1}}, {"1": {"a": 1.0}}, ["AP"])
    assert "'1'" in str(error.value)
    assert "'q1'" in str(error.value)
    with pytest.raises(ValueError, match="no passage of the run") as error:
        evaluate({"q1": {"d1": 1}}, {"q1": {"1": 1.0}}, ["AP"])
    assert "'1'" in str(error.value)
    assert "'d1'" in str(error.value)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -float("inf")])
def test_a_score_that_is_not_finite_is_refused_as_the_reader_refuses_it(score):
    with pytest.raises(ValueError, match="of passage 'b', query 'q', is not a finite number"):
        evaluate({"q": {"a": 1}}, {"q": {"a": 1.0, "b": score}}, ["nDCG@10"])


@pytest.mark.parametrize("id_", ["a\0b", "\ud800"])
def test_an_id_that_c_code_would_cut_is_refused(id_):
    for qrels, run in (
        ({"q": {"a": 1, id_: 1}}, {"q": {"a": 1.0}}),
        ({"q": {"a": 1}}, {"q": {"a": 1.0, id_: 0.5}}),
        ({id_: {"a": 1}}, {id_: {"a": 1.0}}),
    ):
        with pytest.raises(ValueError, match="ids are words of visible text"):
            evaluate(qrels, run, ["nDCG@10"])


def test_empty_sides_are_errors():
    for qrels, run in [({}, {"q": {"a": 1.0}}), ({"q": {"a": 1}}, {})]:
        with pytest.raises(ValueError, match="no query"):
            evaluate(qrels, run, ["AP"])
    with pytest.raises(ValueError, match="no measure"):
        evaluate({"q": {"a": 1}}, {"q": {"a": 1.0}}, [])


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=3), st.sampled_from([0.0, 1.0, 1e-9, 1e300, -1e300, 2.0])
    )
)
def test_order_is_float32_score_then_id_descending(scores):
    with np.errstate(over="ignore"):
        expected = sorted(scores, key=lambda i: (np.float32(scores[i]), i), reverse=True)
    assert trec_eval_order(scores) == expected


def test_more_queries_than_one_part_keep_their_rows():
    queries = 1203
    qrels = {f"q{number}": {"a": 1, "b": 0} for number in range(queries)}
    run = {f"q{number}": {"a": float(number % 2), "b": 0.5} for number in range(queries)}
    values = evaluate(qrels, run, ["RR@10", "RR"]).values
    expected = [1.0 if number % 2 else 0.5 for number in range(queries)]
    assert values["RR@10"].tolist() == expected
    assert values["RR"].tolist() == expected


def test_published_run_means(data_folder):
    from eval.files.trec import read_run
    from retrieval.corpora import load_qrels

    folder = data_folder / "trec_dl19"
    evaluation = evaluate(
        load_qrels(folder), read_run(folder / "runs" / "rankllm_bm25.trec.gz"), ["nDCG@10"]
    )
    assert evaluation.means["nDCG@10"] == pytest.approx(0.5058, abs=5e-5)
