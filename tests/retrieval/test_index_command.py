"""`python -m retrieval.index`: what it prints and how it ends, in a process where that matters."""

import json
import shutil

import pytest
from safetensors.numpy import load_file, save_file


def _fails(found, message, code=2):
    assert found.returncode == code, found.stderr
    assert message in found.stderr
    assert found.stderr.startswith("error: " if code == 2 else "failed: ")
    assert len(found.stderr.splitlines()) == 1
    assert found.stdout == ""


def test_build_info_and_verify(run_module, tmp_path, made_corpus, tiny_encoder):
    out = tmp_path / "index"
    found = run_module(
        "retrieval.index", "build", made_corpus, "--out", out, "--encoder", tiny_encoder, "--json"
    )
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["passages"] == 60
    found = run_module("retrieval.index", "info", out)
    rows = dict(line.split(maxsplit=1) for line in found.stdout.splitlines())
    assert rows["passages"] == "60"
    assert rows["truncated"] == "4 passages longer than 32 tokens"
    found = run_module("retrieval.index", "verify", out)
    assert found.stdout == f"{out}: whole; recall@10 1.0000 of exact search on mixed vectors\n"
    (data,) = out.glob("data-*")
    (data / "passages-00000.parquet").write_bytes(b"other")
    _fails(run_module("retrieval.index", "verify", out), "parquet has changed", code=1)


def test_vectors_of_fewer_bits_and_a_search_that_compares_digests(
    run_module, tmp_path, made_corpus, tiny_encoder
):
    out = tmp_path / "index"
    build = ("retrieval.index", "build", made_corpus, "--out", out, "--encoder", tiny_encoder)
    _fails(run_module(*build, "--vectors", "int4"), "vectors is 'int4', wanted float32 or float16")
    found = run_module(*build, "--vectors", "int8")
    assert found.returncode == 0, found.stderr
    rows = dict(line.split(maxsplit=1) for line in found.stdout.splitlines())
    assert rows["vectors"].startswith("int8; scores differ from float32 by ")
    assert run_module("retrieval.index", "delete", out, "p07").returncode == 0
    assert run_module("retrieval.index", "compact", out).returncode == 0
    found = run_module("retrieval.index", "info", out)
    again = dict(line.split(maxsplit=1) for line in found.stdout.splitlines())
    assert again["vectors"] == rows["vectors"]
    search = ("retrieval.index", "search", out, "text 8", "-k", 60, "--trec")
    assert run_module(*search, "--verify").stdout == run_module(*search).stdout != ""
    (data,) = out.glob("data-*")
    content = bytearray((data / "vectors.faiss").read_bytes())
    content[-1] ^= 1
    (data / "vectors.faiss").write_bytes(content)
    _fails(run_module(*search, "--verify"), f"{data.name}: vectors.faiss has changed")


def test_one_query_and_several(run_process, made_index):
    found = run_process("retrieval.index", "search", made_index, "text 7", "title", "-k", 2)
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    assert (lines[0], lines[3], len(lines)) == ("query 1: text 7", "query 2: title", 6)
    assert [line.split()[0] for line in (*lines[1:3], *lines[4:])] == ["1", "2", "1", "2"]


def test_queries_from_stdin_as_json_with_k_beyond_the_corpus(run_module, made_index):
    found = run_module(
        "retrieval.index", "search", made_index, "--json", "-k", 100, stdin="text 7\n\ntitle 3\n"
    )
    assert found.returncode == 0, found.stderr
    assert "note: the index holds only 60 passages" in found.stderr
    objects = [json.loads(line) for line in found.stdout.splitlines()]
    assert [(o["query_id"], o["query"]) for o in objects] == [("1", "text 7"), ("2", "title 3")]
    for each in objects:
        assert [hit["rank"] for hit in each["hits"]] == list(range(1, 61))
        assert len({hit["id"] for hit in each["hits"]}) == 60
    assert {"id", "score", "rank", "title", "text"} == set(objects[0]["hits"][0])


