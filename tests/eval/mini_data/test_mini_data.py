"""The training files of the reranker in the box, from a few sentences of every kind of source."""

import gzip
import json

import pytest

from configs.settings import read_settings
from eval.mini_data import sources
from eval.mini_data.build import MiniDataSettings, build_mini_data
from eval.mini_data.pairs import Pairs
from eval.pipeline.known_items import draw_known_items
from rerank import BlockRanker
from rerank.examples.labelled import read_examples

COLOURS = ["red", "green", "blue", "black", "white", "brown", "golden", "silver", "grey", "pink"]
ANIMALS = ["horse", "mouse", "goose", "whale", "tiger", "spider", "salmon", "beetle", "donkey"]


@pytest.fixture
def data(tmp_path):
    """Ninety sentences with a question each, and an article a colour."""
    folder = tmp_path / "data"
    (folder / "squad_sentence_pairs").mkdir(parents=True)
    with gzip.open(folder / "squad_sentence_pairs" / "train.jsonl.gz", "wt") as file:
        for colour in COLOURS:
            for animal in ANIMALS:
                row = {
                    "query": f"where does the {colour} {animal} sleep ?",
                    "positive": f"the {colour} {animal} sleeps under a {animal} tree .",
                    "title": "",
                }
                file.write(json.dumps(row) + "\n")
    return folder


def test_files_train_and_the_start_ranks(data, tmp_path):
    settings = read_settings(MiniDataSettings, "mini_data", max_length=32)
    out = tmp_path / "made"
    without = ["debian", "pydoc", "natural_questions"]
    counts = build_mini_data(out, settings, data, without)
    assert set(counts) == {"squad", "squad_paragraphs", "squad_cloze"}  # too few words for keywords
    examples = read_examples(out / "squad.jsonl")
    assert len(examples) == counts["squad"] > 80
    for example in examples:
        (right,) = example.positives
        texts = {passage.id: passage.text for passage in example.passages}
        colour, animal = example.query.split()[3:5]
        assert f"{colour} {animal}" in texts[right]
        assert len(texts) == settings.negatives + 1 == len(set(texts.values()))
    asked = {example.query for name in counts for example in read_examples(out / f"{name}.jsonl")}
    held = {example.query for example in read_examples(out / "validation.jsonl")}
    assert held
    assert not asked & held
    ranker = BlockRanker.from_pretrained(str(out / "start"), device="cpu")
    best = ranker.rerank(examples[0].query, [p.text for p in examples[0].passages])[0]
    assert best.passage == next(
        p.text for p in examples[0].passages if p.id in examples[0].positives
    )
    # Of the same words on every passage nothing can be learned, of rare ones all.
    table = ranker.backbone.late_interaction.table
    the, whale = ranker.backbone.tokenizer.convert_tokens_to_ids(["the", "whale"])
    assert 0 <= table[the] < table[whale]


def test_package_descriptions_are_read_from_apts_lists(tmp_path, monkeypatch):
    (tmp_path / "x_main_i18n_Translation-en").write_text(
        "Package: slug\nDescription-md5: 1\nDescription-en: keeps slugs off lettuce\n"
        " A daemon that watches the garden and rings a bell.\n .\n It needs no configuration, and "
        "works at night.\n\n"
        "Package: tiny\nDescription-md5: 2\nDescription-en: does a thing\n Too short.\n"
    )
    monkeypatch.setattr(sources, "_APT_HELPER", ("cat",))
    assert sources.debian(tmp_path) == Pairs(
        "debian",
        [
            "A daemon that watches the garden and rings a bell. It needs no configuration, and "
            "works at night."
        ],
        [("keeps slugs off lettuce", 0)],
    )


def test_sources_that_are_missing_say_how_to_get_them(tmp_path):
    with pytest.raises(ValueError, match="apt-get -o Acquire::Languages=en update"):
        sources.debian(tmp_path)
    with pytest.raises(ValueError, match="set BLOCKSEEK_DATA"):
        sources.squad(tmp_path)


def test_documentation_that_the_demo_asks_for_is_no_training_text(python_docs, monkeypatch):
    monkeypatch.setattr(sources, "open_corpus", lambda _: python_docs)
    asked = {item.query for item in draw_known_items(python_docs, 500)}
    queries = {query for query, _ in sources.pydoc().queries}
    assert len(queries) > 1000
    assert not asked & queries
