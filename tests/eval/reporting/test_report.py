import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from eval.__main__ import build_parser
from eval.commands.report import run_report
from eval.files.trec import write_qrels, write_run
from eval.reporting.plots import differences_plot, latency_plot, matrix_plot, means_plot
from eval.reporting.tables import NOT_RUN

STRANGE = "a<b>&$x_$"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("collection")
    rng = np.random.default_rng(0)
    qrels = {f"q{q}": {f"d{d}": int(rng.integers(0, 3)) for d in range(12)} for q in range(15)}
    write_qrels(tmp_path / "qrels" / "test.tsv", qrels)
    noisy = {
        q: {d: max(0, g - int(rng.integers(0, 2))) for d, g in gs.items()}
        for q, gs in qrels.items()
    }
    write_qrels(tmp_path / "judges" / "strict.tsv", noisy)
    for level, name in enumerate([STRANGE, "second", "third"]):
        run = {q: {d: g + level * rng.random() for d, g in gs.items()} for q, gs in qrels.items()}
        if name == "third":
            run.pop("q3")
        write_run(tmp_path / "runs" / f"{name}.trec", run, "t")
    (tmp_path / "runs" / "crashed.trec").touch()
    return tmp_path


def report(source, *options):
    out = source / "report.html"
    arguments = ["report", str(source), *options, "--out", str(out), "--measures", "nDCG@5", "AP"]
    run_report(build_parser().parse_args([*arguments, "--permutations", "99", "--resamples", "99"]))
    return out.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def html(folder):
    return report(folder, str(folder / "runs"), "--judges", str(folder / "judges"))


class Page(HTMLParser):
    """Collects what a browser would fetch, the text, and whether the tags close."""

    def __init__(self, html):
        super().__init__()
        self.fetched, self.text, self.open, self.figures = [], [], [], 0
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.figures += tag == "svg"
        for name, value in attributes:
            if name in ("src", "href", "xlink:href") and not value.startswith("#"):
                self.fetched.append(value)
        if tag not in ("meta", "path", "use", "rect", "image", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_a_report_of_runs_is_whole_and_opens_offline(html):
    page = Page(html)
    assert page.open == []
    assert page.fetched == []
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    # Two means, two differences, curves, agreement, rankings.
    assert page.figures == 7
    text = " ".join(" ".join(page.text).split())
    for expected in ("15 judged queries", "3 systems", "Randomised Tukey HSD", "Quadratic kappa"):
        assert expected in text


def test_a_failed_system_reads_not_run_and_has_no_star(html):
    rows = re.findall(r"<tr><td>crashed</td>(.*?)</tr>", html)
    # Under two measures, and among the systems that were ranked.
    assert len(rows) == 3
    assert all(NOT_RUN in row and "*" not in row and "0.0" not in row for row in rows)
    assert "<strong>third</strong> lacks 1 judged queries" in html


def test_names_are_text_never_markup_or_formulas(html):
    assert "a<b>" not in html
    assert "a&lt;b&gt;&amp;$x_$" in html


def test_ids_of_all_plots_are_unique(html):
    clips = re.findall(r'<clipPath id="([^"]+)"', html)
    assert len(clips) > 5
    assert len(set(clips)) == len(clips)


def test_equal_inputs_give_equal_bytes(folder, html, capsys):
    options = [str(folder / "runs"), "--judges", str(folder / "judges")]
    assert report(folder, *options) == html
    assert "3 systems on 15 queries" in capsys.readouterr().out


def test_a_result_folder_names_its_collection_and_brings_its_latencies(folder, tmp_path_factory):
    result = tmp_path_factory.mktemp("result")
    stage = {"name": "dense", "latency_ms": {"mean": 3.0, "p50": 2.25, "p95": 9.75}}
    written = {
        "settings": {"collection": str(folder), "split": "test"},
        "stages": [stage],
        "provenance": {"encoder": "some-encoder"},
    }
    (result / "result.json").write_text(json.dumps(written))
    (result / "runs").symlink_to(folder / "runs")
    page = Page(report(result))
    text = " ".join(" ".join(page.text).split())
    assert "Latency" in text
    assert "9.8" in text or "9.75" in text
    assert "some-encoder" in text
    (result / "result.json").write_text("{}")
    with pytest.raises(ValueError, match=r"result\.json is no result of `run`"):
        report(result)


def test_no_runs_is_an_error(folder):
    with pytest.raises(ValueError, match="no run named"):
        report(folder)


def test_plots_show_their_numbers():
    matrix = matrix_plot(["human", "j"], np.array([[1.0, 0.25], [np.nan, 1.0]]))
    assert ">0.25</text>" in matrix
    assert ">–</text>" in matrix
    assert ">AP</text>" in means_plot("AP", ["a", "b"], [0.1, 0.2], [0, 0.1], [0.2, 0.3])
    bars = differences_plot("x", "y", "AP", np.array([0.5, -0.5, 0.0]))
    assert "#4878a8" in bars
    assert "#d08a3c" in bars
    assert ">p95</text>" in latency_plot(["dense"], [1.0], [2.0])
