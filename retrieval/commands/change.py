"""`python -m retrieval.index add|update|delete|compact INDEX …`.

Enters: options. Leaves: the index's next state, and one line that says what was done.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from configs.command import Subparsers
from configs.formats.lines import text_lines
from configs.formats.shown import shown, shown_line

if TYPE_CHECKING:
    from retrieval.changes import Changed
    from retrieval.corpora.records import Skipped


def add_parser(commands: Subparsers) -> None:
    """Add the four subcommands."""
    for name, help_ in (
        ("add", "add a corpus to an index"),
        ("update", "add a corpus to an index; passages or documents of the same id are replaced"),
    ):
        command = _command(commands, name, help_)
        command.add_argument("corpus", help="as for build; - reads JSON Lines from stdin")
        command.add_argument("--limit", type=int, help="as for build")
        command.add_argument("--encoder", help="where the encoder that built the index is now")
        command.add_argument("--batch-size", type=int, help="as for build")
        command.add_argument("--device", help="cpu, cuda, ...; default: the best there is")
        command.add_argument(
            "--skip-bad", action="store_true", help="leave out and count bad records"
        )
        command.set_defaults(run=_write, command=name)

    delete = _command(commands, "delete", "delete passages or documents of an index")
    delete.add_argument(
        "id",
        nargs="*",
        help="ids, of documents where it holds chunks of them; without any, one a line from stdin",
    )
    delete.add_argument("--ids", type=Path, help="ids from a file, one a line")
    delete.add_argument(
        "--ignore-unknown", action="store_true", help="count ids that the index does not have"
    )
    delete.set_defaults(run=_delete)

    compact = _command(commands, "compact", "merge all segments, without what was deleted")
    compact.add_argument("--faiss", help="a FAISS factory string; default: as the index was built")
    compact.add_argument(
        "--lexical",
        choices=("english", "plain", "off"),
        help="the words of the lexical leg from now on; default: as they are",
    )
    compact.set_defaults(run=_compact)


def _command(commands: Subparsers, name: str, help_: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=help_)
    command.add_argument("index", type=Path, help="the index's folder")
    command.add_argument("--json", action="store_true", help="print what was done as JSON")
    return command


def tell_skipped(skipped: "Skipped") -> None:
    """Say on stderr which bad records were left out."""
    for example in skipped.examples:
        print(f"skipped {shown(example)}", file=sys.stderr)
    if skipped.count > len(skipped.examples):
        more = skipped.count - len(skipped.examples)
        print(f"skipped {more} more", file=sys.stderr)


def _write(arguments: argparse.Namespace) -> None:
    from configs.formats.checks import check_count
    from retrieval.changes import add_passages, update_passages
    from retrieval.corpora.records import Skipped

    if arguments.batch_size is not None:
        check_count("--batch-size", arguments.batch_size)
    skipped = Skipped()
    changed = (update_passages if arguments.command == "update" else add_passages)(
        arguments.index,
        arguments.corpus,
        encoder=arguments.encoder,
        device=arguments.device,
        batch_size=arguments.batch_size,
        limit=arguments.limit,
        skipped=skipped if arguments.skip_bad else None,
    )
    tell_skipped(skipped)
    _tell(arguments, changed)


def _delete(arguments: argparse.Namespace) -> None:
    if arguments.ids and arguments.id:
        raise ValueError("ids on the command line and --ids exclude each other")
    ids = arguments.id or [line.strip() for _, line in text_lines(arguments.ids)]
    if not ids:
        raise ValueError("no id: give one after the index, with --ids, or on stdin")
    from retrieval.changes import delete_passages

    _tell(
        arguments,
        delete_passages(arguments.index, ids, ignore_unknown=arguments.ignore_unknown),
    )


def _compact(arguments: argparse.Namespace) -> None:
    from retrieval.changes import compact_index

    _tell(
        arguments,
        compact_index(arguments.index, faiss=arguments.faiss, lexical=arguments.lexical),
    )


def _tell(arguments: argparse.Namespace, changed: "Changed") -> None:
    manifest = changed.manifest
    counts = changed._asdict()
    del counts["manifest"]
    if arguments.json:
        counts |= {"passages": manifest.passages, "segments": len(manifest.segments)}
        print(json.dumps(counts | {"deleted_rows": manifest.deleted}))
        return
    counts["segments merged"] = counts.pop("merged")
    is_of_chunks = manifest.settings.get("chunk") is not None
    if is_of_chunks:
        for name in ("added", "replaced", "deleted", "unknown"):
            counts[f"documents {name}"] = counts.pop(name)
    done = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    left = f"{manifest.passages:,} {'chunks' if is_of_chunks else 'passages'}"
    if segments := len(manifest.segments):
        left += f" in {segments} segment{'s' * (segments != 1)}"
    if manifest.deleted:
        left += f", {manifest.deleted:,} deleted (compact frees their place)"
    print(f"{shown_line(str(arguments.index))}: {done or 'nothing to do'}; {left}")
