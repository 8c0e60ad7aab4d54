"""`python -m rerank mine --run RUN --qrels QRELS ...`: a training file from a run and judgments.

Enters: a TREC run, qrels, queries and a corpus as JSON Lines. Leaves: a file of examples, and
beside it what it was made from. `python -m eval mine` does the same from an index.
"""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from configs.command import Subparsers

# What mining is told besides its files, shared with the command that reads an index.
_OPTIONS: dict[str, dict[str, Any]] = {
    "negatives": {"type": int, "help": "negatives a query (15)"},
    "depth": {"type": int, "help": "how far down the ranking they are looked for (50)"},
    "skip": {"type": int, "help": "first ranks whose unjudged passages are passed over (0)"},
    "margin": {
        "type": float,
        "help": "leave out unjudged passages scored above the weakest relevant one minus this",
    },
    "min_grade": {"type": int, "help": "lowest grade that counts as relevant (1)"},
    "draw": {"choices": ("first", "even", "random"), "help": "which of those left (first)"},
    "seed": {"type": int, "help": "of a random draw (0)"},
}


def add_mining_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that become `MiningSettings`, and `--out`."""
    for name, option in _OPTIONS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **option)
    parser.add_argument("--out", type=Path, required=True, help="the training file to write")


def mining_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What of `MiningSettings` the options name."""
    values = {name: getattr(arguments, name) for name in _OPTIONS}
    return {name: value for name, value in values.items() if value is not None}


def add_parser(subparsers: Subparsers) -> None:
    """Add the `mine` subcommand."""
    parser = subparsers.add_parser(
        "mine",
        help="make a training file from a run and judgments",
        description="Take hard negatives out of a TREC run.",
    )
    parser.add_argument("--run", type=Path, required=True, dest="ranking", help="a TREC run")
    parser.add_argument("--qrels", type=Path, required=True, help="TREC or BEIR judgments")
    parser.add_argument(
        "--queries", type=Path, required=True, help="JSON Lines of id and text, or TSV"
    )
    parser.add_argument("--corpus", type=Path, required=True, help="JSON Lines of passages")
    parser.add_argument("--teacher", type=Path, help="a TREC run whose scores go along")
    add_mining_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Mine, write, and say what became of the queries."""
    from configs.formats.qrels import read_qrels
    from configs.formats.queries import read_queries
    from configs.formats.runs import read_run
    from rerank.examples.mining import MiningSettings, mine_negatives, mined_examples
    from rerank.examples.texts import read_texts

    settings = MiningSettings(**mining_options(arguments))
    ranking, qrels = read_run(arguments.ranking), read_qrels(arguments.qrels)
    teacher = read_run(arguments.teacher) if arguments.teacher else None
    wanted: set[str] = set()
    for query_id in ranking.keys() & qrels.keys():
        wanted |= qrels[query_id].keys()
        wanted |= set(mine_negatives(ranking[query_id], qrels[query_id], settings, query_id))
    corpus = read_texts(arguments.corpus, wanted)
    queries = read_queries(arguments.queries)
    examples, counts = mined_examples(
        queries,
        ranking,
        qrels,
        lambda ids: {id_: corpus[id_] for id_ in ids if id_ in corpus},
        settings,
        teacher=teacher,
    )
    files = {
        name: str(getattr(arguments, key))
        for name, key in (("run", "ranking"), ("qrels", "qrels"), ("corpus", "corpus"))
    }
    write_mined(arguments.out, examples, counts, {"files": files, "settings": asdict(settings)})


def write_mined(out: Path, examples: Any, counts: Any, record: dict[str, Any]) -> None:
    """Write examples with their record and print the counts; `ValueError` where there are none."""
    from rerank.examples.mining import write_examples

    if not examples:
        raise ValueError(
            f"nothing to train on: {counts.without_relevant} queries have no relevant passage in "
            f"the corpus, {counts.without_negative} no negative, the others are not judged"
        )
    write_examples(out, examples, record | {"counts": counts._asdict()})
    print(
        f"{out}: {counts.examples} examples; left out: {counts.without_relevant} queries without a "
        f"relevant passage in the corpus, {counts.without_negative} without a negative"
    )
