"""What a model is given to read: nothing twice, in the room there is, cited by id and place."""

import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval import Encoder, IndexSettings, Retriever, build_index, context
from retrieval.adapter.filters import threshold_filter
from retrieval.contexts import as_text
from retrieval.stretches import Stretch, containment, joined

NAMES = ("Ada", "Bor", "Cid", "Dov", "Eno", "Fyn", "Gil", "Hux", "Ivo", "Jax")
PLANETS = " ".join(
    f"Planet {name} has {n} moons, and its year is {10 * n} of ours."
    for n, name in enumerate(NAMES, 2)
)
TEXTS = {
    "planets": PLANETS,
    # The same, but for case, marks and one word.
    "copy": PLANETS.upper().replace(".", "!").replace("GIL", "gul"),
    "bees": "Bees feed on thyme. They fly from June to September. Cold nights end that.",
    "chinese": "蜂蜜是甜的。蜜蜂在夏天飞来飞去。冬天它们待在家里。",
    "emoji": "👩🏽‍🚀 flies to planet Eno 🇩🇪. She comes back. 🎉",
}


@pytest.fixture(scope="module")
def make_index(tmp_path_factory, tiny_encoder):
    def make(**options):
        folder = tmp_path_factory.mktemp("context")
        rows = [{"_id": id_, "title": id_, "text": text} for id_, text in TEXTS.items()]
        (folder / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        settings = IndexSettings(encoder=str(tiny_encoder), **options)
        build_index(str(folder / "c.jsonl"), folder / "index", settings, device="cpu")
        return folder / "index"

    return make


@pytest.fixture(scope="module")
def chunked(make_index, tiny_encoder):
    encoder = Encoder.load(str(tiny_encoder), device="cpu")
    return Retriever.open(make_index(chunk=24, overlap=8), encoder=encoder)


class ByWord:
    """Scores a document by how often it says a word."""

    def __init__(self, word):
        self.word = word

    def rerank_batch(self, queries, document_lists):
        return [
            SimpleNamespace(scores=[document["text"].count(self.word) for document in documents])
            for documents in document_lists
        ]


def _tokens(retriever, text):
    return retriever.encoder.token_counter()([text])[0]


@pytest.mark.parametrize("order", ["best-first", "best-at-ends"])
@pytest.mark.parametrize("room", [5, 12, 40, 90, 200, 1000])
def test_it_fits_and_every_stretch_is_its_document_at_its_place(chunked, room, order):
    found = context(chunked, "moons of a planet", max_tokens=room, order=order, near=2)
    assert found.tokens == _tokens(chunked, found.text) <= room
    assert found.text == as_text(found.stretches)
    for stretch in found.stretches:
        assert stretch.text == TEXTS[stretch.id][stretch.start : stretch.end]
    for one in found.stretches:
        assert not any(one.meets(other) for other in found.stretches if other is not one)


def test_with_room_for_all_the_chunks_of_a_document_are_whole_again(chunked):
    found = context(chunked, "planet", max_tokens=5000, near=2)
    assert found.left_out == ()
    assert {stretch.id: stretch.text for stretch in found.stretches} == TEXTS
    assert [stretch.score for stretch in found.stretches] == sorted(
        (stretch.score for stretch in found.stretches), reverse=True
    )


def test_a_near_copy_is_told_once(make_index, tiny_encoder):
    retriever = Retriever.open(make_index(), device="cpu")
    found = context(retriever, "planet", max_tokens=5000, reranker=ByWord("lanet"))
    assert [stretch.id for stretch in found.stretches[:1]] == ["planets"]
    (left,) = found.left_out
    assert (left.id, left.like, left.start, left.end) == ("copy", "planets", 0, len(TEXTS["copy"]))
    told = {stretch.id for stretch in found.stretches}
    assert told == set(TEXTS) - {"copy"}
    both = context(retriever, "planet", max_tokens=5000, near=1, reranker=ByWord("lanet"))
    assert both.left_out == ()


def test_the_reranker_says_what_comes_first_and_ties_go_by_id_and_place(chunked):
    found = context(chunked, "planet", max_tokens=60, reranker=ByWord("Bees"))
    assert found.stretches[0].id == "bees"
    assert found.stretches[0].score == 1
    tied = context(chunked, "planet", max_tokens=5000, near=2, reranker=ByWord("nowhere"))
    assert [stretch.id for stretch in tied.stretches] == sorted(TEXTS)


def test_the_worst_stand_in_the_middle(chunked):
    options = {"max_tokens": 5000, "near": 2}
    best = [s.id for s in context(chunked, "planet", **options).stretches]
    ends = context(chunked, "planet", order="best-at-ends", **options)
    assert [s.id for s in ends.stretches] == [best[0], best[2], best[4], best[3], best[1]]
    assert ends.text.startswith(f"[1] {best[0]}\n")


def test_where_not_even_the_best_fits_its_first_sentences_are_told(make_index):
    retriever = Retriever.open(make_index(), device="cpu")
    found = context(retriever, "bees", max_tokens=22, candidates=1, reranker=ByWord("Bees"))
    (stretch,) = found.stretches
    ends = {place + 1 for place, mark in enumerate(TEXTS[stretch.id]) if mark in ".!?"}
    assert (stretch.start, stretch.end in ends, found.tokens <= 22) == (0, True, True)
    assert found.left_out == ()
    (left,) = context(retriever, "bees", max_tokens=1, candidates=1).left_out
    assert left.like is None


def test_nothing_is_told_where_a_filter_keeps_nothing(chunked):
    found = context(chunked, "planet", relevance_filter=threshold_filter(1.1), reranker=ByWord("x"))
    assert (found.text, found.tokens, found.stretches, found.left_out) == ("", 0, (), ())


def test_the_same_by_words_and_by_both_legs(chunked):
    found = context(chunked, "thyme", mode="lexical")
    assert {stretch.id for stretch in found.stretches} == {"bees"}
    assert context(chunked, "thyme", mode="hybrid", max_tokens=60).stretches[0].id == "bees"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": 0}, "max_tokens is 0, wanted at least 1"),
        ({"candidates": 0}, "candidates is 0, wanted at least 1"),
        ({"order": "worst"}, "order is 'worst', wanted one of best-first, best-at-ends"),
        ({"near": 0}, "near is 0, wanted a share above 0"),
        ({"near": float("nan")}, "near is nan, wanted a share above 0"),
        ({"query": " "}, "the query is empty"),
        ({"mode": "both"}, "the mode is 'both'"),
    ],
)
def test_what_it_is_not_asked(chunked, options, message):
    with pytest.raises(ValueError, match=message):
        context(chunked, **{"query": "planet", **options})


