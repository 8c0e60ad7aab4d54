import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.files.trec import (
    Judgment,
    iterate_judgments,
    read_qrels,
    read_run,
    write_qrels,
    write_run,
)

WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Z", "C")), min_size=1, max_size=8
).filter(lambda text: len(text.split()) == 1)


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_trec_qrels_with_spaces_or_tabs(tmp_path):
    path = write(tmp_path / "q", "q1 0 d1 2\nq1\t0\td2\t0\n\nq2 0 d1 -1\n")
    assert read_qrels(path) == {"q1": {"d1": 2, "d2": 0}, "q2": {"d1": -1}}
    assert next(iterate_judgments(path)) == (1, Judgment("q1", "d1", 2))


def test_beir_qrels_with_and_without_a_header(tmp_path):
    path = write(tmp_path / "q", "query-id\tcorpus-id\tscore\nq1\td1\t2\r\n")
    assert read_qrels(path) == {"q1": {"d1": 2}}
    assert read_qrels(write(path, "q1\td1\t2\n")) == {"q1": {"d1": 2}}


def test_gzip_is_known_by_its_bytes_and_a_byte_order_mark_is_no_id(tmp_path):
    path = tmp_path / "no-suffix"
    path.write_bytes(gzip.compress("\ufeffq1 0 d1 1\n".encode()))
    assert read_qrels(path) == {"q1": {"d1": 1}}


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("q1 0 d1 1\nq1 0 d2\n", 2, "3 columns"),
        ("q1 0 d1 1\nq1 0 d2 high\n", 2, "'high'"),
        ("q1 0 d1 1\nq1 0 d1 1\n", 2, "second time"),
        ("query-id\tcorpus-id\tscore\nq1\td1\n", 2, "2 columns"),
        ("q1 d1 1\n", 1, "3 columns"),
        ("q1\td1\thigh\nq1\td2\t1\n", 1, "'high'"),
        ("query-id\tcorpus-id\tscore\nq 1\td1\t2\n", 2, "'q 1' has white space"),
        ("q1 0 d\0 1\n", 1, "control character"),
        ("q1 0 d1 1_0\n", 1, "'1_0' is not a whole number"),
        ("q1 0 d1 ١\n", 1, "is not a whole number"),
        ("q1 0 d1 99999999999\n", 1, "of 32 bits"),
    ],
)
def test_broken_qrels_name_file_and_line(tmp_path, text, line, word):
    path = write(tmp_path / "broken.qrels", text)
    with pytest.raises(ValueError, match=word) as error:
        read_qrels(path)
    assert f"broken.qrels:{line}:" in str(error.value)


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("q1 Q0 d1 1 2.5 t\nq1 Q0 d2 2 t\n", 2, "5 columns"),
        ("q1 Q0 d1 1 2.5 t\nq1 Q0 d2 2 nan t\n", 2, "finite"),
        ("q1 Q0 d1 1 inf t\n", 1, "finite"),
        ("q1 Q0 d1 1 best t\n", 1, "'best'"),
        ("q1 Q0 d1 1 1_000 t\n", 1, "'1_000' is not a finite number"),
        ("q1 Q0 d\0 1 1 t\n", 1, "control character"),
        ("q1 Q0 d1 1 2 t\nq2 Q0 d1 1 2 t\nq1 Q0 d1 2 1 t\n", 3, "second time"),
    ],
)
def test_broken_runs_name_file_and_line(tmp_path, text, line, word):
    path = write(tmp_path / "broken.run", text)
    with pytest.raises(ValueError, match=word) as error:
        read_run(path)
    assert f"broken.run:{line}:" in str(error.value)


def test_bad_bytes_and_cut_gzip_name_the_line(tmp_path):
    path = tmp_path / "latin"
    path.write_bytes(b"q1 Q0 d1 1 2 t\nq1 Q0 caf\xe9 2 1 t\n")
    with pytest.raises(ValueError, match=":2: not UTF-8"):
        read_run(path)
    rng = np.random.default_rng(0)
    lines = "".join(f"q Q0 d{i} {i} {-x} t\n" for i, x in enumerate(rng.random(5000)))
    packed = gzip.compress(lines.encode())
    (tmp_path / "cut.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(ValueError, match="damaged gzip file after line"):
        read_run(tmp_path / "cut.gz")


def test_empty_files_are_errors(tmp_path):
    with pytest.raises(ValueError, match="no judgment"):
        read_qrels(write(tmp_path / "q", "\n"))
    with pytest.raises(ValueError, match="no line"):
        read_run(write(tmp_path / "r", ""))


def test_run_is_written_in_order_and_ranked(tmp_path):
    write_run(tmp_path / "r", {"q": {"b": 1.0, "a": 1.0, "c": 2.5}}, "mine")
    assert (tmp_path / "r").read_text() == (
        "q Q0 c 1 2.5 mine\nq Q0 a 2 1.0 mine\nq Q0 b 3 1.0 mine\n"
    )


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(
        WORDS,
        st.dictionaries(
            WORDS, st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5
        ),
        min_size=1,
        max_size=5,
    )
)
def test_run_reads_back_exactly(tmp_path_factory, run):
    path = tmp_path_factory.mktemp("run") / "r.trec.gz"
    write_run(path, run, "tag")
    assert read_run(path) == run


def test_float32_scores_read_back_exactly(tmp_path):
    score = np.float32(0.1)
    write_run(tmp_path / "r", {"q": {"d": score}}, "t")
    assert np.float32(read_run(tmp_path / "r")["q"]["d"]) == score


def test_qrels_read_back(tmp_path):
    qrels = {"q1": {"d1": 3, "d2": 0}, "q2": {"d1": -2}}
    write_qrels(tmp_path / "q", qrels)
    assert read_qrels(tmp_path / "q") == qrels


@pytest.mark.parametrize(
    ("run", "tag"),
    [
        ({"q": {"two words": 1.0}}, "t"),
        ({"two\twords": {"d": 1.0}}, "t"),
        ({"q": {"": 1.0}}, "t"),
        ({"q": {"d": 1.0}}, "two words"),
        ({"q": {"d": float("nan")}}, "t"),
    ],
)
def test_what_would_break_the_columns_is_refused_and_nothing_is_written(tmp_path, run, tag):
    with pytest.raises(ValueError, match=r"white space|finite|empty"):
        write_run(tmp_path / "r", run, tag)
    assert not list(tmp_path.iterdir())
