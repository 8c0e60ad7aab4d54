"""Every id that was added is there and no other, whatever waits, and whatever digests share."""

import random

import pytest

from retrieval.corpora import seen as module
from retrieval.corpora.seen import SeenIds


@pytest.mark.parametrize("waiting", [1, 7, 10_000])
def test_it_is_a_set(waiting):
    """With seven to wait, of 2,000 some wait and most are in order at any moment."""
    seen, wanted, chosen = SeenIds(waiting), set(), random.Random(0)
    for _ in range(2000):
        id_ = f"p{chosen.randrange(1500)}"
        assert (id_ in seen) == (id_ in wanted)
        if id_ not in wanted:
            seen.add(id_)
            wanted.add(id_)
        assert len(seen) == len(wanted)
    assert [id_ in seen for id_ in sorted(wanted)] == [True] * len(wanted)
    assert not any(f"q{n}" in seen for n in range(1500))


def test_digests_that_share_their_first_half_are_told_apart(monkeypatch):
    monkeypatch.setattr(module, "_digest", lambda id_: bytes(8) + int(id_).to_bytes(8, "little"))
    seen = SeenIds(3)
    for number in range(0, 20, 2):
        assert str(number) not in seen
        seen.add(str(number))
    assert [str(number) in seen for number in range(20)] == [True, False] * 10


def test_all_but_a_few_digests_take_sixteen_bytes():
    seen = SeenIds(64)
    for number in range(6400):
        seen.add(str(number))
    assert len(seen._waiting) <= 6400 / 64
    ordered = 6400 - len(seen._waiting)
    assert seen._first.nbytes + seen._second.nbytes == 16 * ordered