def test_queries_from_a_file_as_a_trec_run(run_module, made_index, tmp_path):
    queries = tmp_path / "queries.jsonl"
    queries.write_text('{"_id": "q7", "text": "text 7"}\n{"_id": "q8", "text": "text 8"}\n')
    found = run_module(
        "retrieval.index", "search", made_index, "--queries", queries, "--trec", "-k", 3
    )
    assert found.returncode == 0, found.stderr
    rows = [line.split(" ") for line in found.stdout.splitlines()]
    assert [(row[0], row[1], row[3], row[5]) for row in rows] == [
        (query, "Q0", str(rank), "blockseek") for query in ("q7", "q8") for rank in (1, 2, 3)
    ]
    scores = [float(row[4]) for row in rows[:3]]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    ("files", "arguments", "message"),
    [
        ({}, ["nowhere.jsonl"], "nowhere.jsonl does not exist; a corpus is a BEIR folder"),
        ({}, ["no-such-corpus"], "no ir_datasets id"),
        ({"c.xml": "<a/>"}, ["c.xml"], "c.xml: unknown kind of file"),
        ({"c.jsonl": "{broken\n"}, ["c.jsonl"], "c.jsonl:1: broken JSON"),
        ({"c.tsv": ""}, ["c.tsv"], "has no passages"),
        ({"c.tsv": "a\tt\n"}, ["c.tsv", "--encoder", "no/such"], "neither a local model"),
        ({"c.tsv": "a\tt\n", "s.yaml": "enkoder: x\n"}, ["c.tsv", "--config", "s.yaml"],
         "s.yaml: unknown setting 'enkoder'; did you mean 'encoder'?"),
        ({"c.tsv": "a\tt\n"}, ["c.tsv", "--batch-size", "0"], "batch_size is 0"),
    ],
)  # fmt: skip
def test_bad_builds(run_module, tmp_path, files, arguments, message):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    paths = [tmp_path / name if name in files else name for name in arguments]
    found = run_module("retrieval.index", "build", *paths, "--out", tmp_path / "index")
    _fails(found, message)


def test_a_duplicate_id_is_told_or_skipped(run_module, tmp_path, tiny_encoder):
    corpus, common = tmp_path / "c.tsv", ["--out", tmp_path / "index", "--encoder", tiny_encoder]
    corpus.write_text("a\tt\na\tt\n")
    _fails(
        run_module("retrieval.index", "build", corpus, *common),
        "c.tsv:2: id 'a' occurred before (mend it, or leave such records out: --skip-bad)",
    )
    found = run_module("retrieval.index", "build", corpus, *common, "--skip-bad")
    assert found.returncode == 0, found.stderr
    assert f"skipped {corpus}:2: id 'a' occurred before" in found.stderr
    assert "1 bad records" in found.stdout


@pytest.mark.parametrize("place", ["before", "after"])
def test_debug_shows_the_traceback_on_either_side_of_the_command(run_process, tmp_path, place):
    command = ["info", tmp_path]
    command = ["--debug", *command] if place == "before" else [*command, "--debug"]
    found = run_process("retrieval.index", *command)
    assert found.returncode == 2
    assert "Traceback" in found.stderr
    assert found.stderr.splitlines()[-1].startswith("error: ")
    _fails(run_process("retrieval.index", "info", tmp_path), "is no index: it has no manifest.json")


def test_bad_searches(run_module, made_index, tmp_path):
    _fails(run_module("retrieval.index", "search", tmp_path, "query"), "is no index")
    _fails(run_module("retrieval.index", "search", made_index, stdin="\n"), "no query: give one")
    _fails(
        run_module("retrieval.index", "search", made_index, "good", " "), "query 2 of 2 is empty"
    )
    found = run_module("retrieval.index", "search", made_index, "q", "--queries", "x.tsv")
    _fails(found, "exclude each other")


def test_an_encoder_that_changed_in_its_place_is_refused(
    run_process, tmp_path, made_corpus, tiny_encoder
):
    from retrieval.build import IndexSettings, build_index

    encoder = tmp_path / "encoder"
    shutil.copytree(tiny_encoder, encoder)
    build_index(str(made_corpus), tmp_path / "index", IndexSettings(encoder=str(encoder)))
    (file,) = encoder.rglob("model.safetensors")
    weights = load_file(file)
    name = min(weights)
    save_file(weights | {name: weights[name] + 1}, file, metadata={"format": "pt"})
    found = run_process("retrieval.index", "search", tmp_path / "index", "query")
    _fails(found, "not by another revision or setting of it")
