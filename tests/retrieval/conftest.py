"""A small index by a small encoder, for what needs no meaning."""

import json

import pytest


@pytest.fixture(scope="session")
def made_corpus(tmp_path_factory):
    """A .jsonl file of 60 passages, of which 4 are longer than 32 tokens."""
    path = tmp_path_factory.mktemp("corpus") / "made.jsonl"
    rows = [
        {"_id": f"p{n:02d}", "title": f"Title {n}", "text": f"text {n} " + "word " * (n > 55) * 40}
        for n in range(60)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def made_index(tmp_path_factory, made_corpus, tiny_encoder):
    """The index of `made_corpus` by `tiny_encoder`, in shards of 16."""
    from retrieval.build import IndexSettings, build_index

    folder = tmp_path_factory.mktemp("index") / "made"
    settings = IndexSettings(encoder=str(tiny_encoder), shard_size=16)
    build_index(str(made_corpus), folder, settings, device="cpu")
    return folder
