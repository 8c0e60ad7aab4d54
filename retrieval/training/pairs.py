"""A query and a passage that answers it.

Enters: nothing. Leaves: the one value that the room's files hand to each other.
"""

from typing import NamedTuple


class Pair(NamedTuple):
    """`query` and the passage `id` that answers it; `text` is what is read of that passage.

    That is all of it, but where the query was cut out of the passage. Pairs of one `group`, of one
    query or of one passage are never parted between training and held-out pairs.
    """

    query: str
    id: str
    text: str
    group: str
