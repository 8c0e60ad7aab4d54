"""Search the passages of one training source: by words, by vectors, and by the reranker itself.

Enters: a late-interaction backbone and a source's passages, read once. Leaves: for each query the
best passages of BM25 and dense search fused, and the reranker's scores of any of them.

The vectors are the reranker's own pooled states, which are dense search's but for its small update:
one pass over the passages serves both.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch

from rerank.backbones.encoder import EncoderBackbone
from rerank.prompt.candidates import Candidate
from rerank.prompt.packing import PackedPrompts, pack, tokenize
from rerank.prompt.template import fill
from rerank.prompt.words import text_keys
from retrieval.fusion import reciprocal_rank_fusion

_AT_ONCE = 64
# k1 and b of BM25 (Robertson and Zaragoza, 2009).
_SATURATION, _LENGTH = 1.2, 0.75
_PER_SEARCH = 100


class Asked(NamedTuple):
    """A query as the reranker reads it.

    `vector` float32 [d] is its pooled state, `signals` [S, d] its tokens' over the temperature,
    `weights` [S] what each counts, and `words` the keys int32 [S] and weights float64 [S] of its
    words, and the usual length of a passage; None where the reranker compares no words.
    """

    text: str
    signals: np.ndarray
    weights: np.ndarray
    vector: np.ndarray
    words: tuple[np.ndarray, np.ndarray, float] | None


class SourceSearch:
    """The states and words of passages [P], to be asked by many queries."""

    def __init__(
        self, backbone: EncoderBackbone, passages: Sequence[Candidate], max_tokens: int
    ) -> None:
        """Read `passages`, each to `max_tokens` at most, in bfloat16 where the machine has it."""
        self._backbone = backbone
        self._settings = replace(backbone.settings, max_passage_tokens=max_tokens, max_windows=1)
        self._texts = fill(self._settings, "-", passages).passages
        keys, vectors = [], []
        for start in range(0, len(passages), _AT_ONCE):
            found = self._read_passages(passages[start : start + _AT_ONCE])
            keys += found[0]
            vectors.append(found[1])
        self._starts = np.cumsum([0, *map(len, keys)])
        self._keys = np.concatenate(keys)
        self._vectors = np.concatenate(vectors)
        self._words = _Words(self._texts)

    def ask(self, queries: Sequence[str]) -> list[Asked]:
        """Each of `queries`, read."""
        asked: list[Asked] = []
        for start in range(0, len(queries), _AT_ONCE):
            asked += self._read_queries(queries[start : start + _AT_ONCE])
        return asked

    def fused(self, asked: Asked, k: int) -> list[int]:
        """The `k` best passages by reciprocal rank fusion of dense search and BM25, best first."""
        dense = self._vectors @ asked.vector
        words = self._words.scores(asked.text)
        legs = [
            {f"{row:08d}": float(scores[row]) for row in _best(scores, _PER_SEARCH)}
            for scores in (dense, words)
        ]
        return [int(row) for row in reciprocal_rank_fusion(legs, k)]

    def scores(self, asked: Asked, rows: Sequence[int]) -> np.ndarray:
        """The reranker's scores float32 [N] of the passages `rows`."""
        spans = [slice(self._starts[row], self._starts[row + 1]) for row in rows]
        bounds = np.cumsum([0, *(span.stop - span.start for span in spans)])[:-1]
        logits = asked.signals @ np.concatenate([self._keys[span] for span in spans]).T
        highest = np.maximum.reduceat(logits, bounds, axis=1)
        lengths = np.diff([*bounds, logits.shape[1]])
        powers = np.exp(logits - highest.repeat(lengths, axis=1))
        soft = highest + np.log(np.add.reduceat(powers, bounds, axis=1))
        found: np.ndarray = asked.weights @ soft + self._vectors[rows] @ asked.vector
        if asked.words is not None:
            found = found + self._words.matches(rows, *asked.words)
        return found.astype(np.float32)

    @torch.inference_mode()
    def _read_passages(self, passages: Sequence[Candidate]) -> tuple[list[np.ndarray], np.ndarray]:
        """The keys [T, d] of each passage's own tokens, and the pooled vectors [P, d]."""
        backbone = self._backbone
        packed = self._packed(["-"], [passages])
        with torch.autocast(backbone.device.type, torch.bfloat16):
            states = backbone.read_passages(packed)
        (keys,) = states.tokens.values()
        (vectors,) = states.passages.values()
        own = [
            keys[span.start : span.end, 0][packed.key_mask[span.start : span.end]].float().numpy()
            for span in packed.passages.spans[0].passages
        ]
        return own, vectors.float().numpy()

    @torch.inference_mode()
    def _read_queries(self, queries: Sequence[str]) -> list[Asked]:
        packed = self._packed(queries, [[] for _ in queries])
        with torch.autocast(self._backbone.device.type, torch.bfloat16):
            readout = self._backbone.read(packed)
        (head,) = readout.heads
        assert readout.prior is not None
        vectors = readout.prior.queries.float().numpy()
        asked = []
        for number, text in enumerate(queries):
            mine = packed.signal_request == number
            words = None
            if readout.words is not None:
                keys, weights, usual = readout.words
                words = (keys[mine].numpy(), weights[mine].numpy(), usual)
            asked.append(
                Asked(
                    text,
                    head.q[mine, 0].float().numpy(),
                    head.weights[0, mine].float().numpy(),
                    vectors[number],
                    words,
                )
            )
        return asked

    def _packed(
        self, queries: Sequence[str], passages: Sequence[Sequence[Candidate]]
    ) -> PackedPrompts:
        texts = [fill(self._settings, q, p) for q, p in zip(queries, passages, strict=True)]
        return pack(
            tokenize(self._backbone.tokenizer, self._settings, texts),
            self._settings,
            pad_id=self._backbone.pad_id,
            query_position=self._backbone.query_position,
            device=self._backbone.device,
        )


