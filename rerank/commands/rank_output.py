"""How `python -m rerank rank` tells a ranking: lines for people, or one JSON object a query.

Enters: a request and its results, perhaps with highlights. Leaves: text on stdout.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from configs.formats.checks import text_fault
from configs.formats.shown import shown, shown_line, snippet
from rerank.commands.query_file import Request

if TYPE_CHECKING:
    from rerank.highlights import Highlights
    from rerank.prompt.candidates import Candidate, Ranked

_HIGHLIGHTS = 8


def print_json(
    request: Request,
    results: Sequence["Ranked"],
    model: str,
    highlights: Mapping[str, "Highlights"] | None,
) -> None:
    """One line: model, id, query and results, each with its tokens' masses where there are any.

    A result has a `stage` where it was not read to the end.
    """
    told = []
    for result in results:
        fields = result._asdict()
        if result.stage == "read":
            del fields["stage"]
        if result.probability is None:
            del fields["probability"]
        if highlights is not None:
            tokens = highlights[result.id].tokens
            fields["highlights"] = [token._asdict() for token in tokens]
        told.append(fields)
    output: dict[str, Any] = {
        "model": model,
        "id": request.id,
        "query": request.query,
        "results": told,
    }
    line = json.dumps(output, ensure_ascii=False)
    # A field that nobody read may hold half of a surrogate pair, which JSON alone can spell.
    print(json.dumps(output) if text_fault(line) else line)


def print_lines(
    request: Request,
    results: Sequence["Ranked"],
    titled: bool,
    highlights: Mapping[str, "Highlights"] | None,
) -> None:
    """A line a passage, below it the tokens of the most mass; with `titled`, first the query.

    A `~` stands before a score of a passage that was not read to the end.
    """
    from rerank.prompt.candidates import as_candidate

    if titled:
        print(f"query {shown(request.id)}: {shown_line(request.query)}")
    for result in results:
        about = "" if result.stage == "read" else "~"
        print(f"{result.rank:>4}  {about}{result.score:.4f}  {shown(result.id)}", end="")
        if request.passages is None:  # a cache keeps no words
            print()
            continue
        passage = as_candidate(result.passage, 0)
        print("  " + snippet(passage.text or passage.title))
        if highlights is not None:
            print(" " * 6 + _highest(passage, highlights[result.id]))


def _highest(passage: "Candidate", highlights: "Highlights") -> str:
    tokens = sorted(highlights.tokens, key=lambda token: -token.mass)[:_HIGHLIGHTS]
    shares = []
    for token in tokens:
        word = getattr(passage, token.field)[token.start : token.end]
        shares.append(f"{shown_line(word)} {token.mass:.3f}")
    return " | ".join(shares)
