"""TSV of texts, as MS MARCO writes it: `id <tab> text`, or `id <tab> title <tab> text`; no header.

Enters: a line. Leaves: its id, title and text.

    text_columns("p1\\tPears are ripe.")  # ("p1", "", "Pears are ripe.")
"""

from configs.formats.checks import as_id
from configs.formats.fields import TextFields


def text_columns(line: str) -> TextFields:
    """The id, title and text of a line of two or three columns; raises `ValueError` for another."""
    columns = line.split("\t")
    if len(columns) not in (2, 3):
        raise ValueError(
            f"{len(columns)} tab-separated columns, wanted id, text or id, title, text"
        )
    id_, *title, text = columns
    return TextFields(as_id(id_), "".join(title), text)
