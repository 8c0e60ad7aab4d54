"""Which pairs are held out: whole groups, so that no text of theirs was trained on.

Enters: pairs and a seed. Leaves: those to train on and those to measure on.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from retrieval.training.pairs import Pair

# Fewer queries tell nothing, and an interval over them even less.
FEWEST_QUERIES = 10


def split_pairs(
    pairs: Sequence[Pair], share: float, seed: int, most: int | None = None
) -> tuple[list[Pair], list[Pair]]:
    """Pairs to train on, and about `share` of them to measure on, each in the given order.

    Pairs that share a query, a passage or a group, be it through others, are one cluster and stay
    together. Clusters come in the order of a hash of the seed and their first pair; the first are
    held out, `most` bounds both parts together. Raises `ValueError` where fewer than 10 queries are
    left on a side.
    """
    if not 0 < share < 1:
        raise ValueError(f"the held-out share is {share}, wanted above 0 and below 1")
    clusters = sorted(_clusters(pairs), key=lambda rows: _hash(pairs[rows[0]], seed))
    wanted = min(len(pairs), most or len(pairs))
    held_out: list[int] = []
    training: list[int] = []
    for rows in clusters:
        if len(held_out) < share * wanted:
            held_out += rows
        elif len(held_out) + len(training) < wanted:
            training += rows
    parts = [[pairs[row] for row in sorted(rows)] for rows in (training, held_out)]
    for name, part in zip(("to train on", "held out"), parts, strict=True):
        if (count := len({pair.query for pair in part})) < FEWEST_QUERIES:
            raise ValueError(
                f"{count} queries {name} of {len(pairs)} pairs in {len(clusters)} clusters that "
                f"share queries, passages or groups: wanted at least {FEWEST_QUERIES}; give more "
                f"pairs, or another --held-out share"
            )
    return parts[0], parts[1]


def _clusters(pairs: Sequence[Pair]) -> list[list[int]]:
    """The rows of pairs that hang together, in order of their first."""
    parents = list(range(len(pairs)))

    def root(row: int) -> int:
        while parents[row] != row:
            parents[row] = parents[parents[row]]
            row = parents[row]
        return row

    first: dict[tuple[str, str], int] = {}
    for row, pair in enumerate(pairs):
        for key in (("query", pair.query), ("passage", pair.id), ("group", pair.group)):
            one, other = sorted((root(row), root(first.setdefault(key, row))))
            parents[other] = one
    found: dict[int, list[int]] = defaultdict(list)
    for row in range(len(pairs)):
        found[root(row)].append(row)
    return list(found.values())


def _hash(pair: Pair, seed: int) -> str:
    return hashlib.sha256(f"{seed}\n{pair.id}\n{pair.query}".encode()).hexdigest()
