"""`python -m rerank cache build MODEL --passages FILE --out DIR` and `cache info DIR`.

Enters: a file of passages, or the folder of a cache. Leaves: a cache on disk; what it holds.
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.command import Subparsers
from rerank.commands.passage_file import stream_passages

if TYPE_CHECKING:
    from rerank.cache.files import Manifest


def add_parser(subparsers: Subparsers) -> None:
    """Add the `cache` subcommand."""
    parser = subparsers.add_parser("cache", help="read passages once, for many queries")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    build = actions.add_parser("build", help="build a cache; run it again to go on after a kill")
    build.add_argument("model", help="minilm, smollm2, a folder, or a hub model's name")
    build.add_argument(
        "--passages",
        type=Path,
        required=True,
        help="a file of passages, one a line: JSON with text, id and title, or plain text",
    )
    build.add_argument("--out", type=Path, required=True, help="the folder to build in")
    build.add_argument(
        "--bits",
        type=int,
        choices=(32, 16, 8, 6, 4),
        default=8,
        help="what a number is kept in (%(default)s); 6: a decoder's keys in 8, its values in 4",
    )
    build.add_argument(
        "--salient",
        type=float,
        help="with 4 bits, the share of a passage's tokens that keep 8 (0.05)",
    )
    build.add_argument("--device", help="cpu, cuda, ...; default: the best there is")
    build.add_argument("--dtype", help="float32, bfloat16, float16, fp8 for a decoder, or auto")
    build.add_argument("--json", action="store_true", help="print one JSON object")
    build.set_defaults(run=run_build)
    info = actions.add_parser("info", help="what a cache holds")
    info.add_argument("folder", type=Path)
    info.add_argument("--verify", action="store_true", help="recompute every checksum")
    info.add_argument("--json", action="store_true", help="print one JSON object")
    info.set_defaults(run=run_info)


def run_build(arguments: argparse.Namespace) -> None:
    """Build, then tell what there is."""
    if not arguments.passages.is_file():
        raise ValueError(f"--passages: {arguments.passages} does not exist")
    from rerank.cache.build import DEFAULT_SALIENT_SHARE, build
    from rerank.ranker import BlockRanker

    ranker = BlockRanker.from_pretrained(arguments.model, arguments.device, arguments.dtype)
    share = DEFAULT_SALIENT_SHARE if arguments.salient is None else arguments.salient
    passages = stream_passages(arguments.passages)
    manifest = build(ranker.backbone, passages, arguments.out, arguments.bits, share)
    _tell(manifest, arguments)


def run_info(arguments: argparse.Namespace) -> None:
    """Read the manifest, or every byte."""
    from rerank.cache.files import read_manifest, verify

    read = verify if arguments.verify else read_manifest
    _tell(read(arguments.folder), arguments)


def _tell(manifest: "Manifest", arguments: argparse.Namespace) -> None:
    told: dict[str, Any] = {
        "model": manifest.identity.model,
        "fingerprint": manifest.identity.fingerprint,
        "dtype": manifest.identity.dtype,
        "bits": manifest.identity.bits,
        "salient_share": manifest.identity.salient_share,
        "passages": manifest.passages,
        "tokens": manifest.tokens,
        "shards": len(manifest.shards),
        "bytes": manifest.num_bytes,
        "bytes_per_passage": round(manifest.num_bytes / manifest.passages, 1),
    }
    if arguments.json:
        print(json.dumps(told))
        return
    for name, value in told.items():
        print(f"{name:<18} {value}")
