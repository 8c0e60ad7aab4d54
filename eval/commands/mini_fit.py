"""`python -m eval mini-fit MODEL... --lists FILE`: rerankers with refitted constants; the best."""

import argparse
from pathlib import Path

from eval.commands.output import Subparsers, add_output_options, print_json, print_table


def add_mini_fit_parser(subparsers: Subparsers) -> None:
    """Add the `mini-fit` subcommand."""
    parser = subparsers.add_parser(
        "mini-fit",
        help="refit temperature, dense prior and equal words of late-interaction rerankers",
        description="Order labelled lists with each reranker as it is and with the best constants "
        "of a grid, and write the best of all to --out. `crossed` is what refitting is worth: each "
        "half of the queries by constants that the other half chose.",
    )
    parser.add_argument("models", nargs="+", metavar="MODEL", help="mini, or a folder")
    parser.add_argument(
        "--lists", required=True, metavar="FILE", help="labelled lists to choose by"
    )
    parser.add_argument("--out", type=Path, help="a folder for the best, refitted")
    add_output_options(parser)
    parser.set_defaults(run=run_mini_fit)


def run_mini_fit(arguments: argparse.Namespace) -> None:
    """Fit each, print a line a reranker, write the best."""
    from configs.models import find_model
    from eval.mini_data.fit import fit, write_refitted
    from rerank import BlockRanker
    from rerank.examples.labelled import read_examples

    if arguments.out and arguments.out.exists():
        raise ValueError(f"{arguments.out} exists; remove it, or name another --out")
    examples = read_examples(arguments.lists)
    found = {
        name: fit(BlockRanker.from_pretrained(name), examples, name) for name in arguments.models
    }
    best = max(found, key=lambda name: found[name].crossed)
    if arguments.out:
        write_refitted(Path(find_model(best)), found[best].constants, arguments.out)
    if arguments.format == "json":
        print_json({name: vars(fitted) for name, fitted in found.items()})
        return
    header = ["reranker", "before", "after", "crossed", "temperature x", "dense x", "lexical x"]
    rows = [[n, f.before, f.after, f.crossed, *f.constants] for n, f in found.items()]
    print_table(arguments, header, rows)
