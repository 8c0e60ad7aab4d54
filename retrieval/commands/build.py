"""`python -m retrieval.index build CORPUS --out DIR`.

Enters: a corpus and options. Leaves: an index, and what it holds on stdout.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from configs.command import Subparsers, note
from retrieval.commands.change import tell_skipped
from retrieval.commands.info import show

if TYPE_CHECKING:
    from index.manifest.manifest import Manifest
    from retrieval.milvus.manifest import MilvusManifest


def add_parser(commands: Subparsers) -> None:
    """Add the `build` subcommand."""
    build = commands.add_parser("build", help="encode a corpus into an index")
    build.add_argument(
        "corpus",
        help="a BEIR folder, a .jsonl, .tsv (each also .gz) or .parquet file, an ir_datasets id, "
        "pydoc[:PACKAGE,...], or - for JSON Lines from stdin",
    )
    build.add_argument("--out", type=Path, required=True, help="the index's folder")
    build.add_argument("--encoder", help="minilm (default), a folder, or a hub model's name")
    build.add_argument("--config", help="a YAML file of settings; options here win")
    build.add_argument("--faiss", help="a FAISS factory string; default: chosen by size")
    build.add_argument(
        "--lexical",
        choices=("english", "plain", "off"),
        help="words for lexical and hybrid search: English stems without stop words (default), all "
        "words as they stand, or none",
    )
    build.add_argument(
        "--vectors", help="how vectors are stored: float32 (default), float16 or int8"
    )
    build.add_argument(
        "--chunk",
        type=int,
        metavar="TOKENS",
        help="the corpus is one of documents: cut each into chunks of at most so many tokens, by "
        "sentences",
    )
    build.add_argument(
        "--overlap",
        type=int,
        metavar="TOKENS",
        help="of --chunk: how many tokens of the chunk before each begins with (default: 0)",
    )
    build.add_argument("--max-length", type=int, help="tokens read of a passage")
    build.add_argument(
        "--batch-size",
        type=int,
        help="how many of the longest passages are encoded at once; more fit of others",
    )
    build.add_argument(
        "--device", help="cpu, cuda, or several: cuda:0,cuda:1; default: the best there is"
    )
    build.add_argument(
        "--workers", type=int, help="processes that encode; default: one for each device"
    )
    build.add_argument(
        "--engine", default="local", help="where they run: local (default), or ray: on its cluster"
    )
    build.add_argument(
        "--backend", choices=["files", "milvus"], help="where the index lies: files (default)"
    )
    build.add_argument(
        "--uri", help="a Milvus server's, or a file of Milvus Lite; default: milvus.db in --out"
    )
    build.add_argument(
        "--index-type", help="what Milvus builds: HNSW (default), FLAT, IVF_SQ8, ..."
    )
    build.add_argument("--dtype", help="the encoder's: float32 (default), float16, bfloat16")
    build.add_argument(
        "--skip-bad", action="store_true", default=None, help="leave out and count bad records"
    )
    build.add_argument(
        "--keep",
        metavar="FIELD,...",
        help="fields of the corpus to keep, for search --where",
    )
    build.add_argument("--limit", type=int, help="read no more than so many passages")
    build.add_argument(
        "--deterministic",
        action="store_true",
        default=None,
        help="link a graph (HNSW) by one thread: the same bytes each time",
    )
    how = build.add_mutually_exclusive_group()
    how.add_argument(
        "--resume",
        action="store_true",
        help="go on with a killed build; from stdin, of the same stream",
    )
    how.add_argument("--overwrite", action="store_true", help="replace the index in --out")
    build.add_argument("--json", action="store_true", help="print the manifest")
    build.set_defaults(run=_build)


def _build(arguments: argparse.Namespace) -> None:
    from configs.settings import read_settings
    from index.manifest.columns import UNKNOWN
    from retrieval.build import IndexSettings
    from retrieval.corpora.records import Skipped

    names = (
        "encoder", "faiss", "max_length", "batch_size", "skip_bad", "limit", "lexical", "dtype",
        "vectors", "deterministic", "chunk", "overlap",
    )  # fmt: skip
    options = {name: getattr(arguments, name) for name in names}
    if arguments.keep is not None:
        options["keep"] = tuple(name.strip() for name in arguments.keep.split(","))
    settings = read_settings(IndexSettings, arguments.config, **options)
    skipped = Skipped()
    manifest = _builder(arguments)(
        arguments.corpus,
        arguments.out,
        settings,
        resume=arguments.resume,
        overwrite=arguments.overwrite,
        device=arguments.device,
        workers=arguments.workers,
        engine=arguments.engine,
        skipped=skipped,
    )
    tell_skipped(skipped)
    for column in manifest.columns:
        if column.type == UNKNOWN:
            note(f"no passage has a field {column.name!r}")
    show(arguments.out, arguments.json)


def _builder(arguments: argparse.Namespace) -> "Callable[..., Manifest | MilvusManifest]":
    """`build_index`, or the same for Milvus."""
    if arguments.backend == "milvus":
        from retrieval.milvus.manifest import MilvusTarget
        from retrieval.milvus.writer import build_in_milvus

        given = {"uri": arguments.uri, "index_type": arguments.index_type}
        target = MilvusTarget(**{name: x for name, x in given.items() if x is not None})
        return partial(build_in_milvus, target=target)
    if arguments.uri or arguments.index_type:
        raise ValueError("--uri and --index-type are for --backend milvus")
    from retrieval.build import build_index

    return build_index
