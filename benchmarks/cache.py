"""The passage cache: what fewer bits cost in rank and score, what they save, and how fast it is.

Enters: a BEIR folder with judged candidates (`--collection`), models. Leaves: a table a model on
stdout, a line a precision (and, in 4 bits, a share of salient tokens):

  bytes/passage   on disk, ids and digests included
  max, mean       largest and mean deviation of a score from that without a cache, in standard
                  deviations of the query's own scores
  tau             Kendall's tau-b with the ranking without a cache, mean over queries
  nDCG@10         of the cached ranking over the judged passages, and its change
  ms, cpu ms      median of a cached rerank, and in the first line of one without a cache

A decoder is asked with `query_in_instruction: false`, which a cache needs.

    python benchmarks/cache.py --collection ../shared/data/noveleval --models minilm --queries 20
"""

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

# This file's folder comes first otherwise, and holds a file of the package's name.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from provenance import provenance
from scipy.stats import kendalltau

from eval.measures import evaluate
from rerank.cache import PassageCache
from rerank.cache_files import shard_path, write_tensors
from rerank.cache_shard import CacheShard, make_shard
from rerank.loading import load_backbone
from rerank.passage_states import PassageStates
from rerank.ranker import BlockRanker, PassagesTruncatedWarning
from retrieval.corpora import load_collection, open_corpus

PRECISIONS = ((32, 0.0), (16, 0.0), (8, 0.0), (6, 0.0), (4, 0.0), (4, 0.05), (4, 0.2))
MEASURE = "nDCG@10"


class Request(NamedTuple):
    """A query and its judged passages."""

    id: str
    query: str
    passages: list[dict[str, str]]


