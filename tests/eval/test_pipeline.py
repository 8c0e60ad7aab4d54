"""The whole path on a made collection: real encoder, real FAISS, real reranker."""

import json
from pathlib import Path

import numpy as np
import pytest

from eval.data import read_run
from eval.measures import evaluate
from eval.pipeline import PipelineSettings, evaluate_pipeline
from eval.pipeline_files import write_report
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
    return folder


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
        ({"split": "dev"}, "has no qrels/dev.tsv; its splits: test"),
        ({"index": "nowhere"}, "nowhere does not exist"),
        ({"filter": "index"}, "no filter at"),
        ({"measures": ("nDGC@10",)}, "unknown measure 'nDGC@10'"),
    ],
)
def test_bad_input_is_one_sentence(collection, made_index, changes, message):
    base = {"collection": str(collection), "index": made_index, "resamples": 10}
    with pytest.raises((ValueError, OSError), match=message):
        evaluate_pipeline(PipelineSettings(**{**base, **changes}))
