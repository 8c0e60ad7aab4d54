"""What a model that answers is to read: search, filter, rerank, tell nothing twice, fit the room.

Enters: an open index, a question, a number of tokens. Leaves: a `Context`: stretches of documents,
cited by id and characters, as a text with markers or as JSON.

    context(Retriever.open("my-index"), "how long is the warranty?", max_tokens=1000).text
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from configs.formats.checks import check_count, check_query
from configs.formats.chunks import TokenCounter, chunks
from index.records import Hit
from index.store.metadata import Where
from retrieval.adapter.filters import RelevanceFilter
from retrieval.chunks import Chunk, place_of
from retrieval.encoder import counter_of
from retrieval.legs import DENSE
from retrieval.retriever import Retriever
from retrieval.stretches import Stretch, containment, joined

BEST_FIRST, BEST_AT_ENDS = ORDERS = ("best-first", "best-at-ends")
DEFAULT_CANDIDATES, DEFAULT_NEAR = 50, 0.8


class Scores(Protocol):
    """A query's documents, scored."""

    @property
    def scores(self) -> Sequence[float]:
        """In their order; higher is better."""
        ...


class Reranker(Protocol):
    """What `retrieval.serving.reranker.load_reranker` gives, as far as it is asked here."""

    def rerank_batch(
        self, queries: Sequence[str], document_lists: Sequence[Sequence[Mapping[str, str]]]
    ) -> Sequence[Scores]:
        """The scores of each query's documents."""
        ...


class LeftOut(NamedTuple):
    """A passage that was found and is not told: there was no room, or `like` says the same."""

    id: str
    start: int
    end: int
    score: float
    like: str | None


class Context(NamedTuple):
    """What to read: `stretches` in the order of the `text`, which has `tokens` tokens.

    The n-th stretch is the one marked [n]. `left_out` stand best first.
    """

    query: str
    text: str
    tokens: int
    stretches: tuple[Stretch, ...]
    left_out: tuple[LeftOut, ...]

    def as_json(self) -> dict[str, Any]:
        """The same for machines."""
        return {
            "query": self.query,
            "tokens": self.tokens,
            "text": self.text,
            "passages": [
                {"marker": marker, **stretch._asdict()}
                for marker, stretch in enumerate(self.stretches, 1)
            ],
            "left_out": [each._asdict() for each in self.left_out],
        }


def context(
    retriever: Retriever,
    query: str,
    *,
    max_tokens: int = 1000,
    tokenizer: str | None = None,
    candidates: int = DEFAULT_CANDIDATES,
    mode: str = DENSE,
    dense_weight: float | None = None,
    where: Where | None = None,
    relevance_filter: RelevanceFilter | None = None,
    reranker: Reranker | None = None,
    near: float = DEFAULT_NEAR,
    order: str = BEST_FIRST,
) -> Context:
    """What a model that is asked `query` is to read, in at most `max_tokens` tokens.

    1. The best `candidates` passages are searched for and filtered, as by `Retriever.search`, and
       put in the order of the `reranker`, if there is one; equal ones go by id.
    2. From the best down: a chunk that meets one of its document which is told already becomes one
       stretch with it; a passage of which a share of `near` stands in a stretch already told
       (`containment`; above 1 none is) is left out.
    3. What no longer fits is left out, and the next is tried. Where not even the best fits alone,
       as many of its sentences are told, or a part of its first one, as do.

    Tokens are those of the whole text, markers and titles among them but no special ones, by the
    named `tokenizer` (a local model's, a folder's or a hub model's; None: the encoder's). `order`
    is best-first, or best-at-ends: the second best last, the worst in the middle (Liu et al., "Lost
    in the Middle", 2023).

    Raises `TypeError` or `ValueError` for what is no query, no count or no order, for a `near` that
    is not positive, and as `Retriever.search`.
    """
    check_query(query)
    check_count("max_tokens", max_tokens)
    check_count("candidates", candidates)
    if order not in ORDERS:
        raise ValueError(f"order is {order!r:.80}, wanted one of {', '.join(ORDERS)}")
    if not near > 0:
        raise ValueError(f"near is {near}, wanted a share above 0")
    count = retriever.encoder.token_counter() if tokenizer is None else named_counter(tokenizer)
    (hits,) = retriever.search(
        query,
        candidates,
        relevance_filter,
        where=where,
        mode=mode,
        dense_weight=dense_weight,
    )
    found = found_stretches(retriever, hits)
    if reranker is not None and found:
        found = _reranked(reranker, query, found)
    return _packed(query, found, max_tokens, count, near, order)


