"""Documents of any length: their scores are those of their blocks, their spans where it stands."""

import pytest
from allocation import peak_bytes
from rerank_cases import QUERY, load_ranker, save_model, scores

from rerank import BlankPassagesWarning, BlockRanker
from rerank.documents.blocks import Cut, as_block, places_of
from rerank.documents.ranking import rank_documents
from rerank.documents.spans import merged
from rerank.prompt.candidates import as_candidates

SENTENCES = [
    "Goethe wrote Faust, a tragedy in two parts.",
    "Rain fell on Weimar all night long; nobody wrote.",
    "A pear.",
    "The Sorrows of Young Werther made him famous in 1774.",
    "Marlowe wrote a play about Doctor Faustus.",
    "Water boils, and nobody in the town knows why.",
]
LONG = " ".join(SENTENCES * 4)
DOCUMENTS = [
    {"id": "long", "text": LONG},
    {"id": "short", "title": "Pear", "text": "A pear is ripe."},
    {"id": "chinese", "text": "天地玄黄宇宙洪荒" * 8},
    {"id": "other", "text": " ".join(SENTENCES[::-1])},
]
SMALL = {"block_tokens": 40, "overlap_tokens": 10}
KINDS = ("encoder", "decoder", "calibrated", "seen", "shares")
SEEN = """
backbone: encoder
instruction: "Query: {query}"
passage: "{title}\\n{text}"
query: "{query}"
query_attends: false
signal: query
score: log_sum_exp
"""
SHARES = SEEN.replace('"Query: {query}"', '""').replace("log_sum_exp", "mass")
CALIBRATED = """
backbone: decoder
query_attends: true
query_position: 4096
instruction: "Rank."
passage: "Passage: {title}\\n{text}\\n\\n"
query: "Query: {query}\\nAnswer:"
signal: query
score: mass
calibration: content_free
"""


@pytest.fixture(scope="module")
def rankers(tmp_path_factory):
    def make(kind):
        folder = tmp_path_factory.mktemp(kind)
        if kind in ("encoder", "seen", "shares"):
            settings = {"seen": SEEN, "shares": SHARES}.get(kind, "")
            return load_ranker(save_model(folder, "Bert", "minilm"), settings)
        settings = CALIBRATED * (kind == "calibrated")
        return load_ranker(save_model(folder, "Llama", "smollm2"), settings)

    return {kind: make(kind) for kind in KINDS}


def _blocks(ranker, documents=DOCUMENTS, cut=None):
    candidates = as_candidates(documents)
    places = list(places_of(ranker.backbone, candidates, cut or Cut(*SMALL.values())))
    return places, [as_block(candidates, place) for place in places]


@pytest.mark.parametrize("kind", KINDS)
def test_a_document_has_the_score_of_its_best_block(rankers, kind):
    ranker = rankers[kind]
    places, blocks = _blocks(ranker)
    wanted: dict[int, float] = {}
    for place, score in zip(places, scores(ranker, QUERY, blocks), strict=True):
        wanted[place.document] = max(score, wanted.get(place.document, -9.0))
    assert len(places) > 6
    found = ranker.rerank_documents(QUERY, DOCUMENTS, **SMALL)
    assert {each.original_rank - 1: each.score for each in found} == pytest.approx(wanted, abs=1e-6)
    assert [each.score for each in found] == sorted(wanted.values(), reverse=True) or kind != "seen"
    assert [each.rank for each in found] == [1, 2, 3, 4]
    assert all(each.document is DOCUMENTS[each.original_rank - 1] for each in found)