class _Words:
    """How often each passage [P] has each word [V], and BM25 with the source's own frequencies."""

    def __init__(self, texts: Sequence[str]) -> None:
        keys = [text_keys(text) for text in texts]
        self._column = {k: n for n, k in enumerate(sorted({key for row in keys for key in row}))}
        columns = [self._column[key] for row in keys for key in row]
        rows = np.repeat(np.arange(len(texts)), [len(row) for row in keys])
        shape = (len(texts), len(self._column))
        counts = scipy.sparse.coo_array((np.ones(len(columns)), (rows, columns)), shape).tocsc()
        counts.sum_duplicates()
        self._counts = counts
        self._lengths = np.array([len(row) for row in keys], np.float64)
        holding = np.diff(counts.indptr)
        self._rarity = np.log1p((len(texts) - holding + 0.5) / (holding + 0.5))

    def scores(self, query: str) -> np.ndarray:
        """BM25 float64 [P] of `query`, of words that begin alike."""
        known = [self._column[key] for key in text_keys(query) if key in self._column]
        usual = max(float(self._lengths.mean()), 1.0)
        return self._saturated(slice(None), known, usual) @ self._rarity[known]

    def matches(
        self, rows: Sequence[int], keys: np.ndarray, weights: np.ndarray, usual: float
    ) -> np.ndarray:
        """As `rerank.backbones.lexical.word_matches`: float64 [N] of the passages `rows`."""
        known = [n for n, key in enumerate(keys.tolist()) if key in self._column]
        columns = [self._column[key] for key in keys[known].tolist()]
        return self._saturated(list(rows), columns, usual) @ weights[known]

    def _saturated(
        self, rows: slice | list[int], columns: Sequence[int], usual: float
    ) -> np.ndarray:
        counts = self._counts[:, columns].toarray()[rows]
        room = _SATURATION * (1 - _LENGTH + _LENGTH * self._lengths[rows] / usual)
        found: np.ndarray = counts / (counts + room[:, None])
        return found


def _best(scores: np.ndarray, k: int) -> np.ndarray:
    """The rows of the `k` highest scores above 0, ties by row."""
    order = np.argsort(-scores, kind="stable")[:k]
    return order[scores[order] > 0]
