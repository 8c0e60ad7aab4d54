import json

import numpy as np
import pytest

from eval.__main__ import build_parser
from eval.commands.compare import run_compare
from eval.statistics.comparison import Settings, compare

QRELS = {f"q{number}": {"good": 1, "bad": 0} for number in range(30)}
BEST = {query_id: {"good": 2.0, "bad": 1.0} for query_id in QRELS}
WORST = {query_id: {"good": 1.0, "bad": 2.0} for query_id in QRELS}
# Loses on three queries, ties elsewhere.
CLOSE = BEST | {f"q{number}": WORST["q0"] for number in (7, 3, 20)}
FAST = Settings(resamples=500, permutations=999)


def test_every_part_of_a_comparison():
    result = compare(QRELS, {"best": BEST, "worst": WORST, "close": CLOSE}, ["RR"], settings=FAST)
    assert result.baseline == "best"
    assert result.scores["best"]["RR"].versus is None
    worst, close = (result.scores[name]["RR"].versus for name in ("worst", "close"))
    assert worst.difference == -0.5
    assert worst.outcomes == (0, 0, 30)
    assert worst.p_permutation == 1 / 1000
    assert worst.p_permutation_holm == 2 / 1000
    assert np.isnan(worst.p_t)
    assert close.outcomes == (0, 27, 3)
    assert close.worst == (("q20", -0.5), ("q3", -0.5), ("q7", -0.5))
    assert close.low <= close.difference <= close.high <= 0
    assert result.significant("worst", "RR")
    assert not result.significant("close", "RR")
    assert not result.significant("best", "RR")
    assert result.pairs["RR"][0, 1] == 1 / 1000


def test_a_failed_system_is_not_run_and_takes_part_in_nothing():
    with_failure = compare(
        QRELS, {"failed": None, "best": BEST, "close": CLOSE}, ["RR"], settings=FAST
    )
    without = compare(QRELS, {"best": BEST, "close": CLOSE}, ["RR"], settings=FAST)
    report = with_failure.as_json()
    assert report["systems"].pop("failed") == {"status": "not run"}
    assert report == without.as_json()
    assert not with_failure.significant("failed", "RR")


def test_mistakes_name_the_system():
    with pytest.raises(ValueError, match="no system ran"):
        compare(QRELS, {"a": None}, ["RR"])
    with pytest.raises(ValueError, match="'a' did not run"):
        compare(QRELS, {"a": None, "b": BEST}, ["RR"], baseline="a")
    with pytest.raises(ValueError, match="'z' is none"):
        compare(QRELS, {"b": BEST}, ["RR"], baseline="z")
    with pytest.raises(ValueError, match=r"^other: no query of the run"):
        compare(QRELS, {"b": BEST, "other": {"x": {"good": 1.0}}}, ["RR"])
    with pytest.raises(ValueError, match="NumRet"):
        compare(QRELS, {"b": BEST}, ["NumRet"])


def test_one_system_alone_has_no_pairs():
    result = compare(QRELS, {"best": BEST}, ["RR"], settings=FAST)
    assert result.pairs == {}
    assert json.loads(json.dumps(result.as_json(), allow_nan=False))["baseline"] == "best"


@pytest.fixture
def folder(tmp_path):
    from eval.files.trec import write_qrels, write_run

    write_qrels(tmp_path / "qrels", QRELS)
    (tmp_path / "runs").mkdir()
    write_run(tmp_path / "runs" / "best.trec.gz", BEST, "t")
    write_run(tmp_path / "runs" / "worst.trec", WORST, "t")
    (tmp_path / "runs" / "failed.trec").touch()
    (tmp_path / "runs" / "README.md").write_text("no run")
    return tmp_path


def command(folder, *options):
    arguments = ["compare", str(folder / "qrels"), str(folder / "runs"), "--measures", "RR"]
    options = ("--permutations", "999", "--resamples", "200", *options)
    run_compare(build_parser().parse_args([*arguments, *options]))


def test_command_prints_not_run_without_a_star(folder, capsys):
    command(folder)
    out, err = capsys.readouterr()
    lines = [line.split() for line in out.splitlines()]
    assert ["failed", "RR", "not", "run"] in lines
    assert any(line[:2] == ["worst", "RR"] and "*" in line for line in lines)
    assert "failed did not run" in err
    assert "1 of 1 pairs differ" in out


def test_command_json_keeps_null_for_what_does_not_exist(folder, capsys):
    command(folder, "--json")
    report = json.loads(capsys.readouterr().out)
    assert report["systems"]["failed"] == {"status": "not run"}
    assert report["systems"]["worst"]["measures"]["RR"]["versus_baseline"]["p_t"] is None
    assert report["pairs"]["RR"] == [{"a": "best", "b": "worst", "p_tukey": 0.001}]


def test_two_files_of_one_name_and_a_folder_without_runs(folder):
    from eval.files.named_runs import named_runs

    (folder / "runs" / "best.run").write_text("q0 Q0 good 1 1 t\n")
    with pytest.raises(ValueError, match="both named 'best'"):
        named_runs([folder / "runs"])
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no run"):
        named_runs([folder / "empty"])
    assert named_runs([folder / "absent.trec"]) == {"absent": None}
