"""What the attention of an untrained language model ranks like: all heads, calibrated, selected.

Enters: BEIR folders. Leaves: a table on stdout, and with `--out` everything as JSON. For each
collection, nDCG@10 over the best passages of dense search (MiniLM), ordered by

  dense        as dense search has them
  one, one-cf  what a single head reaches on average over all heads, without and with calibration
  layer        the masses of all heads at the settings' own layer (BlockRank, untrained)
  layer-cf     the same, less what passages get for a content-free query
  half         heads selected on one half of the collection's queries, tested on the other half,
               and the other way round
  half-cf      the same with the content-free query
  transfer     heads, their number and calibration selected on all the other collections
  four         the four heads that rank best on all the other collections, not calibrated
  +dense       the sum of z-scores of the latter and of dense

One forward pass a query (and one for the content-free query) reads every head; passes are kept in
the cache folder, so that a second call is quick. `--alone` does it again with the query left out
of the instruction, for the collections named.

    python benchmarks/zero_shot.py DATA/noveleval DATA/cranfield --judged noveleval --quick
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from filter import encoded, read_collection
from provenance import provenance
from tqdm import tqdm

from configs.models import cache_folder
from eval.statistics.intervals import bootstrap_intervals
from rerank.backbones.protocol import Backbone
from rerank.examples.labelled import Example
from rerank.examples.ndcg import ndcg
from rerank.heads.evidence import Head, HeadEvidence, load_every_head, read_evidence
from rerank.heads.selected_settings import select
from rerank.heads.selection import combined, ranked_ndcg, select_heads
from rerank.prompt.candidates import as_candidates
from rerank.settings.reading import read_ranker_settings

COLUMNS = (
    *("dense", "one", "one-cf", "layer", "layer-cf"),
    *("half", "half-cf", "transfer", "four", "+dense"),
)
BASE = "layer"  # what the others are compared with


class Query(NamedTuple):
    """A query with its candidates, their dense scores, and all grades that its judges gave."""

    example: Example
    dense: np.ndarray
    judged: tuple[int, ...]


class Read(NamedTuple):
    """The queries of one collection and what every head says of them."""

    queries: list[Query]
    evidence: list[HeadEvidence]


def pick_queries(folder: Path, depth: int, count: int, judged: bool) -> list[Query]:
    """`count` queries, evenly spread over those that have a relevant passage among all judged.

    Candidates are the `depth` best of dense search in the corpus, or in the query's `judged`
    passages.
    """
    vectors = encoded(folder)
    passages, texts, qrels = read_collection(folder)
    by_id = {passage.id: passage for passage in passages}
    place = {id_: row for row, id_ in enumerate(vectors.ids)}
    answered = [
        row for row, id_ in enumerate(vectors.query_ids) if any(g > 0 for g in qrels[id_].values())
    ]
    spread = np.linspace(0, len(answered) - 1, min(count, len(answered))).round().astype(int)
    found = []
    for row in (answered[number] for number in spread):
        query_id = vectors.query_ids[row]
        grades = qrels[query_id]
        pool = np.arange(len(vectors.ids))
        if judged:
            pool = np.array([place[id_] for id_ in grades if id_ in place])
        scores = vectors.passages[pool] @ vectors.queries[row]
        best = [
            number
            for number in np.argsort(-scores, kind="stable")
            if by_id[vectors.ids[pool[number]]].full_text.strip()
        ][:depth]
        candidates = as_candidates([by_id[vectors.ids[pool[number]]] for number in best])
        relevant = {c.id: grades[c.id] for c in candidates if grades.get(c.id, 0) > 0}
        example = Example(query_id, texts[query_id], tuple(candidates), relevant, {})
        judged_grades = tuple(max(grade, 0) for grade in grades.values())
        found.append(Query(example, scores[best].astype(np.float64), judged_grades))
    return found


def read(name: str, backbone: Backbone, queries: list[Query]) -> Read:
    """Every head's evidence, query by query from the cache folder where it was kept."""
    settings = {k: v for k, v in asdict(backbone.settings).items() if k != "max_query_tokens"}
    asked = json.dumps([settings, str(backbone.model.dtype), len(backbone.model.layers)])
    folder = cache_folder() / "benchmarks" / f"zero-shot-{_digest(asked)}"
    folder.mkdir(parents=True, exist_ok=True)
    evidence = []
    for query in tqdm(queries, desc=name, file=sys.stderr, disable=None):
        example = query.example
        path = (
            folder
            / f"{_digest(json.dumps([example.query, [p[:3] for p in example.passages]]))}.npz"
        )
        if not path.is_file():
            (found,) = read_evidence(backbone, [example])
            temporary = path.with_name(f"{path.stem}.tmp.npz")
            np.savez(temporary, mass=found.mass, content_free=found.content_free)
            temporary.replace(path)
        kept = np.load(path)
        evidence.append(HeadEvidence(kept["mass"], kept["content_free"], _grades(query)))
    return Read(queries, evidence)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _grades(query: Query) -> np.ndarray:
    return np.array([query.example.relevant.get(p.id, 0) for p in query.example.passages])


