"""A training pack: gzipped JSON Lines, a file a source, of queries and the passages that answer.

Enters: a folder of `SOURCE.jsonl.gz` with `query`, `passage`, `title` and `group`. Leaves: the
pairs of each source, drawn alike on every machine, a tenth of them held out by `group`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from configs.formats.lines import json_lines
from eval.mini_data.pairs import digest

_FIELDS = ("query", "passage", "title", "group")
# One document in this many chooses among models in place of training them.
_HELD_OUT = 10


class Pair(NamedTuple):
    """A query and a passage that answers it; pairs of one `group` come from one document."""

    query: str
    passage: str
    title: str
    group: str

    @property
    def held_out(self) -> bool:
        """Whether the pair's whole document is kept from training."""
        return digest(f"group {self.group}") % _HELD_OUT == 0


def pack_files(folder: Path, without: Sequence[str] = ()) -> dict[str, Path]:
    """The files of a pack by the name of their source, but for those `without` names.

    Raises `ValueError` where there is none, and for a name in `without` that no file has.
    """
    found = {path.name.removesuffix(".jsonl.gz"): path for path in folder.glob("*.jsonl.gz")}
    unknown = sorted(set(without) - found.keys())
    if unknown:
        names = ", ".join(sorted(found))
        raise ValueError(f"{folder} has no source {unknown[0]!r}; it has {names}")
    kept = {name: found[name] for name in sorted(found) if name not in without}
    if not kept:
        raise ValueError(f"{folder} holds no SOURCE.jsonl.gz to train on")
    return kept


def read_pairs(path: Path) -> list[Pair]:
    """All pairs of a source, in the file's order.

    Raises `ValueError` naming file and line where a field is missing or no text.
    """
    pairs = []
    for number, row in json_lines(path):
        values = [row.get(field) if isinstance(row, dict) else None for field in _FIELDS]
        for field, value in zip(_FIELDS, values, strict=True):
            if not isinstance(value, str) or not (value.strip() or field == "title"):
                raise ValueError(f"{path}:{number}: {field!r} is missing or empty, wanted a text")
        pairs.append(Pair(*map(str, values)))
    return pairs


def drawn_pairs(pairs: Sequence[Pair], most: int) -> list[Pair]:
    """At most `most` pairs, by digest: the same ones on every machine, whatever their order."""
    return sorted(pairs, key=lambda pair: digest(f"{pair.query}\n{pair.passage}"))[:most]
