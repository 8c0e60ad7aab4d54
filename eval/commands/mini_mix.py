"""`python -m eval mini-mix --pack DIR --out DIR`: a mix of sources to train the reranker on."""

import argparse
import os
from pathlib import Path

from eval.commands.collections import DEFAULT_DATA
from eval.commands.output import Subparsers

DEFAULT_PACK = "../shared/train"


def add_mini_mix_parser(subparsers: Subparsers) -> None:
    """Add the `mini-mix` subcommand."""
    parser = subparsers.add_parser(
        "mini-mix",
        help="prepare a training pack: negatives mined inside each source, a tenth held out",
        description="Lists to train the reranker in the box on and to choose by, and MiniLM in "
        "half precision, in one folder that `python -m rerank train --mix` goes from. Texts of the "
        "measured collections are left out. Run again, it goes on where it was.",
    )
    parser.add_argument(
        "--pack",
        type=Path,
        default=Path(os.environ.get("BLOCKSEEK_TRAIN", DEFAULT_PACK)),
        help="a folder of SOURCE.jsonl.gz ($BLOCKSEEK_TRAIN, else %(default)s)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get("BLOCKSEEK_DATA", DEFAULT_DATA)),
        help="the measured collections ($BLOCKSEEK_DATA, else %(default)s)",
    )
    parser.add_argument("--out", type=Path, required=True, help="the folder to make, or go on with")
    parser.add_argument("--config", default="mini_mix", help="a YAML file of its settings")
    parser.add_argument("--pairs", type=int, help="pairs a source, at most")
    parser.set_defaults(run=run_mini_mix)


def run_mini_mix(arguments: argparse.Namespace) -> None:
    """Prepare, and say what each source gave."""
    from configs.settings import read_settings
    from eval.mini_data.base_model import write_base_model
    from eval.mini_data.prepare import PrepareSettings, prepare

    settings = read_settings(PrepareSettings, arguments.config, pairs=arguments.pairs)
    counts = prepare(arguments.out, settings, arguments.pack, arguments.data)
    write_base_model(arguments.out)
    for name, count in counts.items():
        told = ", ".join(f"{number} {what.replace('_', ' ')}" for what, number in count.items())
        print(f"{name:<32} {told}")
    size = sum(path.stat().st_size for path in arguments.out.rglob("*") if path.is_file())
    print(f"{arguments.out}: {size / 1e6:.1f} MB")