def measure(
    reads: Mapping[str, Read], heads: Sequence[Head], layer: int, most: int
) -> dict[str, dict[str, np.ndarray]]:
    """nDCG@10 of every query, by collection and column."""
    every = range(len(heads))
    rows = [row for row in every if heads[row][0] == layer]
    table: dict[str, dict[str, np.ndarray]] = {}
    for name, (queries, evidence) in reads.items():
        scores: dict[str, list[np.ndarray]] = {
            "dense": [query.dense for query in queries],
            "layer": [combined(each, rows, "none") for each in evidence],
            "layer-cf": [combined(each, rows, "content_free") for each in evidence],
            "half": list(_halves(evidence, heads, most, "none")),
            "half-cf": list(_halves(evidence, heads, most, "content_free")),
        }
        others = [e for other, read in reads.items() if other != name for e in read.evidence]
        if others:
            chosen, calibration = select_rows(others, heads, most)
            scores["transfer"] = [combined(each, chosen, calibration) for each in evidence]
            best = _best(others, heads, 4)
            scores["four"] = [combined(each, best, "none") for each in evidence]
            scores["+dense"] = [
                _z(a) + _z(b) for a, b in zip(scores["four"], scores["dense"], strict=True)
            ]
        table[name] = {
            column: np.array([_ndcg(s, q) for s, q in zip(found, queries, strict=True)])
            for column, found in scores.items()
        }
        for column, calibration in (("one", "none"), ("one-cf", "content_free")):
            table[name][column] = np.array(
                [
                    np.mean([_ndcg(combined(each, [row], calibration), query) for row in every])
                    for each, query in zip(evidence, queries, strict=True)
                ]
            )
    return table


def _halves(
    evidence: Sequence[HeadEvidence], heads: Sequence[Head], most: int, calibration: str
) -> Iterator[np.ndarray]:
    """Scores of each query by the heads that the queries of the other half select."""
    chosen = []
    for half in (1, 0):
        selection = select_heads(evidence[half::2], heads, most=most, calibration=calibration)
        chosen.append([heads.index(head) for head in selection.heads])
    for number, each in enumerate(evidence):
        yield combined(each, chosen[number % 2], calibration)


def select_rows(
    evidence: Sequence[HeadEvidence], heads: Sequence[Head], most: int
) -> tuple[list[int], str]:
    """What `select-heads` does: the rows of the chosen heads, and the chosen calibration."""
    calibration, selection = select(
        evidence, heads, most=most, method="retrieval", calibration=None, seed=0
    )
    return [heads.index(head) for head in selection.heads], calibration


def _best(evidence: Sequence[HeadEvidence], heads: Sequence[Head], number: int) -> list[int]:
    """The rows of the `number` heads whose own rankings are best."""
    ratings = [
        [ranked_ndcg(combined(each, [row], "none"), each.grades) for row in range(len(heads))]
        for each in evidence
        if (each.grades > 0).any() and (each.grades == 0).any()
    ]
    return np.argsort(-np.mean(ratings, 0), kind="stable")[:number].tolist()


def _ndcg(scores: np.ndarray, query: Query) -> float:
    order = np.argsort(-scores, kind="stable")
    return ndcg(_grades(query)[order].tolist(), query.judged)


