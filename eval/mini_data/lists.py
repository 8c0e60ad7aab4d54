"""Lists to train on and lists to choose by, of one source of a pack.

Enters: pairs, a backbone. Leaves: queries with their passage and hard negatives: the best 100 of
dense search and BM25 fused, but for what may answer too, which is passages of the same document
and those that the reranker scores well above the right one.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from eval.mini_data.pack import Pair
from eval.mini_data.pairs import Pairs, digest, keywords, words_of
from eval.mini_data.source_search import Asked, SourceSearch
from rerank.backbones.encoder import EncoderBackbone
from rerank.examples.labelled import Example
from rerank.prompt.candidates import Candidate


@dataclass(frozen=True)
class ListSettings:
    """How lists are made.

    Negatives are drawn from ranks `skip` + 1 to `depth` of the fusion, ever more thinly; none is
    among them that the reranker scores above `ceiling` times the right passage (positive-aware
    mining, arXiv 2407.15831). A ceiling below 1 would leave only lists that the reranker orders
    well already. Of the passages that are asked for, one in `keywords_every` is also asked for by
    its rarest words, one in `titles_every` by its title, where no other has that.

    A list to choose by has the right passage and the `rivals` best others, whatever their scores.
    Passages are read to `max_passage_tokens`, and kept to `max_characters`.
    """

    negatives: int = 16
    skip: int = 0
    depth: int = 100
    ceiling: float = 1.1
    keywords_every: int = 8
    titles_every: int = 8
    rivals: int = 19
    max_passage_tokens: int = 128
    max_characters: int = 700


class Lists(NamedTuple):
    """What a source gives; `dropped` counts negatives that may answer by the reranker's score."""

    train: list[Example]
    held_out: list[Example]
    dropped: int


def make_lists(
    name: str, pairs: Sequence[Pair], backbone: EncoderBackbone, settings: ListSettings
) -> Lists:
    """The lists of the source `name`."""
    passages, groups, places = _passages(pairs, settings)
    asked = _queries(pairs, passages, places, settings)
    search = SourceSearch(backbone, passages, settings.max_passage_tokens)
    answers: dict[str, set[int]] = {}
    for query, place in asked:
        answers.setdefault(query.casefold(), set()).add(place)
    held = {pair.group for pair in pairs if pair.held_out}
    lists = Lists([], [], 0)
    dropped = 0
    read = search.ask([query for query, _ in asked])
    for number, ((query, place), one) in enumerate(zip(asked, read, strict=True)):
        right = answers[query.casefold()]
        found = search.fused(one, settings.depth)
        allowed = [r for r in found if r not in right and groups[r] != groups[place]]
        if groups[place] in held:
            kept = allowed[: settings.rivals]
        else:
            ranked = set(found[settings.skip :])
            far = [r for r in allowed if r in ranked and groups[r] not in held]
            far, higher = _far(search, one, place, far, settings.ceiling)
            dropped += higher
            kept = _thinned(far, settings.negatives)
        if kept:
            chosen = tuple(passages[row] for row in (place, *kept))
            scores = search.scores(one, [place, *kept]).tolist()
            example = Example(
                f"{name}-{number}",
                query,
                chosen,
                {passages[place].id: 1},
                {p.id: round(s, 3) for p, s in zip(chosen, scores, strict=True)},
            )
            (lists.held_out if groups[place] in held else lists.train).append(example)
    return lists._replace(dropped=dropped)


def _far(
    search: SourceSearch, asked: Asked, right: int, rows: list[int], ceiling: float
) -> tuple[list[int], int]:
    """Of `rows` those at most `ceiling` times as high as `right`, and how many are higher."""
    if not rows:
        return [], 0
    scores = search.scores(asked, [right, *rows])
    most = scores[0] - (1 - ceiling) * abs(scores[0])
    far = [row for row, score in zip(rows, scores[1:], strict=True) if score <= most]
    return far, len(rows) - len(far)


def _thinned(rows: Sequence[int], count: int) -> list[int]:
    """`count` of `rows` if there are so many, the first of them and ever fewer further down."""
    least = range(len(rows))
    places = (len(rows) * (place / count) ** 2 for place in range(count))
    # Where squares lie closer than whole numbers the next free place is taken.
    taken = [max(place, int(wanted)) for place, wanted in zip(least, places, strict=False)]
    return [rows[place] for place in taken]


def _passages(
    pairs: Sequence[Pair], settings: ListSettings
) -> tuple[list[Candidate], list[str], dict[str, int]]:
    """The passages, each once, their documents, and the place of each text.

    Half of the passages keep their title: collections have them or have not.
    """
    passages: list[Candidate] = []
    groups: list[str] = []
    places: dict[str, int] = {}
    for pair in pairs:
        if pair.passage not in places:
            places[pair.passage] = len(passages)
            title = pair.title if digest(f"title {pair.passage}") % 2 else ""
            text = _cut(pair.passage, settings.max_characters)
            passages.append(Candidate(str(len(passages)), title, text, None))
            groups.append(pair.group)
    return passages, groups, places


def _cut(text: str, characters: int) -> str:
    """The words of `text` that fit: more than a training step reads is dead weight."""
    return text if len(text) <= characters else text[:characters].rpartition(" ")[0]


def _queries(
    pairs: Sequence[Pair],
    passages: Sequence[Candidate],
    places: dict[str, int],
    settings: ListSettings,
) -> list[tuple[str, int]]:
    """Each query with its passage's place: those of the pairs, keywords, titles."""
    asked = [(pair.query, places[pair.passage]) for pair in pairs]
    frequency = Counter(word for p in passages for word in set(words_of(p.text)))
    by_words = [p for p in passages if digest(f"keywords {p.text}") % settings.keywords_every == 0]
    made: Pairs = keywords("keywords", [p.text for p in by_words], frequency, seed=0)
    own = {passage.text: place for place, passage in enumerate(passages)}
    asked += [(query, own[made.passages[place]]) for query, place in made.queries]
    titles = Counter(title for title, _ in {(pair.title, pair.passage) for pair in pairs})
    for pair in pairs:
        place = places[pair.passage]
        untitled = not passages[place].title and len(pair.title.split()) > 1
        drawn = digest(f"by title {pair.passage}") % settings.titles_every == 0
        if untitled and drawn and titles[pair.title] == 1:
            asked.append((pair.title, place))
    return list(dict.fromkeys(asked))
