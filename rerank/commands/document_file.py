"""Read documents for a subcommand: whole files, or files of one document a line.

Enters: paths. Leaves: `Candidate`s, blank ones among them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from configs.formats.fields import ID_FIELDS
from configs.formats.lines import read_text
from rerank.commands.passage_file import ending_of, read_rows
from rerank.prompt.candidates import Candidate, as_candidate

_ONE_A_LINE = (".jsonl", ".ndjson", ".json", ".tsv")
_STDIN = Path("-")


def read_documents(paths: Sequence[Path]) -> list[Candidate]:
    """The documents of the files `paths`; of stdin where there is none, or where one is `-`.

    JSON Lines and TSV, known by their endings, hold one a line, called by its id or else by file
    and line. Any other file is one document, called by its path. Raises `ValueError` naming file
    and line for a broken one, and for one that was read before.
    """
    documents: list[Candidate] = []
    came_from: dict[str, str] = {}
    for path in paths or [_STDIN]:
        for where, document in _documents(path):
            if earlier := came_from.get(document.id):
                raise ValueError(f"{where}: document {document.id!r} occurred before, in {earlier}")
            came_from[document.id] = where
            documents.append(document)
    if not documents:
        raise ValueError(f"{', '.join(map(str, paths))}: no document")
    return documents


def _documents(path: Path) -> Iterator[tuple[str, Candidate]]:
    """The documents of one file, each with where it came from."""
    source = None if path == _STDIN else path
    name = "stdin" if source is None else str(path)
    if ending_of(source) not in _ONE_A_LINE:
        yield name, Candidate(name, "", read_text(source), name)
        return
    for number, row in read_rows(source):
        where = f"{name}:{number}"
        try:
            document = as_candidate(row, number, allow_blank=True)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        named = isinstance(row, dict) and any(row.get(field) is not None for field in ID_FIELDS)
        yield where, document if named else document._replace(id=where)
