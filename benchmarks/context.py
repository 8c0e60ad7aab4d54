"""What a model that answers is given, before and after `retrieval.context`: its UDCG.

Enters: options; collections in the data folder. Leaves: a table on stdout, a line for each way to
fill the same room, with intervals over queries (bootstrap) and the difference from the first way.

The first way is what people do: the chunks of a dense search, best first, until the room is full.
Each other one adds a step. A passage is relevant where its document is; abstention is `smollm2`'s,
each passage by itself, as UDCG asks for. Since that reader hardly ever abstains (the columns
"abstains" and "AUC" say so: the mean probability, and how well 1 - a tells relevant passages from
others), UDCG counts relevant passages here, and beside it stands their plain share.

    python benchmarks/context.py --quick --json
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

# This file is called as the package it measures, and its folder comes first otherwise.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from provenance import provenance
from sklearn.metrics import roc_auc_score

from eval.files.udcg_examples import context_of, with_probabilities
from eval.judging.abstention import abstention_probabilities
from eval.judging.readers.answer_cache import AnswerCache
from eval.judging.readers.local import LocalReader
from eval.measures.udcg import udcg
from eval.pipeline.judged_queries import judged_queries
from eval.statistics.intervals import bootstrap_intervals
from retrieval import IndexSettings, Retriever, build_index
from retrieval.adapter.filters import threshold_filter
from retrieval.contexts import DEFAULT_CANDIDATES, Stretch, as_text, context, found_stretches
from retrieval.corpora import Collection, load_collection
from retrieval.serving.reranker import load_reranker

_READER, _RERANKER = "smollm2", "mini"
_COSINE = 0.3
Way = Callable[[Retriever, str, int], list[Stretch]]


class Told(NamedTuple):
    """What the queries of a collection are given by one way: stretches by query."""

    way: str
    stretches: dict[str, list[Stretch]]
    tokens: list[int]


def as_found(retriever: Retriever, query: str, max_tokens: int) -> list[Stretch]:
    """The chunks of a dense search, best first, while they fit."""
    count = retriever.encoder.token_counter()
    told: list[Stretch] = []
    (hits,) = retriever.search(query, DEFAULT_CANDIDATES)
    for stretch in found_stretches(retriever, hits):
        if count([as_text([*told, stretch])])[0] > max_tokens:
            break
        told.append(stretch)
    return told


def ways() -> dict[str, Way]:
    """Each way's name, and what it tells of an index for a query in so many tokens."""
    reranker, cut = load_reranker(_RERANKER, device="cpu"), threshold_filter(_COSINE)

    def by(**options: Any) -> Way:
        return lambda retriever, query, room: list(
            context(retriever, query, max_tokens=room, **options).stretches
        )

    return {
        "as found": as_found,
        "told once": by(),
        f"+ cosine {_COSINE}": by(relevance_filter=cut),
        f"+ {_RERANKER}": by(reranker=reranker),
        f"+ cosine + {_RERANKER}": by(relevance_filter=cut, reranker=reranker),
    }


