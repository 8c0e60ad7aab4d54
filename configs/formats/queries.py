"""Query files: JSON Lines or TSV, plain or gzipped.

Enters: a file. Leaves: query text by id, in the file's order.

    read_queries(Path("queries.jsonl"))  # {"q1": "when to prune an apple tree"}
"""

from pathlib import Path

from configs.formats.checks import as_id, check_query
from configs.formats.fields import QUERY_FIELDS, QUERY_ID_FIELDS, text_fields, with_id
from configs.formats.lines import PathLike, parse_json, text_lines

TSV_ENDINGS = (".tsv", ".txt")


def read_queries(path: PathLike) -> dict[str, str]:
    """Query text by id: JSON Lines of `_id` and `text`, or by the file's ending TSV of id and text.

    Raises `ValueError` naming file and line for a broken line, a bad id, one that occurred before,
    and an empty query; and for a file without a query.
    """
    fields_of = _from_tsv if is_tsv(path) else _from_json
    queries: dict[str, str] = {}
    for number, line in text_lines(path):
        try:
            id_, text = fields_of(line)
            check_query(text, f"query {id_!r}")
            if id_ in queries:
                raise ValueError(f"query id {id_!r} occurred before")
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from None
        queries[id_] = text
    if not queries:
        raise ValueError(f"{path} holds no query")
    return queries


def is_tsv(path: PathLike) -> bool:
    """Whether a file is one of tabs, by its name."""
    return Path(path).name.removesuffix(".gz").endswith(TSV_ENDINGS)


def _from_tsv(line: str) -> tuple[str, str]:
    columns = line.split("\t")
    if len(columns) != 2:
        raise ValueError(f"{len(columns)} tab-separated columns, wanted a query's id and its text")
    return as_id(columns[0]), columns[1]


def _from_json(line: str) -> tuple[str, str]:
    found = text_fields(parse_json(line), QUERY_ID_FIELDS, QUERY_FIELDS)
    return with_id(found, QUERY_ID_FIELDS), found.text