def named_counter(tokenizer: str) -> TokenCounter:
    """What counts tokens as the tokenizer of that name; raises `ValueError` where there is none."""
    from configs.models import load_model

    def load(folder: str) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)

    return counter_of(load_model("tokenizer", tokenizer, load))


def found_stretches(retriever: Retriever, hits: Sequence[Hit]) -> list[Stretch]:
    """Each hit's passage as a stretch: a chunk of its document, or all of a text never cut."""
    found = []
    for hit, passage in zip(hits, retriever.passages(hits), strict=True):
        whole = Chunk(hit.id, 0, len(passage.text))
        place = place_of(hit) if retriever.is_of_chunks else whole
        found.append(Stretch(*place, passage.title, passage.text, hit.score))
    return found


def _reranked(reranker: Reranker, query: str, found: Sequence[Stretch]) -> list[Stretch]:
    documents = [{"title": stretch.title, "text": stretch.text} for stretch in found]
    (ranked,) = reranker.rerank_batch([query], [documents])
    pairs = zip(found, ranked.scores, strict=True)
    scored = [stretch._replace(score=float(score)) for stretch, score in pairs]
    return sorted(scored, key=lambda stretch: (-stretch.score, stretch.id, stretch.start))


def _packed(
    query: str,
    found: Sequence[Stretch],
    max_tokens: int,
    count: TokenCounter,
    near: float,
    order: str,
) -> Context:
    told: list[Stretch] = []
    left_out: list[LeftOut] = []
    arrange: Callable[[Sequence[Stretch]], list[Stretch]] = partial(_arranged, order=order)

    def tokens(stretches: Sequence[Stretch]) -> int:
        return count([as_text(arrange(stretches))])[0]

    for stretch in found:
        if any(each.meets(stretch) for each in told):
            like = None
        else:
            like = next((s.id for s in told if containment(stretch.text, s.text) >= near), None)
        if like is None:
            more = joined(told, stretch)
            if tokens(more) <= max_tokens:
                told = more
                continue
            if not told and (part := _first_sentences(stretch, max_tokens, tokens, count)):
                told = [part]
                continue
        left_out.append(LeftOut(stretch.id, stretch.start, stretch.end, stretch.score, like))
    text = as_text(arranged := arrange(told))
    return Context(query, text, count([text])[0], tuple(arranged), tuple(left_out))


def _first_sentences(
    stretch: Stretch,
    max_tokens: int,
    tokens: Callable[[Sequence[Stretch]], int],
    count: TokenCounter,
) -> Stretch | None:
    """The beginning of a stretch, by whole sentences, that fits alone; None where none does."""
    room = max_tokens - tokens([stretch._replace(text="")])
    while room > 0:
        first = next(chunks(stretch.text, count, room), None)
        if first is None:
            return None
        part = stretch._replace(
            start=stretch.start + first.start,
            end=stretch.start + first.end,
            text=stretch.text[first.start : first.end],
        )
        over = tokens([part]) - max_tokens
        if over <= 0:
            return part
        room -= over
    return None


def _arranged(stretches: Sequence[Stretch], order: str) -> list[Stretch]:
    """`stretches`, best first, as they are read."""
    if order == BEST_FIRST:
        return list(stretches)
    return [*stretches[::2], *reversed(stretches[1::2])]


def as_text(stretches: Sequence[Stretch]) -> str:
    """What is read: each stretch after its marker and title, with a blank line between two."""
    texts = [f"{each.title}\n{each.text}" if each.title else each.text for each in stretches]
    return "\n\n".join(f"[{marker}] {text}" for marker, text in enumerate(texts, 1))
