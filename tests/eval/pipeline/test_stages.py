"""The whole path on a made collection: real encoder, real FAISS, real reranker."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from configs.command import run_command
from eval.__main__ import build_parser
from eval.files.trec import read_run
from eval.measures.ranking import evaluate
from eval.pipeline.report_files import write_report
from eval.pipeline.stages import PipelineSettings, evaluate_pipeline
from index.records import Hit
from retrieval import IndexSettings, build_index

TOPICS = {
    "tea": "Green tea is steeped at eighty degrees for two minutes.",
    "bread": "Knead the dough until it is smooth and let it rise overnight.",
    "bicycle": "Oil the chain and check the brakes before a long ride.",
    "stars": "Sirius is the brightest star of the night sky.",
    "violin": "Rosin on the bow makes the strings sound.",
}
QUESTIONS = {
    "q-tea": "how long to brew green tea",
    "q-bread": "how long should bread dough rise",
    "q-stars": "which star shines brightest at night",
}


@pytest.fixture(scope="module")
def collection(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "collection"
    (folder / "qrels").mkdir(parents=True)
    with (folder / "corpus.jsonl").open("w") as file:
        for id_, text in TOPICS.items():
            file.write(json.dumps({"_id": id_, "title": "", "text": text}) + "\n")
    with (folder / "queries.jsonl").open("w") as file:
        for id_, text in {**QUESTIONS, "q-unjudged": "anything"}.items():
            file.write(json.dumps({"_id": id_, "text": text}) + "\n")
    lines = [f"{query_id}\t{query_id.removeprefix('q-')}\t1" for query_id in QUESTIONS]
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(lines))
    (folder / "qrels" / "twice.tsv").write_text(
        "query-id\tcorpus-id\tscore\nq-tea\ttea\t1\nq-tea\ttea\t0\n"
    )
    return folder


def test_documents_of_an_index_of_chunks_are_measured(tmp_path, tiny_encoder):
    """Each query's document is three chunks, of which the query is the second word for word.

    The query `other` is a document itself, which it must not find.
    """
    words = {id_: [f"{id_}{part} " * 9 for part in range(3)] for id_ in ("ab", "cd", "ef", "other")}
    (tmp_path / "qrels").mkdir()
    rows = [{"_id": id_, "text": ". ".join(parts)} for id_, parts in words.items()]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = {"q-ab": words["ab"][1], "q-cd": words["cd"][1], "other": words["other"][0]}
    rows = [{"_id": id_, "text": text} for id_, text in asked.items()]
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    qrels = "query-id\tcorpus-id\tscore\nq-ab\tab\t1\nq-cd\tcd\t1\nother\tef\t1\n"
    (tmp_path / "qrels" / "test.tsv").write_text(qrels)
    index = tmp_path / "index"
    build_index(str(tmp_path), index, IndexSettings(encoder=str(tiny_encoder), chunk=24))
    for group in (None, "sum3"):
        report = evaluate_pipeline(
            settings(tmp_path, str(index), filter="-1", rerank="minilm", k=3, group=group)
        )
        assert [len(stage.run["q-ab"]) for stage in report.stages] == [3, 3, 3]
        assert report.stages[0].run["other"].keys() == {"ab", "cd", "ef"}
        assert (report.own_hits, report.absent.absent) == (1, 0)
        assert report.stages[2].tokens > 0
        for stage in report.stages:
            assert stage.run["q-ab"].keys() <= words.keys()
        assert report.stages[2].evaluation.values["RR@10"].tolist()[:2] == [1, 1]


@pytest.fixture(scope="module")
def made_index(collection) -> str:
    folder = collection.parent / "index"
    build_index(str(collection), folder, IndexSettings())
    return str(folder)


def settings(collection: Path, index: str, **others) -> PipelineSettings:
    measures = ("nDCG@10", "RR@10", "R@100")
    return PipelineSettings(
        collection=str(collection), index=index, measures=measures, resamples=100, **others
    )


def test_every_stage_is_measured_on_judged_queries_alone(collection, made_index):
    report = evaluate_pipeline(settings(collection, made_index, filter="0.3", rerank="minilm", k=4))
    dense, kept, reranked = report.stages
    assert [stage.name for stage in report.stages] == ["dense", "filter", "rerank"]
    assert dense.run.keys() == QUESTIONS.keys()
    assert all(len(found) == 4 for found in dense.run.values())
    assert dense.evaluation.means["RR@10"] == 1
    assert reranked.evaluation.means["RR@10"] == 1
    for query_id, found in kept.run.items():
        expected = {id_: score for id_, score in dense.run[query_id].items() if score >= 0.3}
        assert found == expected
        assert reranked.run[query_id].keys() == found.keys()
    assert kept.kept_share == sum(map(len, kept.run.values())) / 12
    assert 0 < kept.tokens < dense.tokens
    assert kept.tokens == reranked.tokens
    assert all(
        len(stage.latency_ms) == 3 and (stage.latency_ms > 0).all() for stage in report.stages
    )


@pytest.mark.parametrize("mode", ["lexical", "hybrid"])
def test_the_first_stage_is_the_search_that_was_asked_for(collection, made_index, mode):
    report = evaluate_pipeline(settings(collection, made_index, search=mode, filter="0.3", k=4))
    first, kept = report.stages
    assert (first.name, report.rows()[1][0][0], report.rows()[1][1][0]) == (mode, mode, "+filter")
    assert first.evaluation.means["RR@10"] == 1
    # Words find those topics alone that share one with the question.
    counts = [len(found) for found in first.run.values()]
    assert counts == ([2, 2, 1] if mode == "lexical" else [4, 4, 4])
    for query_id, found in kept.run.items():
        assert list(found) == [query_id.removeprefix("q-")]


def test_a_search_that_finds_nothing_at_all_is_measured(collection, made_index, tmp_path):
    other = shutil.copytree(collection, tmp_path / "other")
    queries = [json.dumps({"_id": query_id, "text": "zebra"}) for query_id in QUESTIONS]
    (other / "queries.jsonl").write_text("\n".join(queries))
    for options in ({}, {"rerank": "mini"}):
        report = evaluate_pipeline(settings(other, made_index, search="lexical", **options))
        assert [stage.null_share for stage in report.stages] == [1] * len(report.stages)
        assert [stage.kept_share for stage in report.stages] == [0] * len(report.stages)


def test_a_query_of_which_nothing_is_kept_counts_zero_and_as_null(collection, made_index):
    report = evaluate_pipeline(settings(collection, made_index, filter="0.999", rerank="minilm"))
    for stage in report.stages[1:]:
        assert stage.null_share == 1
        assert stage.kept_share == 0
        assert set(stage.evaluation.means.values()) == {0.0}


def test_the_files_say_what_the_report_says(collection, made_index, tmp_path):
    report = evaluate_pipeline(settings(collection, made_index, rerank="minilm"))
    write_report(tmp_path, report, ["A <note> for readers."])
    run = read_run(tmp_path / "runs" / "rerank.trec")
    qrels = {query_id: {query_id.removeprefix("q-"): 1} for query_id in QUESTIONS}
    assert evaluate(qrels, run, ["nDCG@10"]).means["nDCG@10"] == pytest.approx(
        report.stages[1].evaluation.means["nDCG@10"]
    )
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["queries"] == 3
    assert [stage["name"] for stage in result["stages"]] == ["dense", "rerank"]
    page = (tmp_path / "report.html").read_text()
    assert "A &lt;note&gt; for readers." in page
    assert page.count("<svg") == 3
    assert "http://" not in page.replace("http://www.w3.org", "").replace(
        "http://purl.org", ""
    ).replace("http://creativecommons.org", "")


def judge(collection, folder, qrels, **more):
    """A copy of the collection with other judgments, and more queries or passages."""
    shutil.copytree(collection, folder)
    lines = [f"{q}\t{p}\t{grade}" for q, grades in qrels.items() for p, grade in grades.items()]
    text = "query-id\tcorpus-id\tscore\n" + "\n".join(lines) + "\n"
    (folder / "qrels" / "test.tsv").write_text(text)
    for name, rows in more.items():
        with (folder / f"{name}.jsonl").open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return folder


def test_a_judged_query_without_text_counts_zero_as_in_the_run_it_wrote(
    collection, made_index, tmp_path, capsys
):
    qrels = {"q-tea": {"tea": 1}, "q-bread": {"bread": 2, "gone": 1}, "q-lost": {"violin": 1}}
    folder = judge(collection, tmp_path / "lost", qrels)
    command = ["run", str(folder), "--index", made_index, "--out", str(tmp_path / "out")]
    options = ["--measures", "nDCG@10", "--json"]
    assert run_command(build_parser(), [*command, *options]) == 0
    printed = capsys.readouterr()
    assert "note: 1 judged queries have no text and count 0: q-lost" in printed.err
    assert "note: 1 of 4 judged passages are not in the index, 1 of them relevant" in printed.err
    result = json.loads(printed.out)
    assert result["queries"] == 3
    assert result["queries_without_text"] == ["q-lost"]
    assert result["judged_passages"] == {"judged": 4, "absent": 1, "relevant": 1}
    run = str(tmp_path / "out" / "runs" / "dense.trec")
    assert run_command(build_parser(), ["measure", str(folder), run, *options]) == 0
    measured = json.loads(capsys.readouterr().out)["measures"]["nDCG@10"]["mean"]
    assert result["stages"][0]["measures"]["nDCG@10"]["mean"] == measured
    ideal = 2 + 1 / np.log2(3)
    assert measured == pytest.approx((1 + 2 / ideal + 0) / 3)
    assert "q-lost" in (tmp_path / "out" / "report.html").read_text()


def test_the_passage_of_a_querys_own_id_is_dropped_unless_it_was_judged(collection, tmp_path):
    own = [{"_id": id_, "title": "", "text": text} for id_, text in QUESTIONS.items()]
    qrels = {"q-tea": {"tea": 1}, "q-bread": {"bread": 1, "q-bread": 1}, "q-stars": {"stars": 1}}
    folder = judge(collection, tmp_path / "own", qrels, corpus=own)
    build_index(str(folder), tmp_path / "index", IndexSettings())
    asked = settings(folder, str(tmp_path / "index"), k=3, rerank="minilm")
    report = evaluate_pipeline(asked)
    assert report.own_hits == 2
    assert any("2 queries found the passage of their own id" in note for note in report.notes)
    for stage in report.stages:
        assert all(len(hits) == 3 for hits in stage.run.values())
        assert "q-tea" not in stage.run["q-tea"]
        assert "q-bread" in stage.run["q-bread"]
    assert report.stages[0].evaluation.means["RR@10"] == 1
    kept = evaluate_pipeline(replace(asked, keep_own=True, rerank=None))
    assert kept.own_hits == 0
    assert max(kept.stages[0].run["q-tea"], key=kept.stages[0].run["q-tea"].get) == "q-tea"


def test_a_result_folder_holds_its_own_result_alone(collection, made_index, tmp_path):
    out = tmp_path / "out"
    write_report(out, evaluate_pipeline(settings(collection, made_index, rerank="minilm")))
    assert {path.name for path in (out / "runs").iterdir()} == {"dense.trec", "rerank.trec"}
    (out / "notes.txt").write_text("mine")
    dense = evaluate_pipeline(settings(collection, made_index))
    write_report(out, dense)
    assert {path.name for path in (out / "runs").iterdir()} == {"dense.trec"}
    assert {path.name for path in out.iterdir()} == {
        "runs", "result.json", "report.html", "notes.txt",
    }  # fmt: skip
    before = (out / "result.json").read_bytes()
    (out / "runs" / "baseline.trec").write_text("q-tea Q0 tea 1 1.0 mine\n")
    with pytest.raises(ValueError, match=r"baseline\.trec is there already and no result"):
        write_report(out, dense)
    assert (out / "result.json").read_bytes() == before
    assert (out / "runs" / "baseline.trec").exists()
    command = ["run", str(collection), "--index", made_index, "--out", str(out)]
    assert run_command(build_parser(), command) == 2


def test_ids_are_checked_before_a_model_runs(collection, made_index, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "retrieval.encoder.Encoder._encode", lambda *_: pytest.fail("a model ran before the check")
    )
    folder = judge(collection, tmp_path / "bad", {"q-tea": {"tea": 1}})
    with (folder / "queries.jsonl").open("a") as file:
        file.write(json.dumps({"_id": "q bad", "text": "two words"}) + "\n")
    with pytest.raises(ValueError, match=r"queries\.jsonl:5: id 'q bad' has white space"):
        evaluate_pipeline(settings(folder, made_index))
    folder = judge(collection, tmp_path / "none", {"q-tea": {"elsewhere": 1}})
    with pytest.raises(ValueError, match="share no passage"):
        evaluate_pipeline(settings(folder, made_index))
    monkeypatch.setattr("index.dense_index.DenseIndex.ids", ["tea", "two words"])
    with pytest.raises(ValueError, match="is an old one, and no run can hold it: id 'two words'"):
        evaluate_pipeline(settings(collection, made_index))


def test_sampled_queries_are_the_same_every_time(collection, made_index):
    runs = [
        evaluate_pipeline(settings(collection, made_index, max_queries=2)).stages[0].run
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert len(runs[0]) == 2


def test_hits_come_ordered_by_score_then_id(made_index):
    from retrieval import Retriever

    (hits,) = Retriever.open(made_index).search("star", k=99)
    assert len(hits) == len(TOPICS)
    assert hits == sorted(hits, key=lambda hit: (-hit.score, hit.id))
    assert [hit.rank for hit in hits] == list(range(1, 6))
    assert isinstance(hits[0], Hit)
    assert np.all(np.abs([hit.score for hit in hits]) <= 1 + 1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"collection": "no-such-folder-or-id"}, "is no file, no folder"),
        ({"split": "dev"}, "has no qrels/dev.tsv; its splits: test, twice"),
        ({"index": "nowhere"}, "nowhere does not exist"),
        ({"filter": "index"}, "no filter at"),
        ({"split": "twice"}, "twice.tsv:3: passage 'tea' of query 'q-tea' is judged a second time"),
        ({"measures": ("nDGC@10",)}, "unknown measure 'nDGC@10'"),
    ],
)
def test_bad_input_is_one_sentence(collection, made_index, changes, message):
    base = {"collection": str(collection), "index": made_index, "resamples": 10}
    with pytest.raises((ValueError, OSError), match=message):
        evaluate_pipeline(PipelineSettings(**{**base, **changes}))
