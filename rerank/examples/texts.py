"""Read the passages that mining names, by their ids.

Enters: JSON Lines of passages, ids. Leaves: the passages of those ids that the file has.
"""

from collections.abc import Set
from pathlib import Path

from configs.formats.checks import is_blank, text_fault
from configs.formats.fields import text_fields, with_id
from configs.formats.lines import json_lines
from rerank.prompt.candidates import Candidate


def read_texts(path: Path, wanted: Set[str]) -> dict[str, Candidate]:
    """Passages by id from JSON Lines, of `wanted` ids alone; those without a text are left out.

    Raises `ValueError` naming file and line for a broken line, a bad id, and a wanted id that
    occurred before.
    """
    found: dict[str, Candidate] = {}
    for number, row in json_lines(path):
        try:
            fields = text_fields(row)
            id_ = with_id(fields)
            if id_ not in wanted:
                continue
            if fault := text_fault(fields.title) or text_fault(fields.text):
                raise ValueError(f"passage {id_!r} has {fault}")
            if id_ in found:
                raise ValueError(f"id {id_!r} occurred before")
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from None
        if not (is_blank(fields.text) and is_blank(fields.title)):
            found[id_] = Candidate(id_, fields.title, fields.text, None)
    return found
