"""Read queries for a subcommand, alone or with passages of their own, one a line.

Enters: lines of plain text, JSON objects, or TSV. Leaves: `Request`s.
"""

from pathlib import Path
from typing import Any, NamedTuple

from configs.formats import queries
from configs.formats.checks import check_query, named_type
from configs.formats.fields import QUERY_FIELDS, QUERY_ID_FIELDS, text_fields
from rerank.commands.passage_file import check_new, ending_of, read_rows
from rerank.prompt.candidates import Candidate, as_candidates


class Request(NamedTuple):
    """A query, what it is called, and the passages to rank for it (None: all of a cache).

    `where` it came from, for a sentence about it; "" for the command line.
    """

    id: str
    query: str
    passages: list[Candidate] | None
    where: str = ""

    @property
    def own(self) -> list[Candidate]:
        """The passages, where no cache has them."""
        assert self.passages is not None
        return self.passages


def read_queries(path: Path, passages: list[Candidate] | None) -> list[Request]:
    """A request for each query of `path`, all over the same `passages`.

    A line is a query's text, a JSON object with `text` and perhaps `id`, or in a `.tsv` id and
    text; without an id its number from 1 names it. Raises `ValueError` naming file and line.
    """
    if ending_of(path) == ".tsv":
        return [
            Request(id_, text, passages, f"{path}: query {id_!r}")
            for id_, text in queries.read_queries(path).items()
        ]
    requests = []
    lines: dict[str, int] = {}
    for place, (number, row) in enumerate(read_rows(path), 1):
        where = f"{path}:{number}"
        try:
            id_, text = (str(place), row) if isinstance(row, str) else _named(row, place)
            check_query(text)
            check_new(id_, number, lines)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        requests.append(Request(id_, text, passages, f"{where}: query {id_!r}"))
    return _some(requests, path)


def read_batch(path: Path) -> list[Request]:
    """The requests of `path`, each a JSON object with `query`, `passages` and perhaps `id`.

    Raises `ValueError` naming the line, the request's id, and what is wrong with it.
    """
    requests = []
    lines: dict[str, int] = {}
    for place, (number, row) in enumerate(read_rows(path), 1):
        where = f"{path}:{number}"
        try:
            if isinstance(row, str):
                raise ValueError(f"{named_type(row)}, wanted an object with query and passages")
            id_, query = _named(row, place, ("query",))
            check_new(id_, number, lines)
            where += f": request {id_!r}"
            check_query(query)
            given: Any = row.get("passages")
            passages = as_candidates(given)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}: {error}") from None
        requests.append(Request(id_, query, passages, where))
    return _some(requests, path)


def _named(
    row: dict[str, Any], place: int, fields: tuple[str, ...] = QUERY_FIELDS
) -> tuple[str, str]:
    found = text_fields(row, QUERY_ID_FIELDS, fields)
    return str(place) if found.id is None else found.id, found.text


def _some(requests: list[Request], path: Path) -> list[Request]:
    if not requests:
        raise ValueError(f"{path} holds no query")
    return requests
