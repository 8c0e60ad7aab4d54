"""Fields that `build --keep` keeps, from the corpus to `search --where`; `--limit`; stdin."""

import io
import json
import shutil
import sys
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from index.dense_index import DenseIndex
from index.manifest.manifest import Manifest
from index.verify import verify
from retrieval import (
    Encoder,
    IndexSettings,
    Passage,
    Retriever,
    add_passages,
    build_index,
    compact_index,
    update_passages,
)
from retrieval.adapter.filters import threshold_filter
from retrieval.corpora.reading import Reading
from retrieval.corpora.records import Skipped
from retrieval.progress import encoding_progress

ROWS = [
    {
        "_id": f"p{n:02d}",
        "text": f"text {n}",
        "year": None if n % 5 == 0 else 2000 + n,
        "metadata": {"lang": ["en", "de"][n % 2]},
    }
    for n in range(40)
]


def _lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="module")
def encoder(tiny_encoder):
    return Encoder.load(str(tiny_encoder), device="cpu")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("kept") / "c.jsonl"
    path.write_text(_lines(ROWS))
    return path


@pytest.fixture(scope="module")
def settings(tiny_encoder):
    return IndexSettings(encoder=str(tiny_encoder), shard_size=16, keep=("year", "lang"))


@pytest.fixture(scope="module")
def built(corpus, settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept") / "index"
    build_index(str(corpus), folder, settings, device="cpu")
    return folder


@pytest.fixture
def index(built, tmp_path):
    return shutil.copytree(built, tmp_path / "index")


def _ids(hits):
    return sorted(hit.id for hit in hits)


def test_a_condition_in_python(built, encoder):
    retriever = Retriever.open(built, encoder=encoder)
    wanted = [f"p{n:02d}" for n in range(40) if n % 5 and n >= 20 and n % 2 == 0]
    (hits,) = retriever.search("text 7", 100, where="year >= 2020 and lang = 'en'")
    assert _ids(hits) == wanted
    expression = (pc.field("year") >= 2020) & (pc.field("lang") == "en")
    assert retriever.search("text 7", 100, where=expression) == [hits]
    assert retriever.passages(hits)[0].metadata["lang"] == "en"
    kept = retriever.search("text 7", 100, threshold_filter(hits[3].score), where=expression)
    assert kept == [hits[:4]]
    assert retriever.search("text 7", where="year > 3000") == [[]]


def test_a_bad_condition_is_told_before_anything_is_encoded(built, encoder, monkeypatch):
    retriever = Retriever.open(built, encoder=encoder)
    monkeypatch.setattr(Encoder, "encode_queries", lambda *_: pytest.fail("encoded"))
    with pytest.raises(ValueError, match="character 1: there is no column 'yaer'; the columns are"):
        retriever.search("text", where="yaer = 3")


def test_passages_are_added_and_replaced_with_their_metadata(index, encoder, tmp_path):
    more = tmp_path / "more.parquet"
    pq.write_table(
        pa.table({"id": ["q1"], "text": ["t"], "year": pa.array([1999], pa.int16())}), more
    )
    (tmp_path / "more.tsv").write_text("q2\ttext\n")
    add_passages(index, str(more), encoder=encoder)
    add_passages(index, str(tmp_path / "more.tsv"), encoder=encoder)
    add_passages(index, [Passage("q3", "", "t", {"lang": "fr"})], encoder=encoder)
    update_passages(index, [Passage("p01", "", "t", {"year": 1999, "lang": "fr"})], encoder=encoder)
    for _ in range(2):
        retriever = Retriever.open(index, encoder=encoder)
        assert _ids(retriever.search("t", where="year < 2000")[0]) == ["p01", "q1"]
        assert _ids(retriever.search("t", where="lang is null")[0]) == ["q1", "q2"]
        assert _ids(retriever.search("t", where="lang = 'fr'")[0]) == ["p01", "q3"]
        assert verify(index).faults == []
        compact_index(index)
    # What an index gives can be put back.
    passages = retriever.passages(retriever.search("t", 3)[0])
    assert update_passages(index, passages, encoder=encoder).replaced == 3


def test_another_type_is_refused_and_nothing_is_added(index, encoder):
    before = Manifest.read(index)
    for metadata, message in (
        (
            {"year": "x"},
            "passage 1: the field 'year' is 'x', a string; it was a whole number before",
        ),
        ({"year": 1.5}, "passage 1: the field 'year' is 1.5, a number"),
        ({"size": 3}, "the field 'size' is not kept: the index keeps year, lang"),
    ):
        with pytest.raises(ValueError, match=message):
            update_passages(index, [Passage("p01", "", "t", metadata)], encoder=encoder)
    for metadata in ("year", 3, None):
        with pytest.raises(TypeError, match="wanted a Passage of three strings, and perhaps a map"):
            add_passages(index, [Passage("q", "", "t", metadata)], encoder=encoder)
    assert Manifest.read(index) == before


def test_a_first_value_decides_a_column_that_had_none(tmp_path, encoder, settings):
    (tmp_path / "c.jsonl").write_text(_lines([{"_id": "a", "text": "t"}]))
    manifest = build_index(str(tmp_path / "c.jsonl"), tmp_path / "index", settings, device="cpu")
    assert [column.type for column in manifest.columns] == ["unknown", "unknown"]
    changed = add_passages(
        tmp_path / "index", [Passage("b", "", "t", {"year": 3})], encoder=encoder
    )
    assert [column.type for column in changed.manifest.columns] == ["integer", "unknown"]
    retriever = Retriever.open(tmp_path / "index", encoder=encoder)
    assert _ids(retriever.search("t", where="year = 3 and lang is null")[0]) == ["b"]


def test_an_index_of_old_settings_is_resumed(built, corpus, settings, tiny_encoder, tmp_path):
    """Those that are not used do not stand in the manifest, as if they were not known yet."""
    plain = IndexSettings(encoder=str(tiny_encoder), shard_size=16)
    assert not {"keep", "limit"} & set(plain.recorded())
    assert json.loads(json.dumps(settings.recorded())) == Manifest.read(built).settings
    build_index(str(corpus), built, settings, resume=True, device="cpu")
    other = IndexSettings(encoder=str(tiny_encoder), shard_size=16, keep=("year",))
    with pytest.raises(ValueError, match=r"the index in .* had another settings"):
        build_index(str(corpus), built, other, resume=True, device="cpu")


@pytest.mark.parametrize("keep", [("a", "a"), ("a", "")])
def test_names_to_keep_are_given_once(keep):
    with pytest.raises(ValueError, match=r"keep is 'a, a?', wanted names, each once"):
        IndexSettings(keep=keep)


@pytest.mark.parametrize("limit", [1, 5, 6, 100])
def test_counts_in_are_indexed_and_skipped(tmp_path, tiny_encoder, encoder, limit):
    (tmp_path / "c.tsv").write_text("".join(f"p{n // 2}\ttext\n" for n in range(12)))
    settings = IndexSettings(str(tiny_encoder), skip_bad=True, limit=limit, shard_size=2)
    skipped = Skipped()
    manifest = build_index(str(tmp_path / "c.tsv"), tmp_path / "index", settings, skipped=skipped)
    read = 2 * limit - 1 if limit <= 6 else 12
    assert manifest.passages == min(limit, 6)
    assert (manifest.passages + manifest.skipped, skipped.count) == (read, manifest.skipped)
    (tmp_path / "c.tsv").write_text("".join(f"q{n // 2}\ttext\n" for n in range(12)))
    changed = add_passages(
        tmp_path / "index", str(tmp_path / "c.tsv"), encoder=encoder, limit=limit, skipped=skipped
    )
    assert (changed.added, changed.added + changed.skipped) == (min(limit, 6), read)
    with pytest.raises(ValueError, match="limit is 0, wanted at least 1"):
        add_passages(tmp_path / "index", str(tmp_path / "c.tsv"), encoder=encoder, limit=0)


def test_build_add_and_search_by_commands(run_module, tmp_path, tiny_encoder, corpus):
    out = tmp_path / "index"

    def run(*arguments, stdin=""):
        found = run_module("retrieval.index", *arguments, stdin=stdin)
        assert found.returncode == 0, found.stderr
        return found

    options = ["--out", out, "--encoder", tiny_encoder, "--device", "cpu"]
    found = run(
        "build", "-", *options, "--keep", "year, lang,none", "--limit", 7, stdin=_lines(ROWS)
    )
    assert "note: no passage has a field 'none'" in found.stderr
    rows = dict(line.split(maxsplit=1) for line in found.stdout.splitlines())
    assert (rows["passages"], rows["corpus"]) == ("7", "-")
    assert rows["columns"] == "year (integer), lang (string), none (unknown)"
    again = ["build", "-", *options, "--keep", "year,lang,none", "--limit", 7, "--resume"]
    assert "holds this index already, whole" in run(*again, stdin=_lines(ROWS)).stderr
    other = run_module("retrieval.index", *again, stdin=_lines(ROWS[1:]))
    assert "the corpus has changed" in other.stderr
    assert "had another settings" in run_module("retrieval.index", *again[:-2], 6, "--resume",
                                                stdin=_lines(ROWS)).stderr  # fmt: skip
    more = [ROWS[30], {"_id": "t1", "text": "t", "none": "2021-01-01"}, *ROWS[35:]]
    found = run("add", out, "-", "--limit", 2, stdin=_lines(more))
    assert found.stdout == f"{out}: 2 added; 9 passages in 2 segments\n"

    where = "year >= 2002 and lang = 'en' or none is not null"
    found = run("search", out, "text", "--where", where, "--json")
    hits = {hit["id"]: hit for hit in json.loads(found.stdout)["hits"]}
    assert sorted(hits) == ["p02", "p04", "p06", "t1"]
    assert hits["p02"]["metadata"] == {"year": 2002, "lang": "en", "none": None}
    assert hits["t1"]["metadata"] == {"year": None, "lang": None, "none": "2021-01-01"}
    found = run("search", out, "text", "--where", where, "--trec")
    assert {line.split()[2] for line in found.stdout.splitlines()} == set(hits)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "{index}", "q", "--where", "yaer > 3"],
         "error: where 'yaer > 3', character 1: there is no column 'yaer'; the columns are year"),
        (["search", "{plain}", "q", "--where", "year > 3"],
         "error: the index has no metadata to search by; build it with --keep"),
        (["build", "{tsv}", "--out", "{new}", "--keep", "year"],
         "c.tsv has no field 'year' to keep: TSV holds ids, titles and texts alone"),
        (["build", "{tsv}", "--out", "{new}", "--keep", "year,"], "wanted names, each once"),
        (["build", "{tsv}", "--out", "{new}", "--limit", "0"], "limit is 0, wanted at least 1"),
        (["build", "-", "--out", "{new}"], "the corpus '-' has no passages"),
        (["add", "{index}", "{tsv}", "--limit", "-1"], "limit is -1, wanted at least 1"),
    ],
)  # fmt: skip
def test_bad_commands(run_module, tmp_path, built, made_index, arguments, message):
    (tmp_path / "c.tsv").write_text("a\tt\n")
    names = {"index": built, "plain": made_index, "tsv": tmp_path / "c.tsv", "new": tmp_path / "n"}
    found = run_module("retrieval.index", *(each.format(**names) for each in arguments))
    assert found.returncode == 2
    assert message in found.stderr
    assert len(found.stderr.splitlines()) == 1
    assert found.stdout == ""
    assert not (tmp_path / "n").exists()


