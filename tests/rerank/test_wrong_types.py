"""Every way into a ranking says what it was given instead, and takes what can be read once."""

import warnings

import pytest
from rerank_cases import PASSAGES, QUERY, save_model

from rerank import PassageCache
from rerank.answers.decoding import AnswerDecoder
from rerank.interfaces.by_place import rank_by_place
from rerank.interfaces.cross_encoder import BlockCrossEncoder
from rerank.interfaces.hosted import respond
from rerank.prompt.candidates import as_candidates


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    folder = save_model(tmp_path_factory.mktemp("llama"), "Llama", "smollm2")
    return AnswerDecoder.from_pretrained(str(folder), device="cpu")


@pytest.fixture(scope="module")
def entrances(minilm_ranker, decoder):
    """What takes a query and passages, by name; `top_k` where it has one."""
    cache = minilm_ranker.cache(PASSAGES)
    return {
        "rerank": minilm_ranker.rerank,
        "rerank with a cache": lambda *a, **o: minilm_ranker.rerank(*a, **o, cache=cache),
        "rerank_batch": lambda q, p, **o: minilm_ranker.rerank_batch([q], [p], **o)[0],
        "scores": minilm_ranker.scores,
        "scores_batch": lambda q, p: minilm_ranker.scores_batch([q], [p])[0],
        "highlights": minilm_ranker.highlights,
        "decoder": decoder.rerank,
        "decoder's scores": decoder.scores,
        "by place": lambda *a, **o: rank_by_place(minilm_ranker, *a, **o),
        "cross-encoder": BlockCrossEncoder(minilm_ranker).rank,
    }


ALL = (
    "rerank",
    "rerank with a cache",
    "rerank_batch",
    "scores",
    "scores_batch",
    "highlights",
    "decoder",
    "decoder's scores",
    "by place",
    "cross-encoder",
)
RANKING = tuple(name for name in ALL if "scores" not in name and name != "highlights")


