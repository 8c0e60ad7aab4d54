import json
import subprocess
import sys

import pytest

from eval.__main__ import build_parser
from eval.commands.measure import run_measure


@pytest.fixture
def files(tmp_path):
    (tmp_path / "qrels").write_text("q1 0 a 1\nq2 0 a 1\nq3 0 b 2\n")
    (tmp_path / "run").write_text("q1 Q0 a 1 2 t\nq1 Q0 b 2 1 t\nq3 Q0 a 1 2 t\nq3 Q0 b 2 1 t\n")
    return tmp_path


def python_m_eval(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "eval", *map(str, arguments)], capture_output=True, text=True
    )


def test_json_carries_means_intervals_and_what_did_not_match(files, capsys):
    arguments = ["measure", str(files / "qrels"), str(files / "run"), "--json", "--measures", "RR"]
    run_measure(build_parser().parse_args(arguments))
    report = json.loads(capsys.readouterr().out)
    assert report["missing"] == ["q2"]
    assert report["queries"] == 3
    assert report["measures"]["RR"]["mean"] == 0.5
    assert report["measures"]["RR"]["low"] == 0.0
    assert report["measures"]["RR"]["high"] == 1.0


def test_per_query_table(files, capsys):
    arguments = ["measure", str(files / "qrels"), str(files / "run"), "--csv", "--per-query"]
    run_measure(build_parser().parse_args([*arguments, "--measures", "RR", "NumRet"]))
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "query,RR,NumRet", "q1,1.0,2.0", "q2,0.0,0.0", "q3,0.5,2.0", "all,0.5,4.0",
    ]  # fmt: skip
    assert "1 judged queries are missing from the run and count 0: q2" in err


def test_wrong_files_exit_with_two_and_one_line(files):
    result = python_m_eval("measure", files / "qrels", files / "nothing")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "nothing" in result.stderr


def test_help_loads_nothing_heavy():
    code = (
        "import sys, eval.__main__ as m; m.build_parser().format_help();"
        "print([n for n in ('numpy', 'scipy', 'torch', 'ir_measures', 'matplotlib', 'httpx',"
        " 'jinja2', 'transformers', 'pyarrow') if n in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