def read_requests(folder: str, count: int) -> tuple[list[Request], Mapping[str, Mapping[str, int]]]:
    """`count` queries, evenly spread, with their judged passages, and the qrels."""
    collection = load_collection(folder)
    texts = {
        passage.id: {"id": passage.id, "title": passage.title, "text": passage.text}
        for passage in open_corpus(folder)
    }
    ids = sorted(collection.qrels)
    picked = [ids[len(ids) * n // count] for n in range(min(count, len(ids)))]
    qrels = {id_: collection.qrels[id_] for id_ in picked}
    requests = [
        Request(id_, collection.queries[id_], [texts[p] for p in qrels[id_]]) for id_ in picked
    ]
    return requests, qrels


def load_ranker(model: str, max_passage_tokens: int | None) -> BlockRanker:
    """The reranker `model`, told to keep the query out of its instruction."""
    settings = load_backbone(model, device="cpu").settings
    changes: dict[str, Any] = {}
    if settings.passages_see_query:
        changes["query_in_instruction"] = False
    if max_passage_tokens is not None:
        changes["max_passage_tokens"] = max_passage_tokens
    settings = dataclasses.replace(settings, **changes)
    return BlockRanker(load_backbone(model, device="cpu", settings=settings))


def in_fewer_bits(whole: PassageCache, bits: int, share: float) -> PassageCache:
    """What reading the passages anew in `bits` would give: 32 bits lose nothing."""

    def rounded(shard: CacheShard) -> CacheShard:
        states = PassageStates(shard.tokens, shard.passages)
        lengths = shard.lengths.tolist()
        return make_shard(shard.ids, shard.digests, lengths, shard.key_mask, states, bits, share)

    identity = dataclasses.replace(whole.identity, bits=bits, salient_share=share)
    shards = [rounded(shard) for shard in whole.shards]
    return PassageCache(whole.ranker, shards, whole.instruction, identity)


def bytes_per_passage(cache: PassageCache) -> float:
    """Size of the cache's shards in files of their own, shared out."""
    with tempfile.TemporaryDirectory() as folder:
        for number, shard in enumerate(cache.shards):
            write_tensors(shard_path(Path(folder), number), shard.tensors(), cache.identity)
        return sum(path.stat().st_size for path in Path(folder).iterdir()) / len(cache)


def measure(
    model: str, requests: Sequence[Request], qrels: Mapping[str, Any], options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """A row for scores without a cache, then one a precision."""
    ranker = load_ranker(model, options.max_passage_tokens)
    everything = {p["id"]: p for request in requests for p in request.passages}
    whole = ranker.cache(list(everything.values()), 32)
    exact, times = {}, []
    for request in requests:
        with _timed(times):
            results = ranker.rerank(request.query, request.passages)
        exact[request.id] = {result.id: result.score for result in results}
    base = evaluate(qrels, exact, [MEASURE]).means[MEASURE]
    yield {"bits": "none", MEASURE: base, **_medians(times)}
    for bits, share in PRECISIONS:
        cache = whole if bits == 32 else in_fewer_bits(whole, bits, share)
        found, times, deviations, taus = {}, [], [], []
        for request in requests:
            ids = [p["id"] for p in request.passages]
            with _timed(times):
                scores = cache.scores(request.query, ids)
            found[request.id] = dict(zip(ids, scores, strict=True))
            wanted = np.array([exact[request.id][id_] for id_ in ids])
            deviations.append(np.abs(np.array(scores) - wanted) / wanted.std())
            taus.append(kendalltau(scores, wanted).statistic)
        quality = evaluate(qrels, found, [MEASURE]).means[MEASURE]
        yield {
            "bits": str(bits) + (f"+{share:.0%}" if share else ""),
            "bytes/passage": bytes_per_passage(cache),
            "max": float(max(d.max() for d in deviations)),
            "mean": float(np.concatenate(deviations).mean()),
            "tau": float(np.mean(taus)),
            MEASURE: quality,
            "change": quality - base,
            **_medians(times),
            "identical": exact == found,
        }


@contextmanager
def _timed(times: list[tuple[float, float]]) -> Iterator[None]:
    """Add the milliseconds by the clock and of all threads."""
    clock, cpu = time.perf_counter(), time.process_time()
    yield
    times.append((1000 * (time.perf_counter() - clock), 1000 * (time.process_time() - cpu)))


def _medians(times: Sequence[tuple[float, float]]) -> dict[str, float]:
    clock, cpu = zip(*times, strict=True)
    return {"ms": statistics.median(clock), "cpu ms": statistics.median(cpu)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="The passage cache in every precision.")
    parser.add_argument("--collection", required=True, help="a BEIR folder, or an ir_datasets id")
    parser.add_argument("--models", nargs="+", default=["minilm"], help="(%(default)s)")
    parser.add_argument("--queries", type=int, default=20, help="evenly spread (%(default)s)")
    parser.add_argument("--max-passage-tokens", type=int, help="cut passages there")
    parser.add_argument("--quick", action="store_true", help="three queries of MiniLM")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args()
    if options.quick:
        options.models, options.queries = ["minilm"], 3
    warnings.simplefilter("ignore", PassagesTruncatedWarning)  # both sides cut alike
    requests, qrels = read_requests(options.collection, options.queries)
    tables = {}
    for model in options.models:
        tables[model] = list(measure(model, requests, qrels, options))
        if not options.json:
            print_table(model, requests, tables[model])
    if options.json:
        print(json.dumps({**provenance(), "collection": options.collection, "models": tables}))


def print_table(model: str, requests: Sequence[Request], rows: Sequence[Mapping[str, Any]]) -> None:
    """One model's table."""
    passages = sum(len(request.passages) for request in requests)
    print(", ".join(f"{name} {value}" for name, value in provenance().items()))
    print(f"{model}: {len(requests)} queries, {passages / len(requests):.0f} passages each")
    columns = ("bytes/passage", "max", "mean", "tau", MEASURE, "change", "ms", "cpu ms")
    print(f"{'bits':<8}" + "".join(f"{name:>14}" for name in columns))
    for row in rows:
        cells = [f"{row[name]:14.4f}" if name in row else f"{'-':>14}" for name in columns]
        same = "  bit-identical" if row.get("identical") else ""
        print(f"{row['bits']:<8}" + "".join(cells) + same)
    print(flush=True)


if __name__ == "__main__":
    main()