def _z(scores: np.ndarray) -> np.ndarray:
    return (scores - scores.mean()) / (scores.std() or 1.0)


def print_table(table: Mapping[str, Mapping[str, np.ndarray]], title: str) -> None:
    """Means by collection and over collections; intervals of what each column adds to `layer`."""
    print(f"\n{title}\n{'nDCG@10':<26} {'queries':>7} " + " ".join(f"{c:>9}" for c in COLUMNS))
    for name, found in table.items():
        cells = (f"{found[c].mean():>9.4f}" if c in found else f"{'-':>9}" for c in COLUMNS)
        print(f"{name:<26} {len(found[BASE]):>7} " + " ".join(cells))
    whole = {
        c: [f[c] for f in table.values()] for c in COLUMNS if all(c in f for f in table.values())
    }
    means = {c: np.mean([values.mean() for values in found]) for c, found in whole.items()}
    cells = (f"{means[c]:>9.4f}" if c in means else f"{'-':>9}" for c in COLUMNS)
    print(f"{'mean of collections':<26} {'':>7} " + " ".join(cells))
    columns = [c for c in whole if c != BASE]
    gains = np.column_stack(
        [np.concatenate(whole[c]) - np.concatenate(whole[BASE]) for c in columns]
    )
    low, high = bootstrap_intervals(gains)
    print(f"more than `{BASE}`, all queries pooled, with 95% bootstrap intervals:")
    for column, gain, a, b in zip(columns, gains.mean(0), low, high, strict=True):
        print(f"  {column:<15} {gain:+.4f} [{a:+.4f}, {b:+.4f}]")


def main() -> None:
    """Read, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, help="BEIR folders")
    parser.add_argument("--judged", nargs="*", default=[], help="whose candidates are the judged")
    parser.add_argument("--alone", nargs="*", default=[], help="also without the query in front")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--settings", default="rerank/smollm2")
    parser.add_argument("--queries", type=int, default=24, help="a collection (%(default)s)")
    parser.add_argument("--depth", type=int, default=20, help="candidates (%(default)s)")
    parser.add_argument("--max-passage-tokens", type=int, default=160)
    parser.add_argument("--heads", type=int, default=16, help="at most (%(default)s)")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--quick", action="store_true", help="4 queries, 5 candidates")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--out", type=Path, help="a JSON file with every query's values")
    arguments = parser.parse_args()
    count, depth = (4, 5) if arguments.quick else (arguments.queries, arguments.depth)
    queries = {
        folder.name: pick_queries(folder, depth, count, folder.name in arguments.judged)
        for folder in arguments.folders
    }
    result = {**provenance(), "dtype": arguments.dtype, "model": arguments.model}
    for key, names in (("with the query in the instruction", list(queries)),
                       ("with the query in its own block alone", arguments.alone)):  # fmt: skip
        if not names:
            continue
        settings = replace(
            read_ranker_settings(arguments.settings),
            max_passage_tokens=arguments.max_passage_tokens,
            query_in_instruction=names is not arguments.alone,
        )
        backbone, base = load_every_head(
            arguments.model, settings=settings, device="cpu", dtype=arguments.dtype
        )
        heads = backbone.settings.heads or ()
        reads = {name: read(name, backbone, queries[name]) for name in names}
        table = measure(reads, heads, base.layer or 0, arguments.heads)
        everything = [each for found in reads.values() for each in found.evidence]
        rows, calibration = select_rows(everything, heads, arguments.heads)
        chosen = {"heads": [heads[row] for row in rows], "calibration": calibration}
        values = {n: {c: v.round(4).tolist() for c, v in f.items()} for n, f in table.items()}
        result[key] = {"nDCG@10": values, "selected on all of it": chosen}
        if not arguments.json:
            print_table(table, f"{arguments.model}, {key}")
            print(f"selected on all queries: {chosen}")
    if arguments.out:
        arguments.out.write_text(json.dumps(result) + "\n", encoding="utf-8")
    if arguments.json:
        print(json.dumps(result))
    else:
        print("\n" + "\n".join(f"{name:<14} {result[name]}" for name in provenance()))


if __name__ == "__main__":
    main()