@pytest.mark.parametrize("kind", KINDS)
def test_a_document_in_one_block_is_a_passage(rankers, kind):
    documents = [{"id": "pear", "title": "Pear", "text": "A pear."}, {"id": "f", "text": "Faust."}]
    found = rankers[kind].rerank_documents(QUERY, documents)
    alone = rankers[kind].rerank(QUERY, documents)
    assert [each.id for each in found] == [each.id for each in alone]
    assert [each.score for each in found] == pytest.approx([each.score for each in alone], abs=1e-6)
    texts = {each["id"]: each["text"] for each in documents}
    assert [[span.text for span in each.spans] for each in found] == [[texts[f.id]] for f in found]


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_documents_changes_no_bit(rankers, kind):
    ranker = BlockRanker(rankers[kind].backbone, max_tokens=300)  # several groups
    forth = ranker.rerank_documents(QUERY, DOCUMENTS, **SMALL)
    back = ranker.rerank_documents(QUERY, DOCUMENTS[::-1], **SMALL)
    assert len({each.score for each in forth}) > 1
    assert [(e.id, e.score, e.spans) for e in forth] == [(e.id, e.score, e.spans) for e in back]


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_several_queries_are_answered_as_each_alone(rankers, kind):
    ranker = rankers[kind]
    queries = [QUERY, "why does water boil?"]
    together = ranker.rerank_documents_batch(queries, DOCUMENTS, 2, **SMALL)
    alone = [ranker.rerank_documents(query, DOCUMENTS, 2, **SMALL) for query in queries]
    assert together == alone
    assert together[0] != together[1]
    assert [len(found) for found in together] == [2, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_spans_are_places_of_the_callers_text(rankers, kind):
    for each in rankers[kind].rerank_documents(QUERY, DOCUMENTS, num_spans=4, **SMALL):
        text = DOCUMENTS[each.original_rank - 1]["text"]
        assert 1 <= len(each.spans) <= 4
        assert each.spans[0].score == each.score
        assert list(each.spans) == sorted(each.spans, key=lambda s: (-s.score, s.start))
        taken: set[int] = set()
        for span in each.spans:
            assert text[span.start : span.end] == span.text == span.text.strip() != ""
            own = set(range(span.start, span.end))
            assert not taken & own
            taken |= own


NEEDLE = "The lighthouse keeper hides the brass key under a flowerpot."


@pytest.mark.parametrize(
    "around", ["Rain fell on the town. ", "天地玄黄宇宙洪荒。", "👩‍👩‍👧🇩🇪 e\u0301👍🏽! "]
)
def test_a_sentence_is_found_where_it_stands(minilm_ranker, around):
    text = around * 27 + NEEDLE + " " + around * 13
    (found,) = minilm_ranker.rerank_documents("Where is the key of the lighthouse?", [text])
    best = found.spans[0]
    assert best.start <= text.index(NEEDLE)
    assert best.end >= text.index(NEEDLE) + len(NEEDLE)
    assert best.end - best.start < len(NEEDLE) + 60


def test_spans_that_overlap_are_one():
    spans = [((5, 9), 1.0), ((0, 3), 3.0), ((8, 12), 2.0), ((3, 4), 0.5), ((6, 7), 0.1)]
    assert merged(spans_of(spans)) == spans_of([((0, 3), 3.0), ((3, 4), 0.5), ((5, 12), 2.0)])


def spans_of(pairs):
    from configs.formats.chunks import Span

    return [(Span(*places), score) for places, score in pairs]


def test_a_span_crosses_blocks(minilm_ranker):
    """An answer of which no block holds all is one span, joined where the blocks overlap."""
    answer = " ".join(
        f"The key of the lighthouse is under the {place}." for place in ("stone", "stairs", "pot")
    )
    cut = Cut(30, 8)

    def parts_it(text):
        blocks = places_of(minilm_ranker.backbone, as_candidates([text]), cut)
        start = text.index(answer)
        return not any(b.start <= start and start + len(answer) <= b.end for b in blocks)

    texts = ("It rained. " * n + answer + " Nobody sang." * 5 for n in range(12))
    text = next(filter(parts_it, texts))
    (found,) = minilm_ranker.rerank_documents(
        "Where is the key of the lighthouse?",
        [text],
        num_spans=9,
        block_tokens=cut.size,
        overlap_tokens=cut.overlap,
    )
    assert found.spans[0].text == answer


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_documents_without_text_come_last_and_are_told(rankers, kind):
    documents = [
        {"id": "b", "text": " \n"},
        {"id": "z", "text": "A pear."},
        {"id": "a", "text": ""},
    ]
    with pytest.warns(BlankPassagesWarning, match="2 of 3 documents have no text"):
        found = rankers[kind].rerank_documents(QUERY, documents)
    assert [each.id for each in found] == ["z", "a", "b"]
    assert [len(each.spans) for each in found] == [1, 0, 0]
    assert found[0].score > found[1].score == found[2].score
    with pytest.warns(BlankPassagesWarning):
        (alone,) = rankers[kind].rerank_documents(QUERY, [""])
    assert alone.spans == ()


def test_equal_documents_stand_by_id(rankers):
    documents = [{"id": name, "text": LONG} for name in ("c", "a", "b")]
    for kind in ("encoder", "decoder"):
        found = rankers[kind].rerank_documents(QUERY, documents, **SMALL)
        assert [each.id for each in found] == ["a", "b", "c"]
        assert len({each.score for each in found}) == 1


def test_groups_of_a_long_document_share_one_softmax_and_the_best_meet(rankers):
    ranker = BlockRanker(rankers["decoder"].backbone, max_tokens=400)
    places, _ = _blocks(ranker, [LONG * 3])
    sizes = []
    read = ranker.log_sums
    ranker.log_sums = lambda prompt: sizes.append(prompt.num_tokens) or read(prompt)
    found = ranker.rerank_documents(QUERY, [LONG * 3], num_spans=len(places), **SMALL)
    assert len(sizes) > 4
    assert max(sizes) <= 400
    assert 0 < found[0].score < 1


def test_shares_of_a_query_that_is_read_alone_do_not_hang_on_the_groups(rankers):
    wanted = rankers["shares"].rerank_documents(QUERY, DOCUMENTS, **SMALL)
    parted = BlockRanker(rankers["shares"].backbone, max_tokens=260)
    found = parted.rerank_documents(QUERY, DOCUMENTS, **SMALL)
    assert [each.id for each in found] == [each.id for each in wanted]
    assert [each.score for each in found] == pytest.approx([w.score for w in wanted], rel=1e-5)


def test_a_block_carries_its_title_and_leaves_room_for_it(rankers, recwarn):
    ranker = rankers["decoder"]
    documents = [{"title": "Weimar " * 150, "text": LONG}]
    _, blocks = _blocks(ranker, documents, Cut(380, 40))
    assert len(blocks) > 1
    counts = ranker.token_counts(blocks)
    assert max(counts) <= ranker.settings.max_passage_tokens
    assert not recwarn.list
    with pytest.raises(ValueError, match=r"document '0': template and title take \d+ of the 384"):
        ranker.rerank_documents(QUERY, [{"title": "Weimar " * 400, "text": LONG}])


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_memory_does_not_grow_with_the_document(rankers, kind):
    ranker = BlockRanker(rankers[kind].backbone, max_tokens=200)
    text = LONG * 2
    ranker.rerank_documents(QUERY, [LONG], **SMALL)  # what is kept for good
    few = peak_bytes(lambda: ranker.rerank_documents(QUERY, [text], **SMALL))
    many = peak_bytes(lambda: ranker.rerank_documents(QUERY, [text * 3], **SMALL))
    assert many < 1.1 * few


def test_bad_calls_are_refused_in_a_sentence(rankers):
    ranker = rankers["encoder"]
    for options, message in (
        ({"num_spans": 0}, "num_spans is 0"),
        ({"block_tokens": 0}, "block_tokens is 0"),
        ({"block_tokens": 9, "overlap_tokens": 9}, "overlap is 9 tokens"),
        ({"top_k": 0}, "top_k is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            ranker.rerank_documents(QUERY, [LONG], **options)
    with pytest.raises(ValueError, match="the query is empty"):
        ranker.rerank_documents(" ", [LONG])
    with pytest.raises(ValueError, match="the list is empty"):
        ranker.rerank_documents(QUERY, [])


@pytest.mark.parametrize("kind", KINDS)
def test_progress_is_told_in_characters_up_to_the_last_block(rankers, kind):
    ranker = BlockRanker(rankers[kind].backbone, max_tokens=120)
    told: list[int] = []
    documents = as_candidates([LONG * 8, "A pear. \n\n"])
    rank_documents(ranker, [QUERY], documents, None, Cut(*SMALL.values()), 1, told.append)
    assert len(told) > 1
    assert min(told) > 0
    assert sum(told) == len(LONG * 8) + len("A pear.")
