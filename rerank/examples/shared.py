"""Examples that share their passages: each text is written once, and named in every list.

Enters: examples. Leaves: `NAME.jsonl.gz` whose lines have `passage_ids`, and beside it
`NAME.passages.jsonl.gz`; a tenth of the room that lists with their texts take.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from configs.files import replacing
from configs.formats.lines import PathLike
from rerank.examples.labelled import Example, passages_beside
from rerank.prompt.candidates import Candidate


def write_shared(path: Path, examples: Sequence[Example]) -> None:
    """Write the examples to `path`, their passages beside it: what `read_examples` reads.

    Raises `ValueError` where two passages of one id differ.
    """
    passages: dict[str, Candidate] = {}
    for example in examples:
        for passage in example.passages:
            if passages.setdefault(passage.id, passage)[:3] != passage[:3]:
                raise ValueError(f"two passages have the id {passage.id!r} and differ")
    texts = ({"id": p.id, "title": p.title, "text": p.text} for p in passages.values())
    _write(passages_beside(path), texts)
    _write(path, map(_row, examples))


def _row(example: Example) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": example.id,
        "query": example.query,
        "passage_ids": [passage.id for passage in example.passages],
        "relevant": dict(example.relevant),
    }
    return row | ({"scores": dict(example.scores)} if example.scores else {})


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with replacing(path) as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def written(path: PathLike) -> Iterator[Path]:
    """The files that an example file consists of."""
    yield Path(path)
    if (beside := passages_beside(path)).is_file():
        yield beside
