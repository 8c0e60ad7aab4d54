import json

import numpy as np
import pytest

from eval.__main__ import build_parser
from eval.agreement.results import Settings
from eval.agreement.study import study
from eval.commands.agree import run_agree

FAST = Settings(permutations=199, resamples=100)


def collection(seed=0, queries=12, passages=15):
    rng = np.random.default_rng(seed)
    return {
        f"q{q}": {f"d{d}": int(rng.integers(0, 4)) for d in range(passages)} for q in range(queries)
    }


def runs_of(qrels, count=4):
    """Systems that see the grades through more and more noise."""
    rng = np.random.default_rng(1)
    return {
        f"noise{level}": {
            q: {d: grade + 2 * level * rng.standard_normal() for d, grade in grades.items()}
            for q, grades in qrels.items()
        }
        for level in range(count)
    }


def test_a_judge_that_copies_agrees_on_everything():
    qrels = collection()
    report = study(qrels, {"copy": qrels}, runs_of(qrels), FAST).as_json()
    labels, systems = report["judges"]["copy"]["labels"], report["judges"]["copy"]["systems"]
    for name in ("exact", "kappa", "kappa_quadratic", "alpha_ordinal"):
        assert labels[name] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert labels["bias"] == {"0": 0.0, "1": 0.0, "2": 0.0, "3": 0.0}
    assert systems["tau_b"] == systems["tau_ap"] == pytest.approx(1.0)
    assert systems["preservation"]["missed"] == systems["preservation"]["false"] == 0
    assert all(s["human"] == s["judge"] for s in systems["systems"].values())