def test_the_command(run_module, make_index):
    index = make_index(chunk=24, overlap=8)
    command = ("retrieval.index", "context", index, "moons of planet Eno", "--max-tokens", "60")
    found = json.loads(run_module(*command, "--json", "--tokenizer", "minilm").stdout)
    assert found["tokens"] <= 60
    assert [each["marker"] for each in found["passages"]] == [1, 2][: len(found["passages"])]
    printed = run_module(*command).stdout
    assert printed.startswith(found["text"] + "\n\n[1] ")
    first = found["passages"][0]
    assert f"\n[1] {first['id']} {first['start']}-{first['end']}  {first['score']:.4f}\n" in printed
    refused = run_module(*command, "--rerank", "mini", "--reranker", "none")
    assert (refused.returncode, "no reranker is called 'none'" in refused.stderr) == (2, True)
    refused = run_module(*command, "--tokenizer", "no/such")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert refused.stderr.startswith("error: tokenizer 'no/such' is neither a local model")


def _stretch(start, end, score=0.5, text="0123456789" * 3):
    return Stretch("d", start, end, "", text[start:end], score)


def test_joined_by_hand():
    told = [_stretch(20, 25, 0.9), Stretch("e", 0, 5, "", "other", 0.7), _stretch(0, 10, 0.6)]
    # It meets both parts of its document, and all of them become one, where the best of them was.
    assert joined(told, _stretch(10, 20, 0.3)) == [_stretch(0, 25, 0.9), told[1]]
    assert joined(told, _stretch(3, 7, 0.5)) == [told[0], told[1], told[2]]
    assert joined(told, _stretch(11, 19, 0.5)) == [*told, _stretch(11, 19, 0.5)]


@given(st.lists(st.tuples(st.integers(0, 29), st.integers(1, 10)), max_size=12))
def test_joined_tells_every_character_once(places):
    told = []
    for start, length in places:
        told = joined(told, _stretch(start, min(30, start + length)))
    wanted = {n for start, length in places for n in range(start, min(30, start + length))}
    told_places = [n for each in told for n in range(each.start, each.end)]
    assert sorted(told_places) == sorted(wanted)
    assert all(each == _stretch(each.start, each.end) for each in told)


def test_containment():
    assert containment("The Year, 1999!", "…the year 1999…") == 1
    assert (
        containment("蜂蜜是甜的。蜜蜂在夏天飞来飞去。", "他说：蜂蜜是甜的，蜜蜂在夏天飞来飞去") == 1
    )
    assert containment("Short.", "a short text") == 1  # all of a short text, or nothing of it
    assert containment("short", "a text") == 0
    assert containment("", "any") == containment("!?", "!?") == 0
    half = "twelve chars and "
    assert containment(half + "something else", half + "what nobody says") == 6 / 20
    # One way alone: what has more to say is not contained.
    assert containment(PLANETS[:200], PLANETS) == 1 > containment(PLANETS, PLANETS[:200])


@pytest.mark.slow
def test_the_command_reranks_by_our_own_entry_point(run_module, make_index):
    command = ("retrieval.index", "context", make_index(), "who feeds on thyme?", "--json")
    plain, reranked = (
        json.loads(run_module(*command, *more).stdout)["passages"]
        for more in ((), ("--rerank", "mini"))
    )
    assert reranked[0]["id"] == "bees"
    assert {each["score"] for each in plain} & {each["score"] for each in reranked} == set()
