"""`python -m retrieval.index info|verify INDEX`.

Enters: the folder of an index. Leaves: what it holds, or what is wrong with it.
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.command import Subparsers
from configs.formats.shown import shown

if TYPE_CHECKING:
    from retrieval.milvus.manifest import MilvusManifest


def add_parser(commands: Subparsers) -> None:
    """Add the `info` and `verify` subcommands."""
    info = commands.add_parser("info", help="say what an index holds")
    info.add_argument("index", type=Path, help="the index's folder")
    info.add_argument("--json", action="store_true", help="print the manifest")
    info.set_defaults(run=_info)

    verify = commands.add_parser("verify", help="check every file of an index, and its recall")
    verify.add_argument("index", type=Path, help="the index's folder")
    verify.set_defaults(run=_verify)


def _info(arguments: argparse.Namespace) -> None:
    show(arguments.index, arguments.json)


def show(folder: Path, as_json: bool) -> None:
    """Print what the index in `folder` holds: its manifest, or the gist of it."""
    from dataclasses import asdict

    from index.manifest.manifest import Manifest
    from retrieval.milvus.manifest import MilvusManifest, is_in_milvus

    if is_in_milvus(folder):
        _show_milvus(folder, MilvusManifest.read(folder), as_json)
        return
    manifest = Manifest.read(folder)
    if as_json:
        print(json.dumps(asdict(manifest), indent=2, ensure_ascii=False))
        return
    encoder, segments = manifest.encoder, manifest.segments
    size = sum(path.stat().st_size for each in segments for path in (folder / each.data).iterdir())
    asked = max((segment.recall_queries for segment in segments), default=0)
    what = " and ".join(sorted({segment.recall_asked for segment in segments})) or "vectors"
    rows = {
        "index": str(folder),
        "corpus": manifest.corpus,
        "passages": f"{manifest.passages:,}",
        **_chunks(manifest.settings),
        "deleted": f"{manifest.deleted:,} (compact frees their place)",
        "changes": f"{manifest.changes:,} since the build",
        "skipped": f"{manifest.skipped:,} bad records",
        "truncated": f"{manifest.truncated:,} passages longer than {encoder.max_length} tokens",
        "encoder": f"{encoder.name}, {encoder.dimension} dimensions, {encoder.pooling} pooling",
        "faiss": " and ".join(sorted({segment.faiss_factory for segment in segments})) or "none",
        "vectors": manifest.plan.precision,
        "recall@10": f"{manifest.recall_at_10:.4f} of exact search ({asked} {what})",
        "columns": ", ".join(f"{each.name} ({each.type})" for each in manifest.columns),
        "lexical": "off" if manifest.lexical == "off" else f"BM25, {manifest.lexical} words",
        "size": f"{size / 1e6:.1f} MB in {sum(len(each.shards) for each in segments)} shards",
    }
    if manifest.score_shift.most:
        most, mean = manifest.score_shift
        rows["vectors"] += (
            f"; scores differ from float32 by {mean:.1g} on average, {most:.1g} at most"
        )
    if manifest.changes:
        rows["truncated"] = f"at most {rows['truncated']}"  # some may be deleted
    else:
        del rows["deleted"], rows["changes"]
    if not manifest.columns:
        del rows["columns"]
    if len(segments) > 1:
        rows["recall@10"] += ", where it is lowest"
        for each in segments:
            rows[each.data] = (
                f"{each.live:,} of {each.passages:,} passages live, {each.faiss_factory}, "
                f"recall@10 {each.recall_at_10:.4f}"
            )
    for name, value in rows.items():
        print(f"{name:<10} {shown(value)}")


def _chunks(settings: dict[str, Any]) -> dict[str, str]:
    """The row that says how documents were cut; none for an index of passages."""
    size, overlap = settings.get("chunk"), settings.get("overlap", 0)
    return {} if size is None else {"chunks": f"of at most {size} tokens, overlapping by {overlap}"}


def _show_milvus(folder: Path, manifest: "MilvusManifest", as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        print(json.dumps(asdict(manifest), indent=2, ensure_ascii=False))
        return
    encoder, target = manifest.encoder, manifest.target
    for name, value in {
        "index": str(folder),
        "corpus": manifest.corpus,
        "passages": f"{manifest.passages:,}",
        **_chunks(manifest.settings),
        "changes": f"{manifest.changes:,} since the build",
        "skipped": f"{manifest.skipped:,} bad records",
        "truncated": f"at most {manifest.truncated:,} longer than {encoder.max_length} tokens",
        "encoder": f"{encoder.name}, {encoder.dimension} dimensions, {encoder.pooling} pooling",
        "milvus": f"{target.index_type}, collection {manifest.collection} at {target.uri}",
    }.items():
        print(f"{name:<10} {shown(value)}")


def _verify(arguments: argparse.Namespace) -> None:
    from index.verify import verify
    from retrieval.milvus.manifest import is_in_milvus

    if is_in_milvus(arguments.index):
        raise ValueError(
            f"the index in {arguments.index} lies in Milvus, which checks its own files"
        )
    found = verify(arguments.index)
    if found.faults:
        raise RuntimeError(f"{arguments.index}: {'; '.join(found.faults)}")
    recall = f"recall@10 {found.recall_at_10:.4f} of exact search on mixed vectors"
    print(f"{arguments.index}: whole; {recall}")