def measure(
    folder: Path, reader: LocalReader, cache: AnswerCache, room: int, most: int, chunk: int
) -> list[dict[str, Any]]:
    """A row for each way, over `most` judged queries of the collection in `folder`."""
    collection = load_collection(str(folder))
    queries = judged_queries(collection.queries, collection.qrels, most).queries
    with TemporaryDirectory() as place:
        # Collections hold documents without a text, which no search finds.
        settings = IndexSettings(chunk=chunk, overlap=chunk // 5, skip_bad=True)
        build_index(str(folder), Path(place) / "index", settings, device="cpu")
        retriever = Retriever.open(Path(place) / "index", device="cpu")
        count = retriever.encoder.token_counter()
        told = []
        for name, way in ways().items():
            stretches = {id_: way(retriever, query, room) for id_, query in queries.items()}
            lengths = [count([as_text(each)])[0] for each in stretches.values()]
            told.append(Told(name, stretches, lengths))
    return scored(collection, queries, told, reader, cache)


def scored(
    collection: Collection,
    queries: Mapping[str, str],
    told: list[Told],
    reader: LocalReader,
    cache: AnswerCache,
) -> list[dict[str, Any]]:
    """Ask the reader about every passage, and measure each way against the first."""
    rows, values = [], []
    for each in told:
        examples = [
            {
                "question": query,
                "passages": [
                    {
                        "text": as_text([stretch]).removeprefix("[1] "),
                        "is_relevant": collection.qrels[id_].get(stretch.id, 0) > 0,
                    }
                    for stretch in each.stretches[id_]
                ],
            }
            for id_, query in queries.items()
        ]
        found = abstention_probabilities(examples, reader, cache)
        if found.failures:
            raise ValueError(next(iter(found.failures.values())))
        asked = with_probabilities(examples, "reader", found.probabilities)
        pairs = [context_of(example, "reader") for example in asked]
        scores = [udcg(*pair) for pair in pairs]
        shares = [sum(relevant) / max(1, len(relevant)) for relevant, _ in pairs]
        values.append([scores, shares])
        relevant = [label for pair in pairs for label in pair[0]]
        abstains = [a for pair in pairs for a in pair[1]]
        rows.append(
            {
                "collection": collection.corpus.rpartition("/")[2],
                "way": each.way,
                "queries": len(queries),
                "tokens": float(np.mean(each.tokens)),
                "passages": float(np.mean([len(pair[0]) for pair in pairs])),
                "empty": sum(not pair[0] for pair in pairs),
                "abstains": float(np.mean(abstains)),
                "auc": float(roc_auc_score(relevant, [-a for a in abstains]))
                if len(set(relevant)) > 1
                else None,
            }
        )
    # [queries, 2 measures x ways], so that all share the draws.
    table = np.array(values).reshape(2 * len(told), -1).T
    against = table - np.tile(table[:, :2], len(told))
    ends, more = bootstrap_intervals(table), bootstrap_intervals(against)
    for number, row in enumerate(rows):
        for place, name in enumerate(("udcg", "relevant")):
            at = 2 * number + place
            row[name] = [float(table[:, at].mean()), float(ends.low[at]), float(ends.high[at])]
            row[f"{name}_gain"] = [
                float(against[:, at].mean()), float(more.low[at]), float(more.high[at])
            ]  # fmt: skip
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("BLOCKSEEK_DATA"))
    parser.add_argument("--collections", nargs="+", default=["noveleval", "adi", "cranfield"])
    parser.add_argument("--queries", type=int, default=25)
    parser.add_argument("--room", type=int, default=600, help="tokens (%(default)s)")
    parser.add_argument("--chunk", type=int, default=100, help="tokens (%(default)s)")
    parser.add_argument("--answers", type=Path, help="the reader's answers, kept for the next run")
    parser.add_argument("--quick", action="store_true", help="one small collection, two queries")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.data is None:
        print("nothing measured: name the folder of collections with --data or $BLOCKSEEK_DATA")
        return
    if arguments.quick:
        arguments.collections, arguments.queries, arguments.room = ["adi"], 2, 200
    reader = LocalReader(_READER, device="cpu")
    options = {name: getattr(arguments, name) for name in ("queries", "room", "chunk")}
    if not arguments.json:
        print(" | ".join(f"{name} {value}" for name, value in (provenance() | options).items()))
        header = f"{'collection':<10} {'way':<18} {'queries':>7} {'tokens':>6} {'passages':>8}"
        header += f" {'empty':>5} {'UDCG':>24} {'gain':>24} {'relevant':>24} {'gain':>24}"
        print(f"{header} abstains  AUC", flush=True)
    rows = []
    with TemporaryDirectory() as place:
        cache = AnswerCache(arguments.answers or Path(place) / "answers.sqlite")
        for name in arguments.collections:
            folder = Path(arguments.data) / name
            found = measure(
                folder, reader, cache, arguments.room, arguments.queries, arguments.chunk
            )
            rows += found
            if not arguments.json:
                print("\n".join(map(line, found)), flush=True)
    if arguments.json:
        print(json.dumps({"provenance": provenance(), "options": options, "rows": rows}))


def line(row: Mapping[str, Any]) -> str:
    """A row of the table."""
    figures = [row[name] for name in ("udcg", "udcg_gain", "relevant", "relevant_gain")]
    told = " ".join(f"{f'{m:.3f} ({low:.3f} to {high:.3f})':>24}" for m, low, high in figures)
    auc = "-" if row["auc"] is None else f"{row['auc']:.2f}"
    return (
        f"{row['collection']:<10} {row['way']:<18} {row['queries']:>7} {row['tokens']:>6.0f} "
        f"{row['passages']:>8.1f} {row['empty']:>5} {told} {row['abstains']:>8.4f} {auc:>4}"
    )


if __name__ == "__main__":
    main()