def test_bias_and_confusion_per_grade():
    qrels = {"q": {"a": 0, "b": 0, "c": 1, "d": 3}}
    judge = {"q": {"a": 2, "b": 0, "c": 0, "d": 3}}
    labels = study(qrels, {"j": judge}, settings=FAST).labels["j"]
    assert labels.confusion.tolist() == [[1, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    assert labels.bias[0] == 1.0
    assert labels.bias[1] == -1.0
    assert np.isnan(labels.bias[2])
    assert labels.mean_bias == 0.25


def test_labels_outside_the_scale_are_clipped_and_counted():
    qrels = {"q": {"a": -1, "b": 3, "c": 1}}
    judge = {"q": {"a": 0, "b": 9, "c": 1}}
    labels = study(qrels, {"j": judge}, settings=FAST).labels["j"]
    assert labels.clipped == (1, 1)
    assert labels.exact.value == 1.0
    wider = study(qrels, {"j": judge}, settings=Settings(scale=(-1, 9), resamples=50))
    assert wider.labels["j"].clipped == (0, 0)
    assert wider.labels["j"].exact.value == pytest.approx(1 / 3)


def test_only_shared_pairs_and_queries_count():
    qrels = {"q1": {"a": 1, "b": 0}, "q2": {"a": 2}}
    judge = {"q1": {"a": 1, "x": 3}, "q3": {"a": 1}}
    result = study(qrels, {"j": judge}, settings=FAST).labels["j"]
    assert (result.pairs, result.queries) == (1, 1)
    assert (result.human_only, result.judge_only) == (2, 2)


def test_systems_are_compared_on_matched_queries():
    qrels = collection()
    judge = {q: g for q, g in qrels.items() if q not in ("q3", "q7")}
    systems = study(qrels, {"j": judge}, runs_of(qrels), FAST).systems["j"]
    assert systems.queries == 10
    assert systems.left_out_queries == ("q3", "q7")
    assert systems.human_means == systems.judge_means


def test_mistakes_name_both_sides():
    qrels = {"q1": {"a": 1}}
    with pytest.raises(ValueError, match="j shares no pair") as error:
        study(qrels, {"j": {"1": {"b": 1}}})
    assert "('1', 'b')" in str(error.value)
    assert "('q1', 'a')" in str(error.value)
    with pytest.raises(ValueError, match="no judge"):
        study(qrels, {"j": None})
    with pytest.raises(ValueError, match="at least two runs"):
        study(qrels, {"j": qrels}, {"one": {"q1": {"a": 1.0}}})


def test_a_failed_judge_and_a_failed_run_are_not_run(tmp_path, capsys):
    from eval.files.trec import write_qrels, write_run

    qrels = collection()
    write_qrels(tmp_path / "qrels" / "test.tsv", qrels)
    write_qrels(tmp_path / "judges" / "good.tsv", qrels)
    (tmp_path / "judges" / "failed.tsv").touch()
    for name, run in runs_of(qrels).items():
        write_run(tmp_path / "runs" / f"{name}.trec", run, "t")
    (tmp_path / "runs" / "crashed.trec").touch()
    options = ["--runs", str(tmp_path / "runs"), "--permutations", "99", "--resamples", "50"]
    run_agree(build_parser().parse_args(["agree", str(tmp_path), *options, "--json"]))
    report = json.loads(capsys.readouterr().out)
    assert report["not_run"] == ["failed", "crashed"]
    assert list(report["judges"]) == ["good"]
    assert "crashed" not in report["judges"]["good"]["systems"]["systems"]
    assert len(report["provenance"]["sha256"]) == 7
    run_agree(build_parser().parse_args(["agree", str(tmp_path), *options]))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["failed", "not", "run"] in lines


def test_the_published_kappas(data_folder, capsys):
    """The collections' notes give each judge's pairs, exact agreement and kappa to 3 digits."""
    for name, judges in (("trec_dl19", 7), ("llmjudge_dev_labels", 11)):
        folder = data_folder / name
        options = ["--json", "--resamples", "10"]
        run_agree(build_parser().parse_args(["agree", str(folder), *options]))
        report = json.loads(capsys.readouterr().out)["judges"]
        rows = [
            [cell.strip() for cell in line.strip("|\n ").split("|")]
            for line in (folder / "README.md").read_text().splitlines()
            if line.startswith("| ")
        ]
        published = {row[0]: row for row in rows if row[0] in report}
        assert len(published) == judges
        for judge, (_, pairs, exact, kappa, *_) in published.items():
            labels = report[judge]["labels"]
            assert labels["pairs"] == int(pairs)
            assert labels["exact"]["value"] == pytest.approx(float(exact), abs=6e-4)
            assert labels["kappa"]["value"] == pytest.approx(float(kappa), abs=6e-4)


def test_rag25(data_folder, capsys):
    arguments = ["agree", str(data_folder / "rag25_labels"), "--json", "--resamples", "10"]
    run_agree(build_parser().parse_args(arguments))
    report = json.loads(capsys.readouterr().out)
    assert report["grades"] == [0, 1, 2, 3, 4]
    assert report["judges"]["umbrela2"]["labels"]["pairs"] == 10284


@pytest.mark.slow
def test_the_full_study_of_43_runs_and_7_judges(data_folder, capsys):
    folder = data_folder / "trec_dl19"
    arguments = ["agree", str(folder), "--runs", str(folder / "runs"), "--json"]
    run_agree(build_parser().parse_args(arguments))
    report = json.loads(capsys.readouterr().out)
    assert len(report["judges"]) == 7
    for judge in report["judges"].values():
        systems = judge["systems"]
        assert len(systems["systems"]) == 43
        counts = systems["preservation"]
        kinds = ("agreements", "contradictions", "missed", "false", "neither")
        assert sum(counts[kind] for kind in kinds) == 43 * 42 // 2


def test_common_pairs_puts_judges_of_different_samples_on_the_same_pairs():
    qrels = collection()
    sample = {"q1": {"d1": qrels["q1"]["d1"], "d2": 0}, "q2": {"d5": 3}}
    judges = {"sample": sample, "whole": qrels}
    apart = study(qrels, judges, settings=FAST).labels
    assert (apart["sample"].pairs, apart["whole"].pairs) == (3, 180)
    together = study(qrels, judges, settings=Settings(resamples=50, common_pairs=True)).labels
    assert (together["sample"].pairs, together["whole"].pairs) == (3, 3)
    assert together["whole"].exact.value == 1.0
    with pytest.raises(ValueError, match="no pair is labelled"):
        study(
            qrels,
            {"a": {"q1": {"d1": 0}}, "b": {"q2": {"d1": 0}}},
            settings=Settings(common_pairs=True),
        )
