import json

import pytest

from eval.pipeline.known_items import draw_known_items, known_item, write_known_items
from index.records import Passage
from retrieval.corpora import load_collection, open_corpus

BODY = "The file is opened in text mode unless the mode says otherwise, and closed at exit."


def passage(id_: str, text: str) -> Passage:
    return Passage(id_, f"{id_}(path)", text)


def test_the_summary_becomes_the_query_and_leaves_the_passage():
    item = known_item(passage("io.open", f"Open a file and return a stream.\n\n{BODY}"))
    assert item.query == "Open a file and return a stream."
    assert item.passage == Passage("io.open", "io.open(path)", BODY)


def test_a_first_paragraph_of_two_sentences_gives_only_its_first():
    item = known_item(passage("io.open", f"Open a file for\nreading.  Or for writing.\n\n{BODY}"))
    assert item.query == "Open a file for reading."
    assert item.passage.text == f"Or for writing.\n\n{BODY}"


@pytest.mark.parametrize(
    "text",
    [
        "Open a file and return a stream.",  # nothing would be left
        f"Open it.\n\n{BODY}",  # too short to ask for
        f"open(path, mode) opens a file at path\n\n{BODY}",  # a signature
        "",
    ],
)
def test_no_known_item(text):
    assert known_item(passage("io.open", text)) is None


def test_a_summary_that_occurs_twice_is_nobodys_query():
    twice = [passage(f"m.f{n}", f"Open a file and return a stream.\n\n{BODY}") for n in range(2)]
    once = passage("m.g", f"Close every stream that is open.\n\n{BODY}")
    assert [item.passage.id for item in draw_known_items([*twice, once], 1)] == ["m.g"]
    with pytest.raises(ValueError, match="has 1 known items, 2 are asked for"):
        draw_known_items([*twice, once], 2)


def test_the_draw_does_not_depend_on_the_corpus_order():
    passages = [passage(f"m.f{n}", f"Summary number {n} of them all.\n\n{BODY}") for n in range(9)]
    passages = [
        p._replace(text=p.text.replace("Summary", f"Word{i}")) for i, p in enumerate(passages)
    ]
    assert draw_known_items(passages, 5) == draw_known_items(passages[::-1], 5)


def test_the_written_folder_is_a_collection(tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    lines = [
        {"id": f"m.f{n}", "title": f"m.f{n}()", "text": f"Does thing number{n} for you.\n\n{BODY}"}
        for n in range(6)
    ]
    for n, line in enumerate(lines):
        line["text"] = f"Verb{n} {line['text']}"
    corpus.write_text("\n".join(map(json.dumps, lines)))
    write_known_items(str(corpus), tmp_path / "ki", train=3, test=2)

    test, train = (load_collection(str(tmp_path / "ki"), split) for split in ("test", "train"))
    assert len(test.qrels) == 2
    assert len(train.qrels) == 3
    assert test.qrels.keys().isdisjoint(train.qrels)
    texts = {p.id: p.text for p in open_corpus(str(tmp_path / "ki"))}
    assert len(texts) == 6
    for query_id, grades in {**test.qrels, **train.qrels}.items():
        (passage_id,) = grades
        assert texts[passage_id] == BODY
        assert test.queries[query_id] not in texts[passage_id]
    asked = {p for grades in (*test.qrels.values(), *train.qrels.values()) for p in grades}
    (kept,) = texts.keys() - asked
    assert texts[kept] == next(line["text"] for line in lines if line["id"] == kept)