def _raises(call, *arguments, **options):
    with pytest.raises((TypeError, ValueError)) as raised:
        call(*arguments, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("name", ALL)
def test_a_wrong_query(entrances, name):
    call = entrances[name]
    assert "is None, wanted a string" in _raises(call, None, PASSAGES)
    assert "is a int, wanted a string" in _raises(call, 3, PASSAGES)
    assert "the query is empty" in _raises(call, " ", PASSAGES)
    assert "the query is empty" in _raises(call, "\u200b\ufeff", PASSAGES)
    assert "the query has half of a surrogate pair" in _raises(call, "Faust\ud800", PASSAGES)


@pytest.mark.parametrize("name", ALL)
def test_wrong_passages(entrances, name):
    call = entrances[name]
    assert "passages is None, wanted a list" in _raises(call, QUERY, None)
    assert "passages is a str, wanted a list" in _raises(call, QUERY, "A pear.")
    assert "passage 0: None, wanted a string" in _raises(call, QUERY, [None])
    assert "passage 1: a int, wanted a string" in _raises(call, QUERY, ["A pear.", 3])
    assert "passage 0: the text has half of a surr" in _raises(call, QUERY, ["\udfff"])


@pytest.mark.parametrize("name", RANKING)
def test_a_wrong_top_k(entrances, name):
    call = entrances[name]
    assert "top_k is 2.5, wanted a whole number" in _raises(call, QUERY, PASSAGES, top_k=2.5)
    assert "top_k is True, wanted a whole number" in _raises(call, QUERY, PASSAGES, top_k=True)
    assert "top_k is 0, wanted at least 1" in _raises(call, QUERY, PASSAGES, top_k=0)


@pytest.mark.parametrize("name", ALL)
def test_a_generator_is_as_good_as_a_list(entrances, name):
    call = entrances[name]
    assert call(QUERY, (passage for passage in PASSAGES)) == call(QUERY, PASSAGES)


def test_passages_that_score_may_be_given_in_any_form(minilm_ranker):
    assert minilm_ranker.scores(QUERY, PASSAGES) == minilm_ranker.scores(
        QUERY, as_candidates(PASSAGES)
    )


@pytest.mark.parametrize(
    ("queries", "lists", "message"),
    [
        ("one query", [PASSAGES], "queries is a str, wanted a list of strings"),
        (None, [PASSAGES], "queries is None, wanted a list of strings"),
        ([QUERY, None], [PASSAGES, PASSAGES], "query 2 of 2 is None, wanted a string"),
        ([QUERY], "passages", "passages is a str, wanted a list of lists"),
        ([QUERY], None, "passages is None, wanted a list of lists"),
        ([QUERY, QUERY], [PASSAGES, ["a", None]], "query 2 of 2: passage 1: None, wanted"),
        ([QUERY, QUERY], [PASSAGES, None], "query 2 of 2: passages is None, wanted a list"),
        ([QUERY, QUERY], [PASSAGES, []], "query 2 of 2: no passages to rank: the list is empty"),
    ],
)
@pytest.mark.parametrize("method", ["rerank_batch", "scores_batch"])
def test_batches_name_what_is_wrong(minilm_ranker, method, queries, lists, message):
    assert message in _raises(getattr(minilm_ranker, method), queries, lists)


def test_batches_of_generators(minilm_ranker):
    queries, lists = [QUERY, "what fell?"], [PASSAGES, ["Rain."]]
    wanted = minilm_ranker.rerank_batch(queries, lists)
    assert minilm_ranker.rerank_batch(iter(queries), (iter(each) for each in lists)) == wanted
    scores = minilm_ranker.scores_batch(queries, lists)
    assert minilm_ranker.scores_batch(iter(queries), (iter(each) for each in lists)) == scores


def test_what_goes_wrong_while_passages_are_read_is_told(minilm_ranker):
    def passages():
        yield "A pear."
        yield b"\xff".decode()

    for lists in ([passages()], [["a"], passages()]):
        message = _raises(minilm_ranker.rerank_batch, [QUERY] * len(lists), lists)
        assert "can't decode byte 0xff" in message


def test_a_sequence_of_the_old_kind_will_do(minilm_ranker):
    class Old:
        def __getitem__(self, place):
            return PASSAGES[place]

    assert minilm_ranker.rerank(QUERY, Old()) == minilm_ranker.rerank(QUERY, PASSAGES)


def test_a_cache_takes_and_refuses_the_same(minilm_ranker, tmp_path):
    cache = minilm_ranker.cache(passage for passage in PASSAGES)
    assert cache.ids == [c.id for c in as_candidates(PASSAGES)]
    for make in (
        minilm_ranker.cache,
        lambda p: PassageCache.build(minilm_ranker, p, tmp_path / "c"),
    ):
        assert "passages is None, wanted a list" in _raises(make, None)
        assert "passages is a str, wanted a list" in _raises(make, "A pear.")
        assert "passage 1: None, wanted a string" in _raises(make, ["A pear.", None])
    assert cache.rerank(QUERY, iter(["pear", "rain"])) == cache.rerank(QUERY, ["pear", "rain"])
    assert cache.scores(QUERY, iter(["pear"])) == cache.scores(QUERY, ["pear"])
    for call in (cache.rerank, cache.scores):
        assert "ids is a str, wanted a list" in _raises(call, QUERY, "pear")
        assert "the id is None, wanted a string" in _raises(call, QUERY, [None])
        assert "the query is None" in _raises(call, None, ["pear"])
    assert "top_k is 2.5" in _raises(cache.rerank, QUERY, top_k=2.5)


def test_token_counts_take_and_refuse_the_same(minilm_ranker):
    assert minilm_ranker.token_counts(iter(PASSAGES)) == minilm_ranker.token_counts(PASSAGES)
    assert "passages is None" in _raises(minilm_ranker.token_counts, None)


def test_pairs_name_the_one_that_is_wrong(minilm_ranker):
    predict = BlockCrossEncoder(minilm_ranker).predict
    pairs = [(QUERY, "A pear."), ("what fell?", "Rain.")]
    assert predict(iter(pairs)).tolist() == predict(pairs).tolist()
    assert predict([iter(pair) for pair in pairs]).tolist() == predict(pairs).tolist()
    assert "inputs is None, wanted pairs" in _raises(predict, None)
    assert "inputs is a str, wanted pairs" in _raises(predict, "a query")
    assert "input 1 is None, wanted a query and a document" in _raises(predict, [pairs[0], None])
    assert "input 1: the query is None" in _raises(predict, [pairs[0], (None, "Rain.")])
    assert "input 1: None, wanted a string" in _raises(predict, [pairs[0], (QUERY, None)])
    assert "input 2: the text has half of a" in _raises(predict, [*pairs, (QUERY, "\ud800")])


def test_a_request_names_the_document(minilm_ranker):
    def of(documents):
        return _raises(respond, minilm_ranker, {"query": QUERY, "documents": documents}, "minilm")

    assert "'documents'[1]: None, wanted a string" in of(["A pear.", None])
    assert "'documents'[0]: no text" in of([{"image": "x"}])
    assert "'documents'[1]: the text has half of a surrogate pair" in of(["A pear.", "\ud800"])
    assert "'documents'[1]: title is a int" in of(["A pear.", {"text": "a", "title": 3}])


def test_nothing_warns(entrances):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for call in entrances.values():
            call(QUERY, PASSAGES)
