"""`python -m retrieval.index build CORPUS --out DIR`.

Enters: a corpus and options. Leaves: an index, and what it holds on stdout.
"""

import argparse
from pathlib import Path

from configs.command import Subparsers
from retrieval.commands.change import tell_skipped
from retrieval.commands.info import show


def add_parser(commands: Subparsers) -> None:
    """Add the `build` subcommand."""
    build = commands.add_parser("build", help="encode a corpus into an index")
    build.add_argument(
        "corpus",
        help="a BEIR folder, a .jsonl, .tsv (each also .gz) or .parquet file, an ir_datasets id, "
        "or pydoc[:PACKAGE,...]",
    )
    build.add_argument("--out", type=Path, required=True, help="the index's folder")
    build.add_argument("--encoder", help="minilm (default), a folder, or a hub model's name")
    build.add_argument("--config", help="a YAML file of settings; options here win")
    build.add_argument("--faiss", help="a FAISS factory string; default: chosen by size")
    build.add_argument("--max-length", type=int, help="tokens read of a passage")
    build.add_argument(
        "--batch-size",
        type=int,
        help="how many of the longest passages are encoded at once; more fit of others",
    )
    build.add_argument("--device", help="cpu, cuda, ...; default: the best there is")
    build.add_argument(
        "--skip-bad", action="store_true", default=None, help="leave out and count bad records"
    )
    build.add_argument(
        "--deterministic",
        action="store_true",
        default=None,
        help="link a graph (HNSW) by one thread: the same bytes each time",
    )
    how = build.add_mutually_exclusive_group()
    how.add_argument("--resume", action="store_true", help="go on with a killed build")
    how.add_argument("--overwrite", action="store_true", help="replace the index in --out")
    build.add_argument("--json", action="store_true", help="print the manifest")
    build.set_defaults(run=_build)


def _build(arguments: argparse.Namespace) -> None:
    from configs.settings import read_settings
    from retrieval.build import IndexSettings, build_index
    from retrieval.corpora.records import Skipped

    names = ("encoder", "faiss", "max_length", "batch_size", "skip_bad", "deterministic")
    options = {name: getattr(arguments, name) for name in names}
    settings = read_settings(IndexSettings, arguments.config, **options)
    skipped = Skipped()
    build_index(
        arguments.corpus,
        arguments.out,
        settings,
        resume=arguments.resume,
        overwrite=arguments.overwrite,
        device=arguments.device,
        skipped=skipped,
    )
    tell_skipped(skipped)
    show(arguments.out, arguments.json)
