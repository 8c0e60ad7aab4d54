import json
import shutil

import pytest

from eval.collections import CollectionsSettings, collections_in, run_collections, table


def make(folder, text):
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text(
        json.dumps({"_id": "a", "text": text})
        + "\n"
        + json.dumps({"_id": "b", "text": ""})
        + "\n"
        + json.dumps({"_id": "c", "text": "Something else altogether."})
        + "\n"
    )
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": text}) + "\n")
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\ta\t1\n")


def test_every_collection_gets_a_line_and_indexes_are_reused(tmp_path, capsys):
    for name in ("first", "second"):
        make(tmp_path / "data" / name, f"A passage about the {name} thing.")
    (tmp_path / "data" / "labels-only" / "qrels").mkdir(parents=True)
    settings = CollectionsSettings(seen=("second",))
    for expected_builds in (2, 0):
        reports = list(run_collections(tmp_path / "data", tmp_path / "out", settings))
        assert capsys.readouterr().err.count("building the index") == expected_builds
    header, rows = table(reports, settings)
    assert [row[0] for row in rows] == ["first", "second (seen)"]
    assert all(len(row) == len(header) for row in rows)
    assert all(rows[0][header.index(name)] == 1 for name in ("dense", "bm25", "over fusion"))
    result = json.loads((tmp_path / "out" / "first" / "result.json").read_text())
    assert result["against_dense"]["baseline"] == "dense"
    runs = {path.name for path in (tmp_path / "out" / "first" / "runs").iterdir()}
    assert runs == {
        "dense.trec",
        "bm25.trec",
        "fusion.trec",
        "mini-over-dense.trec",
        "mini-over-fusion.trec",
    }


def test_a_folder_without_collections_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="set BLOCKSEEK_DATA"):
        collections_in(tmp_path)
    with pytest.raises(ValueError, match="set BLOCKSEEK_DATA"):
        collections_in(tmp_path / "none")


def test_the_smallest_real_collection(data_folder, tmp_path):
    shutil.copytree(data_folder / "adi", tmp_path / "data" / "adi")
    settings = CollectionsSettings(max_queries=12, k=30)
    (report,) = run_collections(tmp_path / "data", tmp_path / "out", settings)
    scores = {name: found["nDCG@10"].mean for name, found in report.comparison.scores.items()}
    # Measured on all 35 queries: dense .50, BM25 .49, over dense .52; a broken one falls far below.
    assert set(scores) == {"dense", "bm25", "fusion", "mini over dense", "mini over fusion"}
    assert min(scores.values()) > 0.3
    header, rows = table([report, report], settings)
    assert rows[-1][:2] == ["mean, not seen", "2"]
    assert rows[-1][header.index("dense")] == pytest.approx(scores["dense"])