def test_times_are_printed_as_iso_8601(run_module, tmp_path, tiny_encoder):
    seen = [datetime(2021, 3, 4, 5, 6, tzinfo=UTC), None]
    pq.write_table(
        pa.table({"id": ["a", "b"], "text": ["t", "t"], "seen": seen}), tmp_path / "c.parquet"
    )
    out = tmp_path / "index"
    settings = IndexSettings(str(tiny_encoder), keep=("seen",))
    build_index(str(tmp_path / "c.parquet"), out, settings)
    found = run_module(
        "retrieval.index", "search", out, "t", "--json", "--where", "seen > '2021-03-04'"
    )
    (hit,) = json.loads(found.stdout)["hits"]
    assert hit["metadata"] == {"seen": "2021-03-04T05:06:00+00:00"}


class _Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("terminal", [True, False])
def test_the_bar_says_how_many_there_will_be(monkeypatch, terminal):
    monkeypatch.setattr(sys, "stderr", _Terminal() if terminal else io.StringIO())
    with encoding_progress(Reading(limit=400)) as advance:
        advance(100)
        advance(300)
    printed = sys.stderr.getvalue()
    assert ("400/400" in printed and "passages/s" in printed) == terminal
    assert terminal or not printed


def test_an_index_that_limits_the_encoders_length_can_grow(tmp_path, tiny_encoder):
    """Settings that may be None are read back from the manifest."""
    (tmp_path / "c.tsv").write_text("a\tt\n")
    settings = IndexSettings(str(tiny_encoder), max_length=16)
    build_index(str(tmp_path / "c.tsv"), tmp_path / "index", settings, device="cpu")
    add_passages(tmp_path / "index", [Passage("b", "", "t")], device="cpu")
    assert DenseIndex.open(tmp_path / "index").ids == ["a", "b"]
