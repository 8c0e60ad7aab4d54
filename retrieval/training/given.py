"""Pairs that somebody has: queries with qrels, or a file of pairs.

Enters: files, and the corpus's texts by id. Leaves: pairs; a passage that comes with its pair and
is not in the corpus is added to it.

    read_pairs(Path("pairs.jsonl"), {"p4": "Apple trees ..."})
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.formats.checks import as_id, check_query, is_blank, text_fault
from configs.formats.lines import json_lines
from configs.formats.qrels import Qrels
from retrieval.training.pairs import Pair


def judged_pairs(queries: Mapping[str, str], qrels: Qrels, texts: dict[str, str]) -> list[Pair]:
    """A pair for each passage of `texts` with a grade above 0, in the order of the qrels.

    Raises `ValueError` where no judged query has a text and such a passage.
    """
    pairs = [
        Pair(queries[query_id], id_, texts[id_], query_id)
        for query_id, grades in qrels.items()
        if query_id in queries
        for id_, grade in grades.items()
        if grade > 0 and id_ in texts
    ]
    if not pairs:
        raise ValueError(
            "no pairs: the ids of queries, qrels and corpus do not meet in a grade above 0"
        )
    return pairs


def read_pairs(path: Path, texts: dict[str, str]) -> list[Pair]:
    """The pairs of a file of JSON Lines: `query`, and the passage's `id` or `passage`, its text.

    `title` stands before the text, as in a corpus; pairs of the same `group` (a document, say) stay
    together. A text that no passage has joins `texts` under the file's name and the line. Raises
    `ValueError` naming the line for what is no pair, an id that the corpus lacks, or an empty file.
    """
    ids = {text: id_ for id_, text in texts.items()}
    pairs = []
    for number, line in json_lines(path):
        try:
            query, id_, text, group = _fields(line)
            if id_ is not None and id_ not in texts:
                raise ValueError(f"passage {id_!r} is not in the corpus")
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}:{number}: {error}") from None
        if id_ is None:
            id_ = ids.setdefault(text, f"{path.name}:{number}")
            texts.setdefault(id_, text)
        pairs.append(Pair(query, id_, texts[id_], group or id_))
    if not pairs:
        raise ValueError(f"{path} holds no pair")
    return pairs


def _fields(line: Any) -> tuple[str, str | None, str, str]:
    """The query, the passage's id or None, its text and the group or ""."""
    if not isinstance(line, Mapping) or "query" not in line or not {"id", "passage"} & line.keys():
        raise ValueError('wanted {"query": text, "passage": text} or {"query": text, "id": id}')
    check_query(line["query"])
    group = "" if line.get("group") is None else str(line["group"])
    if "passage" not in line:
        return line["query"], as_id(line["id"]), "", group
    title, text = line.get("title") or "", line["passage"]
    for name, value in (("title", title), ("passage", text)):
        if not isinstance(value, str):
            raise ValueError(f"{name} is a {type(value).__name__}, wanted a string")
    whole = f"{title}\n{text}" if title and text else title or text
    if fault := text_fault(whole):
        raise ValueError(f"the passage has {fault}")
    if is_blank(whole):
        raise ValueError("the passage has no visible character")
    return line["query"], None, whole, group
