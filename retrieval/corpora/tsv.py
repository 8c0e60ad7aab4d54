"""TSV as MS MARCO writes it: `id <tab> text`, or `id <tab> title <tab> text`; no header."""

from collections.abc import Iterator
from pathlib import Path

from configs.formats.lines import NOT_UTF8, read_lines
from index.records import Passage
from retrieval.corpora.records import Record


def read_tsv(path: Path) -> Iterator[Record]:
    """The records of a TSV file, plain or gzipped; blank lines are passed over."""
    for number, line in read_lines(path):
        place = f"{path}:{number}"
        if line is None:
            yield Record(place, None, NOT_UTF8)
        elif line.strip():
            columns = line.split("\t")
            if len(columns) == 2:
                yield Record(place, Passage(columns[0], "", columns[1]))
            elif len(columns) == 3:
                yield Record(place, Passage(*columns))
            else:
                fault = f"{len(columns)} tab-separated columns, wanted id, text or id, title, text"
                yield Record(place, None, fault)
