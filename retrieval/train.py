"""The command line that trains encoders: `python -m retrieval.train CORPUS --out DIR`.

Enters: a corpus, and pairs or none. Leaves: a folder for `retrieval.index build --encoder`, and
what it gained.

    python -m retrieval.train my-corpus.jsonl --out my-encoder
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from configs.command import FAILURE, run_command

if TYPE_CHECKING:
    from retrieval.training.run import Source, Trained

# Of `TrainSettings`; what is not given keeps its default there.
_OPTIONS = (
    "encoder", "held_out", "max_pairs", "epochs", "steps", "batch_size", "mini_batch", "negatives",
    "margin", "rate", "temperature", "lora", "max_length", "seed",
)  # fmt: skip


def make_parser() -> argparse.ArgumentParser:
    """The parser; nothing heavy is imported before the command runs."""
    parser = argparse.ArgumentParser(
        prog="python -m retrieval.train",
        description="Fine-tune an encoder for a corpus. A tenth of the pairs is held out and "
        "measured before and after; a model that is worse is not written. A run that is killed "
        "leaves nothing and begins anew.",
    )
    parser.add_argument(
        "corpus",
        help="a BEIR folder, a .jsonl, .tsv (each also .gz) or .parquet file, an ir_datasets id, "
        "pydoc[:PACKAGE,...], or - for JSON Lines from stdin",
    )
    parser.add_argument("--out", type=Path, required=True, help="the encoder's folder")
    pairs = parser.add_argument_group("pairs (without any, they are made of the corpus)")
    pairs.add_argument(
        "--pairs",
        type=Path,
        metavar="FILE",
        help='JSON Lines of {"query": text, "passage": text} or {"query": text, "id": passage}',
    )
    pairs.add_argument("--queries", type=Path, metavar="FILE", help="queries, with --qrels")
    pairs.add_argument("--qrels", type=Path, metavar="FILE", help="grades above 0 make pairs")
    pairs.add_argument(
        "--tasks",
        metavar="TASK,...",
        help="how pairs are made: inverse-cloze, body-first, title (default: all)",
    )
    pairs.add_argument("--max-pairs", type=int, help="no more in all (default: 20000)")
    pairs.add_argument("--held-out", type=float, metavar="SHARE", help="default: 0.1")
    pairs.add_argument("--skip-bad", action="store_true", help="leave out and count bad records")
    pairs.add_argument("--limit", type=int, help="read no more than so many passages")
    training = parser.add_argument_group("training")
    training.add_argument("--encoder", help="minilm (default), a folder, or a hub model's name")
    training.add_argument("--epochs", type=int, help="times through the pairs (default: 1)")
    training.add_argument("--steps", type=int, help="steps, in place of epochs")
    training.add_argument("--batch-size", type=int, help="pairs against each other (default: 64)")
    training.add_argument("--mini-batch", type=int, help="texts read at once (default: 16)")
    training.add_argument("--negatives", type=int, help="hard ones a query (default: 1)")
    training.add_argument(
        "--margin",
        type=float,
        help="leave out negatives above this share of the right passage's cosine (default: 0.95)",
    )
    training.add_argument("--rate", type=float, help="learning rate (default: 2e-5)")
    training.add_argument("--temperature", type=float, help="of the loss (default: 0.05)")
    training.add_argument("--lora", type=int, metavar="RANK", help="train a low-rank update alone")
    training.add_argument("--max-length", type=int, help="tokens read of a text, then and later")
    training.add_argument("--seed", type=int, help="of pairs, split and training (default: 0)")
    training.add_argument("--device", help="cpu, cuda, ... (default: the best there is)")
    parser.add_argument("--keep-worse", action="store_true", help="write the model all the same")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_train)
    return parser


def _train(arguments: argparse.Namespace) -> None:
    source = _source(arguments)
    from retrieval.commands.change import tell_skipped
    from retrieval.corpora.reading import Reading
    from retrieval.corpora.records import Skipped
    from retrieval.training.run import as_json, train_encoder
    from retrieval.training.settings import TrainSettings

    given = {name: getattr(arguments, name) for name in _OPTIONS}
    settings = TrainSettings(**{name: x for name, x in given.items() if x is not None})
    skipped = Skipped() if arguments.skip_bad else None
    result = train_encoder(
        arguments.corpus,
        arguments.out,
        settings,
        source,
        reading=Reading(limit=arguments.limit),
        skipped=skipped,
        device=arguments.device,
        keep_worse=arguments.keep_worse,
    )
    if skipped is not None:
        tell_skipped(skipped)
    if arguments.json:
        print(json.dumps(as_json(result)))
    else:
        _show(result)
    if result.out is None:
        print(
            "refused: the trained model is worse on the held-out queries, and nothing was written "
            "(--keep-worse writes it)",
            file=sys.stderr,
        )
        sys.stdout.flush()
        sys.exit(FAILURE)


def _source(arguments: argparse.Namespace) -> "Source":
    """Where the pairs come from; raises `ValueError` for options that contradict each other."""
    files = arguments.queries, arguments.qrels
    if any(files) and not all(files):
        raise ValueError("--queries and --qrels go together")
    if sum((arguments.pairs is not None, any(files), arguments.tasks is not None)) > 1:
        raise ValueError(
            "--pairs, --queries with --qrels, and --tasks are three sources of pairs; give one"
        )
    from retrieval.training.run import Judged, Made, PairFile

    if arguments.pairs is not None:
        return PairFile(arguments.pairs)
    if all(files):
        return Judged(*files)
    if arguments.tasks is not None:
        return Made(tuple(task.strip() for task in arguments.tasks.split(",")))
    return Made()


def _show(result: "Trained") -> None:
    print(
        f"{result.training_pairs} pairs to train on ({result.source}), {result.steps} steps; "
        f"{result.held_out_queries} held-out queries among {result.passages} passages"
    )
    print("          before   after    gain     95 % interval")
    for name, (before, after, gain, low, high) in result.gains.items():
        print(f"{name:8}  {before:.4f}   {after:.4f}  {gain:+.4f}  [{low:+.4f}, {high:+.4f}]")
    if result.out is not None:
        print(f"{result.out}: written; python -m retrieval.index build ... --encoder {result.out}")


if __name__ == "__main__":
    sys.exit(run_command(make_parser()))
