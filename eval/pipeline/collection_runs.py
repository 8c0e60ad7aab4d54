"""The runs of one collection: dense search, BM25, their fusion, and rerankers over both.

Enters: a collection, its index, queries, rerankers. Leaves: runs by the name of their system.
"""

import warnings
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from tqdm import tqdm

from eval.files.trec import Qrels, Run
from rerank import BlockRanker, PassagesTruncatedWarning
from retrieval.fusion import reciprocal_rank_fusion
from retrieval.legs import DENSE, LEXICAL
from retrieval.own_hits import without_own
from retrieval.retriever import Retriever

BM25, FUSION = "bm25", "fusion"
# Passages that a reranker has read and keeps at once: about 2 GB of MiniLM's states at most.
_KEPT_PASSAGES = 5000


def over(reranker: str, first: str) -> str:
    """The name of `reranker` over the best passages of the search `first`."""
    return f"{reranker} over {first}"


def beside(reranker: str, first: str) -> str:
    """The name of the fusion of the search `first` and `reranker` over it."""
    return f"{reranker} beside {first}"


def collection_runs(
    retriever: Retriever,
    queries: Mapping[str, str],
    rankers: Mapping[str, BlockRanker],
    k: int,
    own: AbstractSet[str] = frozenset(),
    pools: Qrels | None = None,
) -> dict[str, Run]:
    """The three searches' `k` best passages of each query, and each reranker's order of them.

    Queries of `own` do not find the passage of their own id. Beside the fusion's, a reranker's
    order is fused with the order it was given: two opinions.

    With `pools` every system orders the passages that a query's pool names instead (those that
    the index has), however many they are.
    """
    if pools is None:
        dense, bm25 = (_searched(retriever, queries, mode, k, own) for mode in (DENSE, LEXICAL))
        depth = k
    else:
        dense = _pooled(retriever, queries, pools)
        everything = _searched(retriever, queries, LEXICAL, len(retriever.index))
        bm25 = {q: {i: s for i, s in everything[q].items() if i in dense[q]} for q in queries}
        depth = max(map(len, dense.values()))
    fusion = _fused([dense, bm25], depth)
    runs: dict[str, Run] = {DENSE: dense, BM25: bm25, FUSION: fusion}
    for name, ranker in rankers.items():
        first, second = _reranked(retriever, ranker, queries, (dense, fusion))
        runs |= {over(name, DENSE): first, over(name, FUSION): second}
        runs[beside(name, FUSION)] = _fused([fusion, second], depth)
    return runs


def _searched(
    retriever: Retriever,
    queries: Mapping[str, str],
    mode: str,
    k: int,
    own: AbstractSet[str] = frozenset(),
) -> dict[str, dict[str, float]]:
    """The `k` best passages of each query by one leg."""
    hits = retriever.search(list(queries.values()), k + bool(own), mode=mode)
    return {
        query_id: {hit.id: hit.score for hit in without_own(found, query_id, own, k)}
        for query_id, found in zip(queries, hits, strict=True)
    }


def _fused(runs: Sequence[Run], k: int) -> Run:
    return {q: reciprocal_rank_fusion([run[q] for run in runs], k) for q in runs[0]}


def _pooled(retriever: Retriever, queries: Mapping[str, str], pools: Qrels) -> Run:
    """Cosines of every query with the passages of its pool."""
    known = retriever.index
    vectors = retriever.encode_queries(list(queries.values()))
    run = {}
    for query_id, vector in zip(queries, vectors, strict=True):
        ids = [id_ for id_ in pools[query_id] if id_ in known]
        cosines = retriever.index.cosines(vector, ids).tolist()
        run[query_id] = dict(zip(ids, cosines, strict=True))
    return run


def _reranked(
    retriever: Retriever, ranker: BlockRanker, queries: Mapping[str, str], runs: Sequence[Run]
) -> list[Run]:
    """`runs` with the reranker's scores."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PassagesTruncatedWarning)
        if ranker.settings.score != "log_sum_exp" or ranker.settings.passages_see_query:
            return [_listwise(retriever, ranker, queries, run) for run in runs]
        # A soft maximum scores a passage alike in any company, and one read without the query can
        # be kept: each is read once, and scored once a query.
        asked = {q: sorted({id_ for run in runs for id_ in run[q]}) for q in queries}
        scores = _each_alone(retriever, ranker, queries, asked)
    return [{q: {id_: scores[q][id_] for id_ in run[q]} for q in queries} for run in runs]


def _listwise(
    retriever: Retriever, ranker: BlockRanker, queries: Mapping[str, str], run: Run
) -> Run:
    result = {}
    for query_id, query in tqdm(queries.items(), desc="reranking", disable=None):
        passages = retriever.index.passages(list(run[query_id]))
        ranking = ranker.rerank(query, passages) if passages else []
        result[query_id] = {scored.id: scored.score for scored in ranking}
    return result


def _each_alone(
    retriever: Retriever,
    ranker: BlockRanker,
    queries: Mapping[str, str],
    asked: Mapping[str, Sequence[str]],
) -> Run:
    """Each query's scores of the passages `asked`; those of several queries are read once."""
    result = {}
    with tqdm(total=len(queries), desc="reranking", disable=None) as progress:
        for group, ids in _groups(asked):
            if ids:
                # In 32 bits scores are those without a cache, to the last bit.
                cache = ranker.cache(retriever.index.passages(sorted(ids)), bits=32)
            for query_id in group:
                wanted = asked[query_id]
                values = cache.scores(queries[query_id], wanted) if wanted else []
                result[query_id] = dict(zip(wanted, values, strict=True))
                progress.update()
    return result


def _groups(asked: Mapping[str, Sequence[str]]) -> list[tuple[list[str], set[str]]]:
    """Queries in order, as many together as ask for a bounded number of passages."""
    groups: list[tuple[list[str], set[str]]] = [([], set())]
    for query_id, ids in asked.items():
        group, union = groups[-1]
        if group and len(union.union(ids)) > _KEPT_PASSAGES:
            groups.append(([query_id], set(ids)))
        else:
            group.append(query_id)
            union.update(ids)
    return groups
